// A user's program: what an application includes beyond oteld::api, and what it usually calls.
//
// Compiled by run.py as library.cpp is, linked with it and a client, and run: without arguments it
// records into its own memory and compares, with an argument it records into rings.
#include "library.hpp"

#include <oteld/oteld.h>
#include <oteld/client.hpp>
#include <oteld/coroutine.hpp>
#include <oteld/testing.hpp>

#include <cstdio>
#include <string>

namespace {

constexpr int spans_of_library = 9;
constexpr int spans_of_c = 1;

class Half : public oteld::Sampler {
public:
    oteld::SamplingResult should_sample(const oteld::ReadableSpan& start,
                                        const oteld::SpanContext&) override {
        oteld::SamplingResult result;
        result.decision = oteld::Decision::record_and_sample;
        result.attributes.push_back({"sampler", oteld::RecordedValue(std::string(start.name()))});
        return result;
    }
};

class Counter : public oteld::SpanProcessor {
public:
    void on_ending(oteld::Span& span) override { span.set("seen", ++count); }
    int count = 0;
};

class Ids : public oteld::IdGenerator {
public:
    void trace_id(std::uint8_t (&id)[16]) override { fill(id); }
    void span_id(std::uint8_t (&id)[8]) override { fill(id); }

private:
    template <std::size_t size>
    void fill(std::uint8_t (&id)[size]) {
        for (std::uint8_t& byte : id) byte = ++last_;
    }
    std::uint8_t last_ = 0;
};

#if defined(__cpp_impl_coroutine)
// The smallest coroutine type: it starts at once and nobody waits for it.
struct Job {
    struct promise_type : oteld::ContextPromise {
        Job get_return_object() noexcept { return {}; }
        auto initial_suspend() { return starting(std::suspend_never{}); }
        auto final_suspend() noexcept { return finishing(std::suspend_never{}); }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
};
Job awaits(oteld::Tracer tracer, int& spans) {
    auto span = tracer.scope("coroutine");
    co_await oteld::traced(tracer, "awaited", std::suspend_never{});
    if (span.recording()) spans += 2;
}
#endif

int use_coroutine(const oteld::Tracer& tracer) {
    int spans = 0;
#if defined(__cpp_impl_coroutine)
    awaits(tracer, spans);
#else
    (void)tracer;
#endif
    return spans;
}

void use_c() {
    const oteld_tracer tracer =
        oteld_get_tracer(OTELD_STR("platforms.c"), OTELD_STR(""), OTELD_STR(""));
    oteld_span span{};
    oteld_span_start(&span, tracer, OTELD_STR("of C"), nullptr);
    oteld_span_set_int(&span, OTELD_STR("n"), 1);
    oteld_span_end(&span, 0);
}

bool all_recorded(const oteld::Tracer& tracer, int& expected) {
    const int from_library = use_library();
    expected = from_library + spans_of_c;
    use_c();
    const int from_coroutine = use_coroutine(tracer);
    expected += from_coroutine;
    return from_library == spans_of_library;
}

int check(bool condition, const char* what) {
    if (!condition) std::fprintf(stderr, "not true: %s\n", what);
    return condition ? 0 : 1;
}

int into_memory() {
    oteld::testing::Recorder recorder(oteld::Settings{}
                                          .service("platforms", "1.0")
                                          .resource("key", "value")
                                          .sampler(std::make_shared<Half>())
                                          .ids(std::make_shared<Ids>())
                                          .processor(std::make_shared<Counter>()));
    int expected = 0;
    int bad = check(all_recorded(oteld::tracer("platforms.program"), expected), "all is recorded");
    // The probe of functions() is the library's own.
    bad += check(recorder.spans().size() == static_cast<std::size_t>(expected), "none is missing");
    const oteld::RecordedSpan span = recorder.find("renamed");
    bad += check(span["int"] == -7 && span["text"] == oteld::RecordedValue(), "numbers");
    bad += check(span["string"] == "text" && span["sampler"] == "values", "texts");
    bad += check(span.events.size() == 4 && span.links.size() == 2, "events and links");
    bad += check(span.status_description == "no" || span.status == oteld::Status::error, "status");
    bad += check(recorder.tree().find("contexts") != std::string::npos, "the tree");
    return bad;
}

int into_rings() {
    oteld::TracerProvider provider(oteld::Settings{}.service("platforms"));
    provider.make_global();
    int expected = 0;
    const int bad = check(all_recorded(provider.tracer("platforms.program"), expected), "recorded");
    std::printf("%d\n", expected);
    (void)oteld::force_flush(std::chrono::nanoseconds(1));
    return bad + check(oteld::spans_dropped() == 0, "none was dropped");
}

}  // namespace

int main(int count, char**) { return count > 1 ? into_rings() : into_memory(); }
