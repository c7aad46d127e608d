"""What the files of the repository must not say, and how they are formatted."""
import re
import shutil
import subprocess

import pytest

import sources

# Pieced together, so that this file does not say what it forbids.
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:wo" r"rk|ho" r"me|ro" r"ot|Us" r"ers)/[\w.]+")
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
NOT_OURS = {"LICENSE"}


def findings(pattern, *suffixes):
    found = []
    for name in sources.files(*suffixes):
        if str(name) in NOT_OURS:
            continue
        for number, line in enumerate(sources.text(name).splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{name}:{number}: {match[0]}")
    return found


def test_no_path_of_somebodys_machine():
    found = findings(MACHINE_PATHS)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line, bad", [
    ("cd /wo" "rk/oteld", True), ("/ho" "me/ann/oteld", True), ("~/.local/state/oteld", False),
    ("build/wo" "rk/file", False), ("/var/lib/oteld", False)])
def test_a_machine_path_is_found(line, bad):
    assert bool(MACHINE_PATHS.search(line)) == bad


def test_nothing_is_marked_as_unfinished():
    found = findings(UNFINISHED)
    assert not found, "\n".join(found)


def test_shell_scripts_parse():
    for script in ("dev", ".ci/run"):
        done = subprocess.run(["sh", "-n", str(sources.ROOT / script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_sources_are_formatted():
    if not shutil.which("clang-format"):
        pytest.skip("clang-format is not installed here: ./dev check installs it")
    names = [str(name) for name in sources.files(".hpp", ".cpp", ".h", ".c")]
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *names], cwd=sources.ROOT, capture_output=True,
                          text=True)
    bad = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", done.stderr, re.MULTILINE)))
    assert done.returncode == 0, f"./dev fmt would change {len(bad)} files: {', '.join(bad)}"
