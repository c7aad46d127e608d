"""Fixtures that all Python suites share: the build, a private ring directory, a daemon to start, stop and kill.

build_dir     the build under test: $OTELD_BUILD_DIR (ctest sets it), else build/
ring_dir      a new directory on tmpfs, removed afterwards; state_dir likewise, on disk
environment   a copy of this process's environment without OTEL_*, NOTIFY_SOCKET and the like, with OTELD_DIR and
              OTELD_STATE_DIR pointing at the two
daemon        a Daemon that is not started yet; killed afterwards if the test left it running
Waiting is always for a condition, under a watchdog: eventually().
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
WATCHDOG_SECONDS = 120


def eventually(condition, what, seconds=WATCHDOG_SECONDS):
    """Waits until condition() is true and returns its value; fails with `what` when the watchdog barks."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain: {what}", pytrace=False)
        time.sleep(0.02)


class Daemon:
    """One `oteld run` at a time on the given directories. Started means: it has said READY=1."""

    def __init__(self, oteld, environment, directory):
        self.oteld = oteld
        self.environment = dict(environment)
        self.directory = directory
        self.log = directory / "oteld.log"
        self.command = []    # Before its own: sh -c '... exec "$@"' and the like.
        self.notified = []   # What it said over the notify socket, in order.
        self.process = None
        self._socket = None

    def start(self, config=None, *arguments, wait=True):
        """config: YAML text, or None for no file at all (then /etc/oteld/oteld.yaml is the machine's own risk)."""
        command = [*self.command, str(self.oteld), "run"]
        modules = [self.oteld.parent / "modules", self.oteld.parent.parent / "lib/oteld"]
        if "otlp_grpc" in (config or "") and not any((place / "otlp_grpc.so").exists() for place in modules):
            pytest.skip("built without gRPC")
        if config is not None:
            path = self.directory / "oteld.yaml"
            path.write_text(config)
            command += ["--config", str(path)]
        address = self.directory / f"notify-{time.monotonic_ns()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(address))
        self.notified = []
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command + list(arguments), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env={**self.environment, "NOTIFY_SOCKET": str(address)})
        if wait:
            self.wait_for_notification("READY=1")
        return self

    def wait_for_notification(self, line):
        def said():
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.notified += self._socket.recv(65536).decode().splitlines()
            if line not in self.notified and self.process.poll() is not None:
                pytest.fail(f"oteld ended with {self.process.returncode} before it said {line}:\n{self.log_text()}",
                            pytrace=False)
            return line in self.notified
        eventually(said, f"oteld says {line}")

    def stop(self, how=signal.SIGTERM):
        """Sends the signal and returns the exit code (negative: the signal that ended it)."""
        self.process.send_signal(how)
        code = self.process.wait(WATCHDOG_SECONDS)
        self.process = None
        return code

    def kill(self):
        return self.stop(signal.SIGKILL)

    def run(self, *arguments, check=True):
        """Another verb of the same binary, on the same directories."""
        done = subprocess.run([str(self.oteld), *map(str, arguments)], env=self.environment, capture_output=True,
                              text=True, timeout=WATCHDOG_SECONDS)
        if check and done.returncode != 0:
            pytest.fail(f"oteld {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}{done.stderr}",
                        pytrace=False)
        return done

    def status(self):
        return json.loads(self.run("status", "--json", check=False).stdout)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._socket:
            self._socket.close()


@pytest.fixture(scope="session")
def build_dir():
    return pathlib.Path(os.environ.get("OTELD_BUILD_DIR", ROOT / "build")).resolve()


@pytest.fixture(scope="session")
def oteld(build_dir):
    path = build_dir / "oteld"
    assert path.exists(), f"{path} is missing: run ./dev build"
    return path


def new_ring_directory():
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return pathlib.Path(tempfile.mkdtemp(prefix="oteld-test-", dir=shared))


def private_environment(ring_dir, state_dir):
    mine = {name: value for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "OTELD_", "WATCHDOG_")) and name not in ("NOTIFY_SOCKET", "STATE_DIRECTORY")}
    return {**mine, "OTELD_DIR": str(ring_dir), "OTELD_STATE_DIR": str(state_dir)}


@pytest.fixture
def ring_dir():
    path = new_ring_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def state_dir(tmp_path):
    path = tmp_path / "state"
    path.mkdir()
    return path


@pytest.fixture
def environment(ring_dir, state_dir):
    return private_environment(ring_dir, state_dir)


@pytest.fixture
def daemon(oteld, environment):
    # A socket's path may have 107 bytes, and pytest's own directories are long.
    with tempfile.TemporaryDirectory(prefix="oteld-") as directory:
        it = Daemon(oteld, environment, pathlib.Path(directory))
        yield it
        it.close()
