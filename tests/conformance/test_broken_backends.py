"""What the OTLP exporters make of backends that are away, hang, break off or answer what is no answer."""
import socket
import subprocess
import time

import pytest

import exporting
from exporting import export, export_one
from protocols import PROTOCOLS, both, endpoint_at, packed
from receiving import Receiver


@pytest.fixture
def free_port():
    """A port that nobody listens on, for as long as the test runs: bound, but not listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@both
def test_connection_refused(protocol, free_port):
    result = export_one(protocol, endpoint_at(protocol, free_port))
    assert result["outcome"] == "retry_after"
    assert "connection refused" in result["message"] and str(free_port) in result["message"]


@both
@packed
def test_a_hanging_backend_times_out(protocol, compression, tmp_path):
    with Receiver(protocol, tmp_path, "hang") as receiver:
        began = time.monotonic()
        result = export_one(protocol, receiver.endpoint, timeout_ms=600, compression=compression)
        assert time.monotonic() - began >= 0.6
        assert len(receiver.requests()) == 1
    assert result["outcome"] == "retry_after" and "within 600 ms" in result["message"]


@both
def test_a_backend_that_accepts_and_says_nothing_times_out(protocol):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = export_one(protocol, endpoint_at(protocol, silent.getsockname()[1]), timeout_ms=600)
    assert result["outcome"] == "retry_after" and "within 600 ms" in result["message"]


@both
@pytest.mark.parametrize("answer", ("cut", "close"))
def test_an_answer_that_breaks_off_is_retried(protocol, answer, tmp_path):
    with Receiver(protocol, tmp_path, answer, "ok") as receiver:
        broken, fine = export(protocol, receiver.endpoint, sends=2)
        # libcurl may repeat a request by itself only on a kept connection that turned out dead.
        assert [r["answer"] for r in receiver.requests()] == [answer, "ok"]
    assert broken["outcome"] == "retry_after" and "closed the connection" in broken["message"]
    assert fine["outcome"] == "delivered"


@both
def test_the_next_try_reaches_a_backend_that_came_back(protocol, tmp_path):
    """No back-off of the library's own stands between a retry and the network."""
    with Receiver(protocol, tmp_path / "first") as first:
        port = first.port
        command = exporting.command(protocol, first.endpoint, sends=3, pause=1)
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert '"delivered"' in process.stdout.readline()
    process.stdin.write("\n")
    process.stdin.flush()
    assert '"retry_after"' in process.stdout.readline()
    with Receiver(protocol, tmp_path / "second", port=port):
        process.stdin.write("\n")
        process.stdin.flush()
        assert '"delivered"' in process.stdout.readline()
    assert process.wait(exporting.WATCHDOG_S) == 0
    process.stdin.close()
    process.stdout.close()


@both
@packed
def test_cancel_interrupts_a_hanging_send(protocol, compression, tmp_path):
    """The timeout is an hour: only cancel() can end this."""
    with Receiver(protocol, tmp_path, "hang") as receiver:
        command = exporting.command(protocol, receiver.endpoint, timeout_ms=3_600_000, sends=2,
                                    cancel_at_line=1, compression=compression)  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        receiver.wait_for_requests(1)
        output, _ = process.communicate("\n", timeout=exporting.WATCHDOG_S)
        assert len(receiver.requests()) == 1  # And no later one is sent.
    lines = output.splitlines()
    assert len(lines) == 2
    assert all('"retry_after"' in line and "interrupted" in line for line in lines)


@both
def test_an_answer_over_the_limit_is_rejected(protocol, tmp_path):
    with Receiver(protocol, tmp_path, "big:100000", "big:1000") as receiver:
        over, under = export(protocol, receiver.endpoint, sends=2, response_bytes_max=10_000)
    assert over["outcome"] == "rejected" and "10000" in over["message"]
    assert under["outcome"] == "delivered"


def test_an_answer_is_measured_after_decompression(tmp_path):
    """100,000 times 'x' is a hundred bytes of gzip."""
    with Receiver("http", tmp_path, "big:100000") as receiver:
        assert receiver_compresses(receiver)
        result = export_one("http", receiver.endpoint, response_bytes_max=10_000)
    assert result["outcome"] == "rejected"


def receiver_compresses(receiver):
    export_one("http", receiver.endpoint)
    return "gzip" in receiver.requests()[-1]["headers"]["accept-encoding"]


@both
def test_the_wrong_protocol_is_named(protocol, tmp_path):
    other = PROTOCOLS[1 - PROTOCOLS.index(protocol)]
    with Receiver(other, tmp_path) as receiver:
        result = export_one(protocol, endpoint_at(protocol, receiver.port), timeout_ms=20_000)
    assert result["outcome"] == "retry_after" and f"otlp_{other}" in result["message"]


def test_an_unknown_name_is_named():
    for protocol, endpoint in (("grpc", "nosuch.invalid:4317"), ("http", "http://nosuch.invalid/v1/traces")):
        result = export_one(protocol, endpoint)
        assert result["outcome"] == "retry_after"
        assert "DNS" in result["message"] and "nosuch.invalid" in result["message"]


def test_no_message_shows_what_is_secret_in_a_url(free_port):
    result = export_one("http", f"http://user:hidden@127.0.0.1:{free_port}/v1/traces?key=hidden")
    assert "hidden" not in result["message"] and str(free_port) in result["message"]
