// opentelemetry-cpp's current context and this client's as one: spans that either API starts under
// a scope of the other are its children, and opentelemetry::context follows work wherever ours does
// (bind.hpp, coroutine.hpp, asio.hpp). One more line of set-up, before anything is attached:
//
// Example:
//     opentelemetry::context::RuntimeContext::SetRuntimeContextStorage(
//         oteld::opentelemetry_context_storage());
//
// Without it each API has a current context of its own, and opentelemetry.hpp looks at this
// client's where opentelemetry-cpp's has no span. Span and baggage go from one to the other: a
// context that is attached there replaces both here, with none if it has none. Values stay in the
// context of the API that set them, which is still there beneath a scope of the other.
//
// Baggage is converted where a context with another one is attached there, and at each look from
// there at one that was set here; no baggage costs nothing. Metadata stands behind a semicolon in
// their values: what changes baggage there takes a semicolon in a value of ours for its beginning.
//
// Used by: programs that use both APIs, or ours for asynchronous code. Threads: any; a token is
// detached on the thread that attached it, or in the coroutine that did. Elsewhere it changes
// nothing; out of order what is above it goes too, which is counted as misuse. An attached context
// costs two allocations more than with opentelemetry-cpp's own storage.
#pragma once

#include "oteld/detail/opentelemetry_value.hpp"

#include <opentelemetry/baggage/baggage.h>
#include <opentelemetry/baggage/baggage_context.h>
#include <opentelemetry/context/runtime_context.h>
#include <opentelemetry/trace/context.h>
#include <opentelemetry/trace/default_span.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace oteld {
inline namespace OTELD_OPENTELEMETRY_VERSION {
// The baggage, both ways. Not inlined: that makes what nearly all have to do slower.
inline Baggage from_opentelemetry(const opentelemetry::baggage::Baggage& from) noexcept {
    namespace nostd = opentelemetry::nostd;
    detail::BaggageBuilder builder;
    from.GetAllEntries([&](nostd::string_view key, nostd::string_view value) noexcept {
        const std::string_view whole = detail::view(value);
        const std::size_t semicolon = whole.find(';');
        const std::string_view metadata =
            semicolon == std::string_view::npos ? "" : whole.substr(semicolon + 1);
        if (!key.empty() &&
            builder.reserve(sizeof(detail::BaggageLengths) + key.size() + whole.size()))
            builder.add({detail::view(key), whole.substr(0, semicolon), metadata});
        return true;
    });
    return Baggage(builder.take());
}
[[gnu::noinline]] inline opentelemetry::nostd::shared_ptr<opentelemetry::baggage::Baggage>
to_opentelemetry(const Baggage& from) {
    std::vector<std::pair<std::string, std::string>> entries;
    for (const BaggageEntry entry : from) {
        std::string value(entry.value);
        if (!entry.metadata.empty()) value.append(1, ';').append(entry.metadata);
        entries.emplace_back(entry.key, std::move(value));
    }
    return opentelemetry::nostd::shared_ptr<opentelemetry::baggage::Baggage>(
        new opentelemetry::baggage::Baggage(entries));
}
}  // namespace OTELD_OPENTELEMETRY_VERSION
}  // namespace oteld

namespace oteld::detail {
inline namespace OTELD_OPENTELEMETRY_VERSION {
// In our contexts: theirs, and what detaching it needs. Only the thread, or the stack, that
// attached it looks at the latter, but a copy of the context may be current on others.
struct OpenTelemetryCurrent {
    OpenTelemetryCurrent(const otel::context::Context& theirs, oteld::Baggage same) noexcept
        : context(theirs), baggage(std::move(same)) {}
    OpenTelemetryCurrent(OpenTelemetryCurrent&& other) noexcept  // Before it is attached.
        : context(std::move(other.context)), baggage(std::move(other.baggage)) {}
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
    oteld::Baggage baggage;   // The context's, as ours.
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
        const OpenTelemetryCurrent* known = find(now.values);
        otel::context::Context theirs;
        if (known != nullptr) theirs = known->context;
        // What of ours has been made current since.
        static constexpr abi::Context no_span{};
        const abi::Context& span = known != nullptr ? known->attached : no_span;
        if (std::memcmp(span.span_id, now.span.span_id, sizeof span.span_id) != 0) {
            theirs = theirs.SetValue(
                otel::trace::kSpanKey,
                otel::nostd::shared_ptr<otel::trace::Span>(new otel::trace::DefaultSpan(
                    to_span_context(now.span, to_trace_state(now.span.trace_state)))));
        }
        abi::Shared* baggage = baggage_of(now.values);
        if (baggage != (known != nullptr ? known->baggage.raw() : nullptr)) {
            abi::retain(baggage);
            theirs = theirs.SetValue(otel::baggage::kBaggageHeader,
                                     to_opentelemetry(oteld::Baggage(baggage)));
        }
        return theirs;
    }

    otel::nostd::unique_ptr<otel::context::Token> Attach(
        const otel::context::Context& theirs) noexcept override {
        const SpanContext span = from_opentelemetry(span_of(theirs));
        Context below = current();
        const oteld::Baggage baggage = baggage_in(theirs, below);
        if (baggage.raw() != baggage_of(below.raw().values)) below = below.with_baggage(baggage);
        const Context ours =
            below.with(opentelemetry_key, OpenTelemetryCurrent(theirs, baggage)).with_span(span);
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
    static abi::Shared* baggage_of(const abi::Values* values) noexcept {
        const abi::Values* found =
            find_value(values, reinterpret_cast<const void*>(abi::baggage_key));
        return found == nullptr ? nullptr : found->value;
    }
    [[gnu::noinline]] static oteld::Baggage baggage_in(const otel::context::Context& theirs,
                                                       const Context& below) noexcept {
        using Theirs = otel::nostd::shared_ptr<otel::baggage::Baggage>;
        const otel::context::ContextValue value = theirs.GetValue(otel::baggage::kBaggageHeader);
        const auto* found = otel::nostd::get_if<Theirs>(&value);
        if (found == nullptr || *found == nullptr) return {};
        // Nearly always what is there already, where a value keeps its semicolons.
        const oteld::Baggage ours = below.baggage();
        return same(ours, **found) ? ours : from_opentelemetry(**found);
    }
    static bool same(const oteld::Baggage& ours, const otel::baggage::Baggage& theirs) noexcept {
        auto at = ours.begin();
        const bool as_far = theirs.GetAllEntries([&](otel::nostd::string_view key,
                                                     otel::nostd::string_view value) noexcept {
            if (at == ours.end()) return false;
            const BaggageEntry entry = *at++;
            const std::string_view whole = view(value);
            const std::string_view rest = whole.substr(std::min(entry.value.size(), whole.size()));
            const bool same_rest = entry.metadata.empty() ? rest.empty()
                                                          : !rest.empty() && rest[0] == ';' &&
                                                                rest.substr(1) == entry.metadata;
            return entry.key == view(key) && same_rest &&
                   whole.substr(0, entry.value.size()) == entry.value;
        });
        return as_far && at == ours.end();
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
