// What a process left in its ring directory, decoded the way the daemon does it, into plain
// structs.
//
// Used by: tests/unit/client, after the recording process has ended or while it stands still.
// Threads: one. Spans pass through the daemon's own validation (write_span_frame): what it refuses
// is counted as malformed. Values are written as text: 42, 1.5, true, "text", bytes:00ff, [1,"a"],
// {"key":1}.
#pragma once

#include "shm/layout.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace oteld::test {

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct ReadEvent {
    std::string name;
    std::uint64_t time = 0;
    Pairs attributes;
    std::uint32_t dropped = 0;
};

struct ReadLink {
    std::string trace_id, span_id, trace_state;
    Pairs attributes;
    std::uint32_t flags = 0;
    std::uint32_t dropped = 0;
};

struct ReadSpan {
    std::string trace_id, span_id, parent_id, trace_state, name;
    std::uint32_t flags = 0;
    int kind = 0;
    std::uint64_t start = 0, end = 0;  // Ticks of the segment, or what the caller gave.
    int status = 0;
    std::string description;
    Pairs attributes;
    std::vector<ReadEvent> events;
    std::vector<ReadLink> links;
    std::uint32_t dropped_attributes = 0, dropped_events = 0, dropped_links = 0;
    std::uint16_t scope = 0;
    std::string process;  // Of the segment that it was found in.
    std::string file;
    std::uint32_t lane = 0;
    std::uint32_t record_bytes = 0;

    // The text of the attribute; "(none)" when there is no such key.
    [[nodiscard]] std::string at(const std::string& key) const;
};

struct ReadScope {
    std::string name, version, schema_url;
    Pairs attributes;
    std::uint16_t resource = 0;
};

struct ReadResource {
    std::string schema_url;
    Pairs attributes;
    [[nodiscard]] std::string at(const std::string& key) const;
};

struct ReadSegment {
    std::string file, process;
    std::uint32_t index = 0, lanes = 0, pid = 0;
    std::uint64_t data_bytes = 0;
    bool alive = false;
    std::map<std::uint16_t, ReadScope> scopes;
    std::map<std::uint16_t, ReadResource> resources;
};

struct Rings {
    std::vector<ReadSegment> segments;  // By process, then index.
    std::vector<ReadSpan> spans;        // Finished, lane after lane.
    std::vector<ReadSpan> open;
    std::uint64_t malformed = 0;
    std::uint64_t keys_removed = 0;  // Attributes whose key was set again.
    std::uint64_t begun = 0, ended = 0, unsampled = 0, heap_spans = 0;
    std::uint64_t drops[shm::drop_reasons_max] = {};
    std::uint64_t counters[shm::process_counters_max] = {};

    [[nodiscard]] std::uint64_t dropped() const;
    [[nodiscard]] std::uint64_t dropped(shm::DropReason reason) const {
        return drops[static_cast<std::uint32_t>(reason)];
    }
    [[nodiscard]] std::uint64_t counted(shm::ProcessCounter counter) const {
        return counters[static_cast<std::uint32_t>(counter)];
    }
    // The only finished span of that name; fails the test when there is none or more than one.
    [[nodiscard]] const ReadSpan& span(const std::string& name) const;
    [[nodiscard]] const ReadScope& scope_of(const ReadSpan& span) const;
    [[nodiscard]] const ReadResource& resource_of(const ReadSpan& span) const;
    // Of the only process.
    [[nodiscard]] const ReadResource& resource() const;
};

// Reads what is unread in each lane. A retired segment is as good as unlinked. `process`: only that
// one's segments; empty: all.
[[nodiscard]] Rings read_rings(const std::string& directory, const std::string& process = {});

}  // namespace oteld::test
