"""The daemon as those see it who run it: start, stop, exit codes, one per directory; a slow exporter delays nobody."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess

import pytest

from conftest import eventually
from lib.backends import Receiver, config, free_port, otlp
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import Load, load, seen_by, seen_in_file


def test_a_hanging_exporter_delays_no_other(daemon, tmp_path):
    with Receiver("grpc", tmp_path / "slow", "hang") as slow, Receiver("http", tmp_path / "fast") as fast:
        slow_name, slow_settings = otlp(slow)
        fast_name, fast_settings = otlp(fast)
        out = tmp_path / "spans.jsonl"
        daemon.start(config({slow_name: slow_settings, fast_name: fast_settings, "file": {"path": str(out)}}))
        printed = load(daemon, "two ways", threads=2, spans=20000, rate=20000)
        status = wait_at_rest(daemon, "two ways", exporters=(fast_name, "file"))
        rows = rows_of(status, "two ways")
        assert total(shares(rows, fast_name), "delivered") == total(shares(rows, "file"), "delivered") == printed["ended"] == 20000
        assert total(shares(rows, slow_name), "in_daemon") == 20000
        assert_balanced(status, {"two ways": printed})
        assert len({(span.thread, span.seq) for span in seen_by(fast)}) == 20000
        slow.answer("ok")
        # The request that hangs is over after the exporter's timeout of 10 s.
        assert_balanced(wait_at_rest(daemon, "two ways"), {"two ways": printed})
        assert len({(span.thread, span.seq) for span in seen_by(slow)}) == 20000


def test_sigterm_drains_rings_and_spool(daemon, tmp_path):
    """Nothing waits for a batch to fill or a nap to end."""
    with Receiver("http", tmp_path / "receiver") as receiver:
        kind, settings = otlp(receiver)
        daemon.start(config({kind: {**settings, "sending_queue": {"batch": {"flush_timeout": "1h"}}}}))
        with Load(daemon, "last", spans=700, leave_open=1) as it:
            printed = it.finish()
        assert printed["ended"] == 700
        assert daemon.stop() == 0
        assert len([span for span in seen_by(receiver) if not span.unfinished]) == 700


def test_sigterm_says_what_stayed(daemon, ring_dir, tmp_path):
    with Receiver("http", tmp_path / "receiver", "hang") as receiver:
        kind, settings = otlp(receiver)
        text = config({kind: settings})
        daemon.start(text)
        printed = load(daemon, "stays", spans=321)
        receiver.wait_for_requests(1)
        assert daemon.stop() == 0
        assert re.search(r"\b321\b", daemon.log_text()), daemon.log_text()
        gone = daemon.run("status", check=False)
        assert gone.returncode == 3 and "321" in gone.stdout and "stopped" in gone.stdout, gone.stdout
        status = daemon.status()
        assert status["phase"] == "stopped" and "321" in status["last_words"]
        assert_balanced(status, {"stays": printed})
        receiver.answer("ok")
        daemon.start(text)
        assert_balanced(wait_at_rest(daemon, "stays"), {"stays": printed})
        assert len(seen_by(receiver)) == 321


def test_an_application_outlives_daemons(daemon, tmp_path):
    out = tmp_path / "spans.jsonl"
    text = config({"file": {"path": str(out)}})
    daemon.start(text)
    with Load(daemon, "patient", threads=2, rate=1000, seconds=60, progress=tmp_path / "progress") as it:
        for _ in range(3):
            before = sum(it.ended().values())
            eventually(lambda before=before: sum(it.ended().values()) > before + 200, "it writes on")
            assert daemon.stop() == 0
            before = sum(it.ended().values())
            eventually(lambda before=before: sum(it.ended().values()) > before + 100, "it writes on without a daemon")
            daemon.start(text)
        it.kill()
    status = wait_at_rest(daemon, "patient")
    assert_balanced(status)
    row, = rows_of(status, "patient")
    seen = [span for span in seen_in_file(out) if not span.unfinished]
    keys = {(span.thread, span.seq) for span in seen}
    assert len(keys) == len(seen) and row["dropped"] == {}
    assert all((thread, seq) in keys for thread, last in it.ended().items() for seq in range(1, last + 1))


def test_one_daemon_per_directory(daemon, ring_dir):
    daemon.start(config({"nop": {}}))
    second = daemon.run("run", check=False)
    assert second.returncode == 1
    assert str(ring_dir) in second.stderr and str(daemon.process.pid) in second.stderr, second.stderr
    assert daemon.process.poll() is None and daemon.run("status").returncode == 0


def test_a_wrong_configuration_ends_with_78_and_lists_all_mistakes(daemon, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("receivers: {shm: {spool_sise: 8MiB}}\nexporters: {otlp_grpc: {endpiont: x}}\n"
                   "service: {pipelines: {traces: {receivers: [shm], exporters: [otlp_grcp]}}}\n")  # fmt: skip
    for verb in ("run", "validate"):
        done = daemon.run(verb, "--config", bad, check=False)
        assert done.returncode == 78, done
        for word in ("spool_sise", "spool_size", "endpiont", "endpoint", "otlp_grcp", f"{bad}:1:", f"{bad}:2:", f"{bad}:3:"):
            assert word in done.stderr, (word, done.stderr)
    missing = daemon.run("run", "--config", tmp_path / "nowhere.yaml", check=False)
    assert missing.returncode == 78 and "nowhere.yaml" in missing.stderr


def test_wrong_usage_ends_with_2(daemon):
    done = daemon.run("statsu", check=False)
    assert done.returncode == 2 and "oteld status" in done.stderr


def test_exit_codes_of_status(daemon, ring_dir):
    def code():
        return daemon.run("status", check=False).returncode

    assert code() == 3  # Nobody has ever served the directory.
    daemon.start(config({"otlp_http": {"endpoint": f"http://127.0.0.1:{free_port()}"}}))
    assert code() == 0 and daemon.status()["verdict"] == "healthy"
    load(daemon, "app", spans=10)
    eventually(lambda: code() == 1, "an exporter that cannot connect makes the daemon degraded")
    assert daemon.status()["verdict"] == "degraded"
    os.kill(daemon.process.pid, signal.SIGSTOP)
    eventually(lambda: "HANGS" in daemon.run("status", check=False).stdout, "a daemon that hangs is told apart")
    assert code() == 1
    os.kill(daemon.process.pid, signal.SIGCONT)
    daemon.kill()
    killed = daemon.run("status", check=False)
    assert killed.returncode == 3 and "it died" in killed.stdout
    (ring_dir / "status").write_bytes(b"not a status page" * 100)
    assert code() == 4


def test_status_of_no_directory(daemon, tmp_path):
    done = daemon.run("status", "--dir", tmp_path / "nowhere", check=False)
    assert done.returncode == 3 and "nowhere" in done.stdout


def test_the_environment_configures_without_a_file(daemon, tmp_path):
    if os.path.exists("/etc/oteld/oteld.yaml"):
        pytest.skip("this machine has an /etc/oteld/oteld.yaml of its own")
    with Receiver("http", tmp_path / "receiver") as receiver:
        daemon.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{receiver.where}",
                               "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=blue"}  # fmt: skip
        daemon.start()
        printed = load(daemon, "by environment", spans=50)
        assert_balanced(wait_at_rest(daemon, "by environment"), {"by environment": printed})
        assert len(seen_by(receiver)) == 50
        assert {request["headers"]["x-tenant"] for request in receiver.requests()} == {"blue"}


def test_status_is_one_readable_document_when_asked_again_and_again(daemon):
    """--watch into a pipe: one document after the other, ended by SIGTERM with the daemon's verdict."""
    daemon.start(config({"nop": {}}))
    with subprocess.Popen([daemon.oteld, "status", "--watch", "--json"], env=daemon.environment, stdout=subprocess.PIPE,
                          text=True) as watch:  # fmt: skip
        documents = [json.loads(watch.stdout.readline()) for _ in range(2)]
        watch.terminate()
        assert watch.wait(60) == 0
    assert {it["verdict"] for it in documents} == {"healthy"}


def test_a_service_manager_that_does_not_read_stops_nothing(daemon):
    daemon.start(config({"nop": {}}))
    variables = pathlib.Path(f"/proc/{daemon.process.pid}/environ").read_text().split("\0")
    address, = (it.removeprefix("NOTIFY_SOCKET=") for it in variables if it.startswith("NOTIFY_SOCKET="))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        with pytest.raises(BlockingIOError):
            while True:
                sender.sendto(b"STATUS=full", address)
    load(daemon, "goes on", spans=10)
    assert_balanced(wait_at_rest(daemon, "goes on"))
