// What the files of the C interface share.
//
// Used by: c_api.cpp, c_context.cpp. Threads: no state.
#pragma once

#include "oteld/detail/abi.hpp"
#include "oteld/oteld.h"

#include <string_view>

#define OTELD_EXPORT extern "C" __attribute__((visibility("default")))

namespace oteld::c {

inline std::string_view view(oteld_str text) noexcept {
    return text.data == nullptr ? std::string_view() : std::string_view(text.data, text.size);
}

// What is in an oteld_scope.
struct RawScope {
    abi::Context attached;
    abi::FullContext previous;
    std::uint64_t active;
};
static_assert(sizeof(oteld_scope) >= sizeof(RawScope));

}  // namespace oteld::c
