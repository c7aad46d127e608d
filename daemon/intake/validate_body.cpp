#include "daemon/intake/validate_body.hpp"

#include "oteld/detail/wire.hpp"

#include <cstring>

namespace oteld::daemon {
namespace {

namespace wire = detail::wire;

constexpr std::uint8_t bytes_tag(std::uint32_t field) {
    return static_cast<std::uint8_t>(wire::tag(field, wire::bytes_type));
}
constexpr std::uint8_t varint_tag(std::uint32_t field) {
    return static_cast<std::uint8_t>(wire::tag(field, wire::varint_type));
}
constexpr std::uint8_t fixed64_tag(std::uint32_t field) {
    return static_cast<std::uint8_t>(wire::tag(field, wire::fixed64_type));
}
constexpr std::uint8_t fixed32_tag(std::uint32_t field) {
    return static_cast<std::uint8_t>(wire::tag(field, wire::fixed32_type));
}

bool slow_varint(std::uint8_t*& at, const std::uint8_t* end, std::uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 64 && at != end; shift += 7) {
        const std::uint8_t byte = *at++;
        value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
        // The tenth byte has room for one bit.
        if (byte < 0x80) return shift != 63 || byte <= 1;
    }
    return false;
}

[[gnu::always_inline]] inline bool read_varint(std::uint8_t*& at, const std::uint8_t* end,
                                               std::uint64_t& value) {
    if (__builtin_expect(at != end && *at < 0x80, 1)) {
        value = *at++;
        return true;
    }
    return slow_varint(at, end, value);
}

// A length that fits into what is left.
[[gnu::always_inline]] inline bool read_length(std::uint8_t*& at, const std::uint8_t* end,
                                               std::uint64_t& length) {
    return read_varint(at, end, length) && length <= static_cast<std::uint64_t>(end - at);
}

inline bool skip_varint(std::uint8_t*& at, const std::uint8_t* end) {
    std::uint64_t ignored;
    return read_varint(at, end, ignored);
}

inline bool skip_bytes(std::uint8_t*& at, const std::uint8_t* end, std::ptrdiff_t bytes) {
    if (end - at < bytes) return false;
    at += bytes;
    return true;
}

}  // namespace

// The common form at a glance: short key, then a short scalar, one byte of length each. Reads up to
// two bytes behind `end` before it knows that they are not its own; they are readable, and nothing
// is believed of them.
inline bool BodyValidator::key_value(std::uint8_t* at, std::uint8_t* end, int depth) noexcept {
    const auto bytes = static_cast<std::size_t>(end - at);
    const std::size_t key = at[1];
    if (__builtin_expect(at[0] != bytes_tag(1) || key >= 0x80 || key + 4 > bytes, 0))
        return key_value_slow(at, end, depth);
    std::uint8_t* value = at + 2 + key;
    const std::size_t value_bytes = value[1];
    if (__builtin_expect(
            value[0] != bytes_tag(2) || value_bytes >= 0x80 || key + 4 + value_bytes != bytes, 0))
        return key_value_slow(at, end, depth);
    text(at + 2, key);
    value += 2;
    switch (value[0]) {
        case bytes_tag(1):
            if (value_bytes < 2 || value[1] != value_bytes - 2)
                break;  // value_bytes < 0x80: one byte of length.
            text(value + 2, value_bytes - 2);
            return true;
        case varint_tag(2):
        case varint_tag(3):
            if (value_bytes == 2 && value[1] < 0x80) return true;
            if (value_bytes == 3 && value[1] >= 0x80 && value[2] < 0x80) return true;
            break;
        case fixed64_tag(4):
            if (value_bytes == 9) return true;
            break;
        default: break;
    }
    return any_value(value, end, depth + 1);
}

bool BodyValidator::span_body(std::uint8_t* at, std::uint8_t* end,
                              std::uint8_t* first_high) noexcept {
    end_ = end;
    next_high_ = first_high;
    std::uint64_t length;
    while (at != end) {
        const std::uint8_t tag = *at++;
        switch (tag) {
            case bytes_tag(9):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                if (!key_value(at, at + length, 1)) return false;
                at += length;
                break;
            case bytes_tag(3):
            case bytes_tag(5):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                text(at, length);
                at += length;
                break;
            case bytes_tag(11):
            case bytes_tag(13):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                if (!(tag == bytes_tag(11) ? event(at, at + length) : link(at, at + length)))
                    return false;
                at += length;
                break;
            case varint_tag(10):
            case varint_tag(12):
            case varint_tag(14):
                if (!skip_varint(at, end)) return refuse(Refusal::wire);
                break;
            default: return refuse(Refusal::field);
        }
    }
    return true;
}

void BodyValidator::text_slow(std::uint8_t* at, std::size_t bytes) noexcept {
    if (next_high_ < at) next_high_ = find_high(at, end_);
    if (at + bytes <= next_high_) return;
    bytes_repaired_ +=
        repair_utf8_slow(next_high_, static_cast<std::size_t>(at + bytes - next_high_));
    next_high_ = find_high(at + bytes, end_);
}

bool BodyValidator::event(std::uint8_t* at, std::uint8_t* end) noexcept {
    std::uint64_t value;
    while (at != end) {
        switch (*at++) {
            case fixed64_tag(1): {
                std::uint8_t* time = at;
                if (!skip_bytes(at, end, 8)) return refuse(Refusal::wire);
                std::memcpy(&value, time, 8);
                if ((value & detail::time_is_ticks) == 0) break;
                value = clock_.to_unix(value & ~detail::time_is_ticks);
                std::memcpy(time, &value, 8);
                break;
            }
            case bytes_tag(2):
                if (!read_length(at, end, value)) return refuse(Refusal::wire);
                text(at, value);
                at += value;
                break;
            case bytes_tag(3):
                if (!read_length(at, end, value)) return refuse(Refusal::wire);
                if (!key_value(at, at + value, 2)) return false;
                at += value;
                break;
            case varint_tag(4):
                if (!skip_varint(at, end)) return refuse(Refusal::wire);
                break;
            default: return refuse(Refusal::field);
        }
    }
    return true;
}

bool BodyValidator::link(std::uint8_t* at, std::uint8_t* end) noexcept {
    std::uint64_t length;
    while (at != end) {
        const std::uint8_t tag = *at++;
        switch (tag) {
            case bytes_tag(1):
            case bytes_tag(2):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                if (length != (tag == bytes_tag(1) ? 16 : 8)) return refuse(Refusal::ids);
                at += length;
                break;
            case bytes_tag(3):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                text(at, length);
                at += length;
                break;
            case bytes_tag(4):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                if (!key_value(at, at + length, 2)) return false;
                at += length;
                break;
            case varint_tag(5):
                if (!skip_varint(at, end)) return refuse(Refusal::wire);
                break;
            case fixed32_tag(6):
                if (!skip_bytes(at, end, 4)) return refuse(Refusal::wire);
                break;
            default: return refuse(Refusal::field);
        }
    }
    return true;
}

bool BodyValidator::key_value_slow(std::uint8_t* at, std::uint8_t* end, int depth) noexcept {
    if (depth > depth_max) return refuse(Refusal::nesting);
    std::uint64_t length;
    while (at != end) {
        const std::uint8_t tag = *at++;
        if (tag != bytes_tag(1) && tag != bytes_tag(2)) return refuse(Refusal::field);
        if (!read_length(at, end, length)) return refuse(Refusal::wire);
        if (tag == bytes_tag(1)) {
            text(at, length);
        } else if (!any_value(at, at + length, depth + 1)) {
            return false;
        }
        at += length;
    }
    return true;
}

bool BodyValidator::any_value(std::uint8_t* at, std::uint8_t* end, int depth) noexcept {
    if (depth > depth_max) return refuse(Refusal::nesting);
    std::uint64_t length;
    while (at != end) {
        const std::uint8_t tag = *at++;
        switch (tag) {
            case bytes_tag(1):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                text(at, length);
                at += length;
                break;
            case varint_tag(2):
            case varint_tag(3):
                if (!skip_varint(at, end)) return refuse(Refusal::wire);
                break;
            case fixed64_tag(4):
                if (!skip_bytes(at, end, 8)) return refuse(Refusal::wire);
                break;
            case bytes_tag(5):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                if (!array_value(at, at + length, depth + 1)) return false;
                at += length;
                break;
            case bytes_tag(6):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                if (!key_value_list(at, at + length, depth + 1)) return false;
                at += length;
                break;
            case bytes_tag(7):
                if (!read_length(at, end, length)) return refuse(Refusal::wire);
                at += length;
                break;
            default: return refuse(Refusal::field);
        }
    }
    return true;
}

bool BodyValidator::array_value(std::uint8_t* at, std::uint8_t* end, int depth) noexcept {
    std::uint64_t length;
    while (at != end) {
        if (*at++ != bytes_tag(1)) return refuse(Refusal::field);
        if (!read_length(at, end, length)) return refuse(Refusal::wire);
        if (!any_value(at, at + length, depth + 1)) return false;
        at += length;
    }
    return true;
}

bool BodyValidator::key_value_list(std::uint8_t* at, std::uint8_t* end, int depth) noexcept {
    std::uint64_t length;
    while (at != end) {
        if (*at++ != bytes_tag(1)) return refuse(Refusal::field);
        if (!read_length(at, end, length)) return refuse(Refusal::wire);
        if (!key_value(at, at + length, depth + 1)) return false;
        at += length;
    }
    return true;
}

bool BodyValidator::resource(std::uint8_t* at, std::uint8_t* end) noexcept {
    return flat_message(at, end, 0, 1U << 1, 1U << 2);
}

bool BodyValidator::instrumentation_scope(std::uint8_t* at, std::uint8_t* end) noexcept {
    return flat_message(at, end, 1U << 1 | 1U << 2, 1U << 3, 1U << 4);
}

bool BodyValidator::flat_message(std::uint8_t* at, std::uint8_t* end, std::uint32_t strings,
                                 std::uint32_t attributes, std::uint32_t varints) noexcept {
    end_ = end;
    next_high_ = find_high(at, end);
    std::uint64_t length;
    while (at != end) {
        const std::uint8_t tag = *at++;
        const std::uint32_t field = 1U << (tag >> 3 & 15);
        const bool is_bytes = tag < 0x80 && (tag & 7) == wire::bytes_type;
        if (is_bytes && ((strings | attributes) & field) != 0) {
            if (!read_length(at, end, length)) return refuse(Refusal::wire);
            if ((strings & field) != 0) text(at, length);
            if ((attributes & field) != 0 && !key_value(at, at + length, 1)) return false;
            at += length;
        } else if (tag < 0x80 && (tag & 7) == wire::varint_type && (varints & field) != 0) {
            if (!skip_varint(at, end)) return refuse(Refusal::wire);
        } else {
            return refuse(Refusal::field);
        }
    }
    return true;
}

}  // namespace oteld::daemon
