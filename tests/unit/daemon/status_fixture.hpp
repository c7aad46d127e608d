// A snapshot with something in every place, and its text.
//
// Used by: the tests of daemon/status. Threads: any.
#pragma once

#include "daemon/status/render.hpp"

#include <sstream>
#include <string>

namespace oteld::status {

inline constexpr std::int64_t second = 1'000'000'000;
inline constexpr std::int64_t now = 1'800'000'000 * second;

inline Application orders() {
    Application a;
    a.id = "a1";
    a.service = "orders";
    a.process = 4121;
    a.uid = 1000;
    a.executable = "orders-server";
    a.since_ns = now - 3600 * second;
    a.last_seen_ns = now;
    a.started = 1000;
    a.unsampled = 100;
    a.open = 4;
    a.lost = 1;
    a.dropped = {{"ring_full", 20}, {"too_large", 5}};
    a.in_ring = 10;
    a.recovered_open = 2;
    a.not_crash_visible = 3;
    a.skipped_records = 6;
    a.ring_bytes = 1 << 20;
    a.ring_used = 1 << 18;
    ExporterShare share;
    share.name = "otlp_grpc/tempo";
    share.filtered = {{"rule-1", 50}};
    share.in_daemon = 30;
    share.delivered = 773;
    share.rejected = {{"refused", 4}, {"partial", 3}};
    a.exporters.push_back(share);
    return a;
}

inline Snapshot busy() {
    Snapshot s;
    s.version = "1.2.3";
    s.pid = 99;
    s.started_ns = now - 90 * second;
    s.config_source = "embedded default";
    s.applications.push_back(orders());
    Exporter e;
    e.name = "otlp_grpc/tempo";
    e.kind = "otlp_grpc";
    e.destination = "tempo:4317";
    e.state = ExporterState::retrying;
    e.words = "503 Service Unavailable, Retry-After 30 s";
    e.last_ok_ns = now - 60 * second;
    e.failing_since_ns = now - 50 * second;
    e.attempts = 3;
    e.last_error = "503";
    e.errors = 7;
    e.queue_spans = 30;
    e.queue_bytes = 7000;
    e.requests = 11;
    e.sent_bytes = 123'456;
    e.delivered = 773;
    e.rejected = {{"refused", 4}, {"partial", 3}};
    e.warnings = {"be gentle"};
    s.exporters.push_back(e);
    s.spool = {64 << 20, 1 << 20, 1, 64, true};
    s.rings.segments = 1;
    s.rings.lanes = 2;
    s.rings.bytes = 400'000;
    s.rings.bus_errors = 3;
    s.clocks = {1, 2, 5};
    s.rings.quarantined = {{"bad.ring", "its cursors contradict each other"}};
    s.rings.refused = {{"new.ring", "layout 2"}};
    s.directory = {"/run/oteld", false,   false,
                   03777,        1 << 30, {"only your own programs can be drained"}};
    s.resources = {9 << 20, 70 << 20, 0.015, 12.5, 31, 6};
    s.last_errors = {{now - 5 * second, "otlp_grpc/tempo", "503", 7}};
    s.notes = {"a note"};
    s.last_words = "bye";
    s.phase = Phase::stopping;
    return s;
}

inline std::string text_of(const Snapshot& snapshot, std::size_t width = 100, bool colour = false) {
    RenderOptions options;
    options.width = width;
    options.colour = colour;
    options.now_ns = now;
    return render(snapshot, options);
}

// Text with line breaks and indentation folded into single blanks.
inline std::string folded(const std::string& text) {
    std::istringstream stream(text);
    std::string all;
    for (std::string word; stream >> word;) all += (all.empty() ? "" : " ") + word;
    return all;
}

inline bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace oteld::status
