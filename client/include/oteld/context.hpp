// Trace identity and the current context of a thread.
//
// Used by: everybody who links spans together or passes them on.
// Threads: a SpanContext is a value; `current()` and ContextScope concern the calling thread only.
// https://www.w3.org/TR/trace-context-2/
// https://opentelemetry.io/docs/specs/otel/trace/api/#spancontext
#pragma once

#include "oteld/detail/abi.hpp"

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace oteld {

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
        raw_.remote = remote ? 1 : 0;
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

    [[nodiscard]] bool valid() const noexcept {
        return any(raw_.trace_id, 16) && any(raw_.span_id, 8);
    }
    [[nodiscard]] bool sampled() const noexcept { return (raw_.flags & 1U) != 0; }
    [[nodiscard]] bool remote() const noexcept { return raw_.remote != 0; }
    [[nodiscard]] std::uint8_t flags() const noexcept { return raw_.flags; }
    [[nodiscard]] const std::uint8_t (&trace_id() const noexcept)[16] { return raw_.trace_id; }
    [[nodiscard]] const std::uint8_t (&span_id() const noexcept)[8] { return raw_.span_id; }
    [[nodiscard]] std::string_view trace_state() const noexcept {
        if (raw_.trace_state == nullptr) return {};
        return {reinterpret_cast<const char*>(raw_.trace_state + 1), raw_.trace_state->bytes};
    }
    // Lower-case hex, 32 and 16 digits.
    [[nodiscard]] std::string trace_id_hex() const { return hex(raw_.trace_id, 16); }
    [[nodiscard]] std::string span_id_hex() const { return hex(raw_.span_id, 8); }

    [[nodiscard]] const abi::Context& raw() const noexcept { return raw_; }

private:
    static bool any(const std::uint8_t* bytes, std::size_t count) noexcept {
        for (std::size_t i = 0; i < count; ++i) {
            if (bytes[i] != 0) return true;
        }
        return false;
    }
    static std::string hex(const std::uint8_t* bytes, std::size_t count) {
        static constexpr char digits[] = "0123456789abcdef";
        std::string text;
        for (std::size_t i = 0; i < count; ++i) {
            text += digits[bytes[i] >> 4];
            text += digits[bytes[i] & 15];
        }
        return text;
    }
    static abi::TraceState* make_trace_state(std::string_view text) noexcept {
        auto* memory =
            static_cast<abi::TraceState*>(std::malloc(sizeof(abi::TraceState) + text.size()));
        if (memory == nullptr) return nullptr;
        new (memory) abi::TraceState{{1}, static_cast<std::uint32_t>(text.size())};
        std::memcpy(static_cast<void*>(memory + 1), text.data(), text.size());
        return memory;
    }

    abi::Context raw_;
};

// What is current on this thread; invalid when nothing is, or without a client.
inline SpanContext current() noexcept {
    const abi::Table* table = abi::client();
    return table == nullptr ? SpanContext() : SpanContext(*table->current());
}

// Makes a context current until the end of the block. Detached out of order or on another thread:
// counted.
class ContextScope {
public:
    ContextScope() noexcept = default;
    explicit ContextScope(const abi::Context& context) noexcept { attach(context); }
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

    // Of one that has nothing attached yet.
    void attach(const abi::Context& context) noexcept {
        const abi::Table* table = abi::client();
        if (table == nullptr) return;
        std::memcpy(attached_.span_id, context.span_id, sizeof attached_.span_id);
        table->attach(&context, &previous_);
        active_ = true;
    }
    void detach() noexcept {
        if (std::exchange(active_, false)) abi::present_client()->detach(&attached_, &previous_);
    }

private:
    abi::Context attached_{};  // Its span id: that is what is compared.
    abi::Context previous_{};
    bool active_ = false;
};

[[nodiscard]] inline ContextScope attach(const SpanContext& context) noexcept {
    return ContextScope(context.raw());
}

}  // namespace oteld
