// What every target shares: taking an input apart, and saying what should have held.
//
// Used by: tests/fuzz. Threads: one. An input is read front to back; what it lacks reads as zero or
// empty, so that every input means something.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace oteld::fuzz {

// A promise that did not hold ends the process: a fuzzer takes that for a find, ctest for a
// failure.
#define OTELD_EXPECT(condition) \
    ((condition) ? void() : ::oteld::fuzz::broken(#condition, __FILE__, __LINE__))
[[noreturn]] inline void broken(const char* promise, const char* file, int line) {
    // Not through stderr, which a target may have sent elsewhere.
    ::dprintf(STDERR_FILENO, "%s:%d: does not hold: %s\n", file, line, promise);
    std::abort();
}

class Input {
public:
    Input(const std::uint8_t* bytes, std::size_t count)
        : rest_(reinterpret_cast<const char*>(bytes), count) {}

    [[nodiscard]] bool empty() const { return rest_.empty(); }
    template <class Number>
    [[nodiscard]] Number number() {
        Number value{};
        const std::string_view from = bytes(sizeof value);
        std::memcpy(&value, from.data(), from.size());
        return value;
    }
    [[nodiscard]] std::string_view bytes(std::size_t count) {
        const std::string_view taken = rest_.substr(0, count);
        rest_.remove_prefix(taken.size());
        return taken;
    }
    // One byte of length, then the text.
    [[nodiscard]] std::string text() { return std::string(bytes(number<std::uint8_t>())); }
    [[nodiscard]] std::string_view rest() { return bytes(rest_.size()); }

private:
    std::string_view rest_;
};

}  // namespace oteld::fuzz
