// Says how much was explored, so that a bound that became too narrow is seen.
#pragma once

#include "tests/model/explorer.hpp"

#include <cstdio>

namespace oteld::model {

inline void report(const char* name, const Result& result) {
    std::printf("%s: %llu states, %llu runs, %llu to their end, %llu of them with a death\n", name,
                static_cast<unsigned long long>(result.states),
                static_cast<unsigned long long>(result.runs),
                static_cast<unsigned long long>(result.ended),
                static_cast<unsigned long long>(result.deaths));
}

}  // namespace oteld::model
