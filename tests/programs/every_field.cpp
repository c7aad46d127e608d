// Records spans that between them use every field that the client can set, and prints what it
// recorded (recorded.hpp).
//
//   every_field
//
// Exit code 1: nothing is being recorded, or spans were not safe with the daemon within a minute.

#include "recorded.hpp"

#include <limits>
#include <stdexcept>
#include <thread>

#include <unistd.h>

namespace {

using namespace recorded;

constexpr std::uint64_t start_ns = 1'700'000'000'123'456'789;
constexpr std::uint64_t end_ns = 1'700'000'000'123'456'999;
constexpr std::uint8_t remote_trace[16] = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6,
                                           0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36};
constexpr std::uint8_t remote_span[8] = {0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7};

// Small limits, so that each of them is met.
void set_environment() {
    for (const auto& [name, value] :
         {std::pair{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "20"},
          {"OTEL_SPAN_EVENT_COUNT_LIMIT", "3"},
          {"OTEL_SPAN_LINK_COUNT_LIMIT", "3"},
          {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "16"},
          {"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "16"},
          {"OTEL_SERVICE_NAME", "overridden in code"},
          {"OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test, team=caf%C3%A9"}}) {
        setenv(name, value, 1);
    }
}

// Values of every type, alone, in arrays and in maps, in braces, which is what people write. What
// braces hold lives no longer than the statement, hence the function. ...
const std::vector<std::vector<int>> rows{{1, 2}, {}, {3}};
const std::vector<std::map<std::string, int>> records{{{"a", 1}}, {{"b", 2}}};
const std::map<std::string, std::vector<double>> series{{"x", {0.5, -0.25}}};
template <class Function>
auto with_everything(Function function) {
    return function(oteld::Attributes{
        {"string", "grüße \"quoted\" \\ \n\t\x01 \U0001F600"},
        {"true", true},
        {"false", false},
        {"zero", 0},
        {"smallest", std::numeric_limits<std::int64_t>::min()},
        {"half", 0.5},
        {"bytes", oteld::bytes{"\x00\x01\xff", 3}},
        {"mixed",
         {1, "two", true, 4.5, oteld::bytes{"\xfe", 1}, std::numeric_limits<std::int64_t>::max()}},
        {"rows", rows},
        {"records", records},
        {"map",
         {{"s", "t"},
          {"b", false},
          {"i", -7},
          {"d", -0.0},
          {"y", oteld::bytes{"\x80", 1}},
          {"list", {"p", "q"}},
          {"map", {{"deep", "down"}}}}},
        {"series", series},
        {"empty text", ""},
        {"no items", std::vector<std::string>{}},
    });
}
// ... and as they must arrive.
Pairs everything_recorded() {
    return {
        {"string", any_text("grüße \"quoted\" \\ \n\t\x01 \U0001F600")},
        {"true", any_bool(true)},
        {"false", any_bool(false)},
        {"zero", any_int(0)},
        {"smallest", any_int(std::numeric_limits<std::int64_t>::min())},
        {"half", any_real(0.5)},
        {"bytes", any_bytes(std::string("\x00\x01\xff", 3))},
        {"mixed",
         any_array({any_int(1), any_text("two"), any_bool(true), any_real(4.5), any_bytes("\xfe"),
                    any_int(std::numeric_limits<std::int64_t>::max())})},
        {"rows",
         any_array({any_array({any_int(1), any_int(2)}), any_array({}), any_array({any_int(3)})})},
        {"records", any_array({any_map({{"a", any_int(1)}}), any_map({{"b", any_int(2)}})})},
        {"map", any_map({{"s", any_text("t")},
                         {"b", any_bool(false)},
                         {"i", any_int(-7)},
                         {"d", any_real(-0.0)},
                         {"y", any_bytes("\x80")},
                         {"list", any_array({any_text("p"), any_text("q")})},
                         {"map", any_map({{"deep", any_text("down")}})}})},
        {"series", any_map({{"x", any_array({any_real(0.5), any_real(-0.25)})}})},
        {"empty text", any_text("")},
        {"no items", any_array({})},
    };
}

Resource resource_recorded() {
    return {{{"service.name", any_text("every field")},
             {"service.version", any_text("2.1")},
             {"service.instance.id", any_text("the one")},
             {"deployment.environment.name", any_text("test")},
             {"team", any_text("café")},
             {"telemetry.sdk.name", any_text("oteld")},
             {"telemetry.sdk.language", any_text("cpp")},
             {"telemetry.sdk.version", any_text(OTELD_VERSION)},
             {"process.executable.name", any_text("every_field")},
             {"process.pid", any_int(getpid())}},
            "https://example.com/resource/1"};
}

// A child of a span of another process, with every part that a span can have.
Span full_span(const oteld::Tracer& tracer, const Scope& scope) {
    Span it;
    it.scope = &scope;
    it.parent = oteld::SpanContext(remote_trace, remote_span, 1, true, "vendor=1,other=@2");
    it.kind = oteld::server;
    it.start = start_ns;
    it.end = end_ns;
    it.attributes = everything_recorded();
    it.name = "the last name counts";

    auto span = with_everything([&](oteld::Attributes everything) {
        return tracer.span("first name", everything, oteld::server, oteld::parent(it.parent),
                           oteld::start_time(at(start_ns)), oteld::link_to(it.parent, everything));
    });
    it.links.push_back({it.parent, everything_recorded(), 0});
    span.name("second name").name(it.name);
    span.set("twice", 1).set("twice", "the last value counts");
    it.attributes.push_back({"twice", any_text("the last value counts")});
    span.set("beyond int64", std::uint64_t{1} << 63);
    it.attributes.push_back({"beyond int64", any_text("9223372036854775808")});
    span.set("not UTF-8", std::string("a\xff"
                                      "b"));
    it.attributes.push_back({"not UTF-8", any_text("a?b")});
    span.set("not a number", std::numeric_limits<double>::quiet_NaN())
        .set("for ever", -std::numeric_limits<double>::infinity());
    it.attributes.push_back({"not a number", any_real(std::numeric_limits<double>::quiet_NaN())});
    it.attributes.push_back({"for ever", any_real(-std::numeric_limits<double>::infinity())});
    span.set("long", std::string(12'000, 'x'));
    it.attributes.push_back({"long", any_text(std::string(12'000, 'x'))});
    span.set("one too many", 1).set("two too many", 2);
    it.dropped_attributes = 2;

    with_everything([&](oteld::Attributes everything) {
        return span.event("everything", everything, at(start_ns + 1)).recording();
    });
    it.events.push_back({"everything", start_ns + 1, everything_recorded(), 0});
    const oteld::Attribute many[] = {{"0", 0},   {"1", 1},   {"2", 2},   {"3", 3},   {"4", 4},
                                     {"5", 5},   {"6", 6},   {"7", 7},   {"8", 8},   {"9", 9},
                                     {"10", 10}, {"11", 11}, {"12", 12}, {"13", 13}, {"14", 14},
                                     {"15", 15}, {"16", 16}, {"17", 17}};
    Pairs kept;
    for (int i = 0; i < 16; ++i) kept.push_back({std::to_string(i), any_int(i)});
    span.event("too many", many, 18, at(start_ns + 2));
    it.events.push_back({"too many", start_ns + 2, kept, 2});
    span.exception("my::Error", "it broke", "at main");
    it.events.push_back({"exception",
                         0,
                         {{"exception.type", any_text("my::Error")},
                          {"exception.message", any_text("it broke")},
                          {"exception.stacktrace", any_text("at main")}},
                         0});
    it.between["events.2.timeUnixNano"] = {
        0, 0};  // Filled by the caller, who read the clock before and after.
    span.event("dropped");
    it.dropped_events = 1;

    const oteld::SpanContext local = span.context();
    span.link(local, many, 18).link(oteld::SpanContext(remote_trace, remote_span, 0, false, "a=b"));
    it.links.push_back({local, kept, 2});
    it.links.push_back({oteld::SpanContext(remote_trace, remote_span, 0, false, "a=b"), {}, 0});
    span.link(local).link(local);
    it.dropped_links = 2;

    span.error("replaced").error("the last description counts");
    it.status = oteld::Status::error;
    it.description = "the last description counts";
    it.context = span.context();
    std::thread([moved = std::move(span)]() mutable {
        moved.end(at(end_ns));
    }).join();  // Ends on another thread.
    return it;
}

Span plain_span(const oteld::Tracer& tracer, const Scope& scope, oteld::Kind kind,
                const oteld::SpanContext& parent) {
    Span it;
    it.scope = &scope;
    it.parent = parent;
    it.kind = kind;
    it.name = "plain";
    it.between["startTimeUnixNano"].first = it.between["endTimeUnixNano"].first =
        unix_ns(std::chrono::system_clock::now());
    auto span = tracer.span("plain", kind, oteld::parent(parent));
    if (kind == oteld::client)
        span.error("forgotten").status(oteld::Status::ok), it.status = oteld::Status::ok;
    it.context = span.context();
    span.end();
    span.set("after the end", true).event("after the end");
    it.between["startTimeUnixNano"].second = it.between["endTimeUnixNano"].second =
        unix_ns(std::chrono::system_clock::now());
    return it;
}

}  // namespace

int main() {
    set_environment();
    const oteld::TracerProvider provider{
        oteld::Settings{}
            .service("every field", "2.1")
            .resource("service.instance.id", "the one")
            .resource_schema_url("https://example.com/resource/1")};
    const Scope full{"full scope", "1.2.3", "https://example.com/scope/1", everything_recorded()};
    const Scope bare{"bare scope", "", "", {}};
    const oteld::Tracer tracer = with_everything([&](oteld::Attributes everything) {
        return provider.tracer(full.name, full.version, full.schema_url, everything);
    });
    const oteld::Tracer bare_tracer = provider.tracer(bare.name);
    const Resource resource = resource_recorded();

    const std::uint64_t before = unix_ns(std::chrono::system_clock::now());
    Span first = full_span(tracer, full);
    first.between["events.2.timeUnixNano"] = {before, unix_ns(std::chrono::system_clock::now())};
    std::vector<Span> spans{first};
    for (const oteld::Kind kind :
         {oteld::internal, oteld::server, oteld::client, oteld::producer, oteld::consumer}) {
        spans.push_back(plain_span(bare_tracer, bare, kind, spans.back().context));
    }
    spans.push_back(plain_span(bare_tracer, bare, oteld::internal, {}));  // A root.
    if (!oteld::force_flush(std::chrono::minutes(1)) || oteld::spans_dropped() != 0) {
        std::fprintf(stderr,
                     "every_field: the spans are not safe with a daemon (is OTELD_DIR right?)\n");
        return 1;
    }
    for (const Span& span : spans) print(resource, span);
}
