"""Runs export_once: one exporter, a few hand-made spans, no daemon."""
import json
import os
import pathlib
import subprocess

BUILD = pathlib.Path(os.environ.get("OTELD_BUILD_DIR")
                     or pathlib.Path(__file__).resolve().parents[2] / "build")  # fmt: skip
WATCHDOG_S = 60


def command(protocol, endpoint, **options):
    settings = [f"{key.replace('header_', 'header.')}={value}" for key, value in options.items()]
    return [str(BUILD / "tests/export_once"), str(BUILD / "modules"), protocol, endpoint, *settings]


def export(protocol, endpoint, **options):
    """All SendResults, in order. Options are export_once's; header_NAME=VALUE is a header."""
    done = subprocess.run(command(protocol, endpoint, **options), capture_output=True, text=True,
                          timeout=WATCHDOG_S)  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert done.stderr == ""  # What goes wrong is in the result; nothing else may fill a daemon's log.
    return [json.loads(line) for line in done.stdout.splitlines()]


def export_one(protocol, endpoint, **options):
    (result,) = export(protocol, endpoint, **options)
    return result


def refused_settings(protocol, endpoint, **options):
    """The sentence with which the factory refuses these settings."""
    done = subprocess.run(command(protocol, endpoint, **options), capture_output=True, text=True,
                          timeout=WATCHDOG_S)  # fmt: skip
    assert done.returncode == 1, f"{done.stdout}{done.stderr}"
    return json.loads(done.stdout)["error"]
