"""What the OTLP exporters make of backends that work, refuse, hang, break off and show wrong certificates.

The receiving half is not ours (receiver.py); export_once loads a module and sends a few spans through it.
"""
import re
import socket
import subprocess
import threading
import time

import pytest

import exporting
import receiving
from exporting import export, export_one, refused_settings
from receiving import Receiver

PROTOCOLS = ("grpc", "http")

both = pytest.mark.parametrize("protocol", PROTOCOLS)
packed = pytest.mark.parametrize("compression", ("none", "gzip"))


def refuse(protocol, code, **options):
    """An answer that refuses; `code` is (gRPC's, HTTP's)."""
    text = f"refuse:{code[PROTOCOLS.index(protocol)]}"
    return text + "".join(f";{key.replace('_', '-')}={value}" for key, value in options.items())


@pytest.fixture
def free_port():
    """A port that nobody listens on, for as long as the test runs: bound, but not listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def endpoint_at(protocol, port, secure=False):
    if protocol == "grpc":
        return f"127.0.0.1:{port}"
    return f"{'https' if secure else 'http'}://127.0.0.1:{port}/v1/traces"


# ---------------------------------------------------------------------------------------- it works


@both
@packed
def test_spans_arrive_as_they_were(protocol, compression, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        result = export_one(protocol, receiver.endpoint, spans=7, runs=3, compression=compression)
        (request,) = receiver.requests()
        (message,) = receiver.messages()
    assert result["outcome"] == "delivered" and result["message"] == ""
    (resource,) = message.resource_spans
    assert resource.resource.attributes[0].value.string_value == "export_once"
    # Three runs, two scopes: the first and the third are one group.
    assert [scope.scope.name for scope in resource.scope_spans] == ["first", "second"]
    assert {scope.schema_url for scope in resource.scope_spans} == {"https://schema.example/1"}
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert sorted(span.name for span in spans) == [f"span {n}" for n in range(7)]
    for span in spans:
        number = f"{int(span.name.split()[1]):08}".encode()
        assert (span.trace_id, span.span_id) == (number * 2, number)
        assert span.attributes[0].value.string_value == "x" * 20
    if protocol == "http":
        assert request["path"] == "/v1/traces"
        assert request["headers"]["content-type"] == "application/x-protobuf"
        assert request["encoding"] == ("gzip" if compression == "gzip" else "")
        assert request["body_bytes"] == result["request_bytes"]


@both
def test_gzip_makes_the_request_smaller_on_the_wire(protocol, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        results = [export_one(protocol, receiver.endpoint, spans=500, attribute_bytes=200, compression=c)
                   for c in ("none", "gzip")]  # fmt: skip
        requests = receiver.requests()
    plain, small = (r.get("body_bytes") or r["connection_bytes"] for r in requests)
    assert plain > 100_000 and small < plain / 5
    assert results[0]["request_bytes"] > 100_000
    assert results[1]["request_bytes"] < results[0]["request_bytes"] / 5
    assert requests[0]["raw"] == requests[1]["raw"]


@both
@packed
def test_large_requests_of_many_slices(protocol, compression, tmp_path):
    """10 MB in 2,000 runs: over every window, buffer and frame on the way."""
    with Receiver(protocol, tmp_path, write="raw") as receiver:
        result = export_one(protocol, receiver.endpoint, spans=10000, runs=2000, attribute_bytes=1000,
                            compression=compression)  # fmt: skip
        (message,) = receiver.messages()
    assert result["outcome"] == "delivered"
    names = {s.name for r in message.resource_spans for g in r.scope_spans for s in g.spans}
    assert names == {f"span {n}" for n in range(10000)}


@both
def test_headers_and_user_agent(protocol, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        export_one(protocol, receiver.endpoint, **{"header_x-tenant": "blue", "header_x-empty": ""})
        headers = receiver.requests()[0]["headers"]
    assert headers["x-tenant"] == "blue" and headers["x-empty"] == ""
    product, exporter = headers["user-agent"].split()[:2]
    assert product.startswith("oteld/") and exporter.startswith("OTel-OTLP-Exporter-Cpp/")


@both
def test_one_connection_serves_many_requests(protocol, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        with CountingProxy(receiver.port) as proxy:
            results = export(protocol, endpoint_at(protocol, proxy.port), sends=5)
        assert len(receiver.requests()) == 5
    assert {r["outcome"] for r in results} == {"delivered"}
    assert proxy.connections == 1


def test_grpc_over_a_unix_socket(tmp_path):
    with Receiver("grpc", tmp_path, unix=tmp_path / "socket") as receiver:
        assert export_one("grpc", receiver.endpoint)["outcome"] == "delivered"
        assert len(receiver.spans()) == 3
    gone = export_one("grpc", f"unix:{tmp_path}/nobody")
    assert gone["outcome"] == "retry_after" and "no such socket" in gone["message"]


@both
def test_an_empty_batch_is_not_sent(protocol, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        assert export_one(protocol, receiver.endpoint, spans=0)["outcome"] == "delivered"
        assert receiver.requests() == []


# -------------------------------------------------------------------------------- partial success


@both
def test_partial_success_counts_what_was_rejected(protocol, tmp_path):
    answers = ("partial:2;message=two are bad", "partial:0;message=slow down")
    with Receiver(protocol, tmp_path, *answers) as receiver:
        some, none = export(protocol, receiver.endpoint, sends=2)
        assert len(receiver.requests()) == 2  # Never sent again.
    assert (some["outcome"], some["rejected_spans"]) == ("delivered", 2)
    assert "rejected 2 spans" in some["message"] and "two are bad" in some["message"]
    assert (none["outcome"], none["rejected_spans"]) == ("delivered", 0)
    assert "warns" in none["message"] and "slow down" in none["message"]


# --------------------------------------------------------------------------------------- refusals

REFUSALS = [
    # gRPC, HTTP, retried
    ("INVALID_ARGUMENT", 400, False),
    ("INTERNAL", 500, False),
    ("UNKNOWN", 408, False),
    ("UNAUTHENTICATED", 401, False),
    ("PERMISSION_DENIED", 403, False),
    ("UNIMPLEMENTED", 404, False),
    ("RESOURCE_EXHAUSTED", 413, False),
    ("FAILED_PRECONDITION", 501, False),
    ("UNAVAILABLE", 503, True),
    ("ABORTED", 502, True),
    ("DATA_LOSS", 504, True),
    ("OUT_OF_RANGE", 429, True),
    ("CANCELLED", 503, True),
    ("DEADLINE_EXCEEDED", 504, True),
]


@both
@pytest.mark.parametrize("grpc_code, http_code, retried", REFUSALS)
def test_refusals(protocol, grpc_code, http_code, retried, tmp_path):
    answer = refuse(protocol, (grpc_code, http_code), message="because")
    with Receiver(protocol, tmp_path, answer) as receiver:
        result = export_one(protocol, receiver.endpoint)
        assert len(receiver.requests()) == 1  # Retrying is not the exporter's to do.
    assert result["outcome"] == ("retry_after" if retried else "rejected")
    assert result["reason"] == "refused" and result["wait_ms"] is None
    assert "because" in result["message"] and receiver.where in result["message"]
    assert str(grpc_code if protocol == "grpc" else http_code) in result["message"]


@pytest.mark.parametrize("value, wait_ms", [("3", 3000), ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
                                            ("nonsense", None)])  # fmt: skip
@pytest.mark.parametrize("code", (503, 429))
def test_http_retry_after(code, value, wait_ms, tmp_path):
    with Receiver("http", tmp_path, f"refuse:{code};retry-after={value}") as receiver:
        result = export_one("http", receiver.endpoint)
    assert (result["outcome"], result["wait_ms"]) == ("retry_after", wait_ms)


def test_http_retry_after_as_a_date_to_come(tmp_path):
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 1000))
    with Receiver("http", tmp_path, f"refuse:503;retry-after={date}") as receiver:
        result = export_one("http", receiver.endpoint)
    assert result["outcome"] == "retry_after" and 0 < result["wait_ms"] <= 1_001_000


@pytest.mark.parametrize("code", ("UNAVAILABLE", "RESOURCE_EXHAUSTED"))
def test_grpc_retry_info(code, tmp_path):
    """RESOURCE_EXHAUSTED is retried with RetryInfo only (without: test_refusals)."""
    with Receiver("grpc", tmp_path, f"refuse:{code};retry-info-ms=1500") as receiver:
        result = export_one("grpc", receiver.endpoint)
    assert (result["outcome"], result["wait_ms"]) == ("retry_after", 1500)


def test_http_redirects_are_not_followed(tmp_path):
    with Receiver("http", tmp_path / "there") as there:
        with Receiver("http", tmp_path / "here", f"redirect:{there.endpoint}") as here:
            result = export_one("http", here.endpoint, compression="none")
        assert there.requests() == []
    assert result["outcome"] == "rejected" and there.endpoint in result["message"]


# ---------------------------------------------------------------------------------- broken backends


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


# -------------------------------------------------------------------------------------------- size


@both
@packed
def test_a_request_over_the_limit_is_not_sent(protocol, compression, tmp_path):
    """Measured before compression: these 20 kB are a few hundred bytes of gzip."""
    with Receiver(protocol, tmp_path) as receiver:
        result = export_one(protocol, receiver.endpoint, spans=100, attribute_bytes=200, request_bytes_max=10_000,
                            compression=compression)  # fmt: skip
        assert receiver.requests() == []
    assert (result["outcome"], result["reason"]) == ("rejected", "too_large")
    assert "10000" in result["message"]


@both
def test_a_batch_over_the_limit_is_divided(protocol, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        results = export(protocol, receiver.endpoint, spans=100, attribute_bytes=200, request_bytes_max=10_000,
                         divide=1)  # fmt: skip
        names = [span.name for _, _, span in receiver.spans()]
    assert len(results) > 2 and {r["outcome"] for r in results} == {"delivered"}
    assert max(r["request_bytes"] for r in results) <= 10_000
    assert sorted(names) == sorted(f"span {n}" for n in range(100))


@both
def test_only_the_span_that_is_too_large_is_lost(protocol, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        results = export(protocol, receiver.endpoint, spans=3, attribute_bytes=5000, request_bytes_max=4000, divide=1)
        assert receiver.requests() == []
    assert [r["reason"] for r in results] == ["too_large"] * 3


# ------------------------------------------------------------------------------------ lent memory


def h2_frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class SleepyHttp2Server:
    """Opens HTTP/2's windows as wide as they go, reads for a moment, and then no more until told to.

    So a client's write of a large request is stuck half-way when its deadline comes.
    """

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.port = self.socket.getsockname()[1]
        self.asleep = threading.Event()
        self.go_on = threading.Event()
        self.received = b""
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def serve(self):
        connection, _ = self.socket.accept()
        with connection:
            wide = (0x4).to_bytes(2, "big") + (2**31 - 1).to_bytes(4, "big")
            connection.sendall(h2_frame(4, 0, 0, wide) + h2_frame(4, 1, 0, b"") +
                               h2_frame(8, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big")))  # fmt: skip
            while len(self.received) < 256 * 1024:
                self.received += connection.recv(64 * 1024)
            self.asleep.set()
            self.go_on.wait()
            try:
                while data := connection.recv(1 << 20):
                    self.received += data
            except ConnectionError:
                pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.socket.close()
        self.thread.join(exporting.WATCHDOG_S)


def test_lent_memory_is_not_read_after_send_has_returned():
    """A deadline passes while the kernel's buffers are full of half a request; then the spans' memory is reused.

    What the server reads after that must not contain the bytes that were written over the spans.
    """
    with SleepyHttp2Server() as server:
        command = exporting.command("grpc", f"127.0.0.1:{server.port}", spans=20, runs=2, attribute_bytes=2_000_000,
                                    timeout_ms=1000, overwrite=1, linger=1)  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline()  # send() has returned, the memory is overwritten with 0xff.
        server.go_on.set()
        server.thread.join(5)  # Ends at once when the connection was given up, as it must have been.
        process.communicate("\n", timeout=exporting.WATCHDOG_S)
    assert '"retry_after"' in line
    assert b"x" * 1000 in server.received
    assert b"\xff" * 64 not in server.received


def test_cancel_does_not_wait_for_a_write_that_is_stuck():
    """The timeout is an hour, and the server reads no more until send() has returned."""
    with SleepyHttp2Server() as server:
        command = exporting.command("grpc", f"127.0.0.1:{server.port}", spans=20, runs=2, attribute_bytes=2_000_000,
                                    timeout_ms=3_600_000, cancel_at_line=1)  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        server.asleep.wait(exporting.WATCHDOG_S)
        output, _ = process.communicate("\n", timeout=exporting.WATCHDOG_S)
    assert '"retry_after"' in output and "interrupted" in output


# --------------------------------------------------------------------------------------------- TLS


@both
@packed
def test_tls(protocol, compression, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / "server.pem") as receiver:
        result = export_one(protocol, receiver.endpoint, secure=1, ca=certs / "ca.pem", compression=compression,
                            spans=1000, attribute_bytes=1000)  # fmt: skip
        assert result["outcome"] == "delivered"
        assert len(receiver.spans()) == 1000


BAD_CERTIFICATES = {
    "wrong CA": ("server.pem", "other-ca.pem", "wrong CA"),
    "system's CAs": ("server.pem", None, "wrong CA"),
    "wrong name": ("wrong-name.pem", "ca.pem", "another name"),
    "expired": ("expired.pem", "ca.pem", "has expired"),
}


@both
@pytest.mark.parametrize("case", BAD_CERTIFICATES)
def test_certificates_that_are_not_accepted(protocol, case, certs, tmp_path):
    certificate, ca, words = BAD_CERTIFICATES[case]
    with Receiver(protocol, tmp_path, tls=certs / certificate) as receiver:
        options = {"ca": certs / ca} if ca else {}
        result = export_one(protocol, receiver.endpoint, secure=1, **options)
        assert receiver.requests() == []
    assert result["outcome"] == "retry_after"
    assert words in result["message"] and receiver.where in result["message"]


@both
@pytest.mark.parametrize("certificate", ("expired.pem", "wrong-name.pem"))
def test_insecure_skip_verify_accepts_any(protocol, certificate, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / certificate) as receiver:
        assert export_one(protocol, receiver.endpoint, secure=1, skip_verify=1)["outcome"] == "delivered"


@both
def test_server_name_override(protocol, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / "wrong-name.pem") as receiver:
        options = {"secure": 1, "ca": certs / "ca.pem"}
        named = export_one(protocol, receiver.endpoint, server_name="elsewhere.example", **options)
        wrong = export_one(protocol, receiver.endpoint, server_name="nowhere.example", **options)
        assert len(receiver.requests()) == 1
    assert named["outcome"] == "delivered"
    assert wrong["outcome"] == "retry_after" and "another name" in wrong["message"]


@both
def test_client_certificates(protocol, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / "server.pem", client_ca=certs / "ca.pem") as receiver:

        def send(**options):
            return export_one(protocol, receiver.endpoint, secure=1, ca=certs / "ca.pem", **options)

        missing = send()
        strange = send(cert=certs / "other-client.pem", key=certs / "other-client.key")
        assert receiver.requests() == []
        right = send(cert=certs / "client.pem", key=certs / "client.key")
        assert len(receiver.requests()) == 1
    assert missing["outcome"] == "retry_after" and "tls.cert_file" in missing["message"]
    assert "client certificate" in missing["message"]
    # Which of the two depends on the alert that the receiver's TLS library sends.
    assert strange["outcome"] == "retry_after"
    assert re.search("does not (accept|trust) the client certificate", strange["message"]), strange["message"]
    assert right["outcome"] == "delivered"


@both
def test_tls_to_a_plain_port_is_named(protocol, certs, tmp_path):
    with Receiver(protocol, tmp_path) as receiver:
        endpoint = endpoint_at(protocol, receiver.port, secure=True)
        result = export_one(protocol, endpoint, secure=1, ca=certs / "ca.pem")
    assert result["outcome"] == "retry_after" and "does not speak TLS" in result["message"]


@both
def test_plain_text_to_a_tls_port_is_retried(protocol, certs, tmp_path):
    with Receiver(protocol, tmp_path, tls=certs / "server.pem") as receiver:
        result = export_one(protocol, endpoint_at(protocol, receiver.port))
        assert receiver.requests() == []
    assert result["outcome"] == "retry_after"


def test_http_speaks_http2_where_tls_agrees_on_it(certs, tmp_path):
    """A gRPC server speaks nothing else. It does not like the request, but it says so in HTTP/2."""
    with Receiver("grpc", tmp_path, tls=certs / "server.pem") as receiver:
        result = export_one("http", f"https://{receiver.where}/v1/traces", secure=1, ca=certs / "ca.pem")
    assert "HTTP/2 stream" in result["message"] or "answered HTTP" in result["message"], result


# ---------------------------------------------------------------------------------------- settings


@both
@pytest.mark.parametrize("option, key", [("ca", "tls.ca_file"), ("cert", "tls.cert_file"), ("key", "tls.key_file")])
def test_a_file_that_cannot_be_read_is_named_before_anything_is_sent(protocol, option, key, tmp_path):
    sentence = refused_settings(protocol, endpoint_at(protocol, 1, True), secure=1, **{option: tmp_path / "nothing"})
    assert key in sentence and f"{tmp_path}/nothing" in sentence


@both
@pytest.mark.parametrize("header", ["header_bad name", "header_bad:name"])
def test_a_header_that_cannot_be_sent_is_named(protocol, header):
    assert header.removeprefix("header_") in refused_settings(protocol, endpoint_at(protocol, 1), **{header: "x"})


@both
def test_a_header_cannot_smuggle_another(protocol):
    sentence = refused_settings(protocol, endpoint_at(protocol, 1), **{"header_x-a": "b\r\nx-evil: c"})
    assert "x-a" in sentence


def test_http_goes_through_the_proxy_that_the_environment_names(tmp_path, monkeypatch):
    with Receiver("http", tmp_path) as receiver:
        # To a plain proxy the whole URL is the request's path; our receiver serves any path.
        monkeypatch.setenv("http_proxy", f"http://{receiver.where}")
        monkeypatch.setenv("no_proxy", "")
        result = export_one("http", "http://behind.invalid/v1/traces")
        (request,) = receiver.requests()
    assert result["outcome"] == "delivered"
    assert request["path"] == "http://behind.invalid/v1/traces"


class CountingProxy:
    """Hands connections on to a port of this host, and counts them."""

    def __init__(self, port):
        self.behind = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self.behind))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(source, target), daemon=True).start()

    @staticmethod
    def pump(source, target):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
