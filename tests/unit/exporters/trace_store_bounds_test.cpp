#include "exporters/trace_store_bounds.hpp"

#include "tests/unit/exporters/trace_store_fixture.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

using namespace oteld;
using namespace oteld::exporters;
using namespace oteld::test;

TEST_CASE(
    "beyond its size the traces that grew longest ago go, whole, and the file stays within its "
    "bound") {
    const Directory directory;
    constexpr std::uint64_t bytes_max = 2ULL << 20;
    auto store = store_in(directory, bytes_max);
    constexpr std::uint32_t traces_sent = 600;
    for (std::uint32_t i = 0; i < traces_sent; ++i) {
        BatchOf batch;
        ++clock_ms;
        std::vector<std::string> spans;
        for (std::uint32_t j = 0; j < 10; ++j) {
            const std::string padding =
                bytes_field(9, key_value("padding", text_value(std::string(1000, 'x'))));
            spans.push_back(span_message({.trace_id = trace_id_of(i),
                                          .span_id = span_id_of(j),
                                          .name = std::to_string(i),
                                          .start_ns = 1000 + i,
                                          .more = padding}));
        }
        batch.add("service " + std::to_string(i), spans);
        expect_delivered(store->send(batch.batch()));
    }
    store = nullptr;
    const auto traces = list(directory, {.limit = 0});
    REQUIRE_FALSE(traces.empty());
    CHECK(traces.size() < traces_sent);
    CHECK(traces.size() > 50);
    for (std::size_t i = 0; i < traces.size(); ++i) {
        CHECK(traces[i].name == std::to_string(traces_sent - 1 - i));  // The newest, without a gap.
        CHECK(traces[i].spans == 10);
    }
    CHECK(std::filesystem::file_size(directory.store()) <= bytes_max + (128U << 10));
    // Nothing is left of the pruned ones.
    const auto kept = static_cast<std::int64_t>(traces.size());
    CHECK(raw_number(directory.store(), "SELECT count(*) FROM spans") == kept * 10);
    CHECK(raw_number(directory.store(), "SELECT count(*) FROM origins") == kept);
    CHECK(raw_number(directory.store(), "SELECT count(*) FROM trace_services") == kept);
    CHECK(raw_number(directory.store(), "SELECT sum(spans) FROM origins") == kept * 10);
}

TEST_CASE("one trace larger than the store loses its first spans and says how many") {
    const Directory directory;
    auto store = store_in(directory, 1ULL << 20);
    std::uint32_t sent = 0;
    for (std::uint32_t i = 0; i < 30; ++i) {
        BatchOf batch;
        std::vector<std::string> spans;
        for (std::uint32_t j = 0; j < 1000; ++j)
            spans.push_back(span_message({.span_id = span_id_of(++sent), .status = 2}));
        batch.add("a", spans);
        expect_delivered(store->send(batch.batch()));
    }
    const auto traces = list(directory);
    REQUIRE(traces.size() == 1);
    CHECK(traces[0].pruned > 0);
    CHECK(traces[0].spans + traces[0].pruned == sent);
    CHECK(traces[0].errors == traces[0].spans);
    store = nullptr;
    CHECK(raw_number(directory.store(), "SELECT count(*) FROM spans") ==
          static_cast<std::int64_t>(traces[0].spans));
}

TEST_CASE("a trace that has not grown for age_max goes with the next batch") {
    const Directory directory;
    config::TraceStore settings;
    settings.age_max = std::chrono::seconds(60);
    auto store = make_trace_store(settings, directory.store(), [] { return clock_ms; });
    const auto send = [&](std::uint32_t number) {
        BatchOf batch;
        batch.add("a", {span_message({.trace_id = trace_id_of(number),
                                      .span_id = span_id_of(clock_ms & 0xffff),
                                      .name = std::to_string(number)})});
        expect_delivered(store->send(batch.batch()));
    };
    send(1);
    send(2);
    clock_ms += 59'000;
    send(2);
    clock_ms += 2'000;
    send(3);
    const auto traces = names(list(directory));
    CHECK(traces.size() == 2);
    CHECK(std::find(traces.begin(), traces.end(), "1") == traces.end());
}

TEST_CASE("a store whose bound was lowered shrinks") {
    const Directory directory;
    const std::string padding =
        bytes_field(9, key_value("padding", text_value(std::string(4000, 'x'))));
    const auto batch_of = [&](std::uint32_t from) {
        BatchOf batch;
        for (std::uint32_t i = 0; i < 1000; ++i) {
            batch.add("a", {span_message({.trace_id = trace_id_of(from + i), .more = padding})});
        }
        return batch;
    };
    auto store = store_in(directory);
    expect_delivered(store->send(batch_of(0).batch()));
    store = store_in(directory, 1ULL << 20);
    expect_delivered(store->send(batch_of(5000).batch()));
    store = nullptr;
    CHECK(std::filesystem::file_size(directory.store()) <= (1ULL << 20));
}
