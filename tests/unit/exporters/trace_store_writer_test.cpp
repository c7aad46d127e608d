#include "exporters/trace_store_writer.hpp"

#include "tests/unit/exporters/trace_store_fixture.hpp"

#include <doctest/doctest.h>

using namespace oteld;
using namespace oteld::exporters;
using namespace oteld::test;

TEST_CASE("a stored batch is listed as one trace with its services, errors and unfinished spans") {
    const Directory directory;
    auto store = store_in(directory);
    const BatchOf batch = order_batch();
    expect_delivered(store->send(batch.batch()));

    const auto traces = list(directory);
    REQUIRE(traces.size() == 1);
    const TraceSummary& trace = traces[0];
    CHECK(trace.trace_id == std::string(16, '\x11'));
    CHECK(trace.name == "POST /checkout");
    CHECK(trace.has_root);
    CHECK(trace.service == "orders");
    CHECK(trace.services == std::vector<std::string>{"orders", "payment"});
    CHECK(trace.spans == 3);
    CHECK(trace.errors == 1);
    CHECK(trace.unfinished == 1);
    CHECK(trace.pruned == 0);
    CHECK(trace.start_unix_ns == 1'700'000'000'000'000'000);
    CHECK(trace.duration_ns == 10'000'000);
}

TEST_CASE("the same batch again changes nothing, also after a restart") {
    const Directory directory;
    const BatchOf batch = order_batch();
    auto store = store_in(directory);
    expect_delivered(store->send(batch.batch()));
    const SendResult again = store->send(batch.batch());
    expect_delivered(again);
    CHECK(again.rejected_spans == 0);
    store = nullptr;
    store = store_in(directory);
    expect_delivered(store->send(batch.batch()));
    const auto traces = list(directory);
    REQUIRE(traces.size() == 1);
    CHECK(traces[0].spans == 3);
    CHECK(traces[0].errors == 1);
    store = nullptr;
    CHECK(raw_number(directory.store(), "SELECT sum(spans) FROM origins") == 3);
}

TEST_CASE("another span with the ids of a stored one is rejected and counted") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf first;
    first.add("a", {span_message({.name = "one"})});
    BatchOf second;
    second.add("a", {span_message({.name = "two"}),
                     span_message({.span_id = span_id_of(3), .name = "three"})});
    expect_delivered(store->send(first.batch()));
    const SendResult result = store->send(second.batch());
    expect_delivered(result);
    CHECK(result.rejected_spans == 1);
    CHECK(result.reason == RejectReason::partial);
    CHECK_FALSE(result.message.empty());
    CHECK(list(directory)[0].spans == 2);
}

TEST_CASE("a finished span takes the place of the unfinished one that was recovered before it") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf open;
    open.add(
        "a",
        {span_message({.name = "work",
                       .status = 2,
                       .more = bytes_field(9, key_value("oteld.unfinished", bool_value(true)))})});
    BatchOf finished;
    finished.add("a", {span_message({.name = "work"})});
    expect_delivered(store->send(open.batch()));
    CHECK(list(directory)[0].unfinished == 1);
    const SendResult result = store->send(finished.batch());
    CHECK(result.rejected_spans == 0);
    // And not the other way round.
    CHECK(store->send(open.batch()).rejected_spans == 1);
    const auto traces = list(directory);
    CHECK(traces[0].spans == 1);
    CHECK(traces[0].unfinished == 0);
    CHECK(traces[0].errors == 0);
    CHECK(traces[0].pruned == 0);
}

TEST_CASE("a trace is named after its root, whenever that comes in") {
    const Directory directory;
    auto store = store_in(directory);
    const auto send = [&](const SpanSpec& spec, std::string_view service) {
        BatchOf batch;
        batch.add(service, {span_message(spec)});
        expect_delivered(store->send(batch.batch()));
    };
    send({.span_id = span_id_of(1),
          .parent_id = span_id_of(9),
          .name = "late child",
          .start_ns = 500},
         "b");
    send({.span_id = span_id_of(2),
          .parent_id = span_id_of(9),
          .name = "early child",
          .start_ns = 400},
         "c");
    CHECK(list(directory)[0].name == "early child");
    CHECK_FALSE(list(directory)[0].has_root);
    send({.span_id = span_id_of(9), .name = "root", .start_ns = 450}, "a");
    send({.span_id = span_id_of(3),
          .parent_id = span_id_of(9),
          .name = "earliest child",
          .start_ns = 100},
         "d");
    const auto traces = list(directory);
    CHECK(traces[0].name == "root");
    CHECK(traces[0].service == "a");
    CHECK(traces[0].has_root);
    CHECK(traces[0].services == std::vector<std::string>{"a", "b", "c", "d"});
}

TEST_CASE("hostile spans are stored and read without harm") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf batch;
    batch.add("", {std::string(), std::string("\xff\xff\xff", 3), bytes_field(1, "short"),
                   fixed64_field(7, ~0ULL) + fixed64_field(8, 1),
                   bytes_field(5, std::string("a\0b'\"", 5))});
    batch.last().resource = "\x0a\xff\xff";
    batch.last().scope = "\x0a\x7f";
    const SendResult result = store->send(batch.batch());
    expect_delivered(result);
    CHECK(result.rejected_spans == 3);  // Several without any id: they are one span to the store.
    CHECK(list(directory).size() == 2);
}
