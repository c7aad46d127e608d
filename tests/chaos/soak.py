#!/usr/bin/env python3
"""A long run: ./dev soak [--minutes M] [--seed S]. See README.md.

Programs come and go beside ones that stay, threads come and go in them, and every minute a sample is taken. At the end,
when all are gone, the daemon's memory, descriptors, ring files and spool are back where they were after the first
minute, and the ledger balances to the span. Exit code 0: so it is.
"""
import argparse
import os
import pathlib
import random
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "integration")]

from conftest import eventually  # noqa: E402
from lib.backends import config  # noqa: E402
from lib.ledger import assert_balanced  # noqa: E402
from lib.load import Load  # noqa: E402
from storm import Wave  # noqa: E402

GROWTH_MAX_KIB = 4096  # Of memory that is the daemon's own, from the first sample to the last.


class Soak:
    def __init__(self, wave):
        self.wave = wave
        self.daemon = wave.daemon
        self.moment = wave.moment
        self.started = self.ended = self.programs = 0

    def run(self, seconds):
        self.daemon.start(config({"nop": {}, "trace_store": {"max_size": "16MiB"}}))
        stay = [Load(self.daemon, f"stays {i}", threads=4, rate=500, seconds=seconds) for i in range(2)]
        self.wave.runs += stay
        first = None
        end = time.monotonic() + seconds
        next_sample = time.monotonic() + min(60, seconds / 4)
        while time.monotonic() < end:
            self.short_program()
            if time.monotonic() >= next_sample:
                sample = self.sample()
                first = first or sample
                self.say(sample)
                next_sample = time.monotonic() + min(60, seconds / 4)
        for it in stay:
            self.count(it.finish())
        return first, self.last_sample()

    def short_program(self):
        """Threads, spans and pace at random; a few leave spans open or are killed by nobody but the end of their work."""
        threads = self.moment.choice((1, 1, 2, 8, 40))
        it = Load(self.daemon, "comes and goes", threads=threads, spans=self.moment.randint(1, 4000),
                  rate=self.moment.choice((0, 2000, 20_000)), leave_open=self.moment.choice((0, 0, 0, 3)))  # fmt: skip
        self.wave.runs.append(it)
        self.count(it.finish())
        self.wave.runs.remove(it)

    def count(self, printed):
        self.programs += 1
        self.started += printed["started"]
        self.ended += printed["ended"]

    def sample(self):
        pid = self.daemon.process.pid
        memory = {}
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon", "Threads")):
                name, value = line.split(":")
                memory[name] = int(value.split()[0])
        return {"own_kib": memory["RssAnon"], "threads": memory["Threads"], "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
                "rings": len(list(self.wave.rings.glob("*.ring"))), "spool": self.daemon.status()["spool"]["used_bytes"]}  # fmt: skip

    def say(self, sample):
        words = ", ".join(f"{name} {value}" for name, value in sample.items())
        print(f"{self.programs} programs, {self.started} spans: {words}", flush=True)

    def last_sample(self):
        eventually(lambda: not list(self.wave.rings.glob("*.ring")), "all ring files are removed")
        status = eventually(self.settled, "all spans are settled")
        assert_balanced(status)
        sample = self.sample()
        self.say(sample)
        return sample

    def settled(self):
        status = self.daemon.status()
        return status["spool"]["used_bytes"] == 0 and status


def main():
    parser = argparse.ArgumentParser(prog="./dev soak", description="Programs come and go for a long time; nothing may pile up.")
    parser.add_argument("--minutes", type=float, default=60, metavar="M", help="how long (60)")
    parser.add_argument("--seed", type=int, default=random.getrandbits(32), help="of what the programs do")
    options = parser.parse_args()
    build = pathlib.Path(os.environ.get("OTELD_BUILD_DIR", HERE.parents[1] / "build")).resolve()
    print(f"seed {options.seed}", flush=True)
    with Wave(build, "soak", options.seed) as wave:
        soak = Soak(wave)
        first, last = soak.run(options.minutes * 60)
        bad = [f"{name}: {first[name]} at the first sample, {last[name]} at the end" for name, allowed in
               {"own_kib": GROWTH_MAX_KIB, "threads": 0, "descriptors": 4}.items() if last[name] > first[name] + allowed]  # fmt: skip
        delivered = {exporter["name"]: exporter["delivered"] for exporter in wave.daemon.status()["exporters"]}
        for name, count in delivered.items():
            if count < soak.ended:
                bad.append(f"{name}: {count} delivered of {soak.ended} spans that had ended")
    print("\n".join(["FAILED:", *bad]) if bad else "All well: nothing piled up, nothing is missing.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
