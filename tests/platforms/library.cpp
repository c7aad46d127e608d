// A user's library: every header of oteld::api, and what such code usually calls.
//
// Compiled by run.py with all warnings as errors, by each compiler and in each standard; without
// exceptions and RTTI, too. Linked to no client.
#include "library.hpp"

#include <oteld/api.hpp>
#include <oteld/bind.hpp>
#include <oteld/context_stack.hpp>

#include <array>
#include <exception>
#include <list>
#include <map>
#include <string>
#include <vector>

namespace {

const oteld::ContextKey<int> tenant_key{"tenant"};

struct Failure : std::exception {
    [[nodiscard]] const char* what() const noexcept override { return "words"; }
};

const oteld::Tracer& tracer() {
    static const oteld::Tracer one =
        oteld::tracer("platforms.library", "1.0", "https://example.org/schema", {{"edition", 1}});
    return one;
}

enum class Colour : unsigned char { red = 1 };

// Every type that can be a value.
void set_values(oteld::Span& span) {
    const short small = -1;
    const unsigned char byte = 200;
    const float single = 0.5F;
    const char letter = 'x';
    const unsigned long long large = 1ULL << 63U;
    const std::string text = "text";
    const std::vector<int> numbers{1, 2, 3};
    const std::vector<bool> flags{true, false};
    const std::array<double, 2> reals{{0.5, 1.5}};
    const std::list<std::string> words{"a", "b"};
    const std::map<std::string, std::int64_t> pairs{{"a", 1}};
    span.set("bool", true).set("int", -7).set("unsigned", 7U).set("long", 7L).set("large", large);
    span.set("short", small).set("byte", byte).set("letter", letter).set("size", sizeof span);
    span.set("double", 1.5).set("float", single).set("literal", "words").set("string", text);
    span.set("view", std::string_view(text)).set("bytes", oteld::bytes{text.data(), text.size()});
    span.set("numbers", numbers).set("flags", flags).set("reals", reals).set("words", words);
    span.set("pairs", pairs).set("array", {1, 2}).set("map", {{"in", "braces"}, {"n", 1}});
    span.set("one", {"word"}).set("nested", {{"one", {"word"}}, {"more", {{"one", {"word"}}}}});
    span.set("enum", static_cast<int>(Colour::red));
    span.set({{"one", 1}, {"two", std::string_view("2")}});
    const std::string key = "key " + text;
    span.set(key, text);
    std::vector<oteld::Attribute> listed;
    listed.emplace_back("first", 1);
    listed.emplace_back("second", text);
    span.set(listed.data(), listed.size());
}

int values_and_events() {
    const auto now = std::chrono::system_clock::now();
    auto other = tracer().span("other", oteld::client, oteld::root);
    auto span =
        tracer().scope("values", {{"at", "start"}}, oteld::server, oteld::parent(other.context()),
                       oteld::start_time(now), oteld::link_to(other.context(), {{"why", "test"}}));
    set_values(span);
    span.event("event").event("with", {{"n", 1}}, now).link(other.context(), {{"m", 2}});
    span.exception(Failure()).exception("type", "message", "trace");
    span.status(oteld::Status::error, "no").error().name("renamed");
    const int recorded = (span.recording() ? 1 : 0) + (other.recording() ? 1 : 0);
    oteld::Span moved = std::move(other);
    moved.end(now);
    span.end();
    return recorded;
}

int contexts() {
    auto span = tracer().scope("contexts", oteld::producer);
    const oteld::Baggage baggage = oteld::Baggage().set("key", "value", "property").remove("none");
    const oteld::Context context = oteld::current().with(tenant_key, 7).with_baggage(baggage);
    const oteld::ContextScope scope = oteld::attach(context);
    std::map<std::string, std::string> headers;
    oteld::inject(headers);
    oteld::inject(context, [&](std::string_view name, std::string_view value) {
        headers[std::string(name)] = std::string(value);
    });
    const oteld::Propagators all{oteld::Propagator::b3, oteld::Propagator::b3multi,
                                 oteld::Propagator::jaeger, oteld::Propagator::xray};
    all.inject(context, headers);
    std::vector<std::pair<std::string, std::string>> list;
    all.inject(context, list);
    const oteld::Context arrived = all.extract(headers);
    (void)oteld::extract([&](std::string_view name) {
        const auto found = headers.find(std::string(name));
        return found == headers.end() ? std::string_view() : std::string_view(found->second);
    });
    oteld::EnvironmentCarrier environment;
    (void)oteld::extract(environment);
    (void)all.fields();
    std::size_t length = 0;
    for (const oteld::BaggageEntry entry : arrived.baggage()) length += entry.value.size();
    const oteld::SpanContext ids = oteld::current_span();
    const int* tenant = context.get(tenant_key);
    const bool same = ids.trace_id_hex() == arrived.span().trace_id_hex() && ids.valid();
    oteld::ContextStack stack(context.without(tenant_key));
    const oteld::StackScope entered(stack);
    return span.recording() && same && tenant != nullptr && *tenant == 7 && length == 5 ? 1 : 0;
}

struct Account {
    int balance = 40;
    [[nodiscard]] int plus(int more) const { return balance + more; }
};

int functions() {
    OTELD_SPAN();
    OTELD_SPAN("named");
    const Account account;
    const auto doubled = oteld::traced_function("doubled", [](int value) { return value * 2; });
    const int result = tracer().traced("member", &Account::plus, account, 1) +
                       oteld::traced(
                           "lambda", [](int value) { return value; }, doubled(1)) +
                       oteld::bind([](int value) { return value; })(1);
    // Two of OTELD_SPAN(), three of the calls.
    return tracer().span("probe").recording() && result == 44 ? 6 : 0;
}

}  // namespace

int use_library() { return values_and_events() + contexts() + functions(); }
