#!/usr/bin/env python3
"""An OTLP backend that takes everything and does as little as it can while it is loaded: sink.py grpc|http PORT

Prints its port. Requests are kept in memory with the time at which they had arrived as a whole, and decoded only when a
line on standard input asks, so that the decoding costs nothing while something is measured:
    requests   {"requests"}: how many there have been since the last "take"
    take       {"spans", "requests", "bytes", "first_ns" and "last_ns": when requests arrived, "latency_ms": {...}}, forgets them
    first      {"hex"}: the bytes of the first request
"""
import concurrent.futures
import http.server
import json
import os
import sys
import threading
import time

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

Arrived = list[tuple[int, bytes]]  # Unix time in ns, and the request.


def summary(arrived: Arrived) -> dict:
    """Latency: from a span's end to the arrival of its request."""
    latencies: list[int] = []
    for when, message in arrived:
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(message)
        latencies += [when - span.end_time_unix_nano
                      for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]  # fmt: skip
    latencies.sort()
    out = {"spans": len(latencies), "requests": len(arrived), "bytes": sum(len(message) for _, message in arrived)}
    if latencies:
        out["first_ns"], out["last_ns"] = arrived[0][0], arrived[-1][0]
        shares = {"p50": 0.5, "p99": 0.99, "max": 1}
        out["latency_ms"] = {name: latencies[int(share * (len(latencies) - 1))] / 1e6 for name, share in shares.items()}
    return out


def serve_grpc(port: int, arrived: Arrived):
    import grpc

    def export(message: bytes, _: object) -> bytes:
        arrived.append((time.time_ns(), message))
        return b""

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=4),
                         options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)))  # fmt: skip
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return port, server  # A gRPC server that nobody holds stops.


def serve_http(port: int, arrived: Arrived):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            message = self.rfile.read(int(self.headers["content-length"]))
            arrived.append((time.time_ns(), message))
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1], server


def main() -> None:
    arrived: Arrived = []
    serve = serve_grpc if sys.argv[1] == "grpc" else serve_http
    port, _server = serve(int(sys.argv[2]), arrived)
    print(port, flush=True)
    for line in sys.stdin:
        question = line.strip()
        if question == "take":
            taken, arrived[:] = list(arrived), []
            answer = summary(taken)
        elif question == "first":
            answer = {"hex": arrived[0][1].hex()}
        else:
            answer = {"requests": len(arrived)}
        print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
