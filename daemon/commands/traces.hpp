// `oteld traces`: what is in the local trace store, as a list, or one trace as a tree.
//
// Used by: daemon/main.cpp. Threads: one. Reads the store only, so it works while a daemon writes
// it and without one.
//
// --json writes one document. Times are Unix nanoseconds as strings (as in OTLP), durations numbers
// of nanoseconds, ids hexadecimal. Fields may be added; `schema_version` changes when one changes
// its meaning or goes.
//   {"schema_version": 1, "store": path, "traces": [TRACE, ...]}              the list, newest
//   first
//   {"schema_version": 1, "store": path, "trace": TRACE with "spans": [SPAN, ...] by start time}
//   with --trace TRACE: trace_id, start_unix_nano, start (RFC 3339, UTC), duration_nano (first
//   start to last end), span_count,
//          error_count, unfinished_count, pruned_count (deleted to make room), has_root, name and
//          service (of the root, or of the earliest span), services[]
//   SPAN:  span_id, parent_span_id (null: root), name, kind (internal, server, client, producer,
//   consumer,
//          unspecified), service, scope{name, version}, start_unix_nano, duration_nano, status
//          (unset, ok, error), status_message, unfinished (recovered after its process died: its
//          end is not known), trace_state, flags, attributes{}, dropped_attributes_count,
//          events[{time_unix_nano, name, attributes{}, dropped_attributes_count}],
//          dropped_events_count, links[{trace_id, span_id, trace_state, flags, attributes{},
//          dropped_attributes_count}], dropped_links_count, resource{attributes}
//   Attribute values: strings, booleans, numbers, arrays and objects as themselves; bytes in
//   base64; NaN and infinities as the strings "NaN", "Infinity", "-Infinity"; no value as null.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace oteld {

struct TracesOptions {
    std::string service;          // --service: traces in which it took part
    bool errors = false;          // --errors
    std::string min_duration;     // --min-duration: 100ms, 1.5s, 250us ...
    std::string since;            // --since: 10m, 2h, or RFC 3339
    std::string trace;            // --trace: a trace id or its first digits
    std::uint32_t limit = 20;     // --limit; 0: all
    bool json = false;            // --json
    std::string state_directory;  // where the default store is
    std::string
        store;  // a store elsewhere (exporters.trace_store.path); empty: traces.db in the former
};

// Exit code: 0; 1 when nothing was found or the store cannot be read; 2 for a value that cannot be
// understood.
[[nodiscard]] int traces_command(const TracesOptions& options);

// What --min-duration and --since take; also for the command line's own checks. Nanoseconds.
[[nodiscard]] std::optional<std::uint64_t> parse_span_duration(std::string_view text);
// A point in time: so long before now, or RFC 3339 ("2026-11-24T20:00:00Z", "+01:00", or a date
// alone: its midnight, UTC).
[[nodiscard]] std::optional<std::uint64_t> parse_since(std::string_view text,
                                                       std::uint64_t now_unix_ns);

}  // namespace oteld
