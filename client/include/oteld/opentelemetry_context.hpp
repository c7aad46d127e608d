// opentelemetry-cpp's current context and this client's as one: spans that either API starts under
// a scope of the other are its children, and opentelemetry::context follows work wherever ours does
// (bind.hpp, coroutine.hpp, asio.hpp). One more line of set-up, before anything is attached:
//
//     opentelemetry::context::RuntimeContext::SetRuntimeContextStorage(
//         oteld::opentelemetry_context_storage());
//
// Without it each API has a current context of its own, and opentelemetry.hpp looks at this
// client's where opentelemetry-cpp's has no span. Spans go from one to the other; baggage and
// values stay in the context of the API that set them, which is still there beneath a scope of the
// other.
//
// Used by: programs that use both APIs, or ours for asynchronous code. Threads: any; a token is
// used on the thread that attached, or in the coroutine that did; elsewhere, and out of order, as a
// scope of ours: counted as misuse. Needs RTTI. An attached context costs two allocations more than
// with opentelemetry-cpp's own storage.
#pragma once

#include "oteld/detail/opentelemetry_value.hpp"

#include <opentelemetry/context/runtime_context.h>
#include <opentelemetry/trace/context.h>
#include <opentelemetry/trace/default_span.h>

#include <cstring>
#include <memory>
#include <typeinfo>
#include <utility>

namespace oteld::detail {
inline namespace OTELD_OPENTELEMETRY_VERSION {
// In our contexts: theirs, and the span that it had when it was attached.
struct OpenTelemetryCurrent {
    otel::context::Context context;
    std::uint8_t span_id[8];
};
inline const ContextKey<OpenTelemetryCurrent> opentelemetry_key{"opentelemetry-cpp"};

class OpenTelemetryToken final : public otel::context::Token {
public:
    OpenTelemetryToken(const otel::context::Context& theirs, const Context& ours)
        : Token(theirs), scope_(ours.raw()) {}

    bool detach() noexcept {
        scope_.detach();
        return std::exchange(attached_, false);
    }

private:
    ContextScope scope_;
    bool attached_ = true;
};

class OpenTelemetryContexts final : public otel::context::RuntimeContextStorage {
public:
    otel::context::Context GetCurrent() noexcept override {
        const abi::Table* table = abi::client();
        if (table == nullptr) return {};
        const abi::FullContext& now = *table->current();
        otel::context::Context theirs;
        if (const abi::Values* found = find_value(now.values, &opentelemetry_key)) {
            const auto& known = SharedValue<OpenTelemetryCurrent>::of(found->value)->value;
            if (std::memcmp(known.span_id, now.span.span_id, sizeof known.span_id) == 0)
                return known.context;
            theirs = known.context;
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
        OpenTelemetryCurrent known{theirs, {}};
        std::memcpy(known.span_id, span.span_id(), sizeof known.span_id);
        const Context ours = current().with(opentelemetry_key, std::move(known)).with_span(span);
        return otel::nostd::unique_ptr<otel::context::Token>(new OpenTelemetryToken(theirs, ours));
    }

    bool Detach(otel::context::Token& token) noexcept override {
        // From a token's destructor: its scope has ended already. Or it is of another storage.
        if (typeid(token) == typeid(otel::context::Token)) return false;
        return static_cast<OpenTelemetryToken&>(token).detach();
    }

private:
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
