// A span: a move-only value that ends once, at end() or when it is destroyed.
//
// Example:
//     auto span = tracer.scope("charge card", oteld::client);  // Current until the block ends.
//     span.set("payment.amount", order.total).set("payment.methods", {"card", "voucher"});
//     try {
//         charge(order);
//     } catch (const std::exception& e) {
//         span.exception(e).error(e.what());
//     }
//     span.event("answered", {{"attempts", 2}});
//
// Used by: everybody. Made by Tracer::span() and Tracer::scope().
// Threads: one at a time; it may be handed to another thread and end there. Never throws, blocks
// or, below 16 KiB of content, allocates. Without a client, or when the sampler said no, every call
// returns at once. Times are std::chrono::system_clock time points; {} means now.
// https://opentelemetry.io/docs/specs/otel/trace/api/#span
#pragma once

#include "oteld/detail/encode.hpp"

#include <cxxabi.h>
#include <chrono>
#include <exception>
#include <typeinfo>

namespace oteld {

enum class Kind : std::uint8_t {
    internal = 1,
    server = 2,
    client = 3,
    producer = 4,
    consumer = 5
};  // OTLP numbers.
inline constexpr Kind internal = Kind::internal;
inline constexpr Kind server = Kind::server;
inline constexpr Kind client = Kind::client;
inline constexpr Kind producer = Kind::producer;
inline constexpr Kind consumer = Kind::consumer;

enum class Status : std::uint8_t { unset = 0, ok = 1, error = 2 };  // OTLP numbers.

using Time = std::chrono::system_clock::time_point;

namespace detail {
// OTLP's times are unsigned: what lies before 1970 becomes the earliest there is.
inline std::uint64_t unix_ns(Time time) noexcept {
    const auto ns =
        std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
    return ns < 1 ? 1 : static_cast<std::uint64_t>(ns);
}

// A type as a person writes it.
struct TypeName {
    char* demangled = nullptr;
    const char* text = "unknown";
    TypeName(const TypeName&) = delete;
    TypeName& operator=(const TypeName&) = delete;
    explicit TypeName(const std::type_info* type) noexcept {
        if (type == nullptr) return;  // An exception that is not of C++.
        int status = 0;
        demangled = __cxxabiv1::__cxa_demangle(type->name(), nullptr, nullptr, &status);
        text = demangled != nullptr ? demangled : type->name();
    }
    ~TypeName() { std::free(demangled); }
};

// Lines of text: how the program came to its caller. Returns its length.
inline std::size_t stack_trace(char* text, std::size_t bytes) noexcept {
    const abi::Table* table = abi::client();
    return table == nullptr ? 0 : table->stack_trace(text, bytes);
}
}  // namespace detail

class Span {
public:
    Span() noexcept { raw_.record = nullptr, raw_.context = {}; }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;
    Span(Span&& other) noexcept { take(other); }
    Span& operator=(Span&& other) noexcept {
        if (this != &other) {
            finish();
            take(other);
        }
        return *this;
    }
    ~Span() { finish(); }

    // False: nothing is recorded (no client, not sampled, ended, or inherited through fork);
    // attributes need not be computed.
    [[nodiscard]] bool recording() const noexcept { return abi::recording(raw_); }
    // Valid also after the end, and for spans that are not sampled.
    [[nodiscard]] SpanContext context() const noexcept { return SpanContext(raw_.context); }

    // A key set twice keeps its last value. What can be a value: value.hpp.
    template <class T>
    [[gnu::always_inline]] Span& set(std::string_view key, const T& value) noexcept {
        if (abi::recording(raw_)) detail::set_one(raw_, key, value);
        return *this;
    }
    Span& set(std::string_view key, Attributes map) noexcept { return set(key, Value(map)); }
    Span& set(std::string_view key, std::initializer_list<Scalar> array) noexcept {
        return set(key, Value(array));
    }
    Span& set(Attributes attributes) noexcept { return set(attributes.begin(), attributes.size()); }
    Span& set(const Attribute* first, std::size_t count) noexcept {
        if (abi::recording(raw_))
            abi::publish(raw_, detail::set_list(raw_, raw_.cursor, first, count));
        return *this;
    }

    Span& event(std::string_view name, Attributes attributes = {}, Time time = {}) noexcept {
        return event(name, attributes.begin(), attributes.size(), time);
    }
    Span& event(std::string_view name, const Attribute* first, std::size_t count,
                Time time = {}) noexcept {
        if (!abi::recording(raw_)) return *this;
        abi::publish(raw_,
                     detail::add_event(
                         raw_, raw_.cursor, name, {first, count, raw_.limits->event_attributes},
                         time == Time{} ? abi::present_client()->now() : detail::unix_ns(time),
                         raw_.limits->value_length));
        return *this;
    }

    Span& link(const SpanContext& other, Attributes attributes = {}) noexcept {
        return link(other, attributes.begin(), attributes.size());
    }
    // A link without a valid context is kept only if it has attributes or trace state.
    Span& link(const SpanContext& other, const Attribute* first, std::size_t count) noexcept {
        if (!abi::recording(raw_) || (!other.valid() && count == 0 && other.trace_state().empty()))
            return *this;
        abi::publish(raw_, detail::add_link(raw_, raw_.cursor, other,
                                            {first, count, raw_.limits->link_attributes}));
        return *this;
    }

    // Ok > Error > Unset: ok is final, unset changes nothing. A description counts only with error.
    Span& status(Status code, std::string_view description = {}) noexcept {
        if (!abi::recording(raw_) || code == Status::unset || code_now() == Status::ok)
            return *this;
        raw_.record->kind_status = static_cast<std::uint8_t>((raw_.record->kind_status & 15U) |
                                                             static_cast<unsigned>(code) << 4);
        describe(code == Status::error ? description : std::string_view());
        return *this;
    }
    Span& error(std::string_view description = {}) noexcept {
        return status(Status::error, description);
    }

    // An event "exception" with exception.type and exception.message. The status is the caller's to
    // set.
    Span& exception(const std::exception& e) noexcept {
#if defined(__cpp_rtti)
        const detail::TypeName type(&typeid(e));
#else  // The type of what is being handled, which is nearly always `e`.
        const detail::TypeName type(__cxxabiv1::__cxa_current_exception_type());
#endif
        return exception(type.text, e.what());
    }
    Span& exception(std::string_view type, std::string_view message,
                    std::string_view stacktrace = {}) noexcept {
        const Attribute attributes[] = {{"exception.type", type},
                                        {"exception.message", message},
                                        {"exception.stacktrace", stacktrace}};
        return event("exception", attributes, stacktrace.empty() ? 2 : 3);
    }

    Span& name(std::string_view name) noexcept {  // The last name counts.
        if (abi::recording(raw_)) abi::publish(raw_, detail::put_name(raw_, raw_.cursor, name));
        return *this;
    }

    // Only the first end counts; afterwards the span records nothing.
    void end(Time time = {}) noexcept {
        if (raw_.record != nullptr)
            abi::present_client()->end(&raw_, time == Time{} ? 0 : detail::unix_ns(time));
    }

    [[nodiscard]] abi::Span& raw() noexcept { return raw_; }
    [[nodiscard]] const abi::Span& raw() const noexcept { return raw_; }

private:
    friend class Tracer;
    friend class ScopedSpan;
    struct Unset {};
    explicit Span(Unset) noexcept {}  // For Tracer, which sets what there is to set.

    [[nodiscard]] Status code_now() const noexcept {
        return static_cast<Status>(raw_.record->kind_status >> 4);
    }
    // The description lies at the far end of the buffer, behind `end`; a later one replaces it.
    void describe(std::string_view text) noexcept {
        raw_.end += raw_.description_bytes;
        raw_.description_bytes = 0;
        text = text.substr(0, 16384);
        if (text.empty() || abi::room(raw_, raw_.cursor, text.size()) == nullptr) return;
        raw_.end -= text.size();
        if (raw_.room_end > raw_.end) raw_.room_end = raw_.end;
        std::memcpy(raw_.end, text.data(), text.size());
        raw_.description_bytes = static_cast<std::uint32_t>(text.size());
    }
    void take(Span& other) noexcept {
        std::memcpy(static_cast<void*>(&raw_), &other.raw_, sizeof raw_);
        other.raw_.record = nullptr;
        other.raw_.context = {};
    }
    void finish() noexcept {
        if (raw_.record != nullptr) end();
        abi::release(raw_.context.trace_state);
    }

    abi::Span raw_;
};

// A span that is current on this thread until the end of its block; leaving by an exception sets
// status ERROR.
class ScopedSpan : public Span {
public:
    ScopedSpan() noexcept = default;
    explicit ScopedSpan(Span&& span) noexcept : Span(std::move(span)) { make_current(); }
    ScopedSpan(ScopedSpan&&) noexcept = default;
    ScopedSpan& operator=(ScopedSpan&& other) noexcept {
        if (this != &other) {
            end();
            exceptions_ = other.exceptions_;
            scope_ = std::move(other.scope_);
            Span::operator=(std::move(other));  // Last: it takes the base class's part only.
        }
        return *this;
    }
    ~ScopedSpan() {
        if (recording() && std::uncaught_exceptions() > exceptions_) error("left by an exception");
    }
    // Ends the span and makes its parent current again.
    void end(Time time = {}) noexcept {
        Span::end(time);
        scope_.detach();
    }

private:
    friend class Tracer;  // Starts it in place: a span that has just started is slow to move.
    explicit ScopedSpan(Unset unset) noexcept : Span(unset) {}
    void make_current() noexcept {
        exceptions_ = std::uncaught_exceptions();
        scope_.attach(raw().context);
    }

    int exceptions_ = 0;
    ContextScope scope_;
};

}  // namespace oteld
