// The identity of a span, as it is passed on to children, links and other processes.
//
// Example:
//     const oteld::SpanContext context = span.context();
//     std::printf("trace %s\n", context.trace_id_text().c_str());
//     auto retry = tracer.span("retry", oteld::parent(context.with_trace_state("shop", "eu")));
//
// Used by: everybody who links spans together or passes them on. Threads: a SpanContext is a value.
// Never throws, but for the hex texts, which allocate.
// https://www.w3.org/TR/trace-context-2/
// https://opentelemetry.io/docs/specs/otel/trace/api/#spancontext
#pragma once

#include "oteld/detail/abi.hpp"
#include "oteld/detail/trace_state.hpp"

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace oteld {

// An id or flags in lower-case hex, held in the value itself: for printf and loggers. Never
// allocates; empty where there is no span. It lives as long as the value does, which for a
// temporary is the end of the statement.
template <std::size_t bytes>
class HexText {
public:
    HexText() noexcept = default;
    explicit HexText(const std::uint8_t* value) noexcept { detail::put_hex(text_, value, bytes); }

    [[nodiscard]] const char* c_str() const noexcept { return text_; }
    [[nodiscard]] std::string_view view() const noexcept { return text_; }

private:
    char text_[2 * bytes + 1] = {};
};
using TraceIdText = HexText<16>;
using SpanIdText = HexText<8>;
using TraceFlagsText = HexText<1>;

namespace detail {
inline bool has_ids(const abi::Context& span) noexcept {
    return !all_zero(span.trace_id, 16) && !all_zero(span.span_id, 8);
}
inline TraceIdText trace_id_text(const abi::Context& span) noexcept {
    return has_ids(span) ? TraceIdText(span.trace_id) : TraceIdText();
}
inline SpanIdText span_id_text(const abi::Context& span) noexcept {
    return has_ids(span) ? SpanIdText(span.span_id) : SpanIdText();
}
inline TraceFlagsText trace_flags_text(const abi::Context& span) noexcept {
    return has_ids(span) ? TraceFlagsText(&span.flags) : TraceFlagsText();
}
}  // namespace detail

// Immutable identity of a span: ids, W3C flags, trace state, and whether it came from another
// process.
class SpanContext {
public:
    SpanContext() noexcept : raw_{} {}
    // An invalid one if either id is all zero. `trace_state` is kept as it is given.
    SpanContext(const std::uint8_t (&trace_id)[16], const std::uint8_t (&span_id)[8],
                std::uint8_t flags, bool remote, std::string_view trace_state = {}) noexcept
        : raw_{} {
        std::memcpy(raw_.trace_id, trace_id, 16);
        std::memcpy(raw_.span_id, span_id, 8);
        raw_.flags = flags;
        raw_.remote = remote ? abi::remote_yes : 0;
        if (!trace_state.empty()) raw_.trace_state = make_trace_state(trace_state);
    }
    explicit SpanContext(const abi::Context& raw) noexcept : raw_(raw) {
        // The analyzer does not follow reference counts.
        abi::retain(raw_.trace_state);  // NOLINT(clang-analyzer-unix.Malloc)
    }
    SpanContext(const SpanContext& other) noexcept : SpanContext(other.raw_) {}
    SpanContext(SpanContext&& other) noexcept : raw_(std::exchange(other.raw_, {})) {}
    SpanContext& operator=(SpanContext other) noexcept {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~SpanContext() { abi::release(raw_.trace_state); }

    [[nodiscard]] bool valid() const noexcept { return detail::has_ids(raw_); }
    [[nodiscard]] bool sampled() const noexcept { return (raw_.flags & 1U) != 0; }
    [[nodiscard]] bool remote() const noexcept { return (raw_.remote & abi::remote_yes) != 0; }
    [[nodiscard]] std::uint8_t flags() const noexcept { return raw_.flags; }
    [[nodiscard]] const std::uint8_t (&trace_id() const noexcept)[16] { return raw_.trace_id; }
    [[nodiscard]] const std::uint8_t (&span_id() const noexcept)[8] { return raw_.span_id; }
    [[nodiscard]] std::string_view trace_state() const noexcept {
        return detail::text_of(raw_.trace_state);
    }
    // The value of one key of the trace state; empty: it is not there.
    [[nodiscard]] std::string_view trace_state(std::string_view key) const noexcept {
        return detail::find_in_trace_state(trace_state(), key);
    }
    // The same span with a member of the trace state added or changed, which makes it the first
    // one; beyond 32 members the last ones go. Unchanged if key or value may not stand in a header.
    [[nodiscard]] SpanContext with_trace_state(std::string_view key,
                                               std::string_view value) const noexcept {
        if (!detail::trace_state_key_valid(key) || !detail::trace_state_value_valid(value))
            return *this;
        detail::TraceStateBuilder builder;
        builder.add_first(key, value);
        builder.add_others(trace_state(), key);
        return with(builder);
    }
    [[nodiscard]] SpanContext without_trace_state(std::string_view key) const noexcept {
        detail::TraceStateBuilder builder;
        builder.add_others(trace_state(), key);
        return with(builder);
    }
    // Lower-case hex, 32 and 16 digits.
    [[nodiscard]] std::string trace_id_hex() const { return hex(raw_.trace_id, 16); }
    [[nodiscard]] std::string span_id_hex() const { return hex(raw_.span_id, 8); }
    // The same, and two digits of flags, without allocating; empty if this is not valid().
    [[nodiscard]] TraceIdText trace_id_text() const noexcept { return detail::trace_id_text(raw_); }
    [[nodiscard]] SpanIdText span_id_text() const noexcept { return detail::span_id_text(raw_); }
    [[nodiscard]] TraceFlagsText trace_flags_text() const noexcept {
        return detail::trace_flags_text(raw_);
    }

    [[nodiscard]] const abi::Context& raw() const noexcept { return raw_; }

private:
    SpanContext with(detail::TraceStateBuilder& builder) const noexcept {
        SpanContext changed;
        changed.raw_ = raw_;
        changed.raw_.trace_state = builder.take();
        return changed;
    }
    static std::string hex(const std::uint8_t* bytes, std::size_t count) {
        std::string text(2 * count, '0');
        detail::put_hex(text.data(), bytes, count);
        return text;
    }
    static abi::TraceState* make_trace_state(std::string_view text) noexcept {
        abi::TraceState* made = detail::make_trace_state(text.size());
        if (made == nullptr) return nullptr;
        std::memcpy(detail::bytes_of(made), text.data(), text.size());
        made->bytes = static_cast<std::uint32_t>(text.size());
        return made;
    }

    abi::Context raw_;
};

}  // namespace oteld
