// What the calls of opentelemetry-cpp's Tracer and Span leave in a span.
#include "bridge_fixture.hpp"

#include <chrono>
#include <ctime>
#include <map>
#include <string>

namespace oteld::test {
namespace {

using namespace std::chrono_literals;
constexpr std::uint64_t billion = 1000000000;

// The alternatives of AttributeValue, by a key each.
const bool bools[] = {true, false};
const std::int32_t ints[] = {-1, 2};
const std::int64_t longs[] = {INT64_MIN, 3};
const std::uint32_t unsigneds[] = {4000000000U};
const std::uint64_t bigs[] = {5, UINT64_MAX};
const double doubles[] = {1.5, -0.25};
const nostd::string_view texts[] = {"a", "", "b"};
const std::uint8_t raw[] = {0, 255, 16};
const std::map<std::string, otel::common::AttributeValue> values = {
    {"bool", true},
    {"int", std::int32_t{-7}},
    {"long", std::int64_t{INT64_MAX}},
    {"unsigned", std::uint32_t{4000000000U}},
    {"double", 2.5},
    {"chars", "literal"},
    {"view", nostd::string_view("viewed", 4)},
    {"bools", nostd::span<const bool>(bools)},
    {"ints", nostd::span<const std::int32_t>(ints)},
    {"longs", nostd::span<const std::int64_t>(longs)},
    {"unsigneds", nostd::span<const std::uint32_t>(unsigneds)},
    {"doubles", nostd::span<const double>(doubles)},
    {"texts", nostd::span<const nostd::string_view>(texts)},
    {"small", std::uint64_t{8}},
    {"big", std::uint64_t{UINT64_MAX}},
    {"bigs", nostd::span<const std::uint64_t>(bigs)},
    {"bytes", nostd::span<const std::uint8_t>(raw)},
    {"none", nostd::span<const nostd::string_view>()},
};
const Pairs as_text = {
    {"big", "\"18446744073709551615\""},
    {"bigs", "[5,\"18446744073709551615\"]"},
    {"bool", "true"},
    {"bools", "[true,false]"},
    {"bytes", "bytes:00ff10"},
    {"chars", "\"literal\""},
    {"double", "2.5"},
    {"doubles", "[1.5,-0.25]"},
    {"int", "-7"},
    {"ints", "[-1,2]"},
    {"long", "9223372036854775807"},
    {"longs", "[-9223372036854775808,3]"},
    {"none", "[]"},
    {"small", "8"},
    {"texts", "[\"a\",\"\",\"b\"]"},
    {"unsigned", "4000000000"},
    {"unsigneds", "[4000000000]"},
    {"view", "\"view\""},
};

// Makes its keys and texts as they are asked for, and says it has fewer, or more, than it has.
class Liar : public otel::common::KeyValueIterable {
public:
    explicit Liar(std::size_t said) : said_(said) {}
    bool ForEachKeyValue(nostd::function_ref<bool(nostd::string_view, otel::common::AttributeValue)>
                             callback) const noexcept override {
        for (int i = 0; i < 40; ++i) {
            std::string key = "key" + std::to_string(i);
            std::string text(100, static_cast<char>('0' + i));
            if (!callback(key, nostd::string_view(text))) return false;
            key.assign(key.size(), '?');
            text.assign(text.size(), '?');
        }
        return true;
    }
    [[nodiscard]] std::size_t size() const noexcept override { return said_; }

private:
    std::size_t said_;
};

}  // namespace

TEST_CASE("each alternative of an attribute's value arrives, at the start, later, in events") {
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        tracer->StartSpan("at the start", values);
        const SpanPointer span = tracer->StartSpan("later");
        for (const auto& [key, value] : values) span->SetAttribute(key, value);
        span->AddEvent("event", values);
    });
    check_balance(rings);
    CHECK(rings.span("at the start").attributes == as_text);
    CHECK(rings.span("later").attributes == as_text);
    REQUIRE(rings.span("later").events.size() == 1);
    CHECK(rings.span("later").events[0].attributes == as_text);
}

TEST_CASE("of a key that is set again the last value counts, and an empty key is dropped") {
    const Rings rings = in_bridged_child([] {
        const SpanPointer span = their_tracer()->StartSpan("s", {{"a", 1}, {"b", 2}, {"a", 3}});
        span->SetAttribute("b", "two");
        span->SetAttribute("", 4);
        span->AddEvent("e", {{"k", 1}, {"k", 2}});
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("s");
    CHECK(span.at("a") == "3");
    CHECK(span.at("b") == "\"two\"");
    CHECK(span.attributes.size() == 2);
    CHECK(span.dropped_attributes == 1);
    CHECK(span.events[0].attributes == Pairs{{"k", "2"}});
}

TEST_CASE("name, kind and status") {
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        for (const auto& [name, kind] : std::map<const char*, otrace::SpanKind>{
                 {"internal", otrace::SpanKind::kInternal},
                 {"server", otrace::SpanKind::kServer},
                 {"client", otrace::SpanKind::kClient},
                 {"producer", otrace::SpanKind::kProducer},
                 {"consumer", otrace::SpanKind::kConsumer},
                 {"no kind", static_cast<otrace::SpanKind>(99)}}) {
            otrace::StartSpanOptions options;
            options.kind = kind;
            tracer->StartSpan(name, options);
        }
        tracer->StartSpan("before")->UpdateName("after");
        tracer->StartSpan("ok")->SetStatus(otrace::StatusCode::kOk, "not kept");
        const SpanPointer failed = tracer->StartSpan("failed");
        failed->SetStatus(otrace::StatusCode::kError, "card declined");
        failed->SetStatus(otrace::StatusCode::kUnset);
        const SpanPointer final = tracer->StartSpan("ok is final");
        final->SetStatus(otrace::StatusCode::kOk);
        final->SetStatus(otrace::StatusCode::kError, "late");
    });
    check_balance(rings);
    CHECK(rings.span("internal").kind == 1);
    CHECK(rings.span("server").kind == 2);
    CHECK(rings.span("client").kind == 3);
    CHECK(rings.span("producer").kind == 4);
    CHECK(rings.span("consumer").kind == 5);
    CHECK(rings.span("no kind").kind == 1);
    CHECK(rings.span("after").status == 0);
    CHECK(rings.span("ok").status == 1);
    CHECK(rings.span("ok").description == "");
    CHECK(rings.span("failed").status == 2);
    CHECK(rings.span("failed").description == "card declined");
    CHECK(rings.span("ok is final").status == 1);
}

TEST_CASE("events have the time that is given, or now, and their attributes") {
    const Rings rings = in_bridged_child([] {
        const SpanPointer span = their_tracer()->StartSpan("s");
        const otel::common::SystemTimestamp then(1000s);
        span->AddEvent("plain");
        span->AddEvent("then", then);
        span->AddEvent("then, with attributes", then, {{"a", "x"}, {"b", true}});
        span->AddEvent("with a map", std::map<std::string, int>{{"k", 7}});
        const otel::common::KeyValueIterable& none = otel::common::NoopKeyValueIterable();
        span->AddEvent("no attributes", none);
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("s");
    REQUIRE(span.events.size() == 5);
    CHECK(span.events[0].name == "plain");
    CHECK(span.events[0].time >= span.start);
    CHECK(span.events[0].time <= span.end);
    CHECK(span.events[1].time == 1000 * billion);
    CHECK(span.events[2].time == 1000 * billion);
    CHECK(span.events[2].attributes == Pairs{{"a", "\"x\""}, {"b", "true"}});
    CHECK(span.events[3].attributes == Pairs{{"k", "7"}});
    CHECK(span.events[4].time >= span.start);
    CHECK(span.events[4].time <= span.end);
}

TEST_CASE("a list of attributes may be long, short-lived, and wrong about its length") {
    const Rings rings = in_bridged_child([] {
        const SpanPointer span = their_tracer()->StartSpan("s");
        for (const std::size_t said : {std::size_t{40}, std::size_t{0}, SIZE_MAX}) {
            const otel::common::KeyValueIterable& liar = Liar(said);
            span->AddEvent("e", liar);
        }
        const otel::common::KeyValueIterable& liar = Liar(1);
        their_tracer()->StartSpan("start", liar);
    });
    check_balance(rings);
    const auto arrived = [](const Pairs& pairs) {
        bool all = pairs.size() == 40;
        for (std::size_t i = 0; all && i < 40; ++i) {
            all = pairs[i].first == "key" + std::to_string(i) &&
                  pairs[i].second == '"' + std::string(100, static_cast<char>('0' + i)) + '"';
        }
        return all;
    };
    REQUIRE(rings.span("s").events.size() == 3);
    for (const ReadEvent& event : rings.span("s").events) CHECK(arrived(event.attributes));
    CHECK(arrived(rings.span("start").attributes));
}

TEST_CASE("the limits are the client's, and what they drop is counted") {
    const Rings rings = in_bridged_child(
        [] {
            const SpanPointer span =
                their_tracer()->StartSpan("s", {{"a", "12345"}, {"b", 2}, {"c", 3}});
            span->SetAttribute("b", "67890");
            span->AddEvent("e", {{"k", "abcdef"}, {"l", 2}, {"k", "ghijkl"}, {"m", 3}, {"", 4}});
            span->AddEvent("f");
        },
        {{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2"},
         {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4"},
         {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "2"},
         {"OTEL_SPAN_EVENT_COUNT_LIMIT", "1"}});
    check_balance(rings);
    const ReadSpan& span = rings.span("s");
    CHECK(span.attributes == Pairs{{"a", "\"1234\""}, {"b", "\"6789\""}});
    CHECK(span.dropped_attributes == 1);
    REQUIRE(span.events.size() == 1);
    CHECK(span.events[0].attributes == Pairs{{"l", "2"}, {"k", "\"ghij\""}});
    CHECK(span.events[0].dropped == 2);
    CHECK(span.dropped_events == 1);
}

TEST_CASE("links have their span, its trace state and their attributes") {
    const Rings rings = in_bridged_child([] {
        const std::vector<std::pair<otrace::SpanContext, std::map<std::string, std::string>>> links{
            {remote_parent(1, "k=v,l=w"), {{"a", "x"}}},
            {remote_parent(0), {}},
            {otrace::SpanContext::GetInvalid(), {}}};
        const SpanPointer span =
            their_tracer()->StartSpan("s", std::map<std::string, int>{{"n", 1}}, links);
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
        span->AddLink(remote_parent(), {{"b", 2}});
        span->AddLinks({{remote_parent(), {{"c", 3}}}, {remote_parent(), {}}});
#endif
    });
    check_balance(rings);
    const ReadSpan& span = rings.span("s");
    REQUIRE(span.links.size() == (OPENTELEMETRY_ABI_VERSION_NO >= 2 ? 5 : 2));
    CHECK(span.attributes == Pairs{{"n", "1"}});
    CHECK(span.links[0].trace_id == "01020300000000000000000000000000");
    CHECK(span.links[0].span_id == "0405000000000000");
    CHECK(span.links[0].trace_state == "k=v,l=w");
    CHECK(span.links[0].attributes == Pairs{{"a", "\"x\""}});
    CHECK(span.links[0].flags == 0x301);
    CHECK(span.links[1].trace_state == "");
    CHECK(span.links[1].flags == 0x300);
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
    CHECK(span.links[2].attributes == Pairs{{"b", "2"}});
    CHECK(span.links[3].attributes == Pairs{{"c", "3"}});
    CHECK(span.links[4].attributes.empty());
#endif
}

TEST_CASE("times: the start is the system clock's, the duration the steady clock's") {
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        const auto record = [&](const char* name, otel::common::SystemTimestamp system,
                                otel::common::SteadyTimestamp steady,
                                otel::common::SteadyTimestamp end) {
            otrace::StartSpanOptions start;
            start.start_system_time = system;
            start.start_steady_time = steady;
            otrace::EndSpanOptions stop;
            stop.end_steady_time = end;
            tracer->StartSpan(name, start)->End(stop);
        };
        const auto system = [](auto t) { return otel::common::SystemTimestamp(t); };
        const auto steady = [](auto t) { return otel::common::SteadyTimestamp(t); };
        const auto now = std::chrono::steady_clock::now().time_since_epoch();
        record("all", system(1000s), steady(5s), steady(7s));
        record("no system", {}, steady(now - 10s), steady(now + 5s));
        record("no steady", system(1000s), {}, {});
        record("no end", system(1000s), steady(now - 10s), {});
        record("end only", {}, {}, steady(now + 1h));
        otrace::StartSpanOptions released;
        released.start_system_time = system(2000s);
        tracer->StartSpan("released", released);
    });
    check_balance(rings);
    const auto seconds = [&](const char* name) {
        return (rings.span(name).end - rings.span(name).start) / billion;
    };
    CHECK(rings.span("all").start == 1000 * billion);
    CHECK(rings.span("all").end == 1002 * billion);
    CHECK(rings.span("no system").end - rings.span("no system").start == 15 * billion);
    CHECK(rings.span("no steady").start == 1000 * billion);
    CHECK(seconds("no steady") < 3600);  // It did not end now.
    CHECK(seconds("no end") >= 10);
    CHECK(seconds("no end") < 3600);
    CHECK(rings.span("released").start == 2000 * billion);
    CHECK(seconds("released") < 3600);
    const auto now = static_cast<std::uint64_t>(std::time(nullptr));
    CHECK(rings.span("end only").end / billion > now + 3000);
    CHECK(rings.span("end only").end / billion < now + 4200);
}

}  // namespace oteld::test
