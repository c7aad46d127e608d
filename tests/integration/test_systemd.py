"""The unit is valid and hardened, and the daemon keeps its side of the notify protocol over a real socket."""
import getpass
import os
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import ROOT, eventually

UNITS = ROOT / "systemd"
CONFIG = """
receivers: {shm: {}}
exporters: {trace_store: {}}
service: {pipelines: {traces: {receivers: [shm], exporters: [trace_store]}}}
"""


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""})


@pytest.fixture(scope="module")
def units(tmp_path_factory, oteld):
    """A copy that points at the built binary and at users that exist here."""
    folder = tmp_path_factory.mktemp("units")
    for name in ("oteld.service", "run-oteld.mount"):
        text = (UNITS / name).read_text().replace("/usr/bin/oteld", str(oteld))
        text = re.sub(r"^(User|Group)=oteld$", lambda match: f"{match[1]}={getpass.getuser()}", text, flags=re.MULTILINE)
        (folder / name).write_text(text)
    return folder


def require_systemd_analyze():
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed here")


def test_units_are_valid(units):
    require_systemd_analyze()
    done = analyze("verify", "--man=no", units / "oteld.service", units / "run-oteld.mount")
    about_us = [line for line in (done.stdout + done.stderr).splitlines() if "oteld" in line]
    assert done.returncode == 0 and not about_us, done.stderr


def test_a_mistake_in_a_unit_is_seen(units, tmp_path):
    require_systemd_analyze()
    broken = tmp_path / "oteld.service"
    broken.write_text((units / "oteld.service").read_text().replace("WatchdogSec=30", "WatchdogSec=soon"))
    assert "oteld.service:" in analyze("verify", "--man=no", broken).stderr


def test_exposure_is_below_two():
    require_systemd_analyze()
    done = analyze("security", "--offline=true", "--threshold=19", "--no-pager", UNITS / "oteld.service")
    exposure = float(re.search(r"Overall exposure level for oteld.service: ([0-9.]+)", done.stdout)[1])
    assert done.returncode == 0 and exposure < 2.0, done.stdout


@pytest.mark.parametrize("line", [
    "Type=notify", "User=oteld", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "StateDirectory=oteld",
    "ExecStartPre=/usr/bin/oteld validate", "ReadWritePaths=/run/oteld"])
def test_the_unit_keeps_what_the_design_needs(line):
    assert line in (UNITS / "oteld.service").read_text().splitlines()


@pytest.mark.parametrize("setting", ["RuntimeDirectory", "PrivateUsers", "PrivateIPC", "RemoveIPC", "ExecReload"])
def test_the_unit_leaves_out_what_would_harm(setting):
    # RuntimeDirectory= removes the rings at each stop, PrivateUsers= hides who owns them.
    assert not re.search(rf"^{setting}=", (UNITS / "oteld.service").read_text(), re.MULTILINE)


def test_the_ring_mount_gives_files_to_the_group():
    """The mount's own options, on a real tmpfs, with this user in place of oteld."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    options = re.search(r"^Options=(.*)$", (UNITS / "run-oteld.mount").read_text(), re.MULTILINE)[1]
    assert "uid=oteld,gid=oteld" in options
    options = options.replace("uid=oteld,gid=oteld", "uid=12345,gid=12346")
    script = """
        mount -t tmpfs -o $1 tmpfs $2 || exit 77
        setpriv --reuid=2000 --regid=2000 --clear-groups sh -c 'umask 007; : > $0/mine' $2 &&
        stat -c '%a %u %g' $2 $2/mine &&
        ! setpriv --reuid=2001 --regid=2001 --clear-groups rm -f $2/mine 2>/dev/null &&
        setpriv --reuid=12345 --regid=12346 --clear-groups rm $2/mine"""
    # Not below pytest's own directory, which other users may not enter.
    with tempfile.TemporaryDirectory(prefix="oteld-mount-") as where:
        os.chmod(where, 0o755)
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", options, where], capture_output=True,
                              text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip(f"this machine refuses a mount: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["3777 12345 12346", "660 2000 12346"]


def test_sysusers_makes_the_user(tmp_path):
    if not shutil.which("systemd-sysusers"):
        pytest.skip("systemd-sysusers is not installed here")
    (tmp_path / "etc").mkdir()
    done = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "oteld.sysusers")],
                          capture_output=True, text=True, timeout=60)
    if os.geteuid() != 0 and done.returncode != 0:
        pytest.skip("systemd-sysusers needs root here")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^oteld:x:\d+:\d+:oteld telemetry daemon:/var/lib/oteld:/usr/sbin/nologin$",
                     (tmp_path / "etc/passwd").read_text(), re.MULTILINE)


def test_ready_and_stopping_are_said(daemon):
    daemon.start(CONFIG)   # Returns after READY=1.
    assert daemon.status()["verdict"] == "healthy"
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_for_notification("STOPPING=1")
    assert daemon.process.wait(60) == 0
    assert daemon.notified.index("READY=1") < daemon.notified.index("STOPPING=1")


def test_a_status_line_is_said(daemon):
    daemon.start(CONFIG)

    def said():
        daemon.wait_for_notification("READY=1")
        return [line for line in daemon.notified if line.startswith("STATUS=") and len(line) > len("STATUS=")]
    eventually(said, "a line STATUS= for systemctl status")


def test_the_watchdog_is_fed_again_and_again(daemon):
    daemon.environment["WATCHDOG_USEC"] = "1000000"
    daemon.start(CONFIG)

    def fed():
        daemon.wait_for_notification("READY=1")   # Reads what has come.
        return daemon.notified.count("WATCHDOG=1") >= 3
    eventually(fed, "three WATCHDOG=1")


def test_without_a_watchdog_none_is_fed(daemon):
    daemon.start(CONFIG)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_for_notification("STOPPING=1")
    assert "WATCHDOG=1" not in daemon.notified


def test_a_watchdog_for_another_process_is_not_ours(daemon):
    daemon.environment |= {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    daemon.start(CONFIG)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_for_notification("STOPPING=1")
    assert "WATCHDOG=1" not in daemon.notified


def test_a_wrong_configuration_never_gets_ready(daemon):
    daemon.start("exporters: {nonsense: {}}\n", wait=False)
    assert daemon.process.wait(60) == 78
    assert "READY=1" not in daemon.notified


def test_the_first_start_needs_no_configuration(daemon):
    """ExecStartPre on a machine without /etc/oteld."""
    if os.path.exists("/etc/oteld/oteld.yaml"):
        pytest.skip("this machine has an /etc/oteld/oteld.yaml of its own")
    assert daemon.run("validate").returncode == 0
