"""Compiles users' programs with every compiler that is here, with all warnings as errors, and runs them.

Used by ./dev platforms (everything), ./dev check (--quick: g++ and clang++, compiling only) and test_platforms.py
(the machine's g++). A row of the table at the end is a compiler with a standard library, a column one thing to try:
passed, FAILED (its output is in build/platforms/log), or not run, with the reason below. Exits 1 when something failed.

Compilers of Debian's other releases are in minimal roots, build/platforms/debian-N, that ./dev platforms makes as root.
They and what they have compiled run in there, with --roots, in a mount namespace that the caller has made for it.
"""
import argparse
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/platforms"
BUILD = ROOT / "build/platforms"
INCLUDE = ROOT / "client/include"

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Werror"]
CXX_WARNINGS = [*WARNINGS, "-Wold-style-cast", "-Wnon-virtual-dtor", "-Woverloaded-virtual"]
STANDARDS = ["c++17", "c++20", "c++23"]
C_STANDARDS = ["c11", "c17", "c2x"]
# Headers of other libraries' users, by how their names begin, and a header of that library.
OTHERS = {"asio": "boost/asio.hpp", "boost_log": "boost/log/core.hpp", "opentelemetry": "opentelemetry/version.h",
          "spdlog": "spdlog/spdlog.h"}
# What each is linked of.
PROGRAMS = {"program": ["program", "library"], "api_only": ["api_only", "library"], "asio": ["asio"]}
WANTED = [*(f"gcc {n}." for n in range(9, 15)), *(f"clang {n}." for n in range(10, 20))]

BOOST = next((path for path in (ROOT / "build/boost/usr/include", pathlib.Path("/usr/include"))
              if (path / "boost/asio.hpp").exists()), None)


# Whether a compiler gets along with the standard library: clang 17 does not with libstdc++ 14 in C++23.
PROBE = "#include <map>\n#include <string>\nint f(std::map<std::string, int> m, std::string k) { return m[std::move(k)]; }"


class NotRun(Exception):
    """What stands in the way."""


class Failed(Exception):
    """The output of what failed."""


class Platform:
    """A compiler with its standard library."""

    def __init__(self, cxx, cc, title, flags=(), link=(), emulator=(), target=None):
        self.cxx, self.cc, self.title = cxx, cc, title
        self.flags, self.link, self.emulator, self.target = list(flags), list(link), list(emulator), target
        self.slug = re.sub(r"[^a-z0-9.+]+", "-", title.lower())
        self.objects = BUILD / self.slug / "user"
        self.objects.mkdir(parents=True, exist_ok=True)
        self.results = {}
        self.left_out, self.not_run = {}, []
        self.has_unit_tests = False

    def knows(self, standard, language="c++"):
        compiler = self.cxx if language == "c++" else self.cc
        return subprocess.run([compiler, *(self.flags if language == "c++" else []), f"-std={standard}", "-x", language,
                               "-fsyntax-only", "-"], capture_output=True, text=True,
                              input=PROBE if language == "c++" else "").returncode == 0

    def spelt(self, standard):
        """The compiler's name of a standard; None: it does not know it."""
        names = [standard, {"c++23": "c++2b", "c++20": "c++2a"}.get(standard, standard)]
        return next((name for name in names if self.knows(name)), None)

    def compile(self, source, standard, *options, output=None, include=INCLUDE):
        """Ours is an ordinary include directory, Boost's is a system's."""
        what = ["-c", "-o", output] if output else ["-fsyntax-only"]
        boost = [] if self.target is None else ["-isystem", foreign_headers()]
        if self.target is None and BOOST not in (None, pathlib.Path("/usr/include")):
            boost = ["-isystem", BOOST]
        run(self.cxx, f"-std={standard}", *self.flags, *CXX_WARNINGS, "-O2", "-pthread", "-I", include, *boost,
            *options, *what, source)


def run(*command, env=None, timeout=1800, cwd=None):
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, cwd=cwd, errors="replace")
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def foreign_headers():
    """Header-only libraries for a compiler of another machine, which must not see /usr/include itself: this machine's, or in
    a root of its own, where the links lead elsewhere, that one's."""
    place = BUILD / "foreign"
    place.mkdir(parents=True, exist_ok=True)
    for path in (BOOST and BOOST / "boost", pathlib.Path("/usr/include/doctest")):
        if path and path.exists() and not (place / path.name).exists():
            (place / path.name).symlink_to(path)
    (place / "doctest-config.cmake").write_text(
        "add_library(doctest::doctest INTERFACE IMPORTED)\n"
        f'target_include_directories(doctest::doctest INTERFACE "{place}")\n')
    return place


# --- Which platforms there are ---------------------------------------------------------------------------------------

def version_of(compiler):
    text = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    return re.search(r"\b(\d+\.\d+\.\d+)\b", text.splitlines()[0])[1]


def compilers(names):
    """Those of the names that are here, each once: g++ is one of g++-N."""
    found = {}
    for name in names:
        if path := shutil.which(name):
            found.setdefault(os.path.realpath(path), name)
    return list(found.values())


def c_compiler(cxx):
    return cxx.replace("clang++", "clang").replace("g++", "gcc")


def native(cxx):
    return Platform(cxx, c_compiler(cxx), f"{family(cxx)} {version_of(cxx)}")


def family(cxx):
    return "clang" if "clang" in pathlib.Path(cxx).name else "gcc"


def of_debian(root):
    """The compilers of a minimal root, which sees this directory, /dev, /proc and /tmp as this machine does."""
    for place in (ROOT, "/dev", "/proc", "/tmp"):
        there = pathlib.Path(f"{root}{place}")
        there.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind" if place == ROOT else "--rbind", place, there)
    commands = BUILD / "commands" / root.name
    commands.mkdir(parents=True, exist_ok=True)
    platforms = []
    for found in sorted(root.glob("usr/bin/*g++-*[0-9]")):
        if re.fullmatch(r"(clan)?g\+\+-\d+", found.name):
            for name in (found.name, c_compiler(found.name)):
                command = commands / name
                command.write_text(f'#!/bin/sh\nexec chroot {root} env -C "$PWD" {name} "$@"\n')
                command.chmod(0o755)
            cxx = str(commands / found.name)
            title = f"{family(cxx)} {version_of(cxx)}, {root.name.title().replace('-', ' ')}"
            platforms.append(Platform(cxx, commands / c_compiler(found.name), title, emulator=["chroot", root]))
    return platforms


def with_libcxx(cxx):
    """./dev platforms unpacks LLVM's standard libraries; Debian lets only one of them be installed."""
    major = version_of(cxx).split(".")[0]
    place = BUILD / f"libc++/usr/lib/llvm-{major}"
    if not (place / "include/c++/v1").is_dir():
        return None
    return Platform(
        cxx, c_compiler(cxx), f"clang {version_of(cxx)}, libc++",
        flags=["-nostdinc++", "-isystem", place / "include/c++/v1"],
        # Of RPATH, not RUNPATH: libc++.so itself needs libc++abi.so.
        link=["-stdlib=libc++", f"-L{place / 'lib'}", f"-Wl,-rpath,{place / 'lib'}", "-Wl,--disable-new-dtags"])


def aarch64():
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if not compiler or not emulator:
        return None
    return Platform("aarch64-linux-gnu-g++", "aarch64-linux-gnu-gcc", f"aarch64 gcc {version_of(compiler)}, qemu",
                    emulator=[emulator, "-L", "/usr/aarch64-linux-gnu"], target="aarch64")


def platforms(quick, roots):
    if quick:
        return [native(cxx) for cxx in compilers(["g++", "clang++"])]
    gccs = [native(cxx) for cxx in compilers([f"g++-{n}" for n in range(9, 16)] + ["g++"])]
    clang_names = compilers([f"clang++-{n}" for n in range(10, 30)] + ["clang++"])
    clangs = [native(cxx) for cxx in clang_names]
    others = [platform for root in roots for platform in of_debian(root)]
    libcxx = [platform for platform in map(with_libcxx, clang_names) if platform]
    # The unit tests where they can be expected to differ: an old gcc, the newest of all, and the other machine.
    gcc_14 = [platform for platform in others if platform.title.startswith("gcc 14.")]
    foreign = [platform for platform in [aarch64()] if platform]
    for platform in [*gccs[:1], *clangs[-1:], *gcc_14, *libcxx[-1:], *foreign]:
        platform.has_unit_tests = True
    return [*gccs, *clangs, *others, *libcxx, *foreign]


# --- What is tried ---------------------------------------------------------------------------------------------------

def headers_alone(platform):
    """Each public header without any other before it; those for the users of another library where the compiler has that."""
    standard = "c++20" if platform.knows("c++20") else "c++17"
    source = platform.objects / "header.cpp"
    for header in sorted(INCLUDE.rglob("*.h*")):
        name = header.relative_to(INCLUDE)
        needed = next((f"<{needed}>" for start, needed in OTHERS.items() if name.name.startswith(start)), None)
        condition = f"__has_include({needed})" if needed else "1"
        source.write_text(f"#if {condition}\n#include <{name}>\n#endif\n")
        platform.compile(source, standard)


def standard(platform, name):
    spelt = platform.spelt(name)
    if spelt is None:
        raise NotRun(f"{platform.title} does not know {name}, or its standard library in {name}")
    for source in sorted({"library", *PROGRAMS}):
        if source == "asio" and BOOST is None:
            continue
        platform.compile(HERE / f"{source}.cpp", spelt, output=platform.objects / f"{source}-{name}.o")


def restricted(platform):
    for name in STANDARDS:
        if spelt := platform.spelt(name):
            platform.compile(HERE / "library.cpp", spelt, "-fno-exceptions", "-fno-rtti")


def levels(platform):
    """Some warnings come and go with the optimiser."""
    newest = next(filter(None, map(platform.spelt, reversed(STANDARDS))))
    for level in ("-O0", "-O3", "-Os"):
        for source in ("library", "program"):
            platform.compile(HERE / f"{source}.cpp", newest, level, output=os.devnull)


def c_language(platform):
    for name in C_STANDARDS:
        if platform.knows(name, "c"):
            run(platform.cc, f"-std={name}", *WARNINGS, "-I", INCLUDE, "-fsyntax-only",
                ROOT / "tests/programs/client_c_api.c")


def cmake_options(platform):
    flags = " ".join(f'"{word}"' if " " in str(word) else str(word) for word in platform.flags)
    options = [f"-DCMAKE_CXX_COMPILER={platform.cxx}", f"-DCMAKE_C_COMPILER={platform.cc}",
               f"-DCMAKE_CXX_FLAGS={flags}"]
    linking = " ".join(map(str, platform.link))
    options += [f"-DCMAKE_{kind}_LINKER_FLAGS={linking}" for kind in ("EXE", "SHARED", "MODULE")]
    if platform.target:
        options += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={platform.target}"]
    if platform.emulator:
        place = foreign_headers()
        options += [f"-Ddoctest_DIR={place}", f"-DOTELD_BOOST_INCLUDE={place}"]
    elif BOOST and BOOST != pathlib.Path("/usr/include"):
        options.append(f"-DOTELD_BOOST_INCLUDE={BOOST}")
    return options


def built(platform, *targets):
    directory = BUILD / platform.slug / "build"
    run("cmake", "-G", "Ninja", "-S", ROOT, "-B", directory, "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        "-DOTELD_BUILD_DAEMON=OFF", "-DOTELD_BUILD_BENCH=OFF", *cmake_options(platform))
    run("cmake", "--build", directory, "--target", *targets)
    return directory


PROJECT = f"""
cmake_minimum_required(VERSION 3.16)
project(user CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(oteld REQUIRED)
foreach(kind client client_static)
  add_executable(${{kind}} {HERE}/api_only.cpp {HERE}/library.cpp)
  target_link_libraries(${{kind}} oteld::${{kind}})
endforeach()
"""


def installed(platform):
    """A user's own project, by find_package() of what is installed."""
    directory = BUILD / platform.slug / "build-client"
    prefix, user = BUILD / platform.slug / "prefix", BUILD / platform.slug / "project"
    run("cmake", "-G", "Ninja", "-S", ROOT, "-B", directory, "-DOTELD_BUILD_DAEMON=OFF", "-DOTELD_BUILD_TESTS=OFF",
        *cmake_options(platform))
    run("cmake", "--build", directory)
    run("cmake", "--install", directory, "--prefix", prefix)
    user.mkdir(exist_ok=True)
    (user / "CMakeLists.txt").write_text(PROJECT)
    run("cmake", "-G", "Ninja", "-S", user, "-B", user / "build", f"-Doteld_DIR={prefix}/lib/cmake/oteld",
        *cmake_options(platform))
    run("cmake", "--build", user / "build")
    for kind in ("client", "client_static"):
        read_back(platform, user / "build" / kind)


def run_programs(platform):
    """The users' programs of each standard, with the shared and the static client of this compiler."""
    directory = built(platform, "oteld_client_shared", "oteld_client_static")
    clients = {
        "shared": shared_client(directory),
        "static": ["-Wl,-u,oteld_client_v1", directory / "lib/liboteld.a"]}
    compiled = [name for name in STANDARDS if platform.results.get(name) == "passed"]
    if not compiled:
        raise NotRun("no standard has compiled")
    for name, (kind, client) in itertools.product(compiled, clients.items()):
        program = link(platform, "program", name, kind, client)
        run(*platform.emulator, program, env=environment())
        read_back(platform, program, "rings")
        if BOOST:
            run(*platform.emulator, link(platform, "asio", name, kind, client), env=environment())
        if not platform.emulator:
            # oteld::api is bound to no standard library: with the client that the machine's g++ has built.
            read_back(platform, link(platform, "api_only", name, kind, shared_client(ROOT / "build")))


def shared_client(directory):
    library = directory / "lib/liboteld.so.1"
    return ["-Wl,--no-as-needed", library, f"-Wl,-rpath,{library.parent}"]


def link(platform, program, name, kind, client):
    target = platform.objects / f"{program}-{name}-{kind}"
    objects = [platform.objects / f"{source}-{name}.o" for source in PROGRAMS[program]]
    run(platform.cxx, *platform.link, "-pthread", "-o", target, *objects, *client, "-ldl")
    return target


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    return {**kept, "OTELD_DIR": "/nonexistent", **more}


def read_back(platform, program, *arguments):
    """Records into rings, which the daemon's own command reads: it has to find as many spans."""
    with tempfile.TemporaryDirectory(prefix="oteld-platforms-", dir="/dev/shm") as rings:
        recorded = int(run(*platform.emulator, program, *arguments, env=environment(OTELD_DIR=rings)))
        reader = ROOT / "build/oteld"
        if not reader.exists():
            raise NotRun("build/oteld, which reads the rings, is not built")
        found = json.loads(run(reader, "rings", "--json", "--dir", rings))
        lanes = [lane for ring in found["rings"] for lane in ring["lanes"]]
        finished = sum(lane["waiting_spans"] for lane in lanes)
        if finished != recorded or any(lane["corrupt"] or lane["waiting_unknown"] for lane in lanes):
            raise Failed(f"{program} recorded {recorded} spans, and its rings hold {finished}")


def unit_tests(platform):
    """unit_client, without what the emulator cannot do: not_run_under_qemu.txt."""
    if not platform.has_unit_tests:
        raise NotRun("with --all only: they take minutes to compile")
    program = built(platform, "unit_client") / "tests/unit_client"
    options = []
    if platform.target:
        left_out = cases_left_out()
        known = run(*platform.emulator, program, "--list-test-cases").splitlines()
        unknown = [case for case in left_out if case not in known]
        if unknown:
            raise Failed("not_run_under_qemu.txt names cases that there are not:\n" + "\n".join(unknown))
        # A comma separates patterns, and a question mark stands for any character.
        options = ["--test-case-exclude=" + ",".join(case.replace(",", "?") for case in left_out)]
        platform.left_out = left_out
    output = run(*platform.emulator, program, *options, env=environment())
    platform.not_run = sorted(set(re.findall(r"not run: (.*)", output)))


def cases_left_out():
    """{name of a case: why it is not run under qemu}"""
    lines = (HERE / "not_run_under_qemu.txt").read_text().splitlines()
    cases, reason = {}, None
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            cases[line.strip()] = reason
        else:
            reason = line.strip().rstrip(":")
    return cases


QUICK = {
    "headers": headers_alone,
    **{name: (lambda platform, name=name: standard(platform, name)) for name in STANDARDS},
    "restricted": restricted,
    "C": c_language,
}
ALL = {**QUICK, "-O0..3": levels, "run": run_programs, "installed": installed, "unit tests": unit_tests}


def attempt(platform, column, check):
    log = BUILD / "log" / f"{platform.slug}-{column.replace(' ', '-')}.log"
    log.unlink(missing_ok=True)
    try:
        check(platform)
        result = "passed"
    except NotRun as reason:
        result = f"not run: {reason}"
    except (Failed, subprocess.TimeoutExpired) as output:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(str(output))
        result = f"FAILED: {log.relative_to(ROOT)}"
    platform.results[column] = result
    print(f"{platform.title}: {column}: {result}", file=sys.stderr, flush=True)


def try_all(found, checks):
    """A platform's checks in their order; the compiling ones of several platforms at once."""
    def all_of(platform):
        for column, check in checks.items():
            attempt(platform, column, check)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(all_of, found))


# --- What is said ----------------------------------------------------------------------------------------------------

def report(found, checks, wanted):
    width = max(len(platform.title) for platform in found) + 2
    print("\n" + "platform".ljust(width) + "".join(column.ljust(12) for column in checks))
    for platform in found:
        print(platform.title.ljust(width) +
              "".join(platform.results[column].split(":")[0].ljust(12) for column in checks))
    for platform in found:
        for column, result in platform.results.items():
            if ":" in result:
                print(f"{platform.title}: {column}: {result}")
        for case, reason in platform.left_out.items():
            print(f"{platform.title}: not run: {case}: {reason}")
        for reason in platform.not_run:
            print(f"{platform.title}: not run: a unit test: {reason}")
    missing = [name.rstrip(".") for name in wanted if not any(platform.title.startswith(name) for platform in found)]
    if missing:
        print(f"not run: {', '.join(missing)}: not here")
    results = [result.split(":")[0] for platform in found for result in platform.results.values()]
    failed = results.count("FAILED")
    print(f"{results.count('passed')} passed, {failed} failed, {results.count('not run')} not run")
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="g++ and clang++ of this machine, compiling only")
    parser.add_argument("--roots", action="store_true", help="the compilers of build/platforms/debian-N too")
    parser.add_argument("--all", action="store_true", help="the unit tests with every compiler")
    parser.add_argument("names", nargs="*", help="only platforms whose title contains one of these")
    arguments = parser.parse_args()
    roots = sorted(BUILD.glob("debian-[0-9][0-9]")) if arguments.roots else []
    found = [platform for platform in platforms(arguments.quick, roots)
             if not arguments.names or any(name in platform.title for name in arguments.names)]
    if not found:
        sys.exit(f"no compiler is called like {' or '.join(arguments.names)}")
    for platform in found:
        platform.has_unit_tests |= arguments.all
    checks = QUICK if arguments.quick else ALL
    try_all(found, checks)
    return report(found, checks, [] if arguments.quick or arguments.names else WANTED)


if __name__ == "__main__":
    sys.exit(main())
