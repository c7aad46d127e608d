// opentelemetry-cpp's current context and this client's as one: spans that either API starts under
// a scope of the other are its children, and opentelemetry::context follows work wherever ours does
// (bind.hpp, coroutine.hpp, asio.hpp). One more line of set-up, before anything is attached:
//
// Example:
//     opentelemetry::context::RuntimeContext::SetRuntimeContextStorage(
//         oteld::opentelemetry_context_storage());
//
// Without it each API has a current context of its own, and opentelemetry.hpp looks at this
// client's where opentelemetry-cpp's has no span. Spans go from one to the other; baggage and
// values stay in the context of the API that set them, which is still there beneath a scope of the
// other.
//
// Used by: programs that use both APIs, or ours for asynchronous code. Threads: any; a token is
// detached on the thread that attached it, or in the coroutine that did. Elsewhere it changes
// nothing; out of order what is above it goes too, which is counted as misuse. An attached context
// costs two allocations more than with opentelemetry-cpp's own storage.
#pragma once

#include "oteld/detail/opentelemetry_value.hpp"

#include <opentelemetry/context/runtime_context.h>
#include <opentelemetry/trace/context.h>
#include <opentelemetry/trace/default_span.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

namespace oteld::detail {
inline namespace OTELD_OPENTELEMETRY_VERSION {
// In our contexts: theirs, and what detaching it needs. Only the thread, or the stack, that
// attached it looks at the latter, but a copy of the context may be current on others.
struct OpenTelemetryCurrent {
    explicit OpenTelemetryCurrent(const otel::context::Context& theirs) noexcept
        : context(theirs) {}
    OpenTelemetryCurrent(OpenTelemetryCurrent&& other) noexcept  // Before it is attached.
        : context(std::move(other.context)) {}
    OpenTelemetryCurrent& operator=(OpenTelemetryCurrent&&) = delete;
    ~OpenTelemetryCurrent() {
        abi::release(previous.span.trace_state);
        abi::release(previous.values);
    }

    // Relaxed: only whether it is this thread counts.
    [[nodiscard]] std::thread::id attached_by() const noexcept {
        return thread.load(std::memory_order_relaxed);
    }

    otel::context::Context context;
    abi::Context attached{};  // Its span id.
    abi::FullContext previous{};
    std::atomic<std::thread::id> thread{};  // That attached it; nobody: it is not attached.
};
inline const ContextKey<OpenTelemetryCurrent> opentelemetry_key{"opentelemetry-cpp"};

class OpenTelemetryContexts final : public otel::context::RuntimeContextStorage {
public:
    otel::context::Context GetCurrent() noexcept override {
        const abi::Table* table = abi::client();
        if (table == nullptr) return {};
        const abi::FullContext& now = *table->current();
        otel::context::Context theirs;
        if (const OpenTelemetryCurrent* known = find(now.values)) {
            theirs = known->context;
            if (std::memcmp(known->attached.span_id, now.span.span_id, sizeof now.span.span_id) ==
                0)
                return theirs;
        } else if (all_zero(now.span.trace_id, sizeof now.span.trace_id)) {
            return theirs;
        }
        // A span of ours has been made current since.
        return theirs.SetValue(
            otel::trace::kSpanKey,
            otel::nostd::shared_ptr<otel::trace::Span>(new otel::trace::DefaultSpan(
                to_span_context(now.span, to_trace_state(now.span.trace_state)))));
    }

    otel::nostd::unique_ptr<otel::context::Token> Attach(
        const otel::context::Context& theirs) noexcept override {
        const SpanContext span = from_opentelemetry(span_of(theirs));
        const Context ours =
            current().with(opentelemetry_key, OpenTelemetryCurrent(theirs)).with_span(span);
        // Out of memory it is another one's, or none: nothing is attached then.
        OpenTelemetryCurrent* known = find(ours.raw().values);
        if (known != nullptr && known->context == theirs &&
            known->attached_by() == std::thread::id()) {
            known->thread.store(std::this_thread::get_id(), std::memory_order_relaxed);
            std::memcpy(known->attached.span_id, span.span_id(), sizeof known->attached.span_id);
            abi::present_client()->attach_all(&ours.raw(), &known->previous);
        }
        return CreateToken(theirs);
    }

    // What was attached above it goes too.
    bool Detach(otel::context::Token& token) noexcept override {
        const abi::Table* table = abi::client();
        if (table == nullptr) return false;
        OpenTelemetryCurrent* known = find(table->current()->values);
        while (known != nullptr && !(token == known->context)) {
            if (known->attached_by() != std::this_thread::get_id()) return false;
            known = find(known->previous.values);
        }
        if (known == nullptr || known->attached_by() == std::thread::id()) return false;
        const Context kept(*table->current());  // It may be the last one to have it.
        known->thread.store(std::thread::id(), std::memory_order_relaxed);
        table->detach(&known->attached, &known->previous);
        return true;
    }

private:
    // It is const as part of a context; see above.
    static OpenTelemetryCurrent* find(const abi::Values* values) noexcept {
        const abi::Values* found = find_value(values, &opentelemetry_key);
        return found == nullptr ? nullptr
                                : &SharedValue<OpenTelemetryCurrent>::of(found->value)->value;
    }
    static otel::trace::SpanContext span_of(const otel::context::Context& theirs) noexcept {
        const otel::context::ContextValue value = theirs.GetValue(otel::trace::kSpanKey);
        const auto* span = otel::nostd::get_if<otel::nostd::shared_ptr<otel::trace::Span>>(&value);
        return span == nullptr || *span == nullptr ? otel::trace::SpanContext::GetInvalid()
                                                   : (*span)->GetContext();
    }
};
}  // namespace OTELD_OPENTELEMETRY_VERSION
}  // namespace oteld::detail

namespace oteld {
inline namespace OTELD_OPENTELEMETRY_VERSION {
// Without a client in the process: the usual one.
inline opentelemetry::nostd::shared_ptr<opentelemetry::context::RuntimeContextStorage>
opentelemetry_context_storage() {
    if (abi::client() == nullptr)
        return {std::make_shared<opentelemetry::context::ThreadLocalContextStorage>()};
    return {std::make_shared<detail::OpenTelemetryContexts>()};
}
}  // namespace OTELD_OPENTELEMETRY_VERSION
}  // namespace oteld
