// One look at a daemon from outside: its page, its lock and its heartbeat become one snapshot with
// a verdict.
//
// Used by: daemon/commands/status.cpp. Threads: any; no state. Never asks the daemon anything, so
// it works while the daemon hangs and after it died.
#pragma once

#include <cstdint>
#include <string>

#include "daemon/status/snapshot.hpp"

namespace oteld::status {

struct Look {
    Snapshot
        snapshot;  // Without a version: there was nothing to read, only a verdict with its reasons.
    std::int64_t now_ns = 0;  // What ages are counted from: of a dead daemon its last heartbeat.
};

// `directory` empty: $OTELD_DIR, else /run/oteld, else /dev/shm/oteld-<uid>.
Look look_at_daemon(const std::string& directory);

// What a page says about a daemon, given what the lock says. Deciding only; separate for the tests.
struct Signs {
    bool locked = false;         // some daemon holds the directory
    std::uint64_t lock_pid = 0;  // 0: unknown
    std::uint64_t page_pid = 0;
    std::int64_t now_ns = 0;
    std::int64_t heartbeat_ns = 0;
    std::int64_t heartbeat_age_ns = 0;
    std::int64_t document_ns = 0;
    std::uint64_t documents_unwritten = 0;
    bool other_boot = false;
};
void judge_from_outside(Snapshot& snapshot, const Signs& signs);

// 0 healthy, 1 degraded, 3 not running, 4 cannot tell.
int exit_code(Verdict verdict) noexcept;

}  // namespace oteld::status
