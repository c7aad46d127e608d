// A context: what goes with a piece of work. The span it belongs to, baggage, and values of keys.
//
// Example:
//     inline const oteld::ContextKey<int> tenant_key{"tenant"};
//
//     auto scope = oteld::attach(oteld::current().with(tenant_key, 7));  // Until the block ends.
//     const oteld::Context context = oteld::current();  // Copy it along with the work.
//     const int* tenant = context.get(tenant_key);      // Lives as long as `context`.
//     span.set("tenant", tenant == nullptr ? 0 : *tenant);
//
// Used by: everybody who hands work on: to a thread, a queue, another process (propagation.hpp).
// Threads: a Context is an immutable value; `current()` and ContextScope concern the calling thread
// only. Never throws; out of memory keeps the context that there was. Contexts are values without a
// client, too; only what is current on a thread needs one.
// https://opentelemetry.io/docs/specs/otel/context/
#pragma once

#include "oteld/baggage.hpp"
#include "oteld/span_context.hpp"

#include <cstddef>
#include <type_traits>

namespace oteld {

// Names a value of a context. It is the object that counts, not its name: one `inline` or `static`
// ContextKey for each purpose, alive as long as contexts with its values are.
//     inline const oteld::ContextKey<Tenant> tenant_key{"tenant"};
template <class T>
class ContextKey {
public:
    constexpr explicit ContextKey(const char* name) noexcept : name_(name) {}
    ContextKey(const ContextKey&) = delete;
    ContextKey& operator=(const ContextKey&) = delete;
    [[nodiscard]] constexpr const char* name() const noexcept { return name_; }  // For people.

private:
    const char* name_;
};

namespace detail {

// A value behind its header. A plugin that puts one in must not be unloaded before it is gone: its
// destructor is the plugin's code.
template <class T>
struct SharedValue {
    abi::Shared header;
    T value;

    static abi::Shared* make(T&& value) noexcept {
        static_assert(std::is_nothrow_move_constructible_v<T>, "a context never throws");
        static_assert(std::is_nothrow_destructible_v<T>, "a context never throws");
        static_assert(alignof(T) <= alignof(std::max_align_t), "malloc aligns no further");
        void* memory = std::malloc(sizeof(SharedValue));
        if (memory == nullptr) return nullptr;
        auto* made = new (memory) SharedValue{{{1}, sizeof(T), nullptr}, std::move(value)};
        if constexpr (!std::is_trivially_destructible_v<T>) made->header.destroy = destroy;
        return &made->header;
    }
    static SharedValue* of(abi::Shared* shared) noexcept {
        return reinterpret_cast<SharedValue*>(shared);
    }
    static void destroy(abi::Shared* shared) noexcept { of(shared)->value.~T(); }
};

inline const abi::Values* find_value(const abi::Values* values, const void* key) noexcept {
    while (values != nullptr && values->key != key) values = values->next;
    return values;
}

inline abi::Values* make_values(const void* key, abi::Shared* value, abi::Values* next) noexcept {
    void* memory = std::malloc(sizeof(abi::Values));
    if (memory == nullptr) return nullptr;
    return new (memory) abi::Values{{1}, 0, key, value, next};
}

// Replaces `values` by a list in which `key` has this value (a reference that is taken over), or
// none where it is null. What stands behind the key is shared with the old list, what stands before
// it is copied. Out of memory: `values` stays.
[[gnu::noinline]] inline void change_value(abi::Values*& values, const void* key,
                                           abi::Shared* value) noexcept {
    abi::Values* const found = const_cast<abi::Values*>(find_value(values, key));
    if (found == nullptr && value == nullptr) return;
    abi::Values* fresh = nullptr;
    abi::Values** last = &fresh;
    bool complete = true;
    const auto append = [&](const void* a_key, abi::Shared* a_value) {
        *last = make_values(a_key, a_value, nullptr);
        complete = *last != nullptr;
        if (complete) last = &(*last)->next;
    };
    if (value != nullptr) append(key, value);
    if (!complete) return abi::release(value);
    for (abi::Values* at = values; found != nullptr && at != found && complete; at = at->next) {
        abi::retain(at->value);  // NOLINT(clang-analyzer-core.NullDereference): `found` is ahead.
        append(at->key, at->value);
        if (!complete) abi::release(at->value);
    }
    if (!complete) return abi::release(fresh);
    *last = found == nullptr ? values : found->next;
    abi::retain(*last);
    abi::release(std::exchange(values, fresh));
}

}  // namespace detail

class Context {
public:
    Context() noexcept : raw_{} {}
    explicit Context(const abi::FullContext& raw) noexcept : raw_(raw) {
        abi::retain(raw_.span.trace_state);
        abi::retain(raw_.values);
    }
    Context(const Context& other) noexcept : Context(other.raw_) {}
    Context(Context&& other) noexcept : raw_(std::exchange(other.raw_, {})) {}
    Context& operator=(Context other) noexcept {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~Context() {
        abi::release(raw_.span.trace_state);
        abi::release(raw_.values);
    }

    // Invalid if it belongs to none.
    [[nodiscard]] SpanContext span() const noexcept { return SpanContext(raw_.span); }
    [[nodiscard]] Context with_span(const SpanContext& span) const noexcept {
        Context changed(*this);
        abi::retain(span.raw().trace_state);
        abi::release(changed.raw_.span.trace_state);
        changed.raw_.span = span.raw();
        return changed;
    }

    // Null: there is none. Lives as long as this Context or a copy of it.
    template <class T>
    [[nodiscard]] const T* get(const ContextKey<T>& key) const noexcept {
        const abi::Values* found = detail::find_value(raw_.values, &key);
        return found == nullptr ? nullptr : &detail::SharedValue<T>::of(found->value)->value;
    }
    template <class T>
    [[nodiscard]] Context with(const ContextKey<T>& key,
                               std::common_type_t<T> value) const noexcept {
        Context changed(*this);
        if (abi::Shared* made = detail::SharedValue<T>::make(std::move(value)))
            detail::change_value(changed.raw_.values, &key, made);
        return changed;
    }
    template <class T>
    [[nodiscard]] Context without(const ContextKey<T>& key) const noexcept {
        Context changed(*this);
        detail::change_value(changed.raw_.values, &key, nullptr);
        return changed;
    }

    [[nodiscard]] oteld::Baggage baggage() const noexcept {
        abi::Shared* found = reserved(abi::baggage_key);
        abi::retain(found);
        return oteld::Baggage(found);
    }
    // Empty baggage takes away what there was.
    [[nodiscard]] Context with_baggage(const oteld::Baggage& baggage) const noexcept {
        abi::retain(baggage.raw());
        return with_reserved(abi::baggage_key, baggage.raw());
    }

    // For the propagators.
    [[nodiscard]] const abi::FullContext& raw() const noexcept { return raw_; }
    [[nodiscard]] abi::Shared* reserved(abi::ValueKey key) const noexcept {
        const abi::Values* found =
            detail::find_value(raw_.values, reinterpret_cast<const void*>(key));
        return found == nullptr ? nullptr : found->value;
    }
    // Takes over a reference.
    [[nodiscard]] Context with_reserved(abi::ValueKey key, abi::Shared* value) const noexcept {
        Context changed(*this);
        detail::change_value(changed.raw_.values, reinterpret_cast<const void*>(key), value);
        return changed;
    }

private:
    abi::FullContext raw_;
};

// What is current on this thread; empty when nothing is, or without a client.
inline Context current() noexcept {
    const abi::Table* table = abi::client();
    return table == nullptr ? Context() : Context(*table->current());
}
// Its span alone.
inline SpanContext current_span() noexcept {
    const abi::Table* table = abi::client();
    return table == nullptr ? SpanContext() : SpanContext(table->current()->span);
}

namespace detail {
inline const abi::Context& current_ids() noexcept {
    static constexpr abi::Context none{};
    const abi::Table* table = abi::client();
    return table == nullptr ? none : table->current()->span;
}
}  // namespace detail

// For the lines of a log: the fields "trace_id", "span_id" and "trace_flags" of the span that is
// current; empty when none is. They cost a look at the thread's context, and allocate nothing.
//     std::printf("trace_id=%s span_id=%s shipped\n", oteld::current_trace_id_text().c_str(),
//                 oteld::current_span_id_text().c_str());
// https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
inline TraceIdText current_trace_id_text() noexcept {
    return detail::trace_id_text(detail::current_ids());
}
inline SpanIdText current_span_id_text() noexcept {
    return detail::span_id_text(detail::current_ids());
}
inline TraceFlagsText current_trace_flags_text() noexcept {
    return detail::trace_flags_text(detail::current_ids());
}

// Makes a context current until the end of the block. Detached out of order or on another thread:
// counted, and what is current stays in order.
class ContextScope {
public:
    ContextScope() noexcept = default;
    explicit ContextScope(const abi::Context& span) noexcept { attach(span); }
    explicit ContextScope(const abi::FullContext& context) noexcept { attach(context); }
    ContextScope(ContextScope&& other) noexcept
        : attached_(other.attached_),
          previous_(other.previous_),
          active_(std::exchange(other.active_, false)) {}
    ContextScope& operator=(ContextScope&& other) noexcept {
        if (this != &other) {
            detach();
            attached_ = other.attached_;
            previous_ = other.previous_;
            active_ = std::exchange(other.active_, false);
        }
        return *this;
    }
    ~ContextScope() { detach(); }

    // Of one that has nothing attached yet. A span is made current beside the values that are; a
    // whole context replaces those as well.
    void attach(const abi::Context& span) noexcept {
        const abi::Table* table = abi::client();
        if (table == nullptr) return;
        std::memcpy(attached_.span_id, span.span_id, sizeof attached_.span_id);
        table->attach(&span, &previous_);
        active_ = true;
    }
    void attach(const abi::FullContext& context) noexcept {
        const abi::Table* table = abi::client();
        if (table == nullptr) return;
        std::memcpy(attached_.span_id, context.span.span_id, sizeof attached_.span_id);
        table->attach_all(&context, &previous_);
        active_ = true;
    }
    void detach() noexcept {
        if (std::exchange(active_, false)) abi::present_client()->detach(&attached_, &previous_);
    }

private:
    abi::Context attached_{};  // Its span id: that is what is compared.
    abi::FullContext previous_{};
    bool active_ = false;
};

[[nodiscard]] inline ContextScope attach(const SpanContext& span) noexcept {
    return ContextScope(span.raw());
}
[[nodiscard]] inline ContextScope attach(const Context& context) noexcept {
    return ContextScope(context.raw());
}

}  // namespace oteld
