"""What cmake --install leaves works for a stranger: find_package, pkg-config, C and C++17, static and shared.

Each program records spans; whether the client was really linked shows in the daemon's ledger, not in the link line.
"""
import json
import os
import re
import shutil
import subprocess

import pytest

from conftest import ROOT, eventually

CONFIG = """
receivers: {shm: {}}
exporters: {trace_store: {}}
service: {pipelines: {traces: {receivers: [shm], exporters: [trace_store]}}}
"""

CXX_PROGRAM = """
#include <oteld/api.hpp>
int main() {
    const auto tracer = oteld::tracer("stranger", "1.0");
    auto outer = tracer.scope("outer", {{"answer", 42}});
    auto inner = tracer.scope("inner");
    inner.set("text", "words");
    return inner.recording() ? 0 : 3;   // 3: linked without a client.
}
"""

CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(stranger CXX)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_EXTENSIONS OFF)
find_package(oteld REQUIRED)
foreach(kind api client client_static)
  add_executable(with_${kind} stranger.cpp)
  # What Ubuntu's compiler does by itself.
  target_link_options(with_${kind} PRIVATE -Wl,--as-needed)
  target_link_libraries(with_${kind} PRIVATE oteld::${kind})
endforeach()
"""

C_CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(stranger C)
find_package(oteld REQUIRED)
add_executable(stranger stranger.c)
target_link_libraries(stranger oteld::${KIND})
"""

OPENTELEMETRY_PROGRAM = """
#include <oteld/opentelemetry.hpp>
#include <opentelemetry/trace/provider.h>
#include <opentelemetry/trace/scope.h>
int main() {
    using namespace opentelemetry::trace;
    Provider::SetTracerProvider(oteld::opentelemetry_provider());
    const auto tracer = Provider::GetTracerProvider()->GetTracer("stranger");
    const Scope outer(tracer->StartSpan("outer", {{"answer", 42}}));
    return tracer->StartSpan("inner")->IsRecording() ? 0 : 3;
}
"""

# Either the package is found before, or it is asked for.
OPENTELEMETRY_CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(stranger CXX)
set(CMAKE_CXX_STANDARD 17)
if(BEFORE)
  find_package(opentelemetry-cpp REQUIRED)
  find_package(oteld REQUIRED)
else()
  find_package(oteld REQUIRED COMPONENTS opentelemetry)
endif()
add_executable(stranger stranger.cpp)
target_link_options(stranger PRIVATE -Wl,--as-needed)
target_link_libraries(stranger PRIVATE oteld::opentelemetry)
"""

# Headers of libraries that an application must not need.
FOREIGN_HEADERS = re.compile(r"/(boost|grpc|grpcpp|google/protobuf|absl|spdlog|fmt|yaml-cpp|sqlite3|curl|CLI)[/.]")


@pytest.fixture(scope="module")
def prefix(build_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("prefix with space")
    run("cmake", "--install", build_dir, "--prefix", path)
    # A stranger has the installed tree only: a moved one must do.
    moved = path.parent / "moved"
    shutil.rmtree(moved, ignore_errors=True)
    path.rename(moved)
    return moved


@pytest.fixture(scope="module")
def cxx_source(tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "stranger.cpp"
    source.write_text(CXX_PROGRAM)
    return source


@pytest.fixture(scope="module")
def cmake_programs(prefix, cxx_source):
    skip_under_sanitizers(prefix)
    (cxx_source.parent / "CMakeLists.txt").write_text(CMAKE)
    build = cxx_source.parent / "build"
    run("cmake", "-G", "Ninja", "-S", cxx_source.parent, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", build)
    return build


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def pkg_config(prefix, *options):
    return run("pkg-config", *options, "oteld",
               env={**os.environ, "PKG_CONFIG_PATH": str(library_dir(prefix) / "pkgconfig")}).split()


def library_dir(prefix):
    return next(prefix.rglob("liboteld.a")).parent


def skip_under_sanitizers(prefix):
    symbols = run("nm", library_dir(prefix) / "liboteld.a")
    if "__asan_" in symbols or "__tsan_" in symbols:
        pytest.skip("the client is built with a sanitizer here; its programs would need it too")


def spans_arrive(daemon, program, spans, service):
    """Runs the program and waits until the ledger shows its spans delivered, and balanced."""
    environment = {**daemon.environment, "OTEL_SERVICE_NAME": service}
    run(program, env=environment)

    def delivered():
        mine = [it for it in daemon.status()["applications"] if it["service"] == service]
        return [(it["started"], share["delivered"], share["balance"]) for it in mine for share in it["exporters"]
                ] == [(spans, spans, 0)]
    eventually(delivered, f"{spans} spans of {service} are delivered")


def test_headers_alone_record_nothing(cmake_programs, environment):
    done = subprocess.run([cmake_programs / "with_api"], env=environment, timeout=60)
    assert done.returncode == 3


@pytest.mark.parametrize("kind", ["client", "client_static"])
def test_a_program_of_find_package_records(cmake_programs, daemon, kind):
    daemon.start(CONFIG)
    spans_arrive(daemon, cmake_programs / f"with_{kind}", 2, f"cmake-{kind}")
    needed = run("readelf", "-d", cmake_programs / f"with_{kind}")
    assert ("liboteld.so" in needed) == (kind == "client")


@pytest.mark.parametrize("kind", ["client", "client_static"])
def test_a_program_of_a_project_of_c_alone_records(prefix, daemon, tmp_path, kind):
    skip_under_sanitizers(prefix)
    (tmp_path / "stranger.c").write_text(readme_block("c"))
    (tmp_path / "CMakeLists.txt").write_text(C_CMAKE)
    run("cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "build", f"-DKIND={kind}", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path / "build")
    daemon.start(CONFIG)
    spans_arrive(daemon, tmp_path / "build/stranger", 1, f"c-{kind}")


@pytest.mark.parametrize("before", ["ON", "OFF"])
def test_a_program_of_opentelemetry_cpp_records(prefix, build_dir, daemon, tmp_path, before):
    skip_under_sanitizers(prefix)
    found = re.search(r"^opentelemetry-cpp_DIR:PATH=(/.*)$", (build_dir / "CMakeCache.txt").read_text(), re.MULTILINE)
    if found is None:
        pytest.skip("find_package(opentelemetry-cpp) finds nothing")
    (tmp_path / "stranger.cpp").write_text(OPENTELEMETRY_PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(OPENTELEMETRY_CMAKE)
    run("cmake", "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "build", f"-DBEFORE={before}",
        f"-DCMAKE_PREFIX_PATH={prefix}", f"-Dopentelemetry-cpp_DIR={found[1]}")
    run("cmake", "--build", tmp_path / "build")
    daemon.start(CONFIG)
    spans_arrive(daemon, tmp_path / "build/stranger", 2, "opentelemetry-cpp")


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_a_program_of_pkg_config_records(prefix, cxx_source, daemon, tmp_path, kind):
    skip_under_sanitizers(prefix)
    program = tmp_path / "stranger"
    options = ["--static"] if kind == "static" else []
    libraries = pkg_config(prefix, *options, "--libs")
    run("g++", "-std=c++17", "-Wl,--as-needed", *pkg_config(prefix, "--cflags"), cxx_source, "-o", program,
        *(["-static"] if kind == "static" else [f"-Wl,-rpath,{library_dir(prefix)}"]), *libraries)
    daemon.start(CONFIG)
    spans_arrive(daemon, program, 2, f"pkg-config-{kind}")


def dynamic_symbols(path):
    """Name and kind of what the program or library defines for others; templates of the standard library left out."""
    rows = [row.split() for row in run("readelf", "--dyn-syms", "--wide", path).splitlines()]
    return {row[7].partition("@")[0]: row[3] for row in rows if len(row) == 8 and row[4] == "GLOBAL" and row[6].isdigit()}


@pytest.mark.parametrize("kind", ["cmake", "pkg-config"])
def test_a_program_with_a_static_client_shows_profilers_its_threads(prefix, request, cxx_source, tmp_path, kind):
    skip_under_sanitizers(prefix)
    if kind == "cmake":
        program = request.getfixturevalue("cmake_programs") / "with_client_static"
    else:
        program = tmp_path / "stranger"
        libraries = [str(library_dir(prefix) / "liboteld.a") if word == "-loteld" else word
                     for word in pkg_config(prefix, "--static", "--libs")]
        run("g++", "-std=c++17", *pkg_config(prefix, "--cflags"), cxx_source, "-o", program, *libraries)
    assert "liboteld.so" not in run("readelf", "-d", program)
    assert dynamic_symbols(program).get("otel_thread_ctx_v1") == "TLS"


def test_the_library_exports_its_interface_and_what_profilers_look_for(prefix):
    symbols = dynamic_symbols(library_dir(prefix) / "liboteld.so")
    assert symbols["otel_thread_ctx_v1"] == "TLS" and symbols["oteld_client_v1"] == "FUNC"
    # The C interface; what the public headers declare in our namespace.
    other = [name for name in symbols if not re.match(r"oteld_|_ZNK?5oteld", name)]
    assert other == ["otel_thread_ctx_v1"]


def test_the_flags_are_those_that_turn_recording_on(prefix):
    assert "-Wl,-u,oteld_client_v1" in pkg_config(prefix, "--static", "--libs")
    assert "-Wl,--push-state,--no-as-needed" in pkg_config(prefix, "--libs")


@pytest.mark.parametrize("language", ["c", "c++17"])
def test_no_header_of_another_library_is_needed(prefix, tmp_path, language):
    header, compiler = ("oteld.h", ["gcc", "-std=c11"]) if language == "c" else ("api.hpp", ["g++", "-std=c++17"])
    source = tmp_path / ("a.c" if language == "c" else "a.cpp")
    source.write_text(f"#include <oteld/{header}>\n" + ("" if language == "c" else "#include <oteld/client.hpp>\n"))
    headers = run(*compiler, "-Wall", "-Wextra", "-Wpedantic", "-Werror", *pkg_config(prefix, "--cflags"), "-M", source)
    foreign = [word for word in headers.split() if FOREIGN_HEADERS.search(word)]
    assert f"oteld/{header}" in headers and not foreign, foreign
    run(*compiler, "-Wall", "-Wextra", "-Wpedantic", "-Werror", *pkg_config(prefix, "--cflags"), "-c", source, "-o",
        tmp_path / "a.o")


def readme_block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize("language, compiler", [("cpp", ["g++", "-std=c++17"]), ("c", ["gcc", "-std=c11"])])
def test_the_programs_of_the_readme_work(prefix, daemon, tmp_path, language, compiler):
    skip_under_sanitizers(prefix)
    source = tmp_path / f"readme.{language}"
    source.write_text(readme_block(language))
    run(*compiler, "-Wall", "-Wextra", "-Werror", *pkg_config(prefix, "--cflags"), source, "-o", tmp_path / "readme",
        f"-Wl,-rpath,{library_dir(prefix)}", *pkg_config(prefix, "--libs"))
    daemon.start(CONFIG)
    spans_arrive(daemon, tmp_path / "readme", 2 if language == "cpp" else 1, f"readme-{language}")


def test_the_configuration_of_the_readme_is_valid(daemon, tmp_path):
    (tmp_path / "oteld.yaml").write_text(readme_block("yaml"))
    daemon.environment["TOKEN"] = "secret"
    assert "secret" not in daemon.run("validate", "--config", tmp_path / "oteld.yaml").stdout


def test_the_installed_daemon_finds_its_modules(prefix, daemon, build_dir):
    modules = sorted(path.name for path in (build_dir / "modules").glob("*.so"))
    assert sorted(path.name for path in (prefix / "lib/oteld").glob("*.so")) == modules
    daemon.oteld = prefix / "bin/oteld"
    assert daemon.run("--version").stdout.startswith("oteld ")
    exporters = [name.removesuffix(".so") for name in modules]
    daemon.start(json.dumps({
        "receivers": {"shm": {}},
        "exporters": {name: {"endpoint": "http://127.0.0.1:9"} for name in exporters} | {"trace_store": {}},
        "service": {"pipelines": {"traces": {"receivers": ["shm"], "exporters": [*exporters, "trace_store"]}}},
    }))
    states = {it["name"]: it["state"] for it in daemon.status()["exporters"]}
    assert set(states) == {*exporters, "trace_store"} and "failed" not in states.values()


def test_units_name_the_installed_binary(prefix):
    unit = (prefix / "lib/systemd/system/oteld.service").read_text()
    assert re.search(r"^ExecStart=\S+/bin/oteld run$", unit, re.MULTILINE)
    assert (prefix / "lib/systemd/system/run-oteld.mount").exists()
    assert (prefix / "lib/sysusers.d/oteld.conf").exists()
