// The text of `oteld status`: the verdict first, then applications, pipeline, losses, the ledger,
// resources, errors.
//
// Used by: daemon/commands/status.cpp. Threads: any; no state, no I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "daemon/status/snapshot.hpp"

namespace oteld::status {

struct RenderOptions {
    std::size_t width = 100;  // columns; lines are made to fit from 60 on
    bool colour = false;
    std::int64_t now_ns = 0;    // what ages are counted from: for a dead daemon, its last heartbeat
    std::size_t rows_max = 20;  // applications that are shown; those with losses first
};

// Lines end with '\n'.
std::string render(const Snapshot& snapshot, const RenderOptions& options);

}  // namespace oteld::status
