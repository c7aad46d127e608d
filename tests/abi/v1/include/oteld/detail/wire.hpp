// Writes protobuf wire format into memory that is known to be large enough.
//
// Used by: the API's inline encoder, shm and exporters (the one thing they share with the client).
// Threads: free functions on the caller's memory. Never allocates, checks or throws: the caller has
// asked for room with the *_bytes functions first.
// https://protobuf.dev/programming-guides/encoding/
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace oteld::detail::wire {

enum Type : std::uint32_t { varint_type = 0, fixed64_type = 1, bytes_type = 2, fixed32_type = 5 };

constexpr std::uint32_t tag(std::uint32_t field, Type type) noexcept { return field << 3 | type; }

constexpr std::size_t varint_bytes_max = 10;

constexpr std::size_t varint_bytes(std::uint64_t value) noexcept {
    std::size_t bytes = 1;
    while (value >= 0x80) {
        value >>= 7;
        ++bytes;
    }
    return bytes;
}

inline std::uint8_t* put_varint(std::uint8_t* at, std::uint64_t value) noexcept {
    while (value >= 0x80) {
        *at++ = static_cast<std::uint8_t>(value | 0x80);
        value >>= 7;
    }
    *at++ = static_cast<std::uint8_t>(value);
    return at;
}

inline std::uint8_t* put_tag(std::uint8_t* at, std::uint32_t field, Type type) noexcept {
    return put_varint(at, tag(field, type));
}

inline std::uint8_t* put_fixed32(std::uint8_t* at, std::uint32_t value) noexcept {
    std::memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

inline std::uint8_t* put_fixed64(std::uint8_t* at, std::uint64_t value) noexcept {
    std::memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

inline std::uint8_t* put_raw(std::uint8_t* at, const void* data, std::size_t bytes) noexcept {
    if (bytes != 0) std::memcpy(at, data, bytes);
    return at + bytes;
}

// For texts that are short nearly always: a call of memcpy() costs more than the copy. Not for
// overlapping ones.
[[gnu::always_inline]] inline std::uint8_t* put_short(std::uint8_t* at, const void* data,
                                                      std::size_t bytes) noexcept {
    if (__builtin_constant_p(bytes)) return put_raw(at, data, bytes);
    const auto* from = static_cast<const std::uint8_t*>(data);
    if (bytes >= 16) {
        for (std::size_t i = 0; i < bytes - 16; i += 16) std::memcpy(at + i, from + i, 16);
        std::memcpy(at + bytes - 16, from + bytes - 16, 16);
    } else if (bytes >= 8) {
        std::memcpy(at, from, 8);
        std::memcpy(at + bytes - 8, from + bytes - 8, 8);
    } else if (bytes >= 4) {
        std::memcpy(at, from, 4);
        std::memcpy(at + bytes - 4, from + bytes - 4, 4);
    } else if (bytes != 0) {  // First, middle and last: all that there are.
        const std::uint8_t middle = from[bytes / 2];
        const std::uint8_t last = from[bytes - 1];
        at[0] = from[0];
        at[bytes / 2] = middle;
        at[bytes - 1] = last;
    }
    return at + bytes;
}

// tag, length, bytes
inline std::uint8_t* put_bytes(std::uint8_t* at, std::uint32_t field, const void* data,
                               std::size_t bytes) noexcept {
    at = put_tag(at, field, bytes_type);
    at = put_varint(at, bytes);
    return put_raw(at, data, bytes);
}

constexpr std::size_t bytes_field_bytes(std::uint32_t field, std::size_t bytes) noexcept {
    return varint_bytes(tag(field, bytes_type)) + varint_bytes(bytes) + bytes;
}

}  // namespace oteld::detail::wire
