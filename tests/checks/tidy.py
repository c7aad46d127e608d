"""Runs clang-tidy, two at a time, over the files named on standard input (separated by NUL bytes).

Used by ./dev check. A header stands for the sources that include it directly by its path. Files that the build does not
compile are left out. Prints only findings; exits 1 when there are any.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main(database):
    compiled = {pathlib.Path(entry["file"]).resolve() for entry in json.loads(database.read_text())}
    names = [name for name in sys.stdin.buffer.read().decode().split("\0") if name]
    files = sorted(with_includers({(ROOT / name).resolve() for name in names}, compiled) & compiled)
    print(f"clang-tidy: {len(files)} files", file=sys.stderr)
    bad = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool, tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / database.name).write_text(without_options_of_gcc(database.read_text()))
        for number, (file, result) in enumerate(zip(files, pool.map(lambda f: tidy(f, folder), files)), 1):
            progress(f"clang-tidy: {number}/{len(files)} {file.relative_to(ROOT)}")
            if result.returncode != 0:
                bad += 1
                print(f"\n{result.stdout}{errors_of(result.stderr)}")
    progress_end()
    return 1 if bad else 0


def with_includers(files, compiled):
    headers = {str(file.relative_to(ROOT)).removeprefix("client/include/") for file in files if file.suffix == ".hpp"}
    if not headers:
        return files
    includers = {file for file in compiled if file.is_file() and ROOT in file.parents
                 and headers & set(re.findall(r'#include ["<]([^">]+)[">]', file.read_text(errors="replace")))}
    return files | includers


def without_options_of_gcc(database):
    """Unlike warning options, those that change the code may not be unknown to clang."""
    return database.replace(" -mtls-dialect=gnu2", "").replace(" -fno-gnu-unique", "")


def tidy(file, folder):
    # gcc's warning options that clang does not know would otherwise be findings.
    return subprocess.run(["clang-tidy", "--quiet", "-p", folder, "--extra-arg=-Wno-unknown-warning-option",
                           str(file)], capture_output=True, text=True)


def errors_of(text):
    return "".join(line for line in text.splitlines(True) if "warnings generated" not in line and
                   "Suppressed" not in line and "Use -header-filter" not in line)


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def progress_end():
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
