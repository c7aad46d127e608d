"""ABI v1 as other people's binaries meet it: symbols, and API and client of different versions, linked in every way.

v1/ has headers and library as they were saved by ./save. Layouts are in layout.cpp, which the build compiles. Programs
say how many spans they recorded; `oteld rings` has to find them in their rings.
"""
import itertools
import json
import os
import platform
import re
import subprocess

import pytest
from conftest import ROOT

HERE = ROOT / "tests/abi"
HEADERS = {"today": ROOT / "client/include", "v1": HERE / "v1/include"}
SAVED_LIBRARY = HERE / "v1/liboteld.so.1"


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def build(build_dir):
    if re.search(r"__[at]san_", run("nm", build_dir / "lib/liboteld.a")):
        pytest.skip("the client is built with a sanitizer here; these programs would need it too")
    return build_dir


# --- Symbols ---------------------------------------------------------------------------------------------------------

def exported(library, cpp):
    """{name: version} of the C++ or of the other names."""
    lines = run("nm", "-D", "--defined-only", "--with-symbol-versions", library).splitlines()
    symbols = [line.split()[-1].partition("@@") for line in lines if line.split()[-2] != "A"]
    return {name: version for name, _, version in sorted(symbols) if name.startswith("_Z") == cpp}


def promised():
    lines = (HERE / "symbols.txt").read_text().splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def test_the_library_exports_what_symbols_txt_says(build):
    found = exported(build / "lib/liboteld.so", cpp=False)
    assert found == promised(), "symbols.txt has a line for each; a name that was there never goes"


def test_cpp_symbols_are_the_clients_own_and_of_this_minor_version(build):
    version = re.search(r"^project\(oteld VERSION (\d+\.\d+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)[1]
    found = exported(build / "lib/liboteld.so", cpp=True)
    assert found and set(found.values()) == {f"OTELD_CXX_{version}"}
    foreign = [name for name in found if not re.match(r"_Z(T[ISV])?NK?5oteld", name)]
    assert not foreign, foreign


def test_nothing_that_v1_exported_is_gone(build, saved):
    old = exported(saved, cpp=False)
    now = exported(build / "lib/liboteld.so", cpp=False)
    assert old and {name: now.get(name) for name in old} == old


def test_the_static_client_has_the_same_c_symbols(build):
    lines = run("nm", "-g", "--defined-only", build / "lib/liboteld.a").splitlines()
    names = {line.split()[-1] for line in lines if len(line.split()) == 3}
    assert set(promised()) <= names


# --- Versions against each other -------------------------------------------------------------------------------------

class Objects:
    """Compiles each file of this folder at most once in each way."""

    def __init__(self, directory):
        self.directory = directory

    def compile(self, source, headers, *options):
        name = re.sub(r"[^A-Za-z0-9.]+", "_", f"{source}-{headers}-{' '.join(options)}")
        target = self.directory / f"{name}.o"
        if not target.exists():
            run("g++", "-std=c++17", "-O1", "-fPIC", "-Wall", "-Werror", "-I", HEADERS[headers], *options, "-c",
                HERE / f"{source}.cpp", "-o", target)
        return target

    def library(self, name, headers, *options):
        return self.compile("library", headers, f"-DNAME={name}", *options)

    def shared(self, name, headers, *options, link=()):
        target = self.directory / f"lib{name}-{headers}{''.join(options)}{len(link)}.so"
        if not target.exists():
            run("g++", "-shared", "-o", target, self.library(name, headers, *options), *link, "-ldl")
        return target


@pytest.fixture(scope="module")
def objects(build, tmp_path_factory):
    return Objects(tmp_path_factory.mktemp("objects"))


HIDDEN = ("-fvisibility=hidden", "-fvisibility-inlines-hidden")


def libraries(objects, kind, headers):
    """(what the host is linked with, the functions in there)"""
    other = "today" if headers == "v1" else "v1"
    return {
        "shared": lambda: ([objects.shared("one", headers)], ["one"]),
        "hidden": lambda: ([objects.shared("one", headers, *HIDDEN)], ["one"]),
        "static": lambda: ([objects.library("one", headers)], ["one"]),
        "two": lambda: ([objects.shared("one", headers), objects.shared("two", other)], ["one", "two"]),
        "two, hidden": lambda: ([objects.shared("one", headers, *HIDDEN), objects.shared("two", other, *HIDDEN)],
                                ["one", "two"]),
        "none": lambda: ([], []),
    }[kind]()


def client_flags(build, client):
    return {
        "none": [],
        "preloaded": [],
        "shared": shared_client(build / "lib/liboteld.so.1"),
        "static": ["-Wl,-u,oteld_client_v1", "-Wl,--export-dynamic-symbol=oteld_client_v1", "-Wl,-z,nodelete",
                   build / "lib/liboteld.a"],
        "saved": shared_client(SAVED_LIBRARY),
    }[client]


def shared_client(library):
    # A weak reference alone makes no linker keep a library.
    return ["-Wl,--push-state,--no-as-needed", library, "-Wl,--pop-state", f"-Wl,-rpath,{library.parent}"]


def host(objects, build, client, headers, linked=(), functions=()):
    calls = "".join(f" call({name})" for name in functions)
    name = "-".join(["host", client, headers, *(it.name for it in linked)])
    program = objects.directory / name
    run("g++", "-o", program, objects.compile("host", headers, f"-DLINKED(call)={calls}"), *linked,
        *client_flags(build, client), f"-Wl,-rpath,{objects.directory}", "-ldl", "-pthread")
    return program


def recorded(build, ring_dir, program, *arguments, preload=None):
    """What the program says that it recorded, when its rings say so too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    environment |= {"OTELD_DIR": str(ring_dir)} | ({"LD_PRELOAD": str(preload)} if preload else {})
    said = int(run(program, *arguments, env=environment))
    rings = json.loads(run(build / "oteld", "rings", "--json", "--spans", "--dir", ring_dir))["rings"]
    spans = [it for ring in rings for lane in ring["lanes"] for it in lane["spans"]]
    assert len(spans) == said and not any(it["open"] or "malformed" in it for it in spans), rings
    by_name = {it["span"]["name"]: it["span"] for it in spans}
    if "inner" in by_name:
        keys = {it["key"] for it in by_name["outer"]["attributes"]}
        assert keys == {"n", "text", "pi"} and by_name["outer"]["events"][0]["name"] == "event"
        outer_ids = {it["span"]["spanId"] for it in spans if it["span"]["name"] == "outer"}
        assert by_name["inner"]["parentSpanId"] in outer_ids
    return said


KINDS = ["shared", "hidden", "static", "two", "two, hidden"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", ["shared", "static", "preloaded"])
@pytest.mark.parametrize("of_library, of_host", list(itertools.product(HEADERS, HEADERS)))
def test_a_library_of_the_api_records(objects, build, ring_dir, kind, client, of_library, of_host):
    linked, functions = libraries(objects, kind, of_library)
    program = host(objects, build, client, of_host, linked, functions)
    preload = build / "lib/liboteld.so.1" if client == "preloaded" else None
    assert recorded(build, ring_dir, program, preload=preload) == 1 + 2 * len(functions)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headers", HEADERS)
def test_without_a_client_it_is_a_no_op(objects, build, ring_dir, kind, headers):
    linked, functions = libraries(objects, kind, headers)
    assert recorded(build, ring_dir, host(objects, build, "none", headers, linked, functions)) == 0
    assert not list(ring_dir.iterdir())


@pytest.mark.parametrize("options", [(), HIDDEN], ids=["visible", "hidden"])
@pytest.mark.parametrize("client", ["shared", "static", "preloaded"])
@pytest.mark.parametrize("headers", HEADERS)
def test_a_plugin_records_and_goes_and_comes_back(objects, build, ring_dir, client, headers, options):
    plugins = [objects.shared("plugin", headers, *options)]
    program = host(objects, build, client, "today")
    preload = build / "lib/liboteld.so.1" if client == "preloaded" else None
    # Each is used twice, unloaded in between.
    assert recorded(build, ring_dir, program, *plugins, *plugins, preload=preload) == 1 + 4 * 2


@pytest.mark.parametrize("headers", HEADERS)
def test_a_plugin_brings_the_client_for_itself_alone(objects, build, ring_dir, headers):
    plugin = objects.shared("plugin", headers, *HIDDEN, link=client_flags(build, "static"))
    # The host looked for a client before there was one.
    assert recorded(build, ring_dir, host(objects, build, "none", "today"), plugin) == 2 * 2


# --- The saved library -----------------------------------------------------------------------------------------------

@pytest.fixture
def saved():
    if platform.machine() != "x86_64":
        pytest.skip(f"the saved library is for x86_64, this is {platform.machine()}")
    return SAVED_LIBRARY


@pytest.mark.parametrize("kind", ["none", *KINDS])
@pytest.mark.parametrize("how", ["saved", "preloaded"])
def test_headers_of_today_record_with_the_library_of_v1(objects, build, ring_dir, saved, kind, how):
    linked, functions = libraries(objects, kind, "today")
    program = host(objects, build, how, "today", linked, functions)
    preload = saved if how == "preloaded" else None
    assert recorded(build, ring_dir, program, preload=preload) == 1 + 2 * len(functions)


def test_a_c_program_of_v1_runs_with_the_library_of_today(build, ring_dir, saved, tmp_path):
    # Linked against the saved one, then given today's: what a package upgrade does.
    program = tmp_path / "program"
    run("gcc", "-std=c11", "-I", HEADERS["v1"], HERE / "v1/client_c_api.c", "-o", program, saved)
    for library in (saved.parent, build / "lib"):
        run(program, env={**os.environ, "OTELD_DIR": str(ring_dir), "LD_LIBRARY_PATH": str(library)})


# --- A later minor version -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("entries, said", [
    (17, "1 42 1"),  # Newer than the headers of today: one entry that these know, one that they do not.
    (16, "1 42 1"),
    (15, "1 0 1"),   # 1.0's.
    (14, "0 0 0"),   # Older than 1.0: no client.
])
def test_entries_are_used_where_the_table_has_them(objects, entries, said):
    program = objects.directory / "table"
    if not program.exists():
        run("g++", "-std=c++17", "-O1", "-Wall", "-I", HEADERS["today"], HERE / "table.cpp", "-o", program, "-ldl")
    assert run(program, 8 + 8 * entries).strip() == said


def test_headers_of_v1_take_a_larger_table(objects):
    """The saved headers know nothing of what was appended."""
    program = objects.directory / "table_v1"
    run("g++", "-std=c++17", "-O1", "-Wall", "-I", HEADERS["v1"], HERE / "table.cpp", "-o", program, "-ldl")
    assert run(program, 8 + 8 * 17).strip() == "1 42 1"
