#include "exporters/trace_query.hpp"

#include "shm/span_view.hpp"
#include "tests/unit/exporters/trace_store_fixture.hpp"

#include <doctest/doctest.h>

#include <fstream>

using namespace oteld;
using namespace oteld::exporters;
using namespace oteld::test;

TEST_CASE("spans come back as the bytes that were stored, by start time") {
    const Directory directory;
    auto store = store_in(directory);
    const BatchOf batch = order_batch();
    expect_delivered(store->send(batch.batch()));
    auto query = TraceQuery::open(directory.store());
    REQUIRE(query);
    const auto spans = query->spans(std::string(16, '\x11'), 100);
    REQUIRE(spans);
    REQUIRE((*spans).size() == 3);
    shm::FrameReader frames(batch.batch().runs[0].frames);
    shm::Frame first;
    REQUIRE(frames.next(first));
    CHECK((*spans)[0].message == first.span);
    CHECK((*spans)[0].service == "orders");
    CHECK((*spans)[0].resource == batch.batch().runs[0].resource);
    CHECK((*spans)[2].service == "payment");
    CHECK((*query->spans(std::string(16, '\x11'), 2)).size() == 2);
}

TEST_CASE(
    "a list is filtered by service, errors, duration and time, newest first, up to the limit") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf batch;
    for (std::uint64_t i = 1; i <= 5; ++i) {
        batch.add(i % 2 == 0 ? "even" : "odd", {span_message({.trace_id = trace_id_of(i),
                                                              .name = std::to_string(i),
                                                              .start_ns = i * 1000,
                                                              .duration_ns = i * 10,
                                                              .status = i == 3 ? 2 : 0})});
    }
    expect_delivered(store->send(batch.batch()));
    using Names = std::vector<std::string>;
    CHECK(names(list(directory)) == Names{"5", "4", "3", "2", "1"});
    CHECK(names(list(directory, {.service = "even"})) == Names{"4", "2"});
    CHECK(names(list(directory, {.service = "eve"})).empty());
    CHECK(names(list(directory, {.errors = true})) == Names{"3"});
    CHECK(names(list(directory, {.duration_ns_min = 40})) == Names{"5", "4"});
    CHECK(names(list(directory, {.since_unix_ns = 2001})) == Names{"5", "4", "3"});
    CHECK(names(list(directory, {.since_unix_ns = UINT64_MAX})).empty());
    CHECK(names(list(directory, {.limit = 2})) == Names{"5", "4"});
    CHECK(names(list(directory, {.limit = 0})).size() == 5);
}

TEST_CASE("a trace is found by the first digits of its id") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf batch;
    for (const char* id : {"\xab\x01", "\xab\x0f", "\xab\xff", "\xff\xff"}) {
        batch.add("a", {span_message({.trace_id = id + std::string(14, '\x01'), .name = "n"})});
    }
    expect_delivered(store->send(batch.batch()));
    auto query = TraceQuery::open(directory.store());
    REQUIRE(query);
    const auto found = [&](const char* prefix) { return (*query->find(prefix, 10)).size(); };
    CHECK(found("ab") == 3);
    CHECK(found("AB0") == 2);
    CHECK(found("ab0f") == 1);
    CHECK(found("abff") == 1);
    CHECK(found("ff") == 1);
    CHECK(found("f") == 1);
    CHECK(found("ab010101010101010101010101010101") == 1);
    CHECK(found("ac") == 0);
    CHECK(found("") == 4);
    CHECK((*query->find("ab", 2)).size() == 2);
    const auto wrong = query->find("xyz", 10);
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().code == ErrorCode::invalid_argument);
}

TEST_CASE("no store, and an empty file, are told apart from a store") {
    const Directory directory;
    auto missing = TraceQuery::open(directory.store());
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == ErrorCode::not_found);
    std::ofstream(directory.store()).flush();
    auto empty = TraceQuery::open(directory.store());
    REQUIRE_FALSE(empty);
    CHECK(empty.error().code == ErrorCode::not_found);
    std::ofstream(directory.store(), std::ios::trunc) << std::string(8192, 'z');
    auto damaged = TraceQuery::open(directory.store());
    REQUIRE_FALSE(damaged);
    CHECK(damaged.error().code == ErrorCode::corrupt);
}

TEST_CASE("a path with characters that mean something in a URI is read") {
    const Directory directory;
    const std::string path = directory.path + "/a?b#c%20d.db";
    auto store = make_trace_store(config::TraceStore{}, path, [] { return clock_ms; });
    expect_delivered(store->send(order_batch().batch()));
    auto query = TraceQuery::open(path);
    REQUIRE(query);
    CHECK((*query->list({})).size() == 1);
}
