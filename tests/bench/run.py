#!/usr/bin/env python3
"""Runs the benchmarks against the build in build/ and prints a table: ./dev bench [--quick] [NAME...].

tests/bench/README.md says what each measures. Everything runs in one go on one machine, each figure beside what it is
compared with; ratios first, since the machine's own speed drifts. Figures are also written to build/bench.json.
"""
import argparse
import json
import os
import pathlib
import platform

import beside
import client_benches
import daemon_benches
from common import BUILD, RESULTS

BENCHES = {
    "span": client_benches.span,
    "opentelemetry": client_benches.opentelemetry,
    "lttng": client_benches.lttng,
    "detail": client_benches.detail,
    "burst": client_benches.burst,
    "drain": daemon_benches.drain,
    "nop": daemon_benches.nop,
    "export": daemon_benches.export,
    "latency": daemon_benches.latency,
    "beside": beside.beside,
    "idle": daemon_benches.idle,
    "start": daemon_benches.start,
    "restart": daemon_benches.restart,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer runs; for a first look, not for a document")
    parser.add_argument("--collector", type=pathlib.Path, metavar="PATH",
                        help="an OpenTelemetry Collector with the otlp receiver and exporter and the batch processor, for `beside`")  # fmt: skip
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], help="all when none is named")
    options = parser.parse_args()
    beside.collector = options.collector
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    print(f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, load {os.getloadavg()[0]:.2f}")
    for name in options.names or BENCHES:
        BENCHES[name](options.quick)
    (BUILD / "bench.json").write_text(json.dumps(RESULTS, indent=1))


if __name__ == "__main__":
    main()
