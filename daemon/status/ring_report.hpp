// What one ring file holds, copied out of it: private, checked, ready to be shown.
//
// Used by: daemon/commands/rings.cpp. Threads: one. Read-only: works on live files beside their
// writer and the daemon, on those of the dead, and on copies. Counters of a live file are read one
// after the other.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/result.hpp"

namespace oteld::status {

struct RingSpan {
    bool open = false;    // from a slot: not ended, or its end() was under way
    std::string frame;    // an OTLP `ScopeSpans.spans` field; empty when refused
    std::string refused;  // why the record is malformed
    std::uint16_t scope = 0;
};

struct RingLane {
    std::uint32_t owner = 0;   // thread id that holds the lane, in its own pid namespace; 0: nobody
    bool owner_died = false;   // the kernel marked the lane: its thread died holding it
    std::uint32_t claims = 0;  // times that a thread took this lane
    std::uint64_t written = 0;  // cursors, in bytes since the beginning
    std::uint64_t read = 0;
    bool corrupt = false;  // cursors or records contradict each other
    std::uint64_t waiting_bytes = 0;
    std::uint64_t waiting_spans = 0;    // finished, not drained
    std::uint64_t waiting_unknown = 0;  // records of types of the future
    std::uint64_t open = 0;             // slots in use
    std::uint64_t ending = 0;           // of these, end() was under way
    std::uint64_t begun = 0;
    std::uint64_t ended = 0;
    std::uint64_t unsampled = 0;
    std::uint64_t heap_spans = 0;
    std::map<std::string, std::uint64_t> dropped;  // by reason, none with 0
    std::uint64_t drained = 0;                     // by the daemon: spans in its spool
    std::uint64_t malformed = 0;
    std::uint64_t skipped = 0;
    bool recovered = false;       // open slots of a dead lane are in the spool
    std::vector<RingSpan> spans;  // when asked for
};

struct RingTableEntry {
    enum class Kind : std::uint8_t { resource, scope, unknown, damaged } kind = Kind::unknown;
    std::uint16_t index = 0;
    std::uint16_t resource = 0;  // of a scope
    std::string text;            // attributes, or name and version
    std::string service;         // of a resource: service.name
};

struct RingReport {
    std::string file;
    std::uint16_t major = 0;
    std::uint16_t minor = 0;
    std::uint64_t bytes = 0;
    std::uint32_t uid = 0;
    std::uint32_t pid = 0;  // as the process sees itself
    std::string executable;
    std::string process_id;  // hexadecimal
    std::uint32_t segment_index = 0;
    bool alive = false;
    bool other_boot = false;
    bool retired = false;
    bool quarantined = false;
    std::string clock;             // "tsc" or "monotonic"
    std::int64_t created_ns = 0;   // Unix time of the segment's anchor
    std::uint64_t lane_bytes = 0;  // of one lane's data
    std::vector<std::pair<std::uint32_t, std::uint32_t>> slots;  // per class: count, bytes
    std::uint64_t tables_bytes = 0;
    std::uint64_t tables_used = 0;
    std::vector<RingTableEntry> tables;
    std::map<std::string, std::uint64_t> counters;  // of the process, none with 0
    std::vector<RingLane> lanes;
    std::vector<std::string> faults;  // what is corrupt in it, in words
};

// `name` is relative to directory_fd (AT_FDCWD for a path). Fails with a sentence that names the
// file.
Result<RingReport> read_ring(int directory_fd, const std::string& name, bool with_spans);

}  // namespace oteld::status
