// xoroshiro128++, one per lane, seeded by getrandom: ids that do not collide across threads, forks
// and hosts.
//
// Used by: span and trace ids. Threads: the lane's owner. Not for secrets.
// https://prng.di.unimi.it/ (Blackman and Vigna; public domain algorithm)
#pragma once

#include <cstdint>

namespace oteld::sdk {

struct Random {
    std::uint64_t state[2];

    void seed() noexcept;  // From the kernel; falls back to clocks and addresses where getrandom is
                           // refused.

    std::uint64_t next() noexcept {
        const std::uint64_t result = rotate(state[0] + state[1], 17) + state[0];
        const std::uint64_t mixed = state[0] ^ state[1];
        state[0] = rotate(state[0], 49) ^ mixed ^ mixed << 21;
        state[1] = rotate(mixed, 28);
        return result;
    }

private:
    static std::uint64_t rotate(std::uint64_t value, int by) noexcept {
        return value << by | value >> (64 - by);
    }
};

}  // namespace oteld::sdk
