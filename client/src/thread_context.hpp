// The thread context: which span a thread is in, where profilers and eBPF tools look for it.
//
// Used by: table.cpp, wherever what is current on a thread changes. Threads: the calling one, which
// alone writes; a reader looks only while it is stopped. So compiler fences do, as for a signal
// handler.
// OTEP 4947. The record is a copy: the span's slot in shared memory is another span's once that one
// has ended, and a span that is not sampled has none.
#pragma once

#include "oteld/detail/abi.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace oteld::sdk {

struct Thread;

struct alignas(8) ThreadContext {
    std::uint8_t trace_id[16];
    std::uint8_t span_id[8];
    std::uint8_t valid;             // 1; else nothing here counts.
    std::uint8_t flags;             // W3C trace flags.
    std::uint16_t attribute_bytes;  // 0: none.

    // A span by its words as they lie in memory, the flags in the lowest byte. A reader that stops
    // the thread in the middle finds what was, what will be, or nothing valid. What costs is the
    // number of stores: one to go to a span of the same trace, one to go to none.
    [[gnu::always_inline]] void put(std::uint64_t trace_first, std::uint64_t trace_last,
                                    std::uint64_t span, std::uint64_t span_flags) noexcept {
        if ((trace_first | trace_last) == 0 || span == 0) return put_state(0);
        const std::uint32_t wanted = 1U | static_cast<std::uint32_t>(span_flags & 0xFFU) << 8;
        const std::uint32_t now = state();
        if (now == wanted && word(trace_id) == trace_first && word(trace_id + 8) == trace_last)
            return put_word(span_id, span);
        if (now != 0) put_state(0);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        put_word(trace_id, trace_first);
        put_word(trace_id + 8, trace_last);
        put_word(span_id, span);
        std::atomic_signal_fence(std::memory_order_seq_cst);
        put_state(wanted);
    }

private:
    using Word [[gnu::may_alias]] = std::uint64_t;
    using Half [[gnu::may_alias]] = std::uint32_t;
    static std::uint64_t word(const std::uint8_t* at) noexcept {
        return __atomic_load_n(reinterpret_cast<const Word*>(at), __ATOMIC_RELAXED);
    }
    static void put_word(std::uint8_t* at, std::uint64_t value) noexcept {
        __atomic_store_n(reinterpret_cast<Word*>(at), value, __ATOMIC_RELAXED);
    }
    // `valid`, `flags` and `attribute_bytes`.
    [[nodiscard]] std::uint32_t state() const noexcept {
        return __atomic_load_n(reinterpret_cast<const Half*>(&valid), __ATOMIC_RELAXED);
    }
    void put_state(std::uint32_t value) noexcept {
        __atomic_store_n(reinterpret_cast<Half*>(&valid), value, __ATOMIC_RELAXED);
    }
};
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
static_assert(offsetof(ThreadContext, span_id) == 16 && offsetof(ThreadContext, valid) == 24 &&
              offsetof(ThreadContext, flags) == 25 &&
              offsetof(ThreadContext, attribute_bytes) == 26);

// Lets the thread's otel_thread_ctx_v1 point to its record, once: before something becomes current.
void announce(Thread& thread) noexcept;

}  // namespace oteld::sdk
