"""The counts at the end of ./dev test: nothing that did not run reads as passed, nothing that failed gets lost."""
import subprocess
import sys

import pytest

import sources

CTEST = '<testsuite>{}</testsuite>'
DOCTEST = "[doctest] test cases: {} | {} passed | {} failed | 0 skipped"


def summary(tmp_path, *cases, **pytest_files):
    (tmp_path / "ctest.xml").write_text(CTEST.format("".join(cases)))
    (tmp_path / "pytest").mkdir()
    for name, content in pytest_files.items():
        (tmp_path / "pytest" / f"{name}.xml").write_text(f"<testsuites><testsuite>{content}</testsuite></testsuites>")
    return subprocess.run([sys.executable, sources.ROOT / "tests/checks/summary.py", tmp_path, "7"], capture_output=True,
                          text=True)


def case(name, status, output="", inner=""):
    return f'<testcase name="{name}" status="{status}">{inner}<system-out>{output}</system-out></testcase>'


def test_cases_are_counted_not_binaries(tmp_path):
    done = summary(tmp_path, case("unit_shm", "run", DOCTEST.format(12, 12, 0)), case("pytest_x_y", "run"),
                   x_y='<testcase name="test_a"/><testcase name="test_b"/>')
    assert done.returncode == 0 and "14 passed, 0 failed, 0 not run, in 7 s" in done.stdout


def test_a_failed_case_fails_the_run(tmp_path):
    done = summary(tmp_path, case("unit_shm", "fail", DOCTEST.format(12, 10, 2)))
    assert done.returncode == 1 and "10 passed, 2 failed" in done.stdout and "unit_shm" in done.stdout


def test_a_binary_that_dies_fails_the_run(tmp_path):
    # A sanitizer's report after the last case, and a crash before the first.
    done = summary(tmp_path, case("unit_shm", "fail", DOCTEST.format(12, 12, 0)), case("unit_config", "fail", "boom"))
    assert done.returncode == 1 and "12 passed, 2 failed" in done.stdout


@pytest.mark.parametrize("inner", ['<failure message="no"/>', '<error message="no"/>'])
def test_a_failed_python_case_fails_the_run(tmp_path, inner):
    done = summary(tmp_path, case("pytest_x_y", "fail"), x_y=f'<testcase name="test_a">{inner}</testcase>')
    assert done.returncode == 1 and "x_y: test_a" in done.stdout


def test_a_python_suite_that_dies_fails_the_run(tmp_path):
    assert summary(tmp_path, case("unit_shm", "run"), case("pytest_x_y", "fail")).returncode == 1


def test_what_did_not_run_is_listed_with_its_reason(tmp_path):
    done = summary(
        tmp_path, case("unit_shm", "run", "not run: needs root\n" + DOCTEST.format(3, 3, 0)),
        case("needs_v2", "notrun", "not run: cgroup v2 is not mounted", '<skipped message="SKIP_RETURN_CODE=77"/>'),
        case("pytest_x_y", "run"), x_y='<testcase name="test_a"><skipped message="no engine"/></testcase>')
    assert done.returncode == 0 and "2 passed, 0 failed, 3 not run" in done.stdout
    for reason in ("unit_shm: needs root", "needs_v2: cgroup v2 is not mounted", "x_y: test_a: no engine"):
        assert reason in done.stdout


def test_nothing_passed_is_no_success(tmp_path):
    assert summary(tmp_path).returncode == 1
