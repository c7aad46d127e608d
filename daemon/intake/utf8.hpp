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

// The first byte of [at, end) that is not ASCII, or `end`.
[[nodiscard]] inline std::uint8_t* find_high(std::uint8_t* at, std::uint8_t* end) noexcept {
    for (; at < end; at += 16) {
        const std::uint32_t bits = high_bits_16(at);
        if (__builtin_expect(bits == 0, 1)) continue;
        std::uint8_t* const found = at + __builtin_ctz(bits);
        return found < end ? found : end;
    }
    return end;
}

// Copies 16 shared bytes and returns their top bits. What is looked at is what is stored: the
// compiler may not read them again.
[[gnu::always_inline]] inline std::uint32_t copy_16(std::uint8_t* to,
                                                    const std::uint8_t* from_untrusted) noexcept {
#if defined(__SSE2__)
    __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from_untrusted));
    asm volatile("" : "+x"(block));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), block);
    return static_cast<std::uint32_t>(_mm_movemask_epi8(block));
#else
    std::uint64_t words[2];
    std::memcpy(words, from_untrusted, sizeof words);
    asm volatile("" : "+r"(words[0]), "+r"(words[1]));
    std::memcpy(to, words, sizeof words);
    return high_bits_16(reinterpret_cast<const std::uint8_t*>(words));
#endif
}

// Copies shared bytes and returns the first one, in the copy, that is not ASCII, or its end.
// Looking while the bytes are in registers: a load across stores that are still under way would
// wait for them.
[[nodiscard]] inline std::uint8_t* copy_and_find_high(std::uint8_t* to,
                                                      const std::uint8_t* from_untrusted,
                                                      std::size_t bytes) noexcept {
    std::uint8_t* const end = to + bytes;
    std::uint8_t* high = end;
    const auto block = [&](std::size_t at) {
        const std::uint32_t bits = copy_16(to + at, from_untrusted + at);
        if (__builtin_expect(bits == 0, 1)) return;
        std::uint8_t* const found = to + at + __builtin_ctz(bits);
        if (found < high) high = found;
    };
    if (bytes < 16) {
        std::memcpy(to, from_untrusted, bytes);
        return find_high(to, end);
    }
    std::size_t at = 0;
    for (; at + 16 <= bytes; at += 16) block(at);
    // Overlaps the block before it, and is stored over it: what counts is what was read last.
    if (at != bytes) block(bytes - 16);
    return high;
}

[[nodiscard]] inline std::uint32_t repair_utf8(std::uint8_t* text, std::size_t bytes) noexcept {
    std::uint8_t* const high = find_high(text, text + bytes);
    const auto ascii = static_cast<std::size_t>(high - text);
    return ascii == bytes ? 0 : repair_utf8_slow(high, bytes - ascii);
}

}  // namespace oteld::daemon
