// Removes attributes whose key occurs again later: OTLP forbids a key twice, and the last value
// wins.
//
// Used by: validate.cpp, for records that the client marked (record_duplicate_keys). Threads: drain
// thread. Works on a validated body in place; the order of what stays is kept. Bounded: a body with
// more attributes than any program sets on purpose (the client's own limit is 128 unless told
// otherwise) keeps its duplicates, so that nobody can make the drain sort half a million of them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace oteld::daemon {

inline constexpr std::size_t duplicate_keys_attributes_max = 4096;

// Returns the new size of the body; `removed` counts attributes.
[[nodiscard]] std::size_t remove_duplicate_keys(std::uint8_t* body, std::size_t bytes,
                                                std::uint32_t& removed);

}  // namespace oteld::daemon
