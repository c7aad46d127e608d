// Samplers, processors and id generators as a program may have them.
#pragma once

#include "ring_fixture.hpp"

#include "oteld/client.hpp"
#include "oteld/oteld.h"

#include <sys/time.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace oteld::test {
using namespace std::chrono_literals;

// Decides by the attribute "decide", or by name.
class OwnSampler : public Sampler {
public:
    SamplingResult should_sample(const ReadableSpan& start, const SpanContext& parent) override {
        SamplingResult result;
        ++calls;
        const RecordedValue decide = start["decide"];
        result.decision = decide == "drop"   ? Decision::drop
                          : decide == "only" ? Decision::record_only
                                             : Decision::record_and_sample;
        if (start.name() == "throws") throw std::runtime_error("no decision");
        result.attributes = {{"sampler.parent", parent.valid() ? parent.span_id_hex() : "none"},
                             {"sampler.kind", static_cast<int>(start.kind())}};
        if (start.name() == "state") result.trace_state = "own=1";
        if (start.name() == "no state") result.trace_state = "";
        return result;
    }
    std::atomic<int> calls{0};
};

// Notes every call as "hook name".
class Notes : public SpanProcessor {
public:
    void on_start(Span& span, const SpanContext& parent) override {
        note("start", ReadableSpan(span), parent);
        span.set("on_start", true);
    }
    void on_ending(Span& span) override {
        note("ending", ReadableSpan(span), {});
        span.set("on_ending", 1).name("renamed " + std::string(ReadableSpan(span).name()));
        span.end();  // Changes nothing.
    }
    void on_end(const ReadableSpan& span) override {
        note("end", span, {});
        const std::lock_guard lock(mutex);
        spans.push_back(span.copy());
    }

    std::mutex mutex;
    std::vector<std::string> calls;
    std::vector<RecordedSpan> spans;

private:
    void note(const std::string& hook, const ReadableSpan& span, const SpanContext& parent) {
        const std::lock_guard lock(mutex);
        calls.push_back(hook + ' ' + std::string(span.name()) +
                        (parent.valid() ? " below " + parent.span_id_hex() : ""));
    }
};

class Numbers : public IdGenerator {
public:
    void trace_id(std::uint8_t (&id)[16]) override {
        id[0] = 0xaa;
        id[15] = ++traces;
    }
    void span_id(std::uint8_t (&id)[8]) override {
        id[0] = 0xbb;
        id[7] = ++spans;
    }
    std::uint8_t traces = 0, spans = 0;
};

class Throwing : public SpanProcessor {
public:
    void on_start(Span&, const SpanContext&) override { throw std::runtime_error("start"); }
    void on_ending(Span&) override { throw 1; }
    void on_end(const ReadableSpan&) override { throw std::string("end"); }
    bool force_flush(std::chrono::nanoseconds) override { throw std::runtime_error("flush"); }
};

// Records itself, under its own provider and under another.
class Recording : public SpanProcessor {
public:
    void on_start(Span&, const SpanContext&) override { record("in on_start"); }
    void on_end(const ReadableSpan&) override { record("in on_end"); }
    void record(const char* name) {
        ++calls;
        auto same = own.span(name);
        auto beside = other.span("beside");
    }
    Tracer own, other;
    int calls = 0;
};

inline const std::uint8_t some_trace[16] = {1};
inline const std::uint8_t some_span[8] = {2};
inline SpanContext remote(std::uint8_t flags, std::string_view state = {}) {
    return {some_trace, some_span, flags, true, state};
}

inline bool has(const Rings& rings, const std::string& name) {
    for (const ReadSpan& span : rings.spans)
        if (span.name == name) return true;
    return false;
}

}  // namespace oteld::test
