"""The same spans through oteld, through Rotel and, if there is one, through an OpenTelemetry Collector: CPU per span.

With oteld a program writes its spans into a ring: what that costs it is taken from span_bench, as a load that keeps to a
rate spends most of its time on waking up. With an agent that speaks OTLP a program has to make requests and send them:
here it only sends, requests that were made beforehand, 512 spans each as an SDK's batch processor sends them; a real SDK
makes spans and encodes them besides. These requests are what oteld itself had sent of the same load, sent again and
again, so their ids and times repeat. All agents gather 8192 spans or 200 ms and send without compression to the same
backend. Rounds alternate; a run that does not deliver all says so.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from common import (BUILD, RESULTS, ROOT, Daemon, Rings, Sink, batch, clean_environment, cpu_ns, free_port, json_lines,
                    median, memory_kib, otlp, own_mib, wait_for)  # fmt: skip
from daemon_benches import ATTRIBUTES

SPANS_PER_REQUEST = 512
GATHERED = {"flush_timeout": "200ms", "min_size": 8192, "max_size": 8192}
collector: pathlib.Path | None = None  # Its binary; run.py sets it.


def beside(quick: bool) -> None:
    print("\nside by side: agent's CPU per span, ring or OTLP/gRPC in, OTLP/gRPC out, no compression, batches of 8192 spans or "
          "200 ms; medians.\nThe application's side: for oteld a whole span with five attributes, for the others only the sending")  # fmt: skip
    agents = {"oteld": OteldRound, "rotel": RotelRound} | ({"collector": CollectorRound} if collector else {})
    OteldRound.application_ns = span_ns()
    table = []
    with Sink("grpc") as sink, tempfile.TemporaryDirectory(prefix="oteld-bench-") as folder:
        request = pathlib.Path(folder) / "request"
        request.write_bytes(prepared_request(sink))
        for rate in (1_000, 10_000, 100_000):
            rounds: dict[str, list[dict]] = {name: [] for name in agents}
            for _ in range(1 if quick else 5):
                for name, make_round in agents.items():
                    rounds[name].append(one_round(make_round, sink, request, rate, 4 if quick else 8))
            table += rows(rate, rounds)
    RESULTS["beside"] = table


def span_ns() -> float:
    with Rings() as rings:
        lines = json_lines([BUILD / "bench/span_bench", "--drain"], rings.environment)
    return next(line["median"] for line in lines if line["name"] == "header 5 attributes")


def prepared_request(sink: Sink) -> bytes:
    """A request of oteld's own with so many spans."""
    wanted = {"flush_timeout": "5s", "min_size": SPANS_PER_REQUEST, "max_size": SPANS_PER_REQUEST}
    with Daemon(otlp("grpc", sink.port, **batch(**wanted))) as daemon:
        daemon.load(spans=SPANS_PER_REQUEST, attributes=ATTRIBUTES)
        wait_for(lambda: sink.requests() == 1, 10)
    request = sink.first_request()
    assert sink.take()["spans"] == SPANS_PER_REQUEST
    return request


def one_round(make_round, sink: Sink, request: pathlib.Path, rate: int, seconds: int) -> dict:
    with make_round(sink.port, request) as agent:
        agent.load(rate, 1)  # To get warm: connections, memory.
        wait_until_quiet(sink)
        sink.take()
        before = cpu_ns(agent.pid)
        load = agent.load(rate, seconds)
        wait_until_quiet(sink)
        used = cpu_ns(agent.pid) - before
        memory = memory_kib(agent.pid)
    arrived = sink.take()["spans"]
    return {"us_per_span": used / arrived / 1000, "application_us_per_span": load["cpu_ns"] / load["spans"] / 1000,
            "own_mib": own_mib(memory), "sent": load["spans"], "arrived": arrived}  # fmt: skip


def wait_until_quiet(sink: Sink) -> None:
    """Until nothing has come for a second: longer than any agent gathers."""
    last = -1
    while (now := sink.requests()) != last:
        last = now
        time.sleep(1)


def rows(rate: int, rounds: dict[str, list[dict]]) -> list[dict]:
    out = []
    for name, runs in rounds.items():
        row = {"agent": name, "rate": rate} | {key: median(run[key] for run in runs) for key in runs[0]}
        row["x_oteld"] = median(theirs["us_per_span"] / ours["us_per_span"] for theirs, ours in zip(runs, rounds["oteld"]))
        row["missing"] = sum(run["sent"] - run["arrived"] for run in runs)
        out.append(row)
        print(f"  {rate:7} spans/s  {name:10} {row['us_per_span']:7.2f} us a span = {row['x_oteld']:5.1f} x oteld   RssAnon+RssFile "
              f"{row['own_mib']:5.1f} MiB   application {row['application_us_per_span']:6.3f} us a span"
              + (f"   {row['missing']} of {sum(run['sent'] for run in runs)} spans did not arrive" if row["missing"] else ""))  # fmt: skip
    return out


class OteldRound:
    application_ns = 0.0  # A span, for the program that makes it.

    def __init__(self, port: int, _: pathlib.Path):
        self.daemon = Daemon(otlp("grpc", port, **batch(**GATHERED)))
        self.pid = self.daemon.process.pid

    def load(self, rate: int, seconds: int) -> dict:
        load = self.daemon.load(rate=rate, seconds=seconds, attributes=ATTRIBUTES)
        return {"spans": load["ended"], "cpu_ns": load["ended"] * self.application_ns}

    def __enter__(self) -> "OteldRound":
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.stop()


class OtlpAgentRound:
    """An agent that takes OTLP/gRPC at a port, and the sender that stands for a program with an SDK."""

    def __init__(self, port: int, request: pathlib.Path):
        self.folder = tempfile.TemporaryDirectory(prefix="oteld-bench-")
        home = pathlib.Path(self.folder.name)
        listen = free_port()
        with open(home / "log", "wb") as log:
            self.process = subprocess.Popen(self.command(home, listen, port), stdout=log, stderr=log, env=clean_environment())
        self.pid = self.process.pid
        self.sender = subprocess.Popen([sys.executable, ROOT / "tests/bench/sender.py", str(listen), request, str(SPANS_PER_REQUEST)],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
        if self.sender.stdout.readline() != "ready\n":
            raise SystemExit(f"{type(self).__name__} does not listen:\n{(home / 'log').read_text()}")

    def command(self, home: pathlib.Path, listen: int, port: int) -> list:
        raise NotImplementedError

    def load(self, rate: int, seconds: int) -> dict:
        self.sender.stdin.write(f"{rate} {seconds}\n")
        self.sender.stdin.flush()
        return json.loads(self.sender.stdout.readline())

    def __enter__(self) -> "OtlpAgentRound":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.sender, self.process):
            process.kill()
            process.wait()
        self.folder.cleanup()


class RotelRound(OtlpAgentRound):
    def command(self, home: pathlib.Path, listen: int, port: int) -> list:
        import rotel

        return [pathlib.Path(rotel.__file__).parent / "rotel-agent", "start", "--pid-file", home / "pid", "--log-file", home / "agent.log",
                "--otlp-grpc-endpoint", f"127.0.0.1:{listen}", "--otlp-http-endpoint", f"127.0.0.1:{free_port()}",
                "--exporter", "otlp", "--otlp-exporter-endpoint", f"http://127.0.0.1:{port}",
                "--otlp-exporter-compression", "none", "--batch-max-size", "8192", "--batch-timeout", "200ms"]  # fmt: skip


class CollectorRound(OtlpAgentRound):
    def command(self, home: pathlib.Path, listen: int, port: int) -> list:
        config = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{listen}"}}}},
            "processors": {"batch": {"timeout": "200ms", "send_batch_size": 8192, "send_batch_max_size": 8192}},
            "exporters": {"otlp": {"endpoint": f"127.0.0.1:{port}", "compression": "none", "tls": {"insecure": True}}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlp"]}},
            },
        }
        (home / "config.yaml").write_text(json.dumps(config))
        return [collector, "--config", home / "config.yaml"]
