#!/usr/bin/env python3
"""Runs the benchmarks against the build in build/ and prints a table: ./dev bench [--quick] [NAME...].

Names: span, lttng, detail, burst, drain, export, idle. Everything runs in one go on one machine, each figure beside what it is
compared with; ratios first, since the machine's own speed drifts. Figures are also written to build/bench.json.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("OTELD_BUILD", ROOT / "build"))
TICKS = os.sysconf("SC_CLK_TCK")
RESULTS: dict[str, object] = {}


def clean_environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL")}
    return kept | more


class Daemon:
    """An `oteld run` on a private ring directory in memory."""

    def __init__(self, config: str):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="oteld-bench-", dir="/dev/shm"))
        self.rings = self.home / "rings"
        self.rings.mkdir(mode=0o700)
        (self.home / "oteld.yaml").write_text(config)
        self.environment = clean_environment(OTELD_DIR=str(self.rings), OTELD_STATE_DIR=str(self.home / "state"))
        self.log = open(self.home / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [BUILD / "oteld", "run", "--config", self.home / "oteld.yaml"],
            env=self.environment, stdout=self.log, stderr=self.log)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"oteld ended at once:\n{(self.home / 'log').read_text()}")
            if self.status_code() in (0, 1):
                return
            time.sleep(0.02)
        raise SystemExit("oteld was not ready within 20 s")

    def status_code(self) -> int:
        return subprocess.run([BUILD / "oteld", "status", "--json"], env=self.environment, capture_output=True, check=False).returncode

    def status(self) -> dict:
        out = subprocess.run([BUILD / "oteld", "status", "--json"], env=self.environment, capture_output=True, check=False).stdout
        return json.loads(out)

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def cpu_ns(self) -> int:
        """Finer than cpu_seconds(): what the scheduler charged, over all threads."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total

    def memory_kib(self) -> dict[str, int]:
        facts = {}
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon", "RssFile", "RssShmem", "VmRSS")):
                name, value = line.split(":")
                facts[name] = int(value.split()[0])
        return facts

    def delivered(self) -> int:
        return sum(e["delivered"] for a in self.status()["applications"] for e in a["exporters"])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Rings:
    """A ring directory that nobody drains."""

    def __enter__(self) -> "Rings":
        self.folder = tempfile.mkdtemp(prefix="oteld-bench-", dir="/dev/shm")
        self.environment = clean_environment(OTELD_DIR=self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)


NULL_PIPELINE = """
receivers: {shm: {}}
exporters: {nop: {}}
service: {pipelines: {traces: {receivers: [shm], exporters: [nop]}}}
"""


def json_lines(command: list, environment: dict[str, str]) -> list[dict]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def bench_span(quick: bool) -> None:
    runs = 3 if quick else 7
    rows: dict[str, list[dict]] = {}
    for _ in range(runs):
        with Rings() as rings:
            for line in json_lines([BUILD / "bench/span_bench", "--drain"], rings.environment) + json_lines([BUILD / "bench/span_bench_noop"], clean_environment()):
                rows.setdefault(line["name"], []).append(line)
    floor = statistics.median(line["p10"] for line in rows["floor"])
    print(f"\nns per span, {runs} runs: quiet (p10) and median; x floor in the same run")
    table = {}
    for name, lines in rows.items():
        p10 = statistics.median(line["p10"] for line in lines)
        median = statistics.median(line["median"] for line in lines)
        table[name] = {"p10": p10, "median": median, "x_floor": p10 / floor}
        print(f"  {name:32} {p10:8.1f} {median:8.1f}   {p10 / floor:5.2f} x")
    RESULTS["span"] = table


def bench_detail(quick: bool) -> None:
    table = {}
    for reader in (False, True):
        rows: dict[str, list[dict]] = {}
        for _ in range(1 if quick else 7):
            with Daemon(NULL_PIPELINE) if reader else Rings() as rings:
                command = [BUILD / "bench/detail_bench", *([] if reader else ["--drain"])]
                for line in json_lines(command, rings.environment):
                    rows.setdefault(line.pop("name"), []).append(line)
        beside = "beside a daemon that drains" if reader else "no reader"
        print(f"\nsingle spans with 5 attributes, {beside}: medians of {len(rows['each span'])} runs; ns unless it says otherwise")
        table[beside] = {name: {key: statistics.median(line[key] for line in lines) for key in lines[0]} for name, lines in rows.items()}
        for name, figures in table[beside].items():
            print(f"  {name:36} " + "  ".join(f"{key} {value:g}" for key, value in figures.items()))
    with tempfile.NamedTemporaryFile() as bare:
        subprocess.run(["strip", "-o", bare.name, BUILD / "lib/liboteld.so"], check=True)
        table["library_bytes"] = os.stat(bare.name).st_size
    print(f"  liboteld.so without debug information: {table['library_bytes'] / 1024:.0f} KiB")
    RESULTS["detail"] = table


def bench_lttng(quick: bool) -> None:
    program = BUILD / "bench/lttng_bench"
    if not program.exists() or shutil.which("lttng") is None:
        print("\nLTTng-UST: not measured, liblttng-ust-dev and lttng-tools are missing (./dev bench installs them)")
        return
    with tempfile.TemporaryDirectory(prefix="oteld-bench-") as home:
        environment = clean_environment(LTTNG_HOME=home)

        def lttng(*words: str) -> None:
            subprocess.run(words, env=environment, check=True, capture_output=True)

        daemon = subprocess.Popen(["lttng-sessiond", "--no-kernel"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while subprocess.run(["lttng", "list"], env=environment, capture_output=True).returncode != 0 and time.monotonic() < deadline:
                time.sleep(0.1)
            # A flight recorder: its ring overwrites itself, and nobody reads.
            lttng("lttng", "create", "bench", "--snapshot")
            lttng("lttng", "enable-event", "--userspace", "oteld_bench:span")
            lttng("lttng", "start")
            lines = [line for _ in range(3 if quick else 7) for line in json_lines([program], environment)]
            lttng("lttng", "destroy", "bench")
        finally:
            daemon.terminate()
            daemon.wait()
    p10 = statistics.median(line["p10"] for line in lines)
    median = statistics.median(line["median"] for line in lines)
    print(f"\n{lines[0]['name']}: {p10:.1f} quiet (p10), {median:.1f} median, ns")
    RESULTS["lttng"] = {"p10": p10, "median": median}


def bench_burst(quick: bool) -> None:
    spans, bursts = 20000, 3
    print("\nbursts of 20,000 spans from idle: spans dropped in the first burst and in later ones (lane grown)")
    table = []
    for hog in (False, True):
        for gap in (1000, 200, 0):
            first, later = [], []
            for _ in range(1 if quick else 3):
                with Daemon(NULL_PIPELINE) as daemon:
                    busy = subprocess.Popen(["taskset", "-c", "0", "sh", "-c", "while :; do :; done"]) if hog else None
                    try:
                        if hog:
                            for task in os.listdir(f"/proc/{daemon.process.pid}/task"):
                                os.sched_setaffinity(int(task), {0})
                        lines = json_lines(["taskset", "-c", "1", BUILD / "bench/burst_bench", str(spans), str(gap), "6000", str(bursts)], daemon.environment)
                    finally:
                        if busy:
                            busy.kill()
                            busy.wait()
                    first.append(lines[0]["dropped"])
                    later.append(max(line["dropped"] for line in lines[1:]))
            row = {"gap_ns": gap, "busy_cpu_beside_daemon": hog, "first": first, "later": later}
            table.append(row)
            beside = "a busy CPU beside the daemon" if hog else "a free CPU for the daemon"
            print(f"  {gap:5} ns apart, {beside:30} first {first}  later {later}  of {spans}")
    RESULTS["burst"] = table


def bench_drain(quick: bool) -> None:
    print("\ndrain + validate + copy to the spool, one core, ns per span (about 230 B); p10 and median, beside a memcpy of the bytes")
    lines = [line for _ in range(1 if quick else 7) for line in json_lines([BUILD / "bench/drain_bench", "200"], clean_environment())]
    steps = {}
    for name in dict.fromkeys(line["name"] for line in lines):
        p10 = statistics.median(line["p10"] for line in lines if line["name"] == name)
        median = statistics.median(line["median"] for line in lines if line["name"] == name)
        steps[name] = {"p10": p10, "median": median}
        print(f"  {name:32} {p10:8.1f} {median:8.1f}")
    RESULTS["drain"] = steps
    print("\ndaemon CPU with the nop exporter: drain, validate, copy to the spool, hand over, settle; ns per span")
    table = []
    for rate in (10000, 100000, 500000):
        values = []
        for _ in range(1 if quick else 3):
            with Daemon(NULL_PIPELINE) as daemon:
                command = [BUILD / "oteld", "load", "--rate", str(rate), "--seconds", "1"]
                subprocess.run(command, env=daemon.environment, check=True, capture_output=True)
                before = daemon.cpu_ns()
                command[-1] = "4"
                out = subprocess.run(command, env=daemon.environment, check=True, capture_output=True, text=True).stdout
                time.sleep(0.3)
                ended = json.loads(out.splitlines()[-1])["ended"]
                values.append((daemon.cpu_ns() - before) / ended)
        table.append({"rate": rate, "ns_per_span": values})
        print(f"  {rate:7} spans/s   {min(values):7.0f} lowest, {statistics.median(values):7.0f} median")
    RESULTS["nop"] = table


def bench_export(quick: bool) -> None:
    print("\ndaemon CPU, ring to OTLP/gRPC and OTLP/HTTP over loopback, no compression, us per span")
    table = []
    for protocol in ("grpc", "http"):
        receiver = subprocess.Popen(
            [sys.executable, ROOT / "tests/conformance/receiver.py", "--protocol", protocol, "--requests", "/dev/null", "--write", "raw"],
            stdout=subprocess.PIPE, text=True)
        try:
            port = int(receiver.stdout.readline().split()[-1])
            endpoint = f"http://127.0.0.1:{port}"
            config = f"""
receivers: {{shm: {{}}}}
exporters:
  otlp_{protocol}: {{endpoint: "{endpoint}", compression: none}}
service: {{pipelines: {{traces: {{receivers: [shm], exporters: [otlp_{protocol}]}}}}}}
"""
            for rate in (1000, 10000, 100000):
                with Daemon(config) as daemon:
                    seconds = 4 if quick else 8
                    load = [BUILD / "oteld", "load", "--rate", str(rate), "--seconds", "1"]
                    subprocess.run(load, env=daemon.environment, check=True, capture_output=True)
                    before = daemon.cpu_ns()
                    load[-1] = str(seconds)
                    out = subprocess.run(load, env=daemon.environment, check=True, capture_output=True, text=True).stdout
                    ended = json.loads(out.splitlines()[-1])["ended"]
                    time.sleep(0.5)
                    used = (daemon.cpu_ns() - before) / ended / 1000
                    memory = daemon.memory_kib()
                row = {"protocol": protocol, "rate": rate, "us_per_span": used, "memory_kib": memory}
                table.append(row)
                print(f"  {protocol}  {rate:7} spans/s  {used:7.2f} us a span   RssAnon+RssFile {(memory['RssAnon'] + memory['RssFile']) / 1024:.1f} MiB")
        finally:
            receiver.kill()
            receiver.wait()
    RESULTS["export"] = table


def bench_idle(quick: bool) -> None:
    print("\nidle daemon with the embedded default (local trace store) and one idle client that recorded once")
    home = "receivers: {shm: {}}\nexporters: {trace_store: {}}\nservice: {pipelines: {traces: {receivers: [shm], exporters: [trace_store]}}}\n"
    with Daemon(home) as daemon:
        subprocess.run([BUILD / "oteld", "load", "--spans", "10"], env=daemon.environment, check=True, capture_output=True)
        time.sleep(8)
        before, start = daemon.cpu_ns(), time.monotonic()
        time.sleep(10 if quick else 30)
        share = (daemon.cpu_ns() - before) / ((time.monotonic() - start) * 1e9) * 100
        memory = daemon.memory_kib()
    print(f"  CPU {share:.3f} % of a core   resident {memory['VmRSS'] / 1024:.1f} MiB (anonymous {memory['RssAnon'] / 1024:.1f}, "
          f"files {memory['RssFile'] / 1024:.1f}, shared memory {memory['RssShmem'] / 1024:.1f})")
    RESULTS["idle"] = {"cpu_percent": share, "memory_kib": memory}


BENCHES = {"span": bench_span, "lttng": bench_lttng, "detail": bench_detail, "burst": bench_burst, "drain": bench_drain, "export": bench_export, "idle": bench_idle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer runs; for a first look, not for a document")
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], help="all when none is named")
    options = parser.parse_args()
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    print(f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, load {os.getloadavg()[0]:.2f}")
    for name in options.names or BENCHES:
        BENCHES[name](options.quick)
    (BUILD / "bench.json").write_text(json.dumps(RESULTS, indent=1))


if __name__ == "__main__":
    main()
