// Checks UTF-8 where it lies and repairs it in place: each invalid byte becomes '?'.
//
// Used by: validate.cpp. Threads: free functions on the caller's memory.
// May read, never write, up to utf8_slack bytes behind the text: the caller's buffer is that much
// larger. A repaired string is worth more than a lost span, and protobuf parsers refuse whole
// requests for one bad byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace oteld::daemon {

inline constexpr std::size_t utf8_slack = 16;

// From the first byte that is not ASCII; returns how many bytes were replaced.
[[nodiscard]] std::uint32_t repair_utf8_slow(std::uint8_t* text, std::size_t bytes) noexcept;

// One bit for each of 16 bytes with its top bit set.
[[gnu::always_inline]] inline std::uint32_t high_bits_16(const std::uint8_t* at) noexcept {
#if defined(__SSE2__)
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    return static_cast<std::uint32_t>(_mm_movemask_epi8(block));
#else
    std::uint32_t bits = 0;
    for (int half = 0; half < 2; ++half) {
        std::uint64_t word;
        std::memcpy(&word, at + half * 8, 8);
        // Gathers the eight top bits into one byte.
        bits |= static_cast<std::uint32_t>(
                    ((word & 0x8080808080808080ULL) >> 7) * 0x0102040810204080ULL >> 56)
                << (half * 8);
    }
    return bits;
#endif
}

[[gnu::always_inline]] [[nodiscard]] inline std::uint32_t repair_utf8(std::uint8_t* text,
                                                                      std::size_t bytes) noexcept {
    std::size_t done = 0;
    while (bytes - done > 16) {
        if (__builtin_expect(high_bits_16(text + done) != 0, 0))
            return repair_utf8_slow(text + done, bytes - done);
        done += 16;
    }
    const std::uint32_t wanted = (1U << (bytes - done)) - 1;
    if (__builtin_expect((high_bits_16(text + done) & wanted) != 0, 0))
        return repair_utf8_slow(text + done, bytes - done);
    return 0;
}

}  // namespace oteld::daemon
