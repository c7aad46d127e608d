// Span limits, repeated keys, dropped counts; spans too large for their slot, and beyond the
// largest lane.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <cstring>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }
const std::uint8_t some_trace[16] = {1};
const std::uint8_t some_span[8] = {2};

std::string key(int i) { return "key." + std::to_string(i); }

}  // namespace

TEST_CASE("a key set twice keeps its last value and counts once") {
    const Rings rings = in_child(
        [] {
            auto span = test_tracer().span("twice", {{"a", 1}, {"b", 2}});
            span.set("a", "new").set("b", 3.5).set("a", true).set("c", 4);
            auto many = test_tracer().span("many");
            for (int round = 0; round < 3; ++round) {
                for (int i = 0; i < 20; ++i) many.set(key(i), i + round);
            }
        },
        {{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "20"}});
    check_balance(rings);
    const ReadSpan& twice = rings.span("twice");
    CHECK(twice.attributes.size() == 3);
    CHECK(twice.at("a") == "true");
    CHECK(twice.at("b") == "3.5");
    CHECK(twice.at("c") == "4");
    CHECK(twice.dropped_attributes == 0);
    const ReadSpan& many = rings.span("many");
    CHECK(many.attributes.size() == 20);
    CHECK(many.dropped_attributes == 0);
    for (int i = 0; i < 20; ++i) CHECK(many.at(key(i)) == std::to_string(i + 2));
}

TEST_CASE("the attribute limit counts distinct keys") {
    const Rings rings = in_child(
        [] {
            auto span = test_tracer().span("limited");
            for (int i = 0; i < 5; ++i) span.set(key(i), i);
            span.set(key(0), "again")
                .set(key(4), "dropped twice")
                .set("text", std::string(300, 'x'));
        },
        {{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3"}});
    check_balance(rings);
    const ReadSpan& span = rings.span("limited");
    CHECK(span.attributes.size() == 3);
    CHECK(span.at(key(0)) == "\"again\"");
    CHECK(span.at(key(2)) == "2");
    CHECK(span.dropped_attributes == 4);
}

TEST_CASE("an empty key is dropped and counted") {
    const Rings rings = in_child([] {
        auto span = test_tracer().span("keys", {{"", 1}, {"a", 2}});
        span.set("", 3).set("", "text").set("", {1, 2});
    });
    check_balance(rings);
    CHECK(rings.span("keys").attributes == Pairs{{"a", "2"}});
    CHECK(rings.span("keys").dropped_attributes == 4);
}

TEST_CASE("keys that look alike to the filter stay apart") {
    const Rings rings = in_child([] {
        auto span = test_tracer().span("alike");
        // Many short keys: some share a filter word.
        for (int i = 0; i < 120; ++i) span.set("k" + std::to_string(i), i);
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("alike");
    CHECK(span.attributes.size() == 120);
    for (int i = 0; i < 120; ++i) CHECK(span.at("k" + std::to_string(i)) == std::to_string(i));
    CHECK(rings.keys_removed == 0);
}

TEST_CASE("values are cut at a number of characters, in containers too") {
    const Rings rings = in_child(
        [] {
            auto span = test_tracer().span("cut");
            span.set("ascii", "abcdef").set("fits", "abc");
            span.set("umlauts", "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4");
            span.set("emoji", "\xf0\x9f\x98\x80\xf0\x9f\x98\x81\xf0\x9f\x98\x82\xf0\x9f\x98\x83");
            span.set("bytes", bytes{"abcdef", 6}).set("array", {"abcdef", "ab", 123456});
            span.set("map", {{"a long key", {"abcdef"}}});
            span.set("big", std::numeric_limits<std::uint64_t>::max());
            span.event("a long name", {{"k", "abcdef"}})
                .link(SpanContext(some_trace, some_span, 0, false), {{"k", "abcdef"}});
        },
        {{"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3"}});
    check_balance(rings);
    const ReadSpan& span = rings.span("cut");
    CHECK(span.at("ascii") == "\"abc\"");
    CHECK(span.at("fits") == "\"abc\"");
    CHECK(span.at("umlauts") == "\"\xc3\xa4\xc3\xb6\xc3\xbc\"");
    CHECK(span.at("emoji") == "\"\xf0\x9f\x98\x80\xf0\x9f\x98\x81\xf0\x9f\x98\x82\"");
    CHECK(span.at("bytes") == "bytes:616263");
    CHECK(span.at("array") == R"(["abc","ab",123456])");
    CHECK(span.at("map") == R"({"a long key":["abc"]})");
    CHECK(span.at("big") == "\"184\"");
    CHECK(span.events.at(0).name == "a long name");
    CHECK(span.events.at(0).attributes == Pairs{{"k", "\"abc\""}});
    CHECK(span.links.at(0).attributes == Pairs{{"k", "\"abc\""}});
}

TEST_CASE("events, links and their attributes have limits of their own") {
    const Rings rings = in_child(
        [] {
            auto span = test_tracer().span("limited");
            const SpanContext other(some_trace, some_span, 0, false);
            for (int i = 0; i < 5; ++i) span.event("e", {{"a", 1}, {"b", 2}, {"c", 3}, {"a", 4}});
            for (int i = 0; i < 4; ++i) span.link(other, {{"a", 1}, {"b", 2}});
        },
        {{"OTEL_SPAN_EVENT_COUNT_LIMIT", "2"},
         {"OTEL_SPAN_LINK_COUNT_LIMIT", "3"},
         {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "2"},
         {"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "1"}});
    check_balance(rings);
    const ReadSpan& span = rings.span("limited");
    REQUIRE(span.events.size() == 2);
    REQUIRE(span.links.size() == 3);
    CHECK(span.dropped_events == 3);
    CHECK(span.dropped_links == 1);
    CHECK(span.events[0].attributes.size() == 2);
    CHECK(span.events[0].dropped == 1);
    CHECK(span.links[0].attributes == Pairs{{"a", "1"}});
    CHECK(span.links[0].dropped == 1);
}

TEST_CASE("limits of zero drop everything and count it") {
    const Rings rings = in_child(
        [] {
            auto span = test_tracer().span("nothing", {{"a", 1}});
            span.set("b", 2).event("e").link(SpanContext(some_trace, some_span, 0, false));
        },
        {{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0"},
         {"OTEL_SPAN_EVENT_COUNT_LIMIT", "0"},
         {"OTEL_SPAN_LINK_COUNT_LIMIT", "0"}});
    check_balance(rings);
    const ReadSpan& span = rings.span("nothing");
    CHECK(span.attributes.empty());
    CHECK(span.dropped_attributes == 2);
    CHECK(span.dropped_events == 1);
    CHECK(span.dropped_links == 1);
}

TEST_CASE(
    "the general limits apply where no special one is set, and mistakes are named and ignored") {
    const RingDirectory directory;
    const Child child = run_child(
        directory.path(),
        [] {
            auto span = test_tracer().span("general", {{"a", "abcdef"}, {"b", 1}, {"c", 1}});
            for (int i = 0; i < 130; ++i) span.event("e");
        },
        {{"OTEL_ATTRIBUTE_COUNT_LIMIT", " 2 "},
         {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4"},
         {"OTEL_SPAN_EVENT_COUNT_LIMIT", "-1"},
         {"OTEL_SPAN_LINK_COUNT_LIMIT", "12x"},
         {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", ""}});
    child.clean();
    CHECK(child.said("OTEL_SPAN_EVENT_COUNT_LIMIT is ignored"));
    CHECK(child.said("OTEL_SPAN_LINK_COUNT_LIMIT is ignored"));
    CHECK_FALSE(child.said("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"));
    const Rings rings = read_rings(directory.path());
    const ReadSpan& span = rings.span("general");
    CHECK(span.attributes == Pairs{{"a", "\"abcd\""}, {"b", "1"}});
    CHECK(span.dropped_attributes == 1);
    CHECK(span.events.size() == 128);
    CHECK(span.dropped_events == 2);
}

TEST_CASE("a span grows through the slots onto the heap and keeps everything") {
    for (const int count : {1, 4, 30, 120, 500, 3000}) {
        const Rings rings = in_child(
            [count] {
                auto span = test_tracer().span("grown", {{"first", 1}});
                span.error("described early");
                for (int i = 0; i < count; ++i)
                    span.set(key(i), std::string(100, static_cast<char>('a' + i % 26)));
            },
            {{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "100000"}});
        check_balance(rings);
        const ReadSpan& span = rings.span("grown");
        CHECK(span.attributes.size() == static_cast<std::size_t>(count) + 1);
        CHECK(span.at("first") == "1");
        CHECK(span.description == "described early");
        CHECK(span.at(key(count - 1)) ==
              '"' + std::string(100, static_cast<char>('a' + (count - 1) % 26)) + '"');
        CHECK(span.dropped_attributes == 0);
        CHECK(rings.heap_spans == (count > 140 ? 1 : 0));
        CHECK(rings.counted(shm::ProcessCounter::not_crash_visible) == rings.heap_spans);
        CHECK(rings.counted(shm::ProcessCounter::heap_closed) == rings.heap_spans);
    }
}

TEST_CASE("a value of 12,000 characters arrives whole") {
    const Rings rings = in_child([] {
        auto span = test_tracer().span("long", {{"text", std::string(12000, 'l')}});
        span.set("more", std::string(12000, 'm')).event("e", {{"text", std::string(12000, 'e')}});
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("long");
    CHECK(span.at("text") == '"' + std::string(12000, 'l') + '"');
    CHECK(span.at("more") == '"' + std::string(12000, 'm') + '"');
    CHECK(span.events.at(0).attributes.at(0).second == '"' + std::string(12000, 'e') + '"');
}

TEST_CASE("a thousand links arrive under a raised limit") {
    const Rings rings = in_child(
        [] {
            auto span = test_tracer().span("linked");
            for (int i = 1; i <= 1000; ++i) {
                std::uint8_t id[8] = {};
                std::memcpy(id, &i, sizeof i);
                span.link(SpanContext(some_trace, id, 1, true, "a=b"), {{"n", i}});
            }
        },
        {{"OTEL_SPAN_LINK_COUNT_LIMIT", "1000"}});
    check_balance(rings);
    const ReadSpan& span = rings.span("linked");
    REQUIRE(span.links.size() == 1000);
    CHECK(span.links[999].attributes == Pairs{{"n", "1000"}});
    CHECK(span.dropped_links == 0);
}

TEST_CASE("a span near the largest record arrives, and what is beyond it is dropped and counted") {
    const Rings rings = in_child([] {
        auto near = test_tracer().span("near");
        near.set("text", std::string(shm::record_bytes_max - 1024, 'n')).set("small", 1);
        near.end();
        auto beyond = test_tracer().span("beyond");
        for (int i = 0; i < 12; ++i) beyond.set(key(i), std::string(100000, 'b'));
        beyond.event("large", {{"text", std::string(100000, 'e')}}).event("small");
        beyond.link(SpanContext(some_trace, some_span, 1, false),
                    {{"text", std::string(100000, 'l')}});
        beyond.error(std::string(10000, 'd')).set("last", 1);
        beyond.end();
        (void)test_tracer().span(std::string(shm::record_bytes_max + 1, 'x'), {{"too long", true}});
    });
    check_balance(rings);
    CHECK(rings.dropped() == 0);
    CHECK(rings.span("near").at("text").size() == shm::record_bytes_max - 1024 + 2);
    CHECK(rings.span("near").at("small") == "1");
    const ReadSpan& beyond = rings.span("beyond");
    CHECK(beyond.attributes.size() == 11);
    CHECK(beyond.at("last") == "1");
    CHECK(beyond.dropped_attributes == 2);
    CHECK(beyond.events.size() == 1);
    CHECK(beyond.dropped_events == 1);
    CHECK(beyond.dropped_links == 1);
    CHECK(beyond.description.size() == 10000);
    CHECK(rings.span("").at("too long") == "true");
}

}  // namespace oteld::test
