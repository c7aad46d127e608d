// Leaves spans open in every way, prints what they had (recorded.hpp) and kills itself with
// SIGKILL.
//
//   open_spans
//
// What is printed carries what the daemon adds to a span that it recovers: status ERROR,
// oteld.unfinished = true. Exit code 1: nothing is being recorded.

#include "recorded.hpp"

#include <csignal>
#include <thread>

#include <unistd.h>

namespace {

using namespace recorded;

const Scope scope{"open", "1", "", {}};
std::uint64_t began_ns;

Span unfinished(const std::string& name, const oteld::Span& span, const oteld::SpanContext& parent,
                Pairs attributes) {
    Span it;
    it.scope = &scope;
    it.context = span.context();
    it.parent = parent;
    it.name = name;
    it.attributes = std::move(attributes);
    it.attributes.push_back({"oteld.unfinished", any_bool(true)});
    it.status = oteld::Status::error;
    it.description = "process died before the span ended";
    it.between["startTimeUnixNano"] =
        it.between["endTimeUnixNano"] = {began_ns, 0};  // To be filled at the end.
    return it;
}

Resource resource() {
    return {{{"service.name", any_text("open spans")},
             {"service.instance.id", any_text("the one")},
             {"telemetry.sdk.name", any_text("oteld")},
             {"telemetry.sdk.language", any_text("cpp")},
             {"telemetry.sdk.version", any_text(OTELD_VERSION)},
             {"process.executable.name", any_text("open_spans")},
             {"process.pid", any_int(getpid())}},
            ""};
}

}  // namespace

int main() {
    const oteld::TracerProvider provider{
        oteld::Settings{}.service("open spans").resource("service.instance.id", "the one")};
    const oteld::Tracer tracer = provider.tracer(scope.name, scope.version);
    began_ns = unix_ns(std::chrono::system_clock::now());
    std::vector<Span> recorded_spans;
    std::vector<oteld::Span> open;

    // Attributes set last are there, too, and the last value of a key counts.
    open.push_back(tracer.span("first name", {{"first", 1}}));
    if (!open[0].recording()) {
        std::fprintf(stderr, "open_spans: nothing is being recorded (is OTELD_DIR right?)\n");
        return 1;
    }
    open[0]
        .name("busy")
        .set("twice", 1)
        .event("here", {{"n", 1}})
        .link(open[0].context())
        .error("not what it died of");
    open[0].set("twice", 2).set("last", "set last");
    Span busy =
        unfinished("busy", open[0], {},
                   {{"first", any_int(1)}, {"twice", any_int(2)}, {"last", any_text("set last")}});
    busy.events.push_back({"here", 0, {{"n", any_int(1)}}, 0});
    busy.between["events.0.timeUnixNano"] = {began_ns, 0};
    busy.links.push_back({open[0].context(), {}, 0});
    recorded_spans.push_back(busy);

    // One that moved to a larger slot.
    const oteld::SpanContext parent = open[0].context();
    open.push_back(tracer.span("large", oteld::parent(parent)));
    open.back().set("text", std::string(3000, 'y')).set("last", true);
    recorded_spans.push_back(
        unfinished("large", open.back(), parent,
                   {{"text", any_text(std::string(3000, 'y'))}, {"last", any_bool(true)}}));

    // One that has dropped what was above the limits.
    open.push_back(tracer.span("above the limits", oteld::parent(parent)));
    recorded_spans.push_back(unfinished("above the limits", open.back(), parent, {}));
    Pairs& kept = recorded_spans.back().attributes;
    for (int i = 0; i < 130; ++i) {
        const std::string key = "number " + std::to_string(i);
        open.back().set(key, i);
        if (i < 128) kept.insert(kept.end() - 1, {key, any_int(i)});
    }
    recorded_spans.back().dropped_attributes = 2;

    // One whose thread has ended.
    std::thread([&] {
        open.push_back(tracer.span("of a thread that has ended", oteld::parent(parent)));
    }).join();
    recorded_spans.push_back(unfinished("of a thread that has ended", open.back(), parent, {}));

    // More than a lane has slots.
    for (int i = 0; i < 60; ++i) {
        open.push_back(tracer.span("one of many", oteld::parent(parent)));
        open.back().set("number", i);
        recorded_spans.push_back(
            unfinished("one of many", open.back(), parent, {{"number", any_int(i)}}));
    }

    const std::uint64_t now = unix_ns(std::chrono::system_clock::now());
    for (Span& span : recorded_spans) {
        for (auto& [field, limits] : span.between) limits.second = now;
        print(resource(), span);
    }
    std::fflush(stdout);
    kill(getpid(), SIGKILL);
}
