"""Counts what a test run did, over doctest binaries and pytest suites: passed, failed, not run.

Used by ./dev test after ctest: reads BUILD/ctest.xml and BUILD/pytest/*.xml. What did not run is listed with its
reason and is never counted as passed: skipped pytest cases, tests that ctest skipped (exit code 77), and lines
"not run: REASON" that a doctest case prints before it returns early.
Exits 1 when something failed or when nothing passed at all.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as xml
from collections import Counter

DOCTEST_CASES = re.compile(r"test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed")
NOT_RUN = re.compile(r"^\s*not run: (.*?)\s*$", re.MULTILINE)


class Counts:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.not_run = []  # (name, reason)


def main(build, seconds):
    counts = Counts()
    suites = {path.stem: path for path in sorted((build / "pytest").glob("*.xml"))}
    for case in xml.parse(build / "ctest.xml").getroot().iter("testcase"):
        suite = suites.pop(case.get("name").removeprefix("pytest_"), None)
        if suite is not None:
            count_pytest(suite, counts, ctest_failed=case.get("status") == "fail")
        else:
            count_ctest(case, counts)
    report(counts, seconds)
    return 1 if counts.failed or not counts.passed else 0


def count_ctest(case, counts):
    name, status = case.get("name"), case.get("status")
    output = case.findtext("system-out") or ""
    cases = DOCTEST_CASES.search(output)
    if status == "notrun" or case.find("skipped") is not None:
        reasons = NOT_RUN.findall(output) or [case.find("skipped").get("message", "no reason given")]
        counts.not_run += [(name, reason) for reason in reasons]
    elif cases is None:
        counts.passed += status == "run"
        if status != "run":
            counts.failed.append(name)
    else:
        passed, failed = int(cases[2]), int(cases[3])
        not_run = NOT_RUN.findall(output)
        counts.passed += passed - len(not_run)
        counts.not_run += [(name, reason) for reason in not_run]
        # A binary that fails although no case did (a sanitizer's report at its end) failed once.
        counts.failed += [name] * (failed or status != "run")


def count_pytest(path, counts, ctest_failed):
    failed_before = len(counts.failed)
    for case in xml.parse(path).getroot().iter("testcase"):
        name = f"{path.stem}: {case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            counts.failed.append(name)
        elif skipped is not None:
            counts.not_run.append((name, skipped.get("message", "no reason given")))
        else:
            counts.passed += 1
    if ctest_failed and len(counts.failed) == failed_before:
        counts.failed.append(f"pytest_{path.stem}")


def report(counts, seconds):
    print()
    if counts.not_run:
        print("not run:")
        for (name, reason) in counts.not_run:
            print(f"  {name}: {reason}")
    for name, times in Counter(counts.failed).items():
        print(f"FAILED: {name}" + (f" ({times} cases)" if times > 1 else ""))
    print(f"{counts.passed} passed, {len(counts.failed)} failed, {len(counts.not_run)} not run, in {seconds} s")


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
