"""What the checks of this folder look at: the files of the repository, and what a C++ file includes.

Used by the tests beside it. In a clone git knows the files; elsewhere every file counts that is not made by a build.
"""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
MADE = {".git", ".venv", "build", "__pycache__"}
SAVED = pathlib.Path("tests/abi/v1")  # Headers and library of an earlier version, kept as they were.
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]', re.MULTILINE)


def files(*suffixes):
    """The repository's files with one of these suffixes (all when none is given), as paths below ROOT."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode == 0 and (ROOT / ".git").exists():
        names = [pathlib.Path(name) for name in listed.stdout.decode().split("\0") if name]
    else:
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        names = [name for name in names if not MADE & set(name.parts)]
    return sorted(name for name in names if (ROOT / name).is_file() and (not suffixes or name.suffix in suffixes)
                  and SAVED not in name.parents)


def text(name):
    return (ROOT / name).read_text(errors="replace")


def includes(source):
    """Pairs (quoted, path) of a C++ text."""
    return [(bracket == '"', path) for bracket, path in INCLUDE.findall(source)]
