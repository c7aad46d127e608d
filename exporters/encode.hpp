// Makes an ExportTraceServiceRequest out of a batch without copying a span: small enclosing
// messages are written into one buffer, and between them lie views of the spool.
//
// Used by: the OTLP exporters; `divide` by the daemon's exporter threads. Threads: any. An Encoded
// may be moved, and its views live as long as it and the batch's memory do.
//
//   request  = { 1: ResourceSpans }...            one per (resource, its schema URL)
//   Resource = { 1: Resource, 3: schema URL, 2: ScopeSpans }...   one per (scope, its schema URL)
//   in it Scope    = { 1: Scope, 3: schema URL, frames }                frames are ready-made
//   fields 2
// What is the same, byte for byte, is one group, also when it does not follow itself in the batch.
#pragma once

#include "exporters/exporter.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

namespace oteld::exporters {

struct Encoded {
    std::vector<std::string_view> slices;  // In order, none empty. No slice: nothing to send.
    std::uint64_t bytes = 0;               // Their sum: the request before compression.
    std::unique_ptr<std::uint8_t[]>
        headers;  // What the slices that are not the spool's point into.
};

[[nodiscard]] Encoded encode(const Batch& batch);

// Calls `each` with consecutive parts of `batch`, in order, whose requests have at most
// `request_bytes_max` bytes; with `batch` itself when it fits, which is the rule. A span that is
// too large by itself comes alone.
void divide(const Batch& batch, std::uint64_t request_bytes_max,
            const std::function<void(const Batch&)>& each);

}  // namespace oteld::exporters
