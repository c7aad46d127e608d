// Every field of an OTLP span, as the C++ interface records it.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <array>
#include <cmath>
#include <deque>
#include <limits>
#include <list>
#include <map>
#include <stdexcept>
#include <unordered_map>

namespace oteld::test {
namespace {

using namespace std::chrono_literals;

Tracer test_tracer() { return tracer("test"); }
Time at(std::int64_t seconds) { return Time(std::chrono::seconds(seconds)); }
constexpr std::uint64_t billion = 1000000000;

const std::uint8_t some_trace[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
const std::uint8_t some_span[8] = {0xa1, 2, 3, 4, 5, 6, 7, 0xa8};
const char some_trace_hex[] = "0102030405060708090a0b0c0d0e0f10";
const char some_span_hex[] = "a1020304050607a8";

}  // namespace

TEST_CASE("a span has a name, fresh ids, its kind, and times in order") {
    const Rings rings = in_child([] {
        const Tracer tracer = test_tracer();
        auto plain = tracer.span("plain");
        auto in = tracer.span("in", server);
        auto out = tracer.span("out", client);
        auto put = tracer.span("put", producer);
        auto take = tracer.span("take", {{"a", 1}}, consumer);
        auto inner = tracer.span("inner", internal, {{"a", 1}});
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 6);
    CHECK(rings.span("plain").kind == 1);
    CHECK(rings.span("in").kind == 2);
    CHECK(rings.span("out").kind == 3);
    CHECK(rings.span("put").kind == 4);
    CHECK(rings.span("take").kind == 5);
    CHECK(rings.span("inner").kind == 1);
    for (const ReadSpan& span : rings.spans) {
        CHECK(span.parent_id == "");
        CHECK(span.start <= span.end);
        CHECK(span.start != 0);
        for (const ReadSpan& other : rings.spans) {
            if (&span == &other) continue;
            CHECK(span.span_id != other.span_id);
            CHECK(span.trace_id != other.trace_id);
        }
    }
}

TEST_CASE("each type of attribute value arrives as itself") {
    const Rings rings = in_child([] {
        auto span = test_tracer().span("values");
        span.set("true", true).set("false", false);
        span.set("small", 7)
            .set("negative", -3)
            .set("min", std::numeric_limits<std::int64_t>::min());
        span.set("char", 'A').set("short", short{-2}).set("unsigned", 4000000000U);
        span.set("u64", std::uint64_t{1} << 62)
            .set("big", std::numeric_limits<std::uint64_t>::max());
        span.set("just big", std::uint64_t{1} << 63);
        span.set("double", 1.5).set("float", 0.25F).set("nan", std::nan(""));
        span.set("inf", HUGE_VAL).set("-inf", -HUGE_VAL).set("-0", -0.0);
        span.set("literal", "text")
            .set("string", std::string(200, 'x'))
            .set("view", std::string_view("v"));
        span.set("null", static_cast<const char*>(nullptr)).set("empty", "");
        const std::uint8_t raw[] = {0, 255, 16};
        span.set("bytes", bytes{raw, sizeof raw}).set("no bytes", bytes{});
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("values");
    CHECK(span.at("true") == "true");
    CHECK(span.at("false") == "false");
    CHECK(span.at("small") == "7");
    CHECK(span.at("negative") == "-3");
    CHECK(span.at("min") == "-9223372036854775808");
    CHECK(span.at("char") == "65");
    CHECK(span.at("short") == "-2");
    CHECK(span.at("unsigned") == "4000000000");
    CHECK(span.at("u64") == "4611686018427387904");
    CHECK(span.at("big") == "\"18446744073709551615\"");
    CHECK(span.at("just big") == "\"9223372036854775808\"");
    CHECK(span.at("double") == "1.5");
    CHECK(span.at("float") == "0.25");
    CHECK(span.at("nan") == "nan");
    CHECK(span.at("inf") == "inf");
    CHECK(span.at("-inf") == "-inf");
    CHECK(span.at("-0") == "-0.0");
    CHECK(span.at("literal") == "\"text\"");
    CHECK(span.at("string") == '"' + std::string(200, 'x') + '"');
    CHECK(span.at("view") == "\"v\"");
    CHECK(span.at("null") == "\"\"");
    CHECK(span.at("empty") == "\"\"");
    CHECK(span.at("bytes") == "bytes:00ff10");
    CHECK(span.at("no bytes") == "bytes:");
    CHECK(span.attributes.size() == 24);
    CHECK(span.dropped_attributes == 0);
}

TEST_CASE("arrays, maps and the standard containers nest") {
    const Rings rings = in_child([] {
        auto span = test_tracer().span("nested");
        span.set("braces", {1, 2, 3}).set("mixed", {"a", 2, true, 1.5});
        span.set("map", {{"a", 1}, {"b", {"x", "y"}}, {"c", {{"deep", true}}}});
        span.set("vector", std::vector<std::string>{"one", "two"}).set("empty", std::vector<int>{});
        span.set("flags", std::vector<bool>{true, false, true});
        span.set("array", std::array<double, 2>{0.5, 1.0}).set("list", std::list<int>{4, 5});
        span.set("deque", std::deque<std::vector<int>>{{1}, {2, 3}});
        span.set("std map", std::map<std::string, int>{{"a", 1}, {"b", 2}});
        span.set("map of vectors", std::map<std::string_view, std::vector<int>>{{"v", {1, 2}}});
        const std::vector<Value> values{Value(1), Value("two"), Value(bytes{"\x03", 1})};
        span.set("values", Value(values.data(), values.size()));
        const std::vector<Attribute> pairs{{"k", 1}, {"l", "m"}};
        span.set("pairs", Value(pairs.data(), pairs.size()));
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("nested");
    CHECK(span.at("braces") == "[1,2,3]");
    CHECK(span.at("mixed") == "[\"a\",2,true,1.5]");
    CHECK(span.at("map") == R"({"a":1,"b":["x","y"],"c":{"deep":true}})");
    CHECK(span.at("vector") == R"(["one","two"])");
    CHECK(span.at("empty") == "[]");
    CHECK(span.at("flags") == "[true,false,true]");
    CHECK(span.at("array") == "[0.5,1.0]");
    CHECK(span.at("list") == "[4,5]");
    CHECK(span.at("deque") == "[[1],[2,3]]");
    CHECK(span.at("std map") == R"({"a":1,"b":2})");
    CHECK(span.at("map of vectors") == R"({"v":[1,2]})");
    CHECK(span.at("values") == R"([1,"two",bytes:03])");
    CHECK(span.at("pairs") == R"({"k":1,"l":"m"})");
}

TEST_CASE("values nested deeper than a protobuf parser goes are cut, and the span arrives") {
    const Rings rings = in_child([] {
        constexpr std::size_t depth = 200;
        std::vector<Value> arrays(depth + 1, Value(1));
        for (std::size_t i = depth; i-- > 0;) arrays[i] = Value(&arrays[i + 1], 1);
        std::vector<Attribute> maps(depth + 1, Attribute("leaf", 1));
        for (std::size_t i = depth; i-- > 0;) maps[i] = Attribute("m", Value(&maps[i + 1], 1));
        auto span = test_tracer().span("deep");
        span.set("arrays", arrays[0]);
        span.set("maps", maps[0].value);
        span.event("event", {{"maps", maps[0].value}});
        const SpanContext other(some_trace, some_span, 1, false);
        span.link(other, {{"maps", maps[0].value}});
        const std::vector<std::vector<std::vector<int>>> three{{{1}}};
        span.set("three", three);
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("deep");
    // Twenty levels are promised; below them nothing remains.
    CHECK(span.at("arrays").substr(0, 20) == std::string(20, '['));
    CHECK(span.at("arrays").find('1') == std::string::npos);
    CHECK(span.at("maps").find("leaf") == std::string::npos);
    CHECK(span.at("three") == "[[[1]]]");
    CHECK(span.events.size() == 1);
    CHECK(span.links.size() == 1);
}

TEST_CASE("events carry a name, a time, attributes") {
    const Rings rings = in_child([] {
        auto span = test_tracer().span("eventful");
        span.event("now").event("then", {{"a", 1}, {"b", "c"}}, at(1700000000));
        span.event("twice", {{"a", 1}, {"b", 2}, {"a", 3}, {"", 4}});
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("eventful");
    REQUIRE(span.events.size() == 3);
    CHECK(span.events[0].name == "now");
    CHECK(span.events[0].time >= span.start);
    CHECK(span.events[0].time <= span.end);
    CHECK(span.events[1].time == 1700000000 * billion);
    CHECK(span.events[1].attributes == Pairs{{"a", "1"}, {"b", "\"c\""}});
    CHECK(span.events[2].attributes == Pairs{{"b", "2"}, {"a", "3"}});
    CHECK(span.events[2].dropped == 1);  // The empty key.
}

TEST_CASE("links carry ids, trace state, flags, attributes") {
    const Rings rings = in_child([] {
        const SpanContext local(some_trace, some_span, 1, false, "vendor=1");
        const SpanContext remote(some_trace, some_span, 3, true);
        auto span =
            test_tracer().span("linked", {{"x", 1}}, link_to(local, {{"why", "batch"}}), producer);
        span.link(remote).link(SpanContext()).link(SpanContext(), {{"kept", true}});
        const std::uint8_t nothing[16] = {};
        span.link(SpanContext(nothing, some_span, 0, false, "a=b"));
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("linked");
    CHECK(span.kind == 4);
    REQUIRE(span.links.size() == 4);
    CHECK(span.links[0].trace_id == some_trace_hex);
    CHECK(span.links[0].span_id == some_span_hex);
    CHECK(span.links[0].trace_state == "vendor=1");
    CHECK(span.links[0].flags == 0x101);
    CHECK(span.links[0].attributes == Pairs{{"why", "\"batch\""}});
    CHECK(span.links[1].flags == 0x303);
    CHECK(span.links[2].attributes == Pairs{{"kept", "true"}});
    CHECK(span.links[3].trace_state == "a=b");
}

TEST_CASE("ok is final, unset never overwrites, a description counts only with error") {
    const Rings rings = in_child([] {
        const Tracer tracer = test_tracer();
        (void)tracer.span("untouched");
        tracer.span("ok").status(Status::ok, "ignored");
        tracer.span("ok is final").status(Status::ok).error("late").status(Status::unset);
        tracer.span("error").error("boom");
        tracer.span("no overwriting").error("boom").status(Status::unset, "ignored");
        tracer.span("ok after error").error("boom").status(Status::ok);
        tracer.span("second error").error("a longer first one").error("second");
        tracer.span("second without").error("first").error();
        tracer.span("long").error(std::string(20000, 'd'));
    });
    check_balance(rings);
    const auto status = [&](const char* name) {
        const ReadSpan& span = rings.span(name);
        return std::to_string(span.status) + " " + span.description;
    };
    CHECK(status("untouched") == "0 ");
    CHECK(status("ok") == "1 ");
    CHECK(status("ok is final") == "1 ");
    CHECK(status("error") == "2 boom");
    CHECK(status("no overwriting") == "2 boom");
    CHECK(status("ok after error") == "1 ");
    CHECK(status("second error") == "2 second");
    CHECK(status("second without") == "2 ");
    CHECK(status("long") == "2 " + std::string(16384, 'd'));
}

TEST_CASE("an exception becomes an event, and leaving a scope by one sets error") {
    const Rings rings = in_child([] {
        const Tracer tracer = test_tracer();
        auto span = tracer.span("recorded");
        span.exception(std::runtime_error("it broke"));
        span.exception("Custom", "said", "at line 1");
        span.end();
        try {
            auto scope = tracer.scope("left");
            throw std::logic_error("x");
        } catch (const std::logic_error&) {
            auto scope = tracer.scope("handled");
        }
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("recorded");
    REQUIRE(span.events.size() == 2);
    CHECK(span.events[0].name == "exception");
    CHECK(span.events[0].attributes == Pairs{{"exception.type", "\"std::runtime_error\""},
                                             {"exception.message", "\"it broke\""}});
    CHECK(span.events[1].attributes == Pairs{{"exception.type", "\"Custom\""},
                                             {"exception.message", "\"said\""},
                                             {"exception.stacktrace", "\"at line 1\""}});
    CHECK(span.status == 0);
    CHECK(rings.span("left").status == 2);
    CHECK(rings.span("left").description == "left by an exception");
    CHECK(rings.span("handled").status == 0);
}

TEST_CASE(
    "a child inherits trace id, flags and trace state, and says whether its parent was remote") {
    const Rings rings = in_child([] {
        const Tracer tracer = test_tracer();
        auto top = tracer.span("root");
        const SpanContext remote(some_trace, some_span, 1, true, "vendor=opaque");
        auto child = tracer.span("child", parent(remote));
        auto grandchild = tracer.span("grandchild", parent(child.context()));
        EXPECT(grandchild.context().trace_state() == "vendor=opaque");
        EXPECT(!grandchild.context().remote());
        EXPECT(child.context().trace_id_hex() == some_trace_hex);
        EXPECT(top.context().flags() == 3);
        const SpanContext random(some_trace, some_span, 3, true);
        (void)tracer.span("random", parent(random));
        auto current = attach(remote);
        (void)tracer.span("uprooted", root);
    });
    check_balance(rings);
    CHECK(rings.span("root").flags == 0x103);  // Sampled, random trace id, parent known: none.
    CHECK(rings.span("root").parent_id == "");
    const ReadSpan& child = rings.span("child");
    CHECK(child.trace_id == some_trace_hex);
    CHECK(child.parent_id == some_span_hex);
    CHECK(child.trace_state == "vendor=opaque");
    CHECK(child.flags == 0x301);
    const ReadSpan& grandchild = rings.span("grandchild");
    CHECK(grandchild.parent_id == child.span_id);
    CHECK(grandchild.trace_id == some_trace_hex);
    CHECK(grandchild.trace_state == "vendor=opaque");
    CHECK(grandchild.flags == 0x101);
    CHECK(rings.span("random").flags == 0x303);
    CHECK(rings.span("uprooted").parent_id == "");
    CHECK(rings.span("uprooted").trace_state == "");
}

TEST_CASE("times that the caller gives arrive unchanged") {
    const Rings rings = in_child([] {
        const Tracer tracer = test_tracer();
        auto span = tracer.span("past", start_time(at(1000)));
        span.end(at(2000));
        auto odd = tracer.span("ends first", start_time(at(2000)));
        odd.end(at(1000));
        auto ancient = tracer.span("before 1970", start_time(at(-5)));
        ancient.event("e", {}, at(-5));
        ancient.end(at(7));
    });
    check_balance(rings);
    CHECK(rings.span("past").start == 1000 * billion);
    CHECK(rings.span("past").end == 2000 * billion);
    CHECK(rings.span("ends first").start == 2000 * billion);
    CHECK(rings.span("ends first").end == 1000 * billion);
    // OTLP's times are unsigned: the earliest there is.
    CHECK(rings.span("before 1970").start == 1);
    CHECK(rings.span("before 1970").end == 7 * billion);
    CHECK(rings.span("before 1970").events.at(0).time == 1);
}

TEST_CASE("the last name counts") {
    const Rings rings = in_child([] {
        auto span = test_tracer().span("first");
        span.name("second").set("a", 1).name("third");
        (void)test_tracer().span("");
        (void)test_tracer().span(std::string(300, 'n'));
    });
    check_balance(rings);
    CHECK(rings.span("third").at("a") == "1");
    CHECK(rings.span("").kind == 1);
    CHECK(rings.span(std::string(300, 'n')).kind == 1);
}

TEST_CASE("a kind outside the protocol becomes internal") {
    const Rings rings = in_child([] {
        (void)test_tracer().span("odd", static_cast<Kind>(9));
        (void)test_tracer().span("odder", static_cast<Kind>(255));
    });
    check_balance(rings);
    CHECK(rings.span("odd").kind == 1);
    CHECK(rings.span("odder").kind == 1);
}

TEST_CASE("a scope has name, version, schema URL, attributes") {
    const Rings rings = in_child([] {
        const Tracer full = tracer("lib", "1.2", "https://example.org/1", {{"a", 1}, {"b", "c"}});
        (void)full.span("full");
        (void)tracer("lib", "1.2", "https://example.org/1", {{"a", 1}, {"b", "c"}}).span("same");
        (void)tracer("lib", "1.3").span("newer");
        (void)tracer("").span("nameless");
    });
    check_balance(rings);
    const ReadScope& scope = rings.scope_of(rings.span("full"));
    CHECK(scope.name == "lib");
    CHECK(scope.version == "1.2");
    CHECK(scope.schema_url == "https://example.org/1");
    CHECK(scope.attributes == Pairs{{"a", "1"}, {"b", "\"c\""}});
    CHECK(rings.span("full").scope == rings.span("same").scope);
    CHECK(rings.scope_of(rings.span("newer")).version == "1.3");
    CHECK(rings.scope_of(rings.span("nameless")).name == "");
    CHECK(rings.segments.at(0).scopes.size() == 3);
}

}  // namespace oteld::test
