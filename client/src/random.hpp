// xoshiro256++, one per lane, seeded by getrandom: ids that do not collide across threads, forks
// and hosts.
//
// Used by: span and trace ids. Threads: the lane's owner. Not for secrets.
// https://prng.di.unimi.it/ (Blackman and Vigna; public domain algorithm)
#pragma once

#include <cstdint>

namespace oteld::sdk {

struct Random {
    std::uint64_t state[4];

    void seed() noexcept;  // From the kernel; falls back to clocks and addresses where getrandom is
                           // refused.

    std::uint64_t next() noexcept {
        const std::uint64_t result = rotate(state[0] + state[3], 23) + state[0];
        const std::uint64_t shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = rotate(state[3], 45);
        return result;
    }

private:
    static std::uint64_t rotate(std::uint64_t value, int by) noexcept {
        return value << by | value >> (64 - by);
    }
};

}  // namespace oteld::sdk
