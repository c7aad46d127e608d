// The text of a W3C tracestate header: reading it, and building a new one.
//
// Used by: SpanContext, the W3C propagator. Threads: any; a builder is one thread's. Never throws;
// out of memory there is no trace state, which a span can do without.
// The keys are those of Level 2, of which Level 1's are a part.
// https://www.w3.org/TR/trace-context-2/#tracestate-header
#pragma once

#include "oteld/detail/abi.hpp"
#include "oteld/detail/text.hpp"

#include <cstring>
#include <new>
#include <utility>

namespace oteld::detail {

inline constexpr std::size_t trace_state_members_max = 32;
// The specification asks for 512 at least. Servers take about 8 KiB for all headers.
inline constexpr std::size_t trace_state_bytes_max = 4096;
inline constexpr std::size_t trace_state_long_member = 128;  // The first to go beyond that.
inline constexpr std::size_t trace_state_part_bytes_max = 256;

[[gnu::noinline]] inline bool trace_state_key_valid(std::string_view key) noexcept {
    if (key.empty() || key.size() > trace_state_part_bytes_max) return false;
    if (!is_lower(key[0]) && !is_digit(key[0])) return false;
    for (const char c : key) {
        if (!is_lower(c) && !is_digit(c) && c != '_' && c != '-' && c != '*' && c != '/' &&
            c != '@')
            return false;
    }
    return true;
}

[[gnu::noinline]] inline bool trace_state_value_valid(std::string_view value) noexcept {
    if (value.empty() || value.size() > trace_state_part_bytes_max || value.back() == ' ')
        return false;
    for (const char c : value) {
        if (c < 0x20 || c > 0x7E || c == ',' || c == '=') return false;
    }
    return true;
}

// A member's key and value. False: it has no '='.
inline bool split_member(std::string_view member, std::string_view& key,
                         std::string_view& value) noexcept {
    const std::size_t equal = member.find('=');
    if (equal == std::string_view::npos) return false;
    key = member.substr(0, equal);
    value = member.substr(equal + 1);
    return true;
}

// The value of a key; empty: it is not there.
[[gnu::noinline]] inline std::string_view find_in_trace_state(std::string_view text,
                                                              std::string_view wanted) noexcept {
    while (!text.empty()) {
        std::string_view key, value;
        if (split_member(trimmed(next_part(text, ',')), key, value) && key == wanted) return value;
    }
    return {};
}

inline abi::TraceState* make_trace_state(std::size_t capacity) noexcept {
    void* memory = std::malloc(sizeof(abi::TraceState) + capacity);
    return memory == nullptr ? nullptr : new (memory) abi::TraceState{{1}, 0};
}
inline char* bytes_of(abi::TraceState* state) noexcept {
    return reinterpret_cast<char*>(state + 1);
}
inline std::string_view text_of(const abi::TraceState* state) noexcept {
    if (state == nullptr) return {};
    return {reinterpret_cast<const char*>(state + 1), state->bytes};
}

// Collects members into the one piece of memory that is kept.
class TraceStateBuilder {
public:
    TraceStateBuilder() noexcept = default;
    TraceStateBuilder(const TraceStateBuilder&) = delete;
    TraceStateBuilder& operator=(const TraceStateBuilder&) = delete;
    ~TraceStateBuilder() { abi::release(state_); }

    // The members of one header line. A bad one, or one too many, makes all of them bad. Of a key
    // that is there twice the first counts.
    [[gnu::noinline]] void add_header(std::string_view text) noexcept {
        if (!reserve(text.size() + 1)) bad_ = true;
        while (!text.empty() && !bad_) {
            const std::string_view member = trimmed(next_part(text, ','));
            std::string_view key, value;
            if (member.empty()) continue;
            bad_ = ++members_ > trace_state_members_max || !split_member(member, key, value) ||
                   !trace_state_key_valid(key) || !trace_state_value_valid(value);
            if (!bad_ && find_in_trace_state(text_of(state_), key).empty()) append(member);
        }
    }
    // The members but for this key, as far as there is room for them: those on the right go.
    void add_others(std::string_view text, std::string_view without) noexcept {
        if (!reserve(text.size() + 1)) return;
        while (!text.empty() && members_ < trace_state_members_max) {
            const std::string_view member = trimmed(next_part(text, ','));
            std::string_view key, value;
            if (!split_member(member, key, value) || key == without) continue;
            append(member);
            ++members_;
        }
    }
    void add_first(std::string_view key, std::string_view value) noexcept {
        if (!reserve(key.size() + value.size() + 1)) return;
        append(key);
        char* at = bytes_of(state_) + state_->bytes;
        *at = '=';
        std::memcpy(at + 1, value.data(), value.size());
        state_->bytes += static_cast<std::uint32_t>(value.size() + 1);
        ++members_;
    }
    // Null: there is none.
    [[nodiscard]] abi::TraceState* take() noexcept {
        if (bad_ || state_ == nullptr || state_->bytes == 0) return nullptr;
        if (state_->bytes > trace_state_bytes_max) {
            drop_from_the_right(trace_state_long_member);
            drop_from_the_right(0);
        }
        return std::exchange(state_, nullptr);
    }

private:
    // For a header and the comma in front of it.
    bool reserve(std::size_t more) noexcept {
        const std::size_t used = state_ == nullptr ? 0 : state_->bytes;
        if (more > UINT32_MAX - 64 - used) return false;
        if (state_ == nullptr) {
            state_ = make_trace_state(more);
            return state_ != nullptr;
        }
        void* larger =
            std::realloc(static_cast<void*>(state_), sizeof(abi::TraceState) + used + more);
        if (larger == nullptr) return false;
        state_ = static_cast<abi::TraceState*>(larger);
        return true;
    }
    void append(std::string_view text) noexcept {
        char* at = bytes_of(state_) + state_->bytes;
        if (state_->bytes != 0) *at++ = ',';
        std::memcpy(at, text.data(), text.size());
        state_->bytes = static_cast<std::uint32_t>(at + text.size() - bytes_of(state_));
    }
    // Members that are longer than this, the last one first, until the rest is short enough.
    [[gnu::noinline]] void drop_from_the_right(std::size_t longer_than) noexcept {
        char* const text = bytes_of(state_);
        std::size_t end = state_->bytes;
        while (end != 0 && state_->bytes > trace_state_bytes_max) {
            std::size_t begin = end;
            while (begin != 0 && text[begin - 1] != ',') --begin;
            if (end - begin > longer_than) {
                // With one of the two commas around it.
                const std::size_t from = begin == 0 ? 0 : begin - 1;
                const std::size_t to = begin == 0 && end < state_->bytes ? end + 1 : end;
                std::memmove(text + from, text + to, state_->bytes - to);
                state_->bytes -= static_cast<std::uint32_t>(to - from);
            }
            end = begin == 0 ? 0 : begin - 1;
        }
    }

    abi::TraceState* state_ = nullptr;
    std::size_t members_ = 0;
    bool bad_ = false;
};

}  // namespace oteld::detail
