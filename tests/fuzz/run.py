"""Runs fuzz targets, as many at a time as there are processors, each for so many seconds.

Used by ./dev fuzz and ./dev check, after the build with the preset `fuzz`:
    run.py BUILD SECONDS [TARGET...]
What a target learns stays in BUILD/corpus/TARGET for the next run. An input that breaks a promise is put into
BUILD/found with the target's name in front, and how to run it again is printed. Exits 1 when there is one.
"""
import os
import pathlib
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The longest input of each target: what is longer only repeats itself, and takes its time.
LONGEST = {"propagation": 2048, "spool": 512, "traces": 2048}
TARGETS = {target: LONGEST.get(target, 4096)
           for target in sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.cpp"))}
# SIGBUS belongs to the daemon's own handler, which is under test.
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "handle_sigbus=0:detect_stack_use_after_return=1",
               "UBSAN_OPTIONS": "print_stacktrace=1"}


def main(build, seconds, targets):
    unknown = [target for target in targets if target not in TARGETS]
    if unknown:
        print(f"There is no fuzz target {unknown[0]}; there are {', '.join(TARGETS)}.", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        good = list(pool.map(lambda target: fuzz(target, build, seconds), targets or TARGETS))
    return 0 if all(good) else 1


def fuzz(target, build, seconds):
    seed = random.randrange(1, 2**31)
    corpus, found = build / "corpus" / target, build / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    log = build / f"fuzz_{target}.log"
    program = build / "tests" / f"fuzz_{target}"
    command = [program, f"-seed={seed}", f"-max_total_time={seconds}", f"-max_len={TARGETS[target]}", "-timeout=20",
               "-handle_bus=0", "-print_final_stats=1", f"-artifact_prefix={found}/{target}-", *dictionary(target),
               corpus, *folders(target)]
    started = time.monotonic()
    with log.open("w") as output:
        status = subprocess.run(command, stdout=output, stderr=output, env=ENVIRONMENT, cwd=ROOT).returncode
    text = log.read_text(errors="replace")
    runs = re.search(r"number_of_executed_units: *(\d+)", text)
    print(f"fuzz {target}: {'all is well' if status == 0 else 'FOUND SOMETHING'}, {runs[1] if runs else '?'} runs in "
          f"{time.monotonic() - started:.0f} s, seed {seed}", flush=True)
    if status != 0:
        report(target, program, log, text)
    return status == 0


def dictionary(target):
    words = HERE / f"{target}.dict"
    return [f"-dict={words}"] if words.exists() else []


def folders(target):
    all_folders = [HERE / "seeds" / target, HERE / "found" / target]
    if target == "config":
        all_folders.append(ROOT / "config" / "examples")
    return [folder for folder in all_folders if folder.is_dir()]


def report(target, program, log, text):
    said = re.findall(r"^.*(?:does not hold|runtime error|ERROR: ).*$", text, re.MULTILINE)
    print("".join(f"  {line}\n" for line in said[:3]) + f"  all of its output is in {shown(log)}", flush=True)
    case = re.search(r"Test unit written to (\S+)", text)
    if case:
        print(f"  again:      ASAN_OPTIONS=handle_sigbus=0 {shown(program)} -handle_bus=0 {shown(case[1])}\n"
              f"  to keep it: mv {shown(case[1])} tests/fuzz/found/{target}/what_went_wrong", flush=True)


def shown(path):
    return pathlib.Path(path).resolve().relative_to(ROOT)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]), sys.argv[3:]))
