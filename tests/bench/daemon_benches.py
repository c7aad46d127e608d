"""What the daemon costs, and how long things take: drain, nop, export, latency, idle, start, restart."""
import json
import subprocess
import time

from common import (BUILD, RESULTS, Daemon, Sink, batch, clean_environment, free_port, json_lines, median, otlp,
                    own_mib, pipeline, wait_for)  # fmt: skip

# With load.thread and load.seq these are spans of five attributes, as on the application's side.
ATTRIBUTES = 3


def drain(quick: bool) -> None:
    print("\ndrain + validate + copy to the spool by lane size (2 MiB where nothing is said), writer and reader each on a "
          "processor of its own,\nns per span (about 230 B): p10 and median; beside a memcpy of the bytes")  # fmt: skip
    lines = [line for _ in range(1 if quick else 7) for line in json_lines([BUILD / "bench/drain_bench", "200"], clean_environment())]
    steps = {}
    for name in dict.fromkeys(line["name"] for line in lines):
        of_name = [line for line in lines if line["name"] == name]
        steps[name] = {key: median(line[key] for line in of_name) for key in of_name[0] if key != "name"}
        print(f"  {name:44} " + "  ".join(f"{key} {value:.1f}" for key, value in steps[name].items()))
    RESULTS["drain"] = steps


def measure_load(daemon: Daemon, rate: int, seconds: float, settle: float) -> dict:
    """CPU of the daemon per span that the load ended, after a second of the same load to get warm."""
    daemon.load(rate=rate, seconds=1, attributes=ATTRIBUTES)
    before = daemon.cpu_ns()
    load = daemon.load(rate=rate, seconds=seconds, attributes=ATTRIBUTES)
    time.sleep(settle)
    return {"ns_per_span": (daemon.cpu_ns() - before) / load["ended"], "spans_per_s": load["ended"] / load["seconds"],
            "dropped": load["dropped"]}  # fmt: skip


def nop(quick: bool) -> None:
    print("\ndaemon CPU with the nop exporter: drain, validate, copy to the spool, hand over, settle; medians")
    table = []
    for rate in (10_000, 100_000, 500_000, 1_000_000, 0):
        runs = []
        for _ in range(1 if quick else 3):
            with Daemon(pipeline("nop")) as daemon:
                runs.append(measure_load(daemon, rate, 2 if quick else 4, 0.3))
        row = {"rate": rate} | {key: median(run[key] for run in runs) for key in runs[0]}
        table.append(row)
        print(f"  {f'{rate} spans/s' if rate else 'as fast as it can':18} {row['ns_per_span']:6.0f} ns a span   "
              f"{row['spans_per_s']:10.0f} spans/s taken, {row['dropped']:.0f} dropped")  # fmt: skip
    RESULTS["nop"] = table


def export(quick: bool) -> None:
    print("\ndaemon CPU, ring to OTLP/gRPC and OTLP/HTTP over loopback, no compression; medians")
    table = []
    for protocol in ("grpc", "http"):
        with Sink(protocol) as sink:
            for rate in (1_000, 10_000, 100_000, 500_000):
                runs = []
                for _ in range(1 if quick else 3):
                    with Daemon(otlp(protocol, sink.port)) as daemon:
                        runs.append(measure_load(daemon, rate, 4 if quick else 8, 0.5) | {"own_mib": own_mib(daemon.memory_kib())})
                    sink.take()
                row = {"protocol": protocol, "rate": rate} | {key: median(run[key] for run in runs) for key in runs[0]}
                table.append(row)
                lost = f"   {row['dropped']:.0f} dropped, {row['spans_per_s']:.0f} spans/s taken" if row["dropped"] else ""
                print(f"  {protocol}  {rate:7} spans/s  {row['ns_per_span'] / 1000:6.2f} us a span   "
                      f"RssAnon+RssFile {row['own_mib']:.1f} MiB{lost}")  # fmt: skip
    RESULTS["export"] = table


def latency(quick: bool) -> None:
    print("\nlatency, from a span's end to the arrival of its whole request at the backend, ms; medians of runs")
    table = []
    for protocol in ("grpc", "http"):
        with Sink(protocol) as sink:
            for flush in ("200ms", "10ms"):
                for rate in (1_000, 10_000, 100_000):
                    runs = []
                    for _ in range(1 if quick else 3):
                        with Daemon(otlp(protocol, sink.port, **batch(flush_timeout=flush))) as daemon:
                            daemon.load(rate=rate, seconds=1, attributes=ATTRIBUTES)
                            time.sleep(0.5)
                            sink.take()
                            daemon.load(rate=rate, seconds=2 if quick else 5, attributes=ATTRIBUTES)
                            time.sleep(1)
                        runs.append(sink.take()["latency_ms"])
                    row = {"protocol": protocol, "flush_timeout": flush, "rate": rate} | {key: median(run[key] for run in runs) for key in runs[0]}
                    table.append(row)
                    print(f"  {protocol}  flush_timeout {flush:5}  {rate:7} spans/s   p50 {row['p50']:6.1f}  p99 {row['p99']:6.1f}  max {row['max']:6.1f}")
    RESULTS["latency"] = table


def idle(quick: bool) -> None:
    print("\nidle daemon with the embedded default (local trace store) beside idle programs that have recorded once")
    table = []
    for clients in (0, 1, 64):
        with Daemon(pipeline("trace_store")) as daemon:
            programs = [subprocess.Popen([BUILD / "bench/idle_client"], env=daemon.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                        for _ in range(clients)]  # fmt: skip
            added = [json.loads(program.stdout.readline())["resident_kib"] for program in programs]
            time.sleep(8)  # Until its naps are long.
            before, start = daemon.cpu_ns(), time.monotonic()
            time.sleep(10 if quick else 30)
            share = (daemon.cpu_ns() - before) / ((time.monotonic() - start) * 1e9) * 100
            memory = daemon.memory_kib()
            for program in programs:
                program.communicate()
        row = {"clients": clients, "cpu_percent": share, "memory_kib": memory}
        if clients:
            row["client_kib"] = median(added)
        table.append(row)
        print(f"  {clients:3} clients   CPU {share:.3f} % of a core   resident {memory['VmRSS'] / 1024:.1f} MiB (anonymous "
              f"{memory['RssAnon'] / 1024:.1f}, files {memory['RssFile'] / 1024:.1f}, shared memory {memory['RssShmem'] / 1024:.1f})"
              + (f"   a client adds {row['client_kib']:.0f} KiB to its program" if clients else ""))  # fmt: skip
    RESULTS["idle"] = table


def start(quick: bool) -> None:
    runs = 7 if quick else 15
    print(f"\nfrom exec to READY=1, ms, {runs} runs: median, lowest, highest")
    table = {}
    port = free_port()  # Nobody listens; a connection is not waited for.
    configurations = {"nop": pipeline("nop"), "trace_store": pipeline("trace_store"),
                      "otlp_grpc": otlp("grpc", port), "otlp_http": otlp("http", port)}  # fmt: skip
    for name, config in configurations.items():
        values = []
        for _ in range(runs):
            with Daemon(config) as daemon:
                values.append(daemon.ready_ms)
        table[name] = {"median": median(values), "lowest": min(values), "highest": max(values)}
        print(f"  {name:12} {median(values):6.1f}  {min(values):6.1f}  {max(values):6.1f}")
    RESULTS["start"] = table


def restart(quick: bool) -> None:
    """Killed while its backend is away and its spool (64 MiB, the default) is full; then both are back."""
    print("\nrestart with a full spool, ms from exec: ready, first and last request at the backend; medians")
    runs = []
    for _ in range(2 if quick else 7):
        port = free_port()
        config = otlp("grpc", port)
        daemon = Daemon(config)
        while not daemon.status()["spool"]["full"]:
            daemon.load(spans=50_000, rate=200_000, attributes=ATTRIBUTES)
        time.sleep(1.5)  # The status is renewed once a second.
        waiting = daemon.status()["exporters"][0]["queue_spans"]
        daemon.kill()
        with Sink("grpc", port) as sink, Daemon(config, daemon.home) as again:
            wait_for(lambda: nothing_waits(again.status()), 60, 0.2)
            taken = sink.take()
            since_exec = {name: (taken[key] - again.started_ns) / 1e6 for name, key in (("first", "first_ns"), ("last", "last_ns"))}
            runs.append({"ready": again.ready_ms, **since_exec, "waiting": waiting, "arrived": taken["spans"]})
    row = {key: median(run[key] for run in runs) for key in runs[0]}
    print(f"  {row['waiting']:.0f} spans in the spool:   ready {row['ready']:.1f}   first request {row['first']:.1f}   "
          f"last request {row['last']:.0f}, when {row['arrived']:.0f} had arrived, those from the rings included")  # fmt: skip
    RESULTS["restart"] = row | {"runs": runs}


def nothing_waits(status: dict) -> bool:
    in_rings = sum(application["in_ring"] for application in status["applications"])
    return in_rings == 0 and status["exporters"][0]["delivered"] != 0 and status["exporters"][0]["queue_spans"] == 0
