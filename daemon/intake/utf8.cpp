#include "daemon/intake/utf8.hpp"

namespace oteld::daemon {
namespace {

bool continues(std::uint8_t byte) { return (byte & 0xC0) == 0x80; }

// Length of the well-formed sequence at `at` (Unicode 15, table 3-7), 0 when there is none.
std::size_t sequence_bytes(const std::uint8_t* at, std::size_t rest) {
    const std::uint8_t lead = at[0];
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    if (lead < 0xE0) return rest >= 2 && continues(at[1]) ? 2 : 0;
    if (lead < 0xF0) {
        if (rest < 3 || !continues(at[1]) || !continues(at[2])) return 0;
        const bool overlong = lead == 0xE0 && at[1] < 0xA0;
        const bool surrogate = lead == 0xED && at[1] > 0x9F;
        return overlong || surrogate ? 0 : 3;
    }
    if (rest < 4 || !continues(at[1]) || !continues(at[2]) || !continues(at[3])) return 0;
    const bool overlong = lead == 0xF0 && at[1] < 0x90;
    const bool too_high = lead == 0xF4 && at[1] > 0x8F;
    return overlong || too_high ? 0 : 4;
}

}  // namespace

std::uint32_t repair_utf8_slow(std::uint8_t* text, std::size_t bytes) noexcept {
    std::uint32_t replaced = 0;
    // What lies before it is ASCII, so a sequence cannot have begun there.
    for (std::size_t at = 0; at < bytes;) {
        if (bytes - at >= 16 && high_bits_16(text + at) == 0) {
            at += 16;
            continue;
        }
        const std::size_t length = sequence_bytes(text + at, bytes - at);
        if (length == 0) {
            text[at] = '?';
            ++replaced;
        }
        at += length == 0 ? 1 : length;
    }
    return replaced;
}

}  // namespace oteld::daemon
