#!/usr/bin/env python3
"""Sends one prepared OTLP/gRPC request again and again, as fast as an SDK with so many spans would: sender.py PORT FILE SPANS

FILE holds the request, SPANS says how many spans are in it. Prints "ready" when the agent at PORT has taken connections.
Each line on standard input, "SPANS_PER_SECOND SECONDS", is a load; the answer is {"spans", "cpu_ns"}: how many the
agent has taken, and the CPU time of this process meanwhile. As in the SDKs one request is under way at a time, and a
request goes out when it is full or, below that rate, after five seconds; then it is a shorter one.
"""
import json
import sys
import time

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

SCHEDULE_S = 5.0


def shortened(message: bytes, spans: int) -> bytes:
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(message)
    assert len(request.resource_spans) == 1 and len(request.resource_spans[0].scope_spans) == 1
    del request.resource_spans[0].scope_spans[0].spans[spans:]
    return request.SerializeToString()


def main() -> None:
    port, path, spans = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(path, "rb") as file:
        full = file.read()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    grpc.channel_ready_future(channel).result(timeout=20)
    export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    print("ready", flush=True)
    for line in sys.stdin:
        rate, seconds = map(float, line.split())
        interval = min(spans / rate, SCHEDULE_S)
        each = min(spans, int(rate * interval))
        message = full if each == spans else shortened(full, each)
        requests = max(1, int(seconds / interval))
        before, start = time.process_time_ns(), time.monotonic()
        for number in range(1, requests + 1):
            time.sleep(max(0.0, start + number * interval - time.monotonic()))
            export(message, timeout=10)
        print(json.dumps({"spans": requests * each, "cpu_ns": time.process_time_ns() - before}), flush=True)


if __name__ == "__main__":
    main()
