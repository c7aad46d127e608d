// A store in a directory of its own, and what its tests send to it and read from it.
#pragma once

#include "exporters/trace_query.hpp"
#include "exporters/trace_store.hpp"
#include "tests/unit/exporters/span_builder.hpp"

#include <doctest/doctest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace oteld::test {

using namespace oteld::exporters;

struct Directory {
    Directory() {
        char name[] = "/tmp/oteld-store-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
    }
    ~Directory() {
        std::filesystem::permissions(path, std::filesystem::perms::owner_all);
        std::filesystem::remove_all(path);
    }
    [[nodiscard]] std::string store() const { return path + "/traces.db"; }
    [[nodiscard]] std::size_t damaged_files() const {
        std::size_t count = 0;
        for (const auto& entry : std::filesystem::directory_iterator(path)) {
            const std::string name = entry.path().filename();
            if (name.find(".damaged-") != std::string::npos && name.ends_with("Z")) ++count;
        }
        return count;
    }
    std::string path;
};

// What the stores take for the time.
inline std::uint64_t clock_ms = 1'700'000'000'000;

inline std::unique_ptr<Exporter> store_in(const Directory& directory,
                                          std::uint64_t bytes_max = 64ULL << 20) {
    config::TraceStore settings;
    settings.bytes_max = bytes_max;
    return make_trace_store(settings, directory.store(), [] { return clock_ms; });
}

inline std::string trace_id_of(std::uint32_t number) {
    std::string id(16, '\x10');
    for (int i = 0; i < 4; ++i) id[12 + i] = static_cast<char>(number >> (8 * (3 - i)));
    return id;
}

inline std::string span_id_of(std::uint32_t number) { return trace_id_of(number).substr(8); }

inline std::vector<TraceSummary> list(const Directory& directory, const TraceFilter& filter = {}) {
    auto query = TraceQuery::open(directory.store());
    if (!query) MESSAGE(query.error().message);
    REQUIRE(query);
    auto traces = query->list(filter);
    if (!traces) MESSAGE(traces.error().message);
    REQUIRE(traces);
    return *traces;
}

inline std::vector<std::string> names(const std::vector<TraceSummary>& traces) {
    std::vector<std::string> out;
    out.reserve(traces.size());
    for (const TraceSummary& trace : traces) out.push_back(trace.name);
    return out;
}

inline void expect_delivered(const SendResult& result) {
    if (result.outcome != SendResult::Outcome::delivered) MESSAGE(result.message);
    CHECK(result.outcome == SendResult::Outcome::delivered);
}

// An order with a payment that failed in another service and a span that died.
inline BatchOf order_batch() {
    BatchOf batch;
    batch.add(
        "orders",
        {span_message({.name = "POST /checkout", .duration_ns = 9'000'000}),
         span_message({.span_id = span_id_of(7),
                       .parent_id = std::string(8, '\x22'),
                       .name = "reserve",
                       .more = bytes_field(9, key_value("oteld.unfinished", bool_value(true)))})});
    batch.add("payment", {span_message({.span_id = span_id_of(8),
                                        .parent_id = std::string(8, '\x22'),
                                        .name = "charge",
                                        .start_ns = 1'700'000'000'001'000'000,
                                        .duration_ns = 9'000'000,
                                        .status = 2,
                                        .status_message = "refused"})});
    return batch;
}

inline sqlite3* raw_open(const std::string& path) {
    sqlite3* db = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
    return db;
}

inline std::int64_t raw_number(const std::string& path, const char* sql) {
    sqlite3* db = raw_open(path);
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) == SQLITE_OK);
    REQUIRE(sqlite3_step(statement) == SQLITE_ROW);
    const std::int64_t number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return number;
}

}  // namespace oteld::test
