#include "daemon/commands/traces.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "daemon/commands/traces_json.hpp"
#include "daemon/status/tree.hpp"
#include "daemon/status/words.hpp"
#include "shm/span_view.hpp"
#include "tests/unit/exporters/span_builder.hpp"

using namespace oteld;
using namespace oteld::test;
using exporters::StoredSpan;
using exporters::TraceSummary;

namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

StoredSpan span_of(const std::string& id, const std::string& parent, const std::string& more = "") {
    const SpanSpec spec{.span_id = id, .parent_id = parent, .name = id, .more = more};
    return {span_message(spec), "shop", resource_message("shop"), ""};
}

std::string names_of(const std::vector<StoredSpan>& spans) {
    std::string text;
    for (const status::TreeNode& node : status::tree_of(spans)) {
        text += text.empty() ? "" : " ";
        if (node.span == status::TreeNode::no_span) {
            text += "?" + node.missing_parent;
        } else {
            text += std::string(shm::Span(spans[node.span].message).name);
        }
        text += std::to_string(node.depth);
    }
    return text;
}

TraceSummary summary_of(const std::vector<StoredSpan>& spans) {
    TraceSummary trace;
    trace.trace_id = std::string(16, '\x11');
    trace.start_unix_ns = 1'700'000'000 * second_ns;
    trace.duration_ns = 1'000'000;
    trace.spans = spans.size();
    trace.services = {"shop"};
    return trace;
}

std::string text_of(const std::vector<StoredSpan>& spans, std::size_t width = 100) {
    return status::render_trace(summary_of(spans), spans, {.width = width, .unicode = false});
}

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a tree has each span below its parent, whatever the order") {
    CHECK(names_of({span_of("c", "b"), span_of("a", ""), span_of("b", "a"), span_of("d", "a")}) ==
          "a0 b1 c2 d1");
    CHECK(names_of({}).empty());
    CHECK(names_of({span_of("a", ""), span_of("b", "")}) == "a0 b0");
}

TEST_CASE("spans whose parent is not there stand together below a heading") {
    CHECK(names_of({span_of("x", "gone"), span_of("a", ""), span_of("y", "gone"), span_of("z", "y"),
                    span_of("w", "lost")}) == "a0 ?gone0 x1 y1 z2 ?lost0 w1");
}

TEST_CASE("spans that are each other's parents, or their own, appear once") {
    CHECK(names_of({span_of("a", "a")}) == "a0");
    CHECK(names_of({span_of("a", "b"), span_of("b", "a"), span_of("c", "b")}) == "a0 b1 c2");
    CHECK(names_of({span_of("a", ""), span_of("a", ""), span_of("b", "a")}) == "a0 b1 a0");
}

TEST_CASE("one chain of very many spans is a tree, and its text keeps to the width") {
    std::vector<StoredSpan> chain;
    chain.reserve(3000);
    for (int i = 0; i < 3000; ++i) {
        chain.push_back(
            span_of("s" + std::to_string(i), i == 0 ? "" : "s" + std::to_string(i - 1)));
    }
    const auto nodes = status::tree_of(chain);
    REQUIRE(nodes.size() == chain.size());
    CHECK(nodes.back().depth == 2999);
    std::string text = text_of(chain, 90);
    CHECK(has(text, "s2999"));
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        REQUIRE(status::text_width(text.substr(0, end)) <= 90);
        text.erase(0, end + 1);
    }
}

TEST_CASE("the text of a trace has its errors, events, attributes and links") {
    const std::string more =
        bytes_field(9, key_value("order.id", text_value("A-7"))) + varint_field(10, 2) +
        bytes_field(11, fixed64_field(1, 1'700'000'000 * second_ns + 5000) +
                            bytes_field(2, "exception") +
                            bytes_field(3, key_value("trace", text_value("line one\nline two")))) +
        bytes_field(
            13, bytes_field(1, std::string(16, '\x44')) + bytes_field(2, std::string(8, '\x55'))) +
        bytes_field(15, varint_field(3, 2) + bytes_field(2, "refused"));
    const std::string text = text_of({span_of("root", "", more)});
    CHECK(has(text, "trace 11111111111111111111111111111111"));
    CHECK(has(text, "root  shop"));
    CHECK(has(text, "1.00 ms"));
    CHECK(has(text, "x error: refused"));
    CHECK(has(text, "order.id=A-7"));
    CHECK(has(text, "(2 attributes dropped)"));
    CHECK(has(text, "* exception  +5.00 us"));
    CHECK(has(text, ": line one\n"));
    CHECK(has(text, ": line two\n"));
    CHECK(has(text, "-> link to span 5555555555555555 of trace 44444444444444444444444444444444"));
    CHECK_FALSE(has(text, "\x1b"));  // No colour was asked for.
}

TEST_CASE("a span that died open is drawn open-ended and said to be unfinished") {
    const std::string mark = bytes_field(9, key_value("oteld.unfinished", bool_value(true)));
    const SpanSpec spec{.name = "dying", .duration_ns = 100'000, .more = mark};
    const std::string text = text_of({{span_message(spec), "shop", "", ""}});
    CHECK(has(text, "> 100 us"));
    CHECK(has(text, "=~~~~~~"));
    CHECK(has(text, "unfinished: its process died before it ended"));
    CHECK_FALSE(has(text, "oteld.unfinished"));
}

TEST_CASE("names that would drive a terminal are shown as what they are") {
    const SpanSpec spec{.name = "a\x1b[2Jb",
                        .more = bytes_field(9, key_value("k\n", text_value("\x07")))};
    const std::string text = text_of({{span_message(spec), "s\x1bx", "", ""}});
    CHECK(has(text, "a\\x1b[2Jb"));
    CHECK(has(text, "k\\n=\\x07"));
    CHECK_FALSE(has(text, "\x1b"));
}

TEST_CASE("the JSON of a trace is as documented") {
    const std::string more =
        bytes_field(9, key_value("n", int_value(5))) +
        bytes_field(9, key_value("n", bytes_field(5, bytes_field(1, bool_value(true)))));
    const std::vector<StoredSpan> spans = {span_of("12345678", "", more)};
    CHECK(
        trace_json("/s", summary_of(spans), spans) ==
        R"({"schema_version":1,"store":"/s","trace":{"trace_id":"11111111111111111111111111111111",)"
        R"("start_unix_nano":"1700000000000000000","start":"2023-11-14T22:13:20.000000000Z",)"
        R"("duration_nano":1000000,"span_count":1,"error_count":0,"unfinished_count":0,"pruned_count":0,)"
        R"("has_root":false,"name":"","service":"","services":["shop"],"spans":[{)"
        R"("span_id":"3132333435363738","parent_span_id":null,"name":"12345678","kind":"internal",)"
        R"("service":"shop","scope":{"name":"","version":""},"start_unix_nano":"1700000000000000000",)"
        R"("duration_nano":1000000,"status":"unset","status_message":"","unfinished":false,)"
        R"("trace_state":"","flags":0,"attributes":{"n":[true]},"dropped_attributes_count":0,"events":[],)"
        R"("dropped_events_count":0,"links":[],"dropped_links_count":0,)"
        R"("resource":{"service.name":"shop"}}]}})");
    CHECK(traces_json("/s", {}) == R"({"schema_version":1,"store":"/s","traces":[]})");
}

TEST_CASE("durations and times are read as people write them") {
    CHECK(parse_span_duration("100ms") == 100'000'000);
    CHECK(parse_span_duration("250us") == 250'000);
    CHECK(parse_span_duration("1.5s") == 1'500'000'000);
    CHECK(parse_span_duration("1m30s") == 90 * second_ns);
    CHECK(parse_span_duration("2d") == second_ns * 86400 * 2);
    for (const char* bad :
         {"", "5", "ms", "-1s", "1x", "1s ", "1e9s", "nan", "inf", "1000000000d"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_span_duration(bad));
    }
    const std::uint64_t now = 1'700'000'000 * second_ns;
    CHECK(parse_since("10m", now) == now - 600 * second_ns);
    CHECK(parse_since("90000d", now) == 0);
    CHECK(parse_since("2023-11-14T22:13:20Z", now) == now);
    CHECK(parse_since("2023-11-14T23:13:20+01:00", now) == now);
    CHECK(parse_since("2023-11-14T22:13:20.5Z", now) == now + second_ns / 2);
    CHECK(parse_since("2023-11-14", now) == 1'699'920'000 * second_ns);
    CHECK(parse_since("9999-12-31", now) == UINT64_MAX);  // Later than any span there can be.
    for (const char* bad :
         {"", "yesterday", "2023-13-01", "2023-02-30", "2023-11-14T25:00:00Z", "2023-11-14T22:13",
          "2023-11-14T22:13:20+1", "2023-11-14T22:13:20.Z", "1969-12-31T23:59:59Z"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_since(bad, now));
    }
}

TEST_CASE("the command says by its exit code what it found") {
    TracesOptions options;
    options.state_directory = "/nonexistent";
    CHECK(traces_command(options) == 1);
    options.since = "yesterday";
    CHECK(traces_command(options) == 2);
    options.since = "";
    options.min_duration = "long";
    CHECK(traces_command(options) == 2);
}
