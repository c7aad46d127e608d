// Span processors: code of the application's that sees its spans start and end. Two are here, for
// tests and first steps: spans kept in memory, and spans printed.
//
// Example:
//     class Tenant : public oteld::SpanProcessor {
//         void on_start(oteld::Span& span, const oteld::SpanContext&) override {
//             const oteld::Baggage baggage = oteld::current().baggage();
//             if (auto tenant = baggage.get("tenant")) span.set("tenant", *tenant);
//         }
//     };
//
//     oteld::TracerProvider provider{oteld::Settings{}
//                                        .processor(std::make_shared<Tenant>())
//                                        .processor(std::make_shared<oteld::ConsoleExporter>())};
//
// Used by: client.hpp's Settings. Needs the client, but neither a daemon nor a ring directory:
// delivery goes on beside the processors, where there is one.
// Threads: a hook is called on the thread that starts or ends the span, on several at once; the
// order is that of Settings. The span's other work waits meanwhile. An exception that leaves a hook
// is counted (hook_failures()), said once on standard error, and goes no further.
// A hook may start spans. Those of the same provider, on the same thread, are recorded without
// hooks (under a Recorder not at all), so that nothing calls itself without end; a span that a hook
// ends, and was not given, has no on_ending() and on_end().
// A signal handler that ends a span while its thread is inside the client calls no hooks.
// https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-processor
#pragma once

#include "oteld/readable_span.hpp"

#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>

namespace oteld {

class SpanProcessor {
public:
    SpanProcessor() = default;
    SpanProcessor(const SpanProcessor&) = delete;
    SpanProcessor& operator=(const SpanProcessor&) = delete;
    virtual ~SpanProcessor() = default;

    // Only spans that record. Both may change the span, neither may move from it; ending it in
    // on_ending() changes nothing. ReadableSpan(span) reads it.
    virtual void on_start(Span& span, const SpanContext& parent) { (void)span, (void)parent; }
    virtual void on_ending(Span& span) { (void)span; }
    // Nothing changes any more. Spans that are recorded but not sampled come here too.
    virtual void on_end(const ReadableSpan& span) { (void)span; }

    // Of TracerProvider's members of these names, with what is left of their timeout. False: not
    // done in time.
    virtual bool force_flush(std::chrono::nanoseconds timeout) {
        (void)timeout;
        return true;
    }
    virtual bool shutdown(std::chrono::nanoseconds timeout) { return force_flush(timeout); }
};
using ProcessorPointer = std::shared_ptr<SpanProcessor>;

// Keeps sampled spans, in the order in which they ended, until clear(). Unbounded: for tests.
class InMemoryExporter : public SpanProcessor {
public:
    [[nodiscard]] std::vector<RecordedSpan> spans() const {
        const std::lock_guard lock(mutex_);
        return spans_;
    }
    void clear() {
        const std::lock_guard lock(mutex_);
        spans_.clear();
    }
    void on_end(const ReadableSpan& span) override {
        if (!span.sampled()) return;
        RecordedSpan copy = span.copy();
        const std::lock_guard lock(mutex_);
        spans_.push_back(std::move(copy));
    }

private:
    mutable std::mutex mutex_;
    std::vector<RecordedSpan> spans_;
};

// Prints each sampled span as a block of lines when it ends. The file stays the caller's.
class __attribute__((visibility("default"))) ConsoleExporter : public SpanProcessor {
public:
    explicit ConsoleExporter(std::FILE* file = stdout) noexcept : file_(file) {}
    void on_end(const ReadableSpan& span) override;
    bool force_flush(std::chrono::nanoseconds) override { return std::fflush(file_) == 0; }

private:
    std::FILE* file_;
};

// The block that ConsoleExporter prints.
[[nodiscard]] __attribute__((visibility("default"))) std::string to_text(const RecordedSpan& span);

}  // namespace oteld
