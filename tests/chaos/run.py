#!/usr/bin/env python3
"""Kill storms: ./dev chaos [--seed S] [--applications N] [--daemons N] [--both N] [--no-steps]. See README.md."""
import argparse
import os
import pathlib
import random
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "integration")]

import storm  # noqa: E402


class Progress:
    """One line on a terminal; elsewhere a line for each wave."""

    def __init__(self, kind, kills):
        self.kind, self.kills, self.done = kind, kills, 0
        self.started = time.monotonic()

    def tick(self):
        self.done += 1
        if sys.stderr.isatty():
            print(f"\r\033[K{self.text()}", end="", file=sys.stderr, flush=True)

    def text(self):
        return f"{self.kind}: {self.done} of {self.kills} kills, {time.monotonic() - self.started:.0f} s"

    def wave(self, sums):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        print(f"{self.text()}; last wave: {in_words(sums)}", flush=True)


def in_words(sums):
    return (f"{sums['ended']} spans had ended, {sums['arrived']} arrived, {sums['unfinished']} of them open at the death; "
            f"{sums['dropped']} were dropped, {sums['lost']} lost with their process; {sums['forks']} children")  # fmt: skip


def run_storm(build, seed, kind, kills):
    """{count: sum over all waves}"""
    progress = Progress(kind, kills)
    sums = {}
    for one in storm.storm(build, seed, kind, kills, progress.tick):
        progress.wave(one)
        sums = {name: sums.get(name, 0) + number for name, number in one.items()}
    return sums


def steps(build):
    """Deaths at every instruction: chaos_steps says itself what it has done."""
    print("deaths at every instruction ...", flush=True)
    started = time.monotonic()
    done = subprocess.run([build / "tests" / "chaos_steps"], env={**os.environ, "OTELD_CHAOS_LONG": "1"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if " deaths there" in line]
    print("\n".join(line.split("MESSAGE: ")[-1] for line in lines) if done.returncode == 0 else done.stdout + done.stderr)
    print(f"deaths at every instruction: {time.monotonic() - started:.0f} s", flush=True)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(prog="./dev chaos", description="Kills applications and daemons, and audits every span.")
    parser.add_argument("--seed", type=int, default=random.getrandbits(32), help="repeats the storm that printed it")
    parser.add_argument("--applications", type=int, default=1000, metavar="N", help="kills of an application (1000)")
    parser.add_argument("--daemons", type=int, default=200, metavar="N", help="kills of the daemon (200)")
    parser.add_argument("--both", type=int, default=100, metavar="N", help="kills of both at once (100)")
    parser.add_argument("--no-steps", action="store_true", help="leave out the deaths at every instruction")
    options = parser.parse_args()
    build = pathlib.Path(os.environ.get("OTELD_BUILD_DIR", HERE.parents[1] / "build")).resolve()
    kills = {kind: getattr(options, kind) for kind in storm.KINDS}
    again = f"./dev chaos --seed {options.seed} " + " ".join(f"--{kind} {count}" for kind, count in kills.items()) + " --no-steps"
    print(f"seed {options.seed}; to repeat the storms: {again}", flush=True)
    bad = []
    if not options.no_steps and not steps(build):
        bad.append("deaths at every instruction")
    for kind, count in kills.items():
        try:
            if count:
                print(f"{kind}, all {count} kills: {in_words(run_storm(build, options.seed, kind, count))}", flush=True)
        except BaseException as error:  # A failed wait is pytest's own, which is no Exception.
            if isinstance(error, KeyboardInterrupt):
                raise
            traceback.print_exc()
            bad.append(kind)
    print(f"FAILED: {', '.join(bad)}; to repeat the storms: {again}" if bad else "All well: nothing missing, nothing twice, nothing malformed.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
