"""What all benchmarks share: a daemon of their own, a place to send spans to, and where the figures go."""
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("OTELD_BUILD", ROOT / "build"))
RESULTS: dict[str, object] = {}  # Written to build/bench.json.


def clean_environment(**more: str) -> dict[str, str]:
    left_out = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "STATE_DIRECTORY")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL") and k not in left_out}
    return kept | more


def median(values) -> float:
    return statistics.median(values)


def cpu_ns(pid: int) -> int:
    """What the scheduler charged to a process, ended threads included: clock_getcpuclockid(3), spelled out."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def memory_kib(pid: int) -> dict[str, int]:
    facts = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("RssAnon", "RssFile", "RssShmem", "VmRSS")):
            name, value = line.split(":")
            facts[name] = int(value.split()[0])
    return facts


def own_mib(memory: dict[str, int]) -> float:
    """Without shared memory: pages of rings and spool, which others have too."""
    return (memory["RssAnon"] + memory["RssFile"]) / 1024


class Daemon:
    """An `oteld run` on a private ring directory in memory. Give it the `home` of another to go on where that one was
    killed."""

    def __init__(self, config: str, home: pathlib.Path | None = None):
        self.home = home or pathlib.Path(tempfile.mkdtemp(prefix="oteld-bench-", dir="/dev/shm"))
        self.rings = self.home / "rings"
        self.rings.mkdir(mode=0o700, exist_ok=True)
        (self.home / "oteld.yaml").write_text(config)
        self.environment = clean_environment(OTELD_DIR=str(self.rings), OTELD_STATE_DIR=str(self.home / "state"))
        self.log = open(self.home / "log", "w", encoding="utf-8")
        notify = self.home / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(notify))
            self.started_ns = time.time_ns()
            self.process = subprocess.Popen(
                [BUILD / "oteld", "run", "--config", self.home / "oteld.yaml"],
                env=self.environment | {"NOTIFY_SOCKET": str(notify)}, stdout=self.log, stderr=self.log)
            self.ready_ms = self.wait_until_ready(ready)

    def wait_until_ready(self, ready: socket.socket) -> float:
        """Returns the time from exec to READY=1, as systemd would see it."""
        ready.settimeout(0.5)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if ready.recv(4096).startswith(b"READY=1"):
                    return (time.time_ns() - self.started_ns) / 1e6
            except TimeoutError:
                if self.process.poll() is not None:
                    raise SystemExit(f"oteld ended at once:\n{(self.home / 'log').read_text()}")
        raise SystemExit("oteld was not ready within 20 s")

    def status(self) -> dict:
        out = subprocess.run([BUILD / "oteld", "status", "--json"], env=self.environment, capture_output=True, check=False).stdout
        return json.loads(out)

    def load(self, **options: object) -> dict:
        """Runs `oteld load` to its end: {"started", "ended", "dropped", ...}."""
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        out = subprocess.run([BUILD / "oteld", "load", *words], env=self.environment, check=True, capture_output=True, text=True).stdout
        return json.loads(out.splitlines()[-1])

    def cpu_ns(self) -> int:
        return cpu_ns(self.process.pid)

    def memory_kib(self) -> dict[str, int]:
        return memory_kib(self.process.pid)

    def kill(self) -> None:
        """What it had not delivered stays in its home."""
        self.process.kill()
        self.process.wait()
        self.log.close()

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


class Sink:
    """A backend that costs little: sink.py keeps the requests and looks into them when it is asked."""

    def __init__(self, protocol: str, port: int = 0):
        self.protocol = protocol
        self.process = subprocess.Popen([sys.executable, ROOT / "tests/bench/sink.py", protocol, str(port)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
        self.port = int(self.process.stdout.readline())

    def ask(self, question: str) -> dict:
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def requests(self) -> int:
        """So far, cheaply."""
        return self.ask("requests")["requests"]

    def take(self) -> dict:
        """What has come since the last call, and forgets it: see sink.py."""
        return self.ask("take")

    def first_request(self) -> bytes:
        return bytes.fromhex(self.ask("first")["hex"])

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pipeline(exporter: str, settings: dict | None = None) -> str:
    """YAML (JSON is YAML) of a pipeline from the rings to one exporter."""
    return json.dumps({
        "receivers": {"shm": {}},
        "exporters": {exporter: settings or {}},
        "service": {"pipelines": {"traces": {"receivers": ["shm"], "exporters": [exporter]}}},
    })  # fmt: skip


def otlp(protocol: str, port: int, **settings: object) -> str:
    return pipeline(f"otlp_{protocol}", {"endpoint": f"http://127.0.0.1:{port}", "compression": "none", **settings})


def batch(**settings: object) -> dict:
    """For otlp(): how spans are gathered into requests."""
    return {"sending_queue": {"batch": settings}}


def json_lines(command: list, environment: dict[str, str]) -> list[dict]:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def wait_for(condition, seconds: float, pause: float = 0.02) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
    return True
