// Programs that are instrumented with opentelemetry-cpp's API record through this client: one line
// of their set-up changes, instead of the SDK's provider, its processor and its exporter.
//
// Example:
//     opentelemetry::trace::Provider::SetTracerProvider(oteld::opentelemetry_provider());
//
// Service name, resource, sampler and limits are this client's: of the OTEL_* variables, or of a
// TracerProvider (client.hpp). What is current in the program's opentelemetry::context is the
// parent, else what is current here; opentelemetry_context.hpp makes the two one.
//
// Used by: programs with opentelemetry-cpp 1.x (ABI 1 and 2, with or without
// OPENTELEMETRY_STL_VERSION), of which only the API's headers are needed. The set-up links the
// client; instrumented libraries know nothing of it.
// Threads: any; a span may be used by several at once, each call takes a lock of its own, which a
// signal handler may find taken. One allocation a span. Nothing is thrown: out of memory a span is
// not recorded. A tracer is never freed: there is one for each scope. The code that includes this
// must not be unloaded: the client calls it when another tracer is Enabled() than before.
// Different from the SDK: status OK is final, and UNSET changes nothing. Tracer::Close() flushes.
// https://opentelemetry-cpp.readthedocs.io/en/latest/api/GettingStarted.html
#pragma once

#include "oteld/client.hpp"
#include "oteld/detail/opentelemetry_value.hpp"

#include <opentelemetry/common/spin_lock_mutex.h>
#include <opentelemetry/context/runtime_context.h>
#include <opentelemetry/trace/context.h>
#include <opentelemetry/trace/default_span.h>
#include <opentelemetry/trace/span.h>
#include <opentelemetry/trace/span_startoptions.h>
#include <opentelemetry/trace/tracer.h>
#include <opentelemetry/trace/tracer_provider.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <typeinfo>
#include <utility>

// Whether there is Tracer::Enabled().
#define OTELD_OPENTELEMETRY_ENABLED \
    (OPENTELEMETRY_ABI_VERSION_NO >= 2 && OPENTELEMETRY_VERSION_MINOR >= 21)

namespace oteld::detail {
inline namespace OTELD_OPENTELEMETRY_VERSION {
struct OpenTelemetryParent;

class OpenTelemetrySpan final : public otel::trace::Span {
public:
    inline OpenTelemetrySpan(const Tracer& tracer, otel::nostd::string_view name,
                             const otel::common::KeyValueIterable& attributes,
                             const otel::trace::SpanContextKeyValueIterable& links,
                             const otel::trace::StartSpanOptions& options,
                             const OpenTelemetryParent& parent) noexcept;
    // Nobody else has it any more.
    ~OpenTelemetrySpan() override {
        if (span_.recording()) span_.end(end_time({}));
    }
    OpenTelemetrySpan(const OpenTelemetrySpan&) = delete;
    OpenTelemetrySpan& operator=(const OpenTelemetrySpan&) = delete;

    void SetAttribute(otel::nostd::string_view key,
                      const otel::common::AttributeValue& value) noexcept override {
        if (limits_ == nullptr) return;
        Texts texts;
        const Attribute attribute = to_attribute(key, value, texts);
        const Lock lock(mutex_);
        span_.set(&attribute, 1);
    }

    void AddEvent(otel::nostd::string_view name) noexcept override {
        const Lock lock(mutex_);
        span_.event(view(name));
    }
    void AddEvent(otel::nostd::string_view name,
                  otel::common::SystemTimestamp at) noexcept override {
        const Lock lock(mutex_);
        span_.event(view(name), {}, at);
    }
    void AddEvent(otel::nostd::string_view name, otel::common::SystemTimestamp at,
                  const otel::common::KeyValueIterable& attributes) noexcept override {
        if (limits_ == nullptr) return;
        const EncodedAttributes list(attributes, 3, limits_->event_attributes,
                                     limits_->value_length);
        const Time time = at;
        const std::uint64_t when = time == Time{} ? abi::present_client()->now() : unix_ns(time);
        const Lock lock(mutex_);
        if (!span_.recording()) return;
        abi::Span& span = span_.raw();
        abi::publish(span,
                     add_event(span, span.cursor, view(name), list, when, limits_->value_length));
    }
    void AddEvent(otel::nostd::string_view name,
                  const otel::common::KeyValueIterable& attributes) noexcept override {
        AddEvent(name, {}, attributes);  // Without a time: now.
    }

#if OPENTELEMETRY_ABI_VERSION_NO >= 2
    void AddLink(const otel::trace::SpanContext& target,
                 const otel::common::KeyValueIterable& attributes) noexcept override {
        if (limits_ == nullptr) return;
        const EncodedAttributes list(attributes, 4, limits_->link_attributes,
                                     limits_->value_length);
        const SpanContext context = from_opentelemetry(target);
        const Lock lock(mutex_);
        if (!span_.recording()) return;
        abi::Span& span = span_.raw();
        abi::publish(span, put_link(span, span.cursor, context, list));
    }
    void AddLinks(const otel::trace::SpanContextKeyValueIterable& links) noexcept override {
        links.ForEachKeyValue([this](const otel::trace::SpanContext& target,
                                     const otel::common::KeyValueIterable& attributes) noexcept {
            AddLink(target, attributes);
            return true;
        });
    }
#endif

    void SetStatus(otel::trace::StatusCode code,
                   otel::nostd::string_view description) noexcept override {
        const Lock lock(mutex_);
        span_.status(static_cast<Status>(code), view(description));  // The same numbers.
    }
    void UpdateName(otel::nostd::string_view name) noexcept override {
        const Lock lock(mutex_);
        span_.name(view(name));
    }
    void End(const otel::trace::EndSpanOptions& options) noexcept override {
        const Lock lock(mutex_);
        if (span_.recording()) span_.end(end_time(options));
    }
    [[nodiscard]] bool IsRecording() const noexcept override {
        const Lock lock(mutex_);
        return span_.recording();
    }

    [[nodiscard]] otel::trace::SpanContext GetContext() const noexcept override {
        return to_span_context(raw(), trace_state());
    }
    // What does not change any more once the span has started, for its children.
    [[nodiscard]] const abi::Context& raw() const noexcept { return span_.raw().context; }
    [[nodiscard]] otel::nostd::shared_ptr<otel::trace::TraceState> trace_state() const noexcept {
        return trace_state_ != nullptr ? trace_state_ : otel::trace::TraceState::GetDefault();
    }

private:
    using Lock = std::lock_guard<otel::common::SpinLockMutex>;
    using Nanoseconds = std::chrono::nanoseconds;

    // Both readings of the start, where the caller gave one; else the client's clock is enough.
    struct Start {
        Nanoseconds system{0};
        Nanoseconds steady{0};
    };
    static Start start_of(const otel::trace::StartSpanOptions& options) noexcept {
        Start start{options.start_system_time.time_since_epoch(),
                    options.start_steady_time.time_since_epoch()};
        if (start.system.count() == 0 && start.steady.count() == 0) return start;
        if (start.system.count() == 0) start.system = system_now();
        if (start.steady.count() == 0) start.steady = steady_now();
        return start;
    }
    // As the SDK has it: the duration is that of the steady clock. Time{}: now.
    [[nodiscard]] Time end_time(const otel::trace::EndSpanOptions& options) const noexcept {
        const Nanoseconds end = options.end_steady_time.time_since_epoch();
        if (start_.system.count() != 0)
            return Time(start_.system + (end.count() != 0 ? end : steady_now()) - start_.steady);
        return end.count() == 0 ? Time{} : Time(system_now() + end - steady_now());
    }
    static Nanoseconds system_now() noexcept {
        return std::chrono::system_clock::now().time_since_epoch();
    }
    static Nanoseconds steady_now() noexcept {
        return std::chrono::steady_clock::now().time_since_epoch();
    }
    // One without a valid context is kept only if it has attributes or trace state.
    static std::uint8_t* put_link(abi::Span& span, std::uint8_t* at, const SpanContext& target,
                                  const EncodedAttributes& list) noexcept {
        const bool nothing = !target.valid() && list.text().empty() && target.trace_state().empty();
        return nothing ? at : add_link(span, at, target, list);
    }
    static Kind kind_of(otel::trace::SpanKind kind) noexcept {
        // Ours begin with 1.
        return kind > otel::trace::SpanKind::kConsumer
                   ? internal
                   : static_cast<Kind>(static_cast<unsigned>(kind) + 1);
    }

    mutable otel::common::SpinLockMutex mutex_;
    Start start_;
    oteld::Span span_;
    const abi::Limits* const limits_;                               // Null: nothing is recorded.
    otel::nostd::shared_ptr<otel::trace::TraceState> trace_state_;  // Null: as good as none.
};

// Whose child a span becomes, and what keeps that alive meanwhile.
struct OpenTelemetryParent {
    explicit OpenTelemetryParent(const otel::trace::StartSpanOptions& options) noexcept {
        using otel::nostd::get_if;
        if (const auto* given = get_if<otel::trace::SpanContext>(&options.parent)) {
            if (take(*given)) return;
        } else if (const auto* context = get_if<otel::context::Context>(&options.parent)) {
            if (take_span_of(*context)) return;
            const otel::context::ContextValue root = context->GetValue("is_root_span");
            if (const bool* is_root = get_if<bool>(&root); is_root != nullptr && *is_root) {
                raw = &converted_.raw();  // Invalid.
                return;
            }
        }
        take_span_of(otel::context::RuntimeContext::GetCurrent());
    }

    OpenTelemetryParent(const OpenTelemetryParent&) = delete;
    OpenTelemetryParent& operator=(const OpenTelemetryParent&) = delete;

    const abi::Context* raw = nullptr;  // Null: what is current here.
    otel::nostd::shared_ptr<otel::trace::TraceState> trace_state;

private:
    bool take(const otel::trace::SpanContext& span) noexcept {
        if (!span.IsValid()) return false;
        converted_ = from_opentelemetry(span);
        raw = &converted_.raw();
        if (raw->trace_state != nullptr) trace_state = span.trace_state();
        return true;
    }
    bool take_span_of(const otel::context::Context& context) noexcept {
        using otel::nostd::get_if;
        const otel::context::ContextValue value = context.GetValue(otel::trace::kSpanKey);
        if (const auto* known = get_if<otel::nostd::shared_ptr<otel::trace::SpanContext>>(&value))
            return *known != nullptr && take(**known);
        const auto* found = get_if<otel::nostd::shared_ptr<otel::trace::Span>>(&value);
        if (found == nullptr || *found == nullptr) return false;
        if (const OpenTelemetrySpan* own = own_span(**found)) {
            if (all_zero(own->raw().trace_id, 16)) return false;
            own_ = *found;
            raw = &own->raw();
            if (raw->trace_state != nullptr) trace_state = own->trace_state();
            return true;
        }
        return take((*found)->GetContext());
    }
    // Null: somebody else's, or there is no telling.
    static const OpenTelemetrySpan* own_span(const otel::trace::Span& span) noexcept {
#if defined(__cpp_rtti)
        if (typeid(span) == typeid(OpenTelemetrySpan))
            return static_cast<const OpenTelemetrySpan*>(&span);
#endif
        static_cast<void>(span);
        return nullptr;
    }

    SpanContext converted_;
    otel::nostd::shared_ptr<otel::trace::Span> own_;
};

inline OpenTelemetrySpan::OpenTelemetrySpan(const Tracer& tracer, otel::nostd::string_view name,
                                            const otel::common::KeyValueIterable& attributes,
                                            const otel::trace::SpanContextKeyValueIterable& links,
                                            const otel::trace::StartSpanOptions& options,
                                            const OpenTelemetryParent& parent) noexcept
    : start_(start_of(options)),
      span_(tracer.start(
          view(name), nullptr, 0, parent.raw, kind_of(options.kind),
          start_time(Time(start_.system)),
          [&](abi::Span& span, std::uint8_t* at) noexcept {
              attributes.ForEachKeyValue(
                  [&](otel::nostd::string_view key, otel::common::AttributeValue value) noexcept {
                      Texts texts;
                      const Attribute attribute = to_attribute(key, value, texts);
                      at = set_list(span, at, &attribute, 1);
                      return true;
                  });
              links.ForEachKeyValue([&](const otel::trace::SpanContext& target,
                                        const otel::common::KeyValueIterable& more) noexcept {
                  const EncodedAttributes list(more, 4, span.limits->link_attributes,
                                               span.limits->value_length);
                  at = put_link(span, at, from_opentelemetry(target), list);
                  return true;
              });
              return at;
          })),
      limits_(span_.recording() ? span_.raw().limits : nullptr) {
    const abi::TraceState* state = raw().trace_state;
    if (state == nullptr) return;
    // Nearly always the parent's own, which need not be read again.
    trace_state_ = parent.raw != nullptr && parent.raw->trace_state == state
                       ? parent.trace_state
                       : to_trace_state(state);
}

class OpenTelemetryTracer final : public otel::trace::Tracer {
public:
    using Spans = otel::nostd::shared_ptr<otel::trace::Span>;

    // For this scope, made when it is first asked for. Never freed, as scopes are not either.
    static OpenTelemetryTracer& of(const std::optional<TracerProvider>& provider,
                                   std::string_view name, std::string_view version,
                                   std::string_view schema_url, std::string_view attributes) {
        // Threads that ask at once may make it twice.
        OpenTelemetryTracer* first = all().load(std::memory_order_acquire);
        for (OpenTelemetryTracer* known = first; known != nullptr; known = known->next_) {
            if (known->is(provider, name, version, schema_url, attributes)) return *known;
        }
#if OTELD_OPENTELEMETRY_ENABLED
        on_enabled_change(update_all);
#endif
        auto* fresh =
            new OpenTelemetryTracer(provider, name, version, schema_url, attributes, first);
        while (!all().compare_exchange_weak(fresh->next_, fresh, std::memory_order_acq_rel)) {
        }
#if OTELD_OPENTELEMETRY_ENABLED
        fresh->update();
#endif
        return *fresh;
    }

    Spans StartSpan(otel::nostd::string_view name, const otel::common::KeyValueIterable& attributes,
                    const otel::trace::SpanContextKeyValueIterable& links,
                    const otel::trace::StartSpanOptions& options) noexcept override {
        const OpenTelemetryParent parent(options);
#if defined(__cpp_exceptions)
        try {
#endif
            return {std::make_shared<OpenTelemetrySpan>(tracer_, name, attributes, links, options,
                                                        parent)};
#if defined(__cpp_exceptions)
        } catch (const std::bad_alloc&) {
            return no_span_;
        }
#endif
    }

#if OPENTELEMETRY_ABI_VERSION_NO == 1
    void ForceFlushWithMicroseconds(std::uint64_t timeout) noexcept override {
        constexpr std::uint64_t most = INT64_MAX / 1000;
        const std::chrono::microseconds time(
            static_cast<std::int64_t>(timeout < most ? timeout : most));
        const auto provider = provider_ ? provider_ : oteld::TracerProvider::global();
        static_cast<void>(provider ? provider->force_flush(time) : force_flush(time));
    }
    void CloseWithMicroseconds(std::uint64_t timeout) noexcept override {
        ForceFlushWithMicroseconds(timeout);
    }
#endif

private:
    OpenTelemetryTracer(const std::optional<TracerProvider>& provider, std::string_view name,
                        std::string_view version, std::string_view schema_url,
                        std::string_view attributes, OpenTelemetryTracer* next)
        : provider_(provider),
          name_(name),
          version_(version),
          schema_url_(schema_url),
          attributes_(attributes),
          tracer_(tracer_of(name, version, schema_url, attributes, handle(provider))),
          no_span_(
              std::make_shared<otel::trace::DefaultSpan>(otel::trace::SpanContext::GetInvalid())),
          next_(next) {}

    static std::atomic<OpenTelemetryTracer*>& all() noexcept {
        static std::atomic<OpenTelemetryTracer*> first{nullptr};
        return first;
    }
#if OTELD_OPENTELEMETRY_ENABLED
    static void update_all() noexcept {
        for (OpenTelemetryTracer* one = all().load(std::memory_order_acquire); one != nullptr;
             one = one->next_)
            one->update();
    }
    // Of two threads that do so at once, the second one at the counter sees the provider that the
    // first one saw, or a later one; and its answer is written behind the first one's.
    void update() noexcept {
        static std::atomic<unsigned> turns{0};
        bool said = false;
        turns.fetch_add(1, std::memory_order_acq_rel);
        do {
            said = enabled(name_, handle(provider_));
            UpdateEnabled(said);
            turns.fetch_add(1, std::memory_order_acq_rel);
        } while (said != enabled(name_, handle(provider_)));
    }
#endif

    static const void* handle(const std::optional<TracerProvider>& provider) noexcept {
        return provider ? provider->raw() : nullptr;
    }
    [[nodiscard]] bool is(const std::optional<TracerProvider>& provider, std::string_view name,
                          std::string_view version, std::string_view schema_url,
                          std::string_view attributes) const noexcept {
        return name_ == name && version_ == version && schema_url_ == schema_url &&
               attributes_ == attributes && handle(provider_) == handle(provider);
    }

    const std::optional<TracerProvider> provider_;
    const std::string name_, version_, schema_url_, attributes_;
    const oteld::Tracer tracer_;
    const Spans no_span_;
    OpenTelemetryTracer* next_;
};

class OpenTelemetryProvider final : public otel::trace::TracerProvider {
public:
    explicit OpenTelemetryProvider(std::optional<oteld::TracerProvider> provider)
        : provider_(provider), nameless_(OpenTelemetryTracer::of(provider, {}, {}, {}, {})) {}

    otel::nostd::shared_ptr<otel::trace::Tracer> GetTracer(
        otel::nostd::string_view name, otel::nostd::string_view version,
        otel::nostd::string_view schema_url
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
        ,
        const otel::common::KeyValueIterable* attributes
#endif
        ) noexcept override {
#if OPENTELEMETRY_ABI_VERSION_NO == 1
        const otel::common::KeyValueIterable* attributes = nullptr;
#endif
        // Counts no references: who asks with each span must not meet others at a counter.
        return {std::shared_ptr<otel::trace::Tracer>(
            std::shared_ptr<void>(),
            &find(view(name), view(version), view(schema_url), attributes))};
    }

private:
    [[nodiscard]] OpenTelemetryTracer& find(
        std::string_view name, std::string_view version, std::string_view schema_url,
        const otel::common::KeyValueIterable* attributes) const noexcept {
#if defined(__cpp_exceptions)
        try {
#endif
            if (attributes == nullptr)
                return OpenTelemetryTracer::of(provider_, name, version, schema_url, {});
            const EncodedAttributes list(*attributes, 3, UINT32_MAX, UINT32_MAX);
            return OpenTelemetryTracer::of(provider_, name, version, schema_url, list.text());
#if defined(__cpp_exceptions)
        } catch (const std::bad_alloc&) {
            return nameless_;
        }
#endif
    }

    const std::optional<oteld::TracerProvider> provider_;
    OpenTelemetryTracer& nameless_;
};
}  // namespace OTELD_OPENTELEMETRY_VERSION
}  // namespace oteld::detail

namespace oteld {
inline namespace OTELD_OPENTELEMETRY_VERSION {
// For SetTracerProvider(). Spans go to what is the global provider of this client when they
// start, or to the given one. May throw std::bad_alloc.
inline opentelemetry::nostd::shared_ptr<opentelemetry::trace::TracerProvider>
opentelemetry_provider() {
    return {std::make_shared<detail::OpenTelemetryProvider>(std::nullopt)};
}
inline opentelemetry::nostd::shared_ptr<opentelemetry::trace::TracerProvider>
opentelemetry_provider(const TracerProvider& provider) {
    return {std::make_shared<detail::OpenTelemetryProvider>(provider)};
}
}  // namespace OTELD_OPENTELEMETRY_VERSION
}  // namespace oteld
