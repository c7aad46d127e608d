#include "daemon/commands/rings_json.hpp"

#include <fmt/format.h>

#include <map>

#include "exporters/json.hpp"
#include "exporters/otlp_json.hpp"
#include "shm/span_view.hpp"

namespace oteld::daemon {
namespace {

using exporters::append_json_list;
using Object = exporters::JsonObject;

void write_counts(std::string& out, const std::map<std::string, std::uint64_t>& values) {
    Object object(out);
    for (const auto& [name, value] : values) object.number(name, value);
}

void write_span(std::string& out, const status::RingSpan& ring_span) {
    Object object(out);
    object.boolean("open", ring_span.open);
    shm::FrameReader frames(ring_span.frame);
    shm::Frame frame;
    if (!ring_span.refused.empty() || !frames.next(frame)) {
        object.text("malformed", ring_span.refused);
        return;
    }
    object.number("scope", ring_span.scope);
    exporters::append_json_span(object.member("span"), shm::Span(frame.span));
}

void write_lane(std::string& out, const status::RingLane& lane, std::size_t index) {
    Object object(out);
    object.number("lane", index);
    object.number("owner", lane.owner);
    object.boolean("owner_died", lane.owner_died);
    object.number("claims", lane.claims);
    object.number("written", lane.written);
    object.number("read", lane.read);
    object.boolean("corrupt", lane.corrupt);
    object.number("waiting_bytes", lane.waiting_bytes);
    object.number("waiting_spans", lane.waiting_spans);
    object.number("waiting_unknown", lane.waiting_unknown);
    object.number("open", lane.open);
    object.number("ending", lane.ending);
    object.number("begun", lane.begun);
    object.number("ended", lane.ended);
    object.number("unsampled", lane.unsampled);
    object.number("heap_spans", lane.heap_spans);
    write_counts(object.member("dropped"), lane.dropped);
    object.number("drained", lane.drained);
    object.number("malformed", lane.malformed);
    object.number("skipped", lane.skipped);
    object.boolean("recovered", lane.recovered);
    append_json_list(object.member("spans"), lane.spans, write_span);
}

std::string_view kind_name(status::RingTableEntry::Kind kind) {
    switch (kind) {
        case status::RingTableEntry::Kind::resource: return "resource";
        case status::RingTableEntry::Kind::scope: return "scope";
        case status::RingTableEntry::Kind::unknown: return "unknown";
        case status::RingTableEntry::Kind::damaged: return "damaged";
    }
    return "unknown";
}

void write_entry(std::string& out, const status::RingTableEntry& entry) {
    Object object(out);
    object.text("kind", kind_name(entry.kind));
    object.number("index", entry.index);
    if (entry.kind == status::RingTableEntry::Kind::scope)
        object.number("resource", entry.resource);
    object.text("text", entry.text);
}

}  // namespace

void RingsJson::next() { rings_ += rings_.empty() ? "" : ",\n"; }

void RingsJson::add(const std::string& file, const Error& error) {
    next();
    Object object(rings_);
    object.text("file", file);
    object.text("error", error.message);
}

void RingsJson::add(const status::RingReport& report) {
    next();
    Object object(rings_);
    object.text("file", report.file);
    object.text("layout", fmt::format("{}.{}", report.major, report.minor));
    object.number("bytes", report.bytes);
    object.number("uid", report.uid);
    object.number("pid", report.pid);
    object.text("executable", report.executable);
    object.text("process_id", report.process_id);
    object.number("segment", report.segment_index);
    object.boolean("alive", report.alive);
    object.boolean("other_boot", report.other_boot);
    object.boolean("retired", report.retired);
    object.boolean("quarantined", report.quarantined);
    object.text("clock", report.clock);
    object.number("created_unix_ns", static_cast<std::uint64_t>(report.created_ns));
    object.number("lane_bytes", report.lane_bytes);
    append_json_list(object.member("slots"), report.slots, [](std::string& out, const auto& slots) {
        Object slot(out);
        slot.number("count", slots.first);
        slot.number("bytes", slots.second);
    });
    object.number("tables_bytes", report.tables_bytes);
    object.number("tables_used_bytes", report.tables_used);
    write_counts(object.member("counters"), report.counters);
    append_json_list(object.member("faults"), report.faults, exporters::append_json_string);
    append_json_list(object.member("tables"), report.tables, write_entry);
    std::size_t index = 0;
    append_json_list(object.member("lanes"), report.lanes,
                     [&index](std::string& out, const status::RingLane& lane) {
                         write_lane(out, lane, index++);
                     });
}

std::string RingsJson::document() const {
    return "{\"schema_version\":1,\"rings\":[" + rings_ + "]}\n";
}

}  // namespace oteld::daemon
