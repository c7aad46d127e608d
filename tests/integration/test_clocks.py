"""Clocks that are set, jump, stand still or are shifted: spans have the times at which they were recorded, nothing is lost,
nobody hangs, and `oteld status` says what happened.

Nobody else's clock moves: programs/steered_clock.c stands between our own processes and their clocks, and time namespaces
are the kernel's. The arithmetic is in tests/unit/daemon/clock_test.cpp.
"""
import json
import os
import pathlib
import signal
import struct
import subprocess
import time

import pytest

from conftest import eventually
from lib.backends import config
from lib.ledger import assert_balanced, rows_of, total, wait_at_rest
from lib.load import Load, audit_killed, load, seen_in_file, times_in_file
from lib.obstacles import need_root, run

SECOND = 10**9
HOUR = 3600 * SECOND
SLACK = SECOND // 2  # A wall clock that is set is seen by the daemon with its next anchor, a second later at most.


class Steered:
    """A daemon, and programs, whose clocks are ours."""

    def __init__(self, daemon, build_dir, tmp_path):
        self._file = tmp_path / "offsets"
        self._offsets = [0, 0]
        self.daemon = daemon
        self.out = tmp_path / "spans.jsonl"
        self._write()
        # `oteld status` and what else looks from outside has the true clocks.
        self.environment = {"STEERED_CLOCK": str(self._file), "LD_PRELOAD": str(build_dir / "tests/steered_clock.so")}
        if sanitizers := os.environ.get("ASAN_OPTIONS"):
            self.environment["ASAN_OPTIONS"] = sanitizers + ":verify_asan_link_order=0"
        daemon.command = ["env", *(f"{name}={value}" for name, value in self.environment.items())]

    def _write(self):
        with open(self._file, "r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("<qq", *self._offsets))

    def start(self):
        self.daemon.start(config({"file": {"path": str(self.out)}}))

    def now(self):
        return time.time_ns() + self._offsets[0]

    def set_wall_clock(self, by):
        self._offsets[0] += by
        self._write()

    def sleep_of_the_machine(self, seconds, *processes):
        """CLOCK_MONOTONIC stands still, the wall clock and the processor's counter do not."""
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        began = time.monotonic_ns()
        time.sleep(seconds)  # What is tested, not a wait for something.
        self._offsets[1] -= time.monotonic_ns() - began
        self._write()
        for process in processes:
            process.send_signal(signal.SIGCONT)

    def clocks(self):
        return self.daemon.status()["clocks"]

    def load(self, service, **options):
        """Returns the wall clock before and after it."""
        before = self.now()
        load(self.daemon, service, environment=self.environment, **options)
        return before, self.now()

    def times(self, service):
        return times_in_file(self.out, service)


def assert_within(times, before, after, slack=SLACK):
    assert times
    for start, end in times:
        assert before - slack <= start <= end <= after + slack, (before, start, end, after)


@pytest.fixture
def steered(daemon, build_dir, tmp_path):
    return Steered(daemon, build_dir, tmp_path)


def test_a_wall_clock_that_is_set(steered, daemon, tmp_path):
    """By hours, forwards and back."""
    steered.start()
    with Load(daemon, "all the time", rate=2000, seconds=600, progress=tmp_path / "progress", environment=steered.environment) as it:
        expected = {"at first": steered.load("at first", spans=100)}
        for number, by in enumerate((2 * HOUR, -30 * HOUR, 28 * HOUR), 1):
            eventually(lambda: total(rows_of(daemon.status(), "all the time"), "spans_per_s") > 500, "there is a rate")
            # A ring that the daemon first meets after a step is taken to be of then.
            wait_at_rest(daemon, list(expected)[-1])
            steered.set_wall_clock(by)
            eventually(lambda: steered.clocks()["steps"] == number, "the step is counted")
            expected[f"then {number}"] = steered.load(f"then {number}", spans=100)
            # Neither hours without a span nor seconds with hours of them.
            rate = total(rows_of(daemon.status(), "all the time"), "spans_per_s")
            assert 500 < rate < 8000, rate
        status = daemon.status()
        # Looked at by a clock that was not set.
        assert status["verdict"] == "healthy" and status["clocks"] == {"jumps": 0, "steps": 3, "times_clamped": 0}, status["clocks"]
        assert any("3 times the wall clock was set" in note for note in status["notes"])
        assert "3 times the wall clock was set" in " ".join(daemon.run("status").stdout.split())
        it.kill()
    status = wait_at_rest(daemon, "all the time", *expected)
    assert_balanced(status)
    audit_killed(it, seen_in_file(steered.out))
    for service, (before, after) in expected.items():
        assert_within(steered.times(service), before, after)
    for start, end in steered.times("all the time"):
        assert 0 <= end - start < 60 * SECOND
    assert daemon.stop() == 0


def test_a_machine_that_slept(steered, daemon, tmp_path):
    steered.start()
    with Load(daemon, "all the time", rate=2000, seconds=600, progress=tmp_path / "progress", environment=steered.environment) as it:
        began = steered.now()
        eventually(lambda: sum(it.ended().values()) > 1000, "it records")
        steered.sleep_of_the_machine(3, daemon.process, it.process)
        eventually(lambda: steered.clocks()["jumps"] == 1, "the jump is counted")
        expected = steered.load("awake again", spans=100)
        status = daemon.status()
        assert status["verdict"] == "healthy" and status["clocks"]["steps"] == 0 and status["clocks"]["times_clamped"] == 0
        assert any("Once the machine slept" in note for note in status["notes"])
        seen = sum(it.ended().values())
        eventually(lambda: sum(it.ended().values()) > seen + 1000, "it records on")
        it.kill()
        ended = steered.now()
    assert_balanced(wait_at_rest(daemon, "all the time", "awake again"))
    audit_killed(it, seen_in_file(steered.out))
    assert_within(steered.times("awake again"), *expected)
    assert_within(steered.times("all the time"), began, ended)
    assert daemon.stop() == 0


def test_a_daemon_that_was_killed_while_clocks_jumped(steered, daemon, tmp_path):
    """While it is away the machine sleeps and its wall clock is set; what was recorded meanwhile is placed by the next one."""
    steered.start()
    eventually(lambda: daemon.status()["verdict"] == "healthy", "it runs")
    with Load(daemon, "all the time", rate=200, seconds=600, progress=tmp_path / "progress", environment=steered.environment) as it:
        began = steered.now()
        eventually(lambda: sum(it.ended().values()) > 100, "it records")
        daemon.kill()
        steered.load("before", spans=50)
        steered.sleep_of_the_machine(2, it.process)
        steered.set_wall_clock(5 * HOUR)
        steered.load("after", spans=50)
        back = steered.now()
        steered.start()
        expected = steered.load("with it", spans=50)
        it.kill()
    status = wait_at_rest(daemon, "all the time", "before", "after", "with it")
    assert_balanced(status)
    audit_killed(it, seen_in_file(steered.out), once=False)
    assert status["clocks"] == {"jumps": 0, "steps": 0, "times_clamped": 0} and status["verdict"] == "healthy"
    assert_within(steered.times("with it"), *expected)
    # By the clock that the next daemon found, counted back: as long ago as they were.
    assert_within(steered.times("after"), back - 60 * SECOND, back)
    assert_within(steered.times("before"), back - 60 * SECOND, back)
    assert max(steered.times("before")) < min(steered.times("after"))
    for start, end in steered.times("all the time"):
        assert (began - SLACK <= start <= end <= began + 60 * SECOND) or (back - 60 * SECOND <= start <= end <= steered.now())
    assert daemon.stop() == 0


# --- Time namespaces ---

CLOCK_SOURCE = pathlib.Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def shifted(seconds):
    """A command in front of another, for which CLOCK_MONOTONIC and CLOCK_BOOTTIME are shifted."""
    return ["unshare", "--time", "--monotonic", str(seconds), "--boottime", str(seconds)]


def uptime():
    return float(pathlib.Path("/proc/uptime").read_text().split()[0])


@pytest.fixture
def by_monotonic(tmp_path):
    """A command in front of another, which takes its times from CLOCK_MONOTONIC, as on machines without a sound counter."""
    need_root("time and mount namespaces")
    there = run(*shifted(5000), "cat", "/proc/uptime")
    if there.returncode != 0 or float(there.stdout.split()[0]) < uptime() + 4000:
        pytest.skip(f"this machine has no time namespaces: {there.stderr.strip()}")
    (tmp_path / "clock source").write_text("kvm-clock\n")
    hide = ["unshare", "--mount", "sh", "-c", f'mount --bind "$0" {CLOCK_SOURCE} && exec "$@"', str(tmp_path / "clock source")]
    if run(*hide, "cat", CLOCK_SOURCE).stdout != "kvm-clock\n":
        pytest.skip("this machine does not let us hide its clock source")
    return hide


@pytest.mark.parametrize("daemons_shift", (0, 400_000, "back"))
def test_time_namespaces(daemons_shift, daemon, oteld, by_monotonic, ring_dir, tmp_path):
    """Daemon and programs in time namespaces, together and apart, with both kinds of clock. One ring is older than the daemon."""
    back = -int(uptime() / 2)
    daemons_shift = back if daemons_shift == "back" else daemons_shift
    out = tmp_path / "spans.jsonl"
    shifts, kinds = (0, 1_000_000, back), {"ticks": [], "monotonic": by_monotonic}
    expected = {}

    def record(service, shift, kind):
        before = time.time_ns()
        load(daemon, service, command=[*shifted(shift), *kinds[kind], oteld], spans=50)
        expected[service] = before, time.time_ns()
    record("before", 1_000_000, "monotonic")
    daemon.command = shifted(daemons_shift)
    daemon.start(config({"file": {"path": str(out)}}))
    wait_at_rest(daemon, "before")
    for kind in kinds:
        for shift in shifts:
            record(f"{kind} {shift}", shift, kind)
    status = wait_at_rest(daemon, *expected)
    assert_balanced(status)
    for service, (before, after) in expected.items():
        times = times_in_file(out, service)
        assert len(times) == 50
        assert_within(times, before, after)
    assert status["clocks"] == {"jumps": 0, "steps": 0, "times_clamped": 0}
    # From outside its namespace, from inside, and from another one: it lives.
    for shift in (0, daemons_shift, *shifts):
        looked = subprocess.run([*shifted(shift), oteld, "status", "--json"], env=daemon.environment, capture_output=True, text=True)
        assert json.loads(looked.stdout)["verdict"] == "healthy" and looked.returncode == 0, (shift, looked.stdout[:500])
    assert daemon.stop() == 0
