"""Spans reach a backend that works as they were, in requests of the right size.

The receiving half is not ours (receiver.py); export_once loads a module and sends a few spans through it.
"""
import socket
import threading

from exporting import export, export_one
from protocols import both, endpoint_at, packed
from receiving import Receiver


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
