"""Kill storms: waves of SIGKILLs at random moments, each wave in directories of its own and audited at its end.

What is killed is audited as in tests/integration: `oteld load` and tests/programs/restless.cpp say in a mapped file
which spans have ended, the file exporter says what arrived, `oteld status --json` has to balance.
"""
import pathlib
import random
import shutil
import signal
import tempfile
import time

from conftest import Daemon, eventually, new_ring_directory, private_environment
from lib.backends import config
from lib.ledger import assert_balanced, rows_of, shares, total, wait_at_rest
from lib.load import Load, audit_killed, seen_in_file

# What a span may be dropped for: its process had written faster than it was drained.
DROPS = {"ring_full", "too_large", "no_lane"}


class Wave:
    """A ring directory, a daemon with a file exporter, and the programs that were killed there."""

    def __init__(self, build, name, seed):
        self.build = build
        self.name = name
        self.moment = random.Random(f"{seed} {name}")
        self.runs = []

    def __enter__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="oteld-"))
        self.rings = new_ring_directory()
        (self.home / "state").mkdir()
        self.spans = self.home / "spans.jsonl"
        self.config = config({"file": {"path": str(self.spans)}})
        self.daemon = Daemon(self.build / "oteld", private_environment(self.rings, self.home / "state"), self.home)
        return self

    def __exit__(self, *_):
        for run in self.runs:
            run.__exit__()
        self.daemon.close()
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.rings, ignore_errors=True)

    def start_daemon(self, **options):
        self.daemon.start(self.config, **options)

    def wait(self, seconds_max):
        time.sleep(self.moment.uniform(0, seconds_max))

    def wait_into(self, run):
        """To a moment between a program's first instruction and well in its work."""
        self.wait(0.02 if "flat out" in run.service else self.moment.choice((0.01, 0.03, 0.08)))

    def begin_program(self, quiet=False):
        """One of the kinds that there are, at random. Quiet ones run for long without filling the machine."""
        kind = self.moment.choice(("steady", "restless") if quiet else ("steady", "burst", "flat out", "restless", "restless"))
        service = f"{self.name}, {len(self.runs)} {kind}"
        progress = self.home / f"progress-{len(self.runs)}"
        threads = self.moment.randint(1, 8)
        if kind == "restless":
            run = Load(self.daemon, service, command=[str(self.build / "tests" / "restless")], threads=24,
                       progress=progress, seed=self.moment.randrange(1 << 30))  # fmt: skip
        else:
            rate = {"steady": self.moment.randint(500, 4000 if quiet else 10_000), "burst": 100_000, "flat out": 0}[kind]
            run = Load(self.daemon, service, threads=threads, progress=progress, seconds=600, rate=rate,
                       attributes=self.moment.randrange(16))  # fmt: skip
        self.runs.append(run)
        if len(self.runs) == 1:  # A wave on a slow machine has to show something, too.
            eventually(lambda: any(run.ended().values()), "the first program has ended a span")
        return run

    def audit(self, once):
        """All programs are dead and a daemon runs. Returns what was seen: {count of: number}."""
        status = wait_at_rest_or_silent(self.daemon, self.runs)
        assert_balanced(status)
        assert status["rings"]["segments"] == 0 and not status["rings"]["quarantined"], status["rings"]
        seen = seen_in_file(self.spans, look=check_text)
        by_service = {}
        for span in seen:
            by_service.setdefault(span.service, []).append(span)
        sums = dict.fromkeys(("ended", "arrived", "unfinished", "dropped", "lost", "forks"), 0)
        for run in self.runs:
            rows = rows_of(status, run.service)
            reasons = {reason for row in rows for reason, count in row["dropped"].items() if count}
            assert reasons <= DROPS and not total(rows, "skipped_records"), rows
            mine = audit_killed(run, by_service.get(run.service, []), total(rows, "dropped"), once)
            spans = {(span.thread, span.seq): span.unfinished for span in mine}
            delivered = sum(share["delivered"] for share in shares(rows, "file"))
            assert delivered == len(spans), f"{run.service}: {len(spans)} spans arrived, {delivered} are in the ledger"
            assert total(rows, "recovered_open") == sum(spans.values()), (run.service, rows)
            add(sums, ended=sum(run.ended().values()), arrived=len(spans), unfinished=sum(spans.values()),
                dropped=total(rows, "dropped"), lost=total(rows, "lost"), forks=max(0, len(rows) - 1))  # fmt: skip
        return sums


def add(sums, **more):
    for name, number in more.items():
        sums[name] += number


def wait_at_rest_or_silent(daemon, runs):
    """Programs that were killed before their first span have no row, and nothing to account for."""
    began = [run.service for run in runs if any(run.ended().values())]
    status = wait_at_rest(daemon, *began)
    rest = [run.service for run in runs if rows_of(status, run.service)]
    return wait_at_rest(daemon, *rest)


def check_text(attributes):
    """What restless.cpp promises: a text that was torn, or mixed with another's, shows."""
    text = attributes.get("restless.text")
    if text is None:
        return
    assert attributes["restless.bytes"] == len(text), (attributes["load.seq"], len(text))
    letter = chr(ord("a") + attributes["load.seq"] % 26)
    assert text.count(letter) == len(text), (attributes["load.seq"], text[:100])


def applications(wave, kills, tick):
    """Programs die one after the other; the daemon lives on."""
    wave.start_daemon()
    for _ in range(kills):
        run = wave.begin_program()
        wave.wait_into(run)
        run.kill()
        tick()
    return wave.audit(once=True)


def daemons(wave, kills, tick):
    """The daemon dies again and again, while it starts too; the programs live on."""
    programs = [wave.begin_program(quiet=True) for _ in range(2)]
    for _ in range(kills):
        starting = wave.moment.random() < 0.25
        wave.start_daemon(wait=not starting)
        wave.wait(0.04 if starting else 0.15)
        wave.daemon.kill()
        tick()
    for run in programs:
        run.kill()
    wave.start_daemon()
    return wave.audit(once=False)


def both(wave, kills, tick):
    """Both die, in either order and at nearly the same time; the next daemon finds what they left."""
    for _ in range(kills):
        wave.start_daemon()
        run = wave.begin_program()
        wave.wait_into(run)
        if wave.moment.random() < 0.5:
            run.process.send_signal(signal.SIGKILL)
            wave.daemon.kill()
        else:
            wave.daemon.process.send_signal(signal.SIGKILL)
            run.process.send_signal(signal.SIGKILL)
            wave.daemon.kill()
        run.kill()
        tick()
    wave.start_daemon()
    return wave.audit(once=False)


KINDS = {"applications": (applications, 50), "daemons": (daemons, 20), "both": (both, 20)}  # And the kills of a wave.


def storm(build, seed, kind, kills, tick):
    """Yields what each wave saw."""
    function, wave_kills = KINDS[kind]
    for number, first in enumerate(range(0, kills, wave_kills)):
        with Wave(build, f"{kind} {number}", seed) as wave:
            yield function(wave, min(wave_kills, kills - first), tick)
