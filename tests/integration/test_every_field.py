"""Spans arrive in receivers from other code bases, over gRPC and over HTTP, with every field equal to what was recorded."""
import random
import signal
import subprocess

import pytest

from lib.backends import Receiver, Rotel, config, otlp
from lib.ledger import assert_balanced, rows_of, total, wait_at_rest

import compare  # noqa: E402 - found beside receiving.py, which lib.backends makes importable

PROTOCOLS = ("grpc", "http")


def run_program(build_dir, daemon, name, *arguments):
    """Runs a program that prints what it recorded; returns that."""
    done = subprocess.run([build_dir / "tests" / name, *map(str, arguments)], env=daemon.environment,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    print(done.stderr)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return compare.read_recorded(done.stdout.splitlines())


def assert_arrived(daemon, receiver, recorded, service):
    status = wait_at_rest(daemon, service)
    assert_balanced(status)
    assert total(rows_of(status, service), "started") == len(recorded)
    receiver.wait_for_spans(len(recorded))
    found = compare.differences(recorded, compare.split(receiver.messages()))
    assert found == [], "\n".join(found[:20])


@pytest.mark.parametrize("compression", ("gzip", "none"))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_field_arrives(protocol, compression, daemon, build_dir, tmp_path):
    with Receiver(protocol, tmp_path / "receiver") as receiver:
        name, settings = otlp(receiver, compression=compression)
        daemon.start(config({name: settings}))
        recorded = run_program(build_dir, daemon, "every_field")
        assert_arrived(daemon, receiver, recorded, "every field")
    assert compare.never_set([span.message for span in recorded]) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_field_arrives_through_rotel(protocol, daemon, build_dir, tmp_path):
    """Rotel decodes and encodes anew: what it did not understand would be gone."""
    with Receiver("grpc", tmp_path / "receiver") as receiver, Rotel(tmp_path, receiver) as rotel:
        name, settings = rotel.exporter(protocol)
        daemon.start(config({name: settings}))
        recorded = run_program(build_dir, daemon, "every_field")
        recorded += run_program(build_dir, daemon, "random_spans", "--spans", 100)
        wait_at_rest(daemon, "every field", "random spans")
        receiver.wait_for_spans(len(recorded))
        found = compare.differences(recorded, compare.split(receiver.messages()))
        assert found == [], "\n".join(found[:20])
        assert_balanced(daemon.status())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_random_spans_arrive(protocol, daemon, build_dir, tmp_path):
    with Receiver(protocol, tmp_path / "receiver") as receiver:
        name, settings = otlp(receiver)
        daemon.start(config({name: settings}))
        seed = random.getrandbits(63)
        recorded = run_program(build_dir, daemon, "random_spans", "--seed", seed, "--spans", 1000)
        assert_arrived(daemon, receiver, recorded, "random spans")


def test_open_spans_of_a_killed_program_arrive_with_what_they_had(daemon, build_dir, tmp_path):
    with Receiver("http", tmp_path / "receiver") as receiver:
        name, settings = otlp(receiver)
        daemon.start(config({name: settings}))
        recorded = run_program(build_dir, daemon, "open_spans")
        assert len(recorded) == 64
        assert_arrived(daemon, receiver, recorded, "open spans")
        row, = rows_of(daemon.status(), "open spans")
    assert (row["life"], row["recovered_open"], row["lost"], row["dropped"]) == ("crashed", 64, 0, {})
