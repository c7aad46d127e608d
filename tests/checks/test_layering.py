"""Folders are layers: includes point down only, and a library is named only where it is wrapped."""
import pathlib
import re

import pytest

import sources

# What files below a folder may include of this repository. "oteld/" is the client's public folder.
# The two stated exceptions of the design are in the list: the wire writer and the record header are public, and the
# load generator is an application. config/result.hpp is Result<T>, which knows nobody.
LAYERS = {
    "client/include": ["oteld/"],
    "client/src": ["oteld/", "client/src/", "shm/"],
    "client/examples": ["oteld/"],
    "shm": ["shm/", "oteld/detail/", "config/result.hpp"],
    "config": ["config/"],
    "exporters": ["exporters/", "config/", "shm/", "oteld/detail/"],
    "daemon": ["daemon/", "exporters/", "config/", "shm/", "oteld/detail/"],
    "daemon/commands/load": ["daemon/", "config/", "oteld/"],
}
# Of shm, an application carries the writer half only; exporters see spans, not rings.
READER_HALF = ["shm/lane_reader.hpp", "shm/segment_map.hpp", "shm/fault_guard.hpp", "shm/control_writer.hpp"]
LIBRARIES = ["boost/", "grpc", "google/protobuf", "curl/", "openssl/", "sqlite3", "yaml-cpp/", "spdlog/", "fmt/", "CLI/",
             "opentelemetry/", "zlib.h", "libdeflate", "doctest/", "benchmark/", "ncurses", "zstd"]
STANDARD_ONLY = ["client/include", "client/src", "client/examples"]
# Included by nothing but programs that use the library anyway.
ADAPTERS = {
    "client/include/oteld/asio.hpp": "boost/",
    "client/include/oteld/boost_log.hpp": "boost/",
    "client/include/oteld/opentelemetry.hpp": "opentelemetry/",
    "client/include/oteld/opentelemetry_context.hpp": "opentelemetry/",
    "client/include/oteld/detail/opentelemetry_value.hpp": "opentelemetry/",
    "client/include/oteld/spdlog.hpp": "spdlog/",
}


def violations(name, source):
    """Sentences about what is wrong with the includes of this file."""
    folder = max((layer for layer in LAYERS if str(name).startswith(layer)), key=len, default=None)
    if folder is None:
        return []
    found = []
    for quoted, path in sources.includes(source):
        library = next((it for it in LIBRARIES if path.startswith(it)), None)
        if library and ADAPTERS.get(str(name)) == library:
            continue
        if library and (folder in STANDARD_ONLY or name.suffix in (".hpp", ".h")):
            found.append(f"{name} includes {path}: " + (
                "what an application links uses the standard library only" if folder in STANDARD_ONLY else
                "a library is named only in the .cpp files that wrap it"))
        # A bare name is a neighbour in the same folder.
        if quoted and "/" in path and not library and not any(path.startswith(below) for below in LAYERS[folder]):
            found.append(f"{name} includes {path}: {folder} may include only {', '.join(LAYERS[folder])}")
        if path in READER_HALF and folder.startswith(("client", "exporters")):
            found.append(f"{name} includes {path}: that is the daemon's half of shm")
    return found


def test_includes_point_down_only():
    found = [line for name in sources.files(".hpp", ".cpp", ".h", ".c") for line in violations(name, sources.text(name))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name, line", [
    ("shm/lane.hpp", '#include "daemon/batch/ledger.hpp"'),
    ("config/yaml.cpp", '#include "shm/layout.hpp"'),
    ("exporters/console.cpp", '#include "daemon/batch/ledger.hpp"'),
    ("exporters/console.cpp", '#include "shm/lane_reader.hpp"'),
    ("exporters/console.hpp", "#include <sqlite3.h>"),
    ("client/src/provider.cpp", "#include <boost/version.hpp>"),
    ("client/include/oteld/api.hpp", '#include "shm/layout.hpp"'),
    ("client/include/oteld/api.hpp", "#include <boost/asio.hpp>"),
    ("client/include/oteld/asio.hpp", "#include <curl/curl.h>"),
    ("client/include/oteld/spdlog.hpp", "#include <boost/version.hpp>"),
    ("client/src/lane_claim.cpp", '#include "shm/segment_map.hpp"'),
    ("daemon/commands/status.cpp", '#include "oteld/api.hpp"'),
])
def test_an_include_that_points_up_is_found(name, line):
    assert violations(pathlib.Path(name), line)


@pytest.mark.parametrize("name, line", [
    ("daemon/commands/load.cpp", '#include "oteld/api.hpp"'),
    ("exporters/trace_store.cpp", "#include <sqlite3.h>"),
    ("shm/lane_reader.cpp", '#include "oteld/detail/wire.hpp"'),
    ("client/src/provider.cpp", '#include "shm/lane_writer.hpp"'),
    ("client/include/oteld/asio.hpp", "#include <boost/asio/execution.hpp>"),
    ("client/include/oteld/spdlog.hpp", "#include <spdlog/pattern_formatter.h>"),
])
def test_an_include_that_points_down_is_not(name, line):
    assert not violations(pathlib.Path(name), line)


def test_headers_are_included_once():
    bad = [str(name) for name in sources.files(".hpp", ".h") if not re.search(r"^#(pragma once|ifndef OTELD_|if !defined\(OTELD_)", sources.text(name), re.MULTILINE)]
    assert not bad, f"no #pragma once in {bad}"
