// The document of `oteld rings --json`.
//
// Used by: daemon/commands/rings.cpp. Threads: one; written as it goes.
//   {"schema_version": 1, "rings": [RING or {"file": ..., "error": ...}, ...]}
//   RING: file, layout, bytes, uid, pid, executable, process_id, segment, alive, other_boot,
//   retired, quarantined,
//         clock, created_unix_ns, lane_bytes, slots[{count, bytes}], tables_bytes,
//         tables_used_bytes, counters{}, faults[], tables[{kind, index, resource, text}],
//         lanes[LANE]
//   LANE: lane, owner (thread id, 0: free), owner_died, claims, written, read, corrupt,
//   waiting_bytes, waiting_spans,
//         waiting_unknown, open, ending, begun, ended, unsampled, heap_spans, dropped{}, drained,
//         malformed, skipped, recovered, spans[{open, scope, span (OTLP JSON)} or {open,
//         malformed}] with --spans
#pragma once

#include <string>
#include <string_view>

#include "config/result.hpp"
#include "daemon/status/ring_report.hpp"

namespace oteld::daemon {

class RingsJson {
public:
    void add(const status::RingReport& report);
    void add(const std::string& file, const Error& error);
    [[nodiscard]] std::string document() const;

private:
    void next();

    std::string rings_;
};

}  // namespace oteld::daemon
