// How the protocols of this folder touch words that two processes share: one verb an access.
//
// Used by: the templates in lane_writer.hpp, lane_reader.hpp, open_spans.hpp and
// daemon/spool/journal.hpp, whose `Memory` this is everywhere but in tests/model. There the same
// templates run over an explorer that tries every order. Threads: any. Each verb is the one
// instruction or the copy that its name says.
#pragma once

#include <cstddef>

namespace oteld::shm {

struct Hardware {
    template <class T>
    static T load_relaxed(const T& word) noexcept {
        return __atomic_load_n(&word, __ATOMIC_RELAXED);
    }
    template <class T>
    static T load_acquire(const T& word) noexcept {
        return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
    }
    template <class T>
    static void store_relaxed(T& word, T value) noexcept {
        __atomic_store_n(&word, value, __ATOMIC_RELAXED);
    }
    template <class T>
    static void store_release(T& word, T value) noexcept {
        __atomic_store_n(&word, value, __ATOMIC_RELEASE);
    }
    template <class T>
    static T exchange_acquire(T& word, T value) noexcept {
        return __atomic_exchange_n(&word, value, __ATOMIC_ACQUIRE);
    }
    template <class T>
    static T fetch_or_release(T& word, T bits) noexcept {
        return __atomic_fetch_or(&word, bits, __ATOMIC_RELEASE);
    }
    // Bytes of a record into shared memory.
    static void copy_in(void* to, const void* from, std::size_t bytes) noexcept {
        __builtin_memcpy(to, from, bytes);
    }
    // Shared bytes into private memory exactly once: the compiler may not read them again
    // afterwards.
    static void copy_out(void* to, const void* from, std::size_t bytes) noexcept {
        __builtin_memcpy(to, from, bytes);
        asm volatile("" : : "r"(to) : "memory");
    }
};

}  // namespace oteld::shm
