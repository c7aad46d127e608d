#include "daemon/status/ring_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <memory>
#include <string_view>

#include "daemon/intake/clock.hpp"
#include "daemon/intake/validate.hpp"
#include "daemon/status/words.hpp"
#include "oteld/detail/record.hpp"
#include "shm/lane_reader.hpp"
#include "shm/segment_map.hpp"
#include "shm/span_view.hpp"

namespace oteld::status {
namespace {

using detail::SpanRecord;
using shm::SegmentMap;

constexpr int attempts_max = 5;
constexpr std::uint32_t attributes_max = 64;  // Of a resource that are shown.
constexpr std::string_view drop_names[] = {"ring_full", "too_large", "no_memory",
                                           "reentrant", "orphaned",  "no_lane"};
static_assert(std::size(drop_names) == static_cast<std::size_t>(shm::DropReason::count_));
constexpr std::string_view counter_names[] = {
    "reclaimed_files",      "reclaimed_spans", "not_crash_visible", "scopes_overflowed",
    "resources_overflowed", "bells",           "growths",           "growth_refused",
    "raw_clones",           "misuses",         "heap_closed",       "dropped_no_lane",
    "begun_no_lane",        "hook_failures"};
static_assert(std::size(counter_names) == static_cast<std::size_t>(shm::ProcessCounter::count_));

template <class Number>
Number load(const Number& shared) noexcept {
    return __atomic_load_n(&shared, __ATOMIC_RELAXED);
}

// Turns records into frames with the daemon's own validation and clock.
class Decoder {
public:
    explicit Decoder(const SegmentMap& map) : converter_(make_converter(map)) {}

    // `record` is private; records in slots have no end, no length and no status description yet.
    RingSpan decode(std::string record, bool open) {
        RingSpan span;
        span.open = open;
        if (open) complete(record);
        std::string frame(daemon::frame_room(static_cast<std::uint32_t>(record.size())), '\0');
        daemon::SpanFrame written;
        const daemon::Refusal refusal = daemon::write_span_frame(
            reinterpret_cast<std::uint8_t*>(frame.data()),
            reinterpret_cast<const std::uint8_t*>(record.data()),
            static_cast<std::uint32_t>(record.size()), converter_, written);
        if (refusal == daemon::Refusal::none) {
            frame.resize(written.bytes);
            span.frame = std::move(frame);
            span.scope = written.scope;
        } else {
            span.refused = daemon::to_string(refusal);
        }
        return span;
    }

private:
    static daemon::TickConverter make_converter(const SegmentMap& map) {
        const shm::SegmentHeader& header = map.header();
        const daemon::ClockAnchor now = daemon::read_anchor();
        daemon::ClockAnchor earlier{header.anchor_ticks, header.anchor_monotonic_ns,
                                    header.anchor_realtime_ns};
        constexpr std::uint64_t long_ago_ns = 1'000'000'000;
        const bool tsc = header.clock_kind == static_cast<std::uint32_t>(shm::ClockKind::tsc);
        const bool usable =
            tsc && !map.other_boot() && earlier.monotonic_ns + long_ago_ns < now.monotonic_ns;
        if (!usable) {  // Measure the tick now; short, and good enough for recent spans.
            earlier = now;
            const timespec pause{0, 10'000'000};
            nanosleep(&pause, nullptr);
        }
        const daemon::ClockAnchor latest = usable ? now : daemon::read_anchor();
        const daemon::DaemonClock clock(latest, earlier);
        const daemon::SegmentClock segment(header, map.other_boot(), clock);
        return {segment, header.anchor_ticks, clock, daemon::read_ticks()};
    }

    static void complete(std::string& record) {
        SpanRecord head;
        std::memcpy(&head, record.data(), sizeof head);
        head.body_bytes = static_cast<std::uint32_t>(record.size() - sizeof head);
        head.prefix.header_bytes = sizeof head;
        head.prefix.flags =
            static_cast<std::uint8_t>(head.prefix.flags & ~detail::record_has_description);
        head.end = 0;
        record.resize((record.size() + 7) / 8 * 8);
        head.prefix.length = static_cast<std::uint32_t>(record.size());
        std::memcpy(record.data(), &head, sizeof head);
    }

    daemon::TickConverter converter_;
};

std::string copy_untrusted(const std::uint8_t* from, std::size_t bytes) {
    std::string copy(bytes, '\0');
    shm::copy_untrusted(copy.data(), from, bytes);
    return copy;
}

std::string value_words(const shm::AnyValue& value) {
    using Kind = shm::AnyValue::Kind;
    switch (value.kind()) {
        case Kind::string: return clean_text(value.text());
        case Kind::boolean: return value.boolean() ? "true" : "false";
        case Kind::integer: return fmt::format("{}", value.integer());
        case Kind::floating: return fmt::format("{}", value.floating());
        case Kind::array: return fmt::format("[{}]", count_words(value.array().count(), "value"));
        case Kind::map: return fmt::format("{{{}}}", count_words(value.map().count(), "value"));
        case Kind::bytes: return count_words(value.text().size(), "byte");
        case Kind::none: break;
    }
    return "(none)";
}

void read_message(RingTableEntry& entry, std::string_view message) {
    if (entry.kind == RingTableEntry::Kind::resource) {
        const shm::Resource resource(message);
        std::uint32_t shown = 0;
        for (const shm::Attribute& attribute : resource.attributes()) {
            if (++shown > attributes_max) break;
            entry.text += fmt::format("{}{}={}", shown == 1 ? "" : ", ", clean_text(attribute.key),
                                      value_words(attribute.value));
        }
        entry.service = value_words(resource.attribute("service.name"));
    } else if (entry.kind == RingTableEntry::Kind::scope) {
        const shm::Scope scope(message);
        entry.text = clean_text(scope.name);
        if (!scope.version.empty()) entry.text += " " + clean_text(scope.version);
    }
}

// The log ends at the first entry that does not fit: what lies behind it cannot be found any more.
void read_tables(RingReport& report, std::string_view log_untrusted) {
    std::string log = copy_untrusted(reinterpret_cast<const std::uint8_t*>(log_untrusted.data()),
                                     log_untrusted.size());
    std::string_view rest = log;
    while (!rest.empty()) {
        shm::TableEntry head{};
        const bool whole = rest.size() >= sizeof head;
        if (whole) std::memcpy(&head, rest.data(), sizeof head);
        const std::uint64_t needed =
            sizeof head + std::uint64_t{head.schema_url_bytes} + head.message_bytes;
        if (!whole || head.bytes % 8 != 0 || head.bytes < needed || head.bytes > rest.size()) {
            report.tables.push_back({RingTableEntry::Kind::damaged, 0, 0, {}, {}});
            report.faults.push_back("its table of resources and scopes is damaged");
            return;
        }
        RingTableEntry entry;
        entry.index = head.index;
        entry.resource = head.resource;
        const auto kind = static_cast<shm::TableKind>(head.kind);
        if (kind == shm::TableKind::resource) entry.kind = RingTableEntry::Kind::resource;
        if (kind == shm::TableKind::scope) entry.kind = RingTableEntry::Kind::scope;
        read_message(entry, rest.substr(sizeof head + head.schema_url_bytes, head.message_bytes));
        report.tables.push_back(std::move(entry));
        rest.remove_prefix(head.bytes);
    }
}

void read_counters(RingLane& lane, const shm::LaneView& view) {
    const shm::LaneProducer& producer = *view.producer;
    const std::uint32_t word = load(*view.lock_word);
    lane.owner = word & shm::lock_tid_mask;
    lane.owner_died = (word & shm::lock_owner_died) != 0;
    lane.claims = load(producer.epoch);
    lane.begun = load(producer.begun);
    lane.ended = load(producer.ended);
    lane.unsampled = load(producer.unsampled);
    lane.heap_spans = load(producer.heap_spans);
    for (std::size_t i = 0; i < shm::drop_reasons_max; ++i) {
        const std::uint64_t spans = load(producer.dropped[i]);
        if (spans == 0) continue;
        lane.dropped[i < std::size(drop_names) ? std::string(drop_names[i])
                                               : fmt::format("reason_{}", i)] = spans;
    }
    lane.drained = load(view.daemon->drained);
    lane.malformed = load(view.daemon->malformed);
    lane.skipped = load(view.daemon->skipped);
    lane.recovered = load(view.daemon->recovered) != 0;
}

void read_records_once(RingLane& lane, const shm::LaneView& view, Decoder* decoder) {
    lane.spans.clear();
    lane.waiting_bytes = lane.waiting_spans = lane.waiting_unknown = 0;
    lane.read = load(view.daemon->read_cursor);
    const shm::LaneRange range = shm::look_at_lane(view, lane.read);
    lane.written = range.to;
    lane.corrupt = range.state == shm::LaneState::corrupt;
    if (range.state != shm::LaneState::ready) return;
    lane.waiting_bytes = range.to - range.from;
    shm::LaneReader reader(view, range);
    for (shm::LaneRecord record = reader.next(); record.kind != shm::LaneRecord::Kind::end;
         record = reader.next()) {
        if (record.kind == shm::LaneRecord::Kind::corrupt) {
            lane.corrupt = true;
            return;
        }
        const bool span = record.kind == shm::LaneRecord::Kind::span;
        lane.waiting_spans += span ? 1 : 0;
        lane.waiting_unknown += span ? 0 : 1;
        if (span && decoder != nullptr) {
            lane.spans.push_back(
                decoder->decode(copy_untrusted(record.bytes, record.length), false));
        }
    }
}

// While this reads, the daemon may release records and the application write over them: then look
// again.
void read_records(RingLane& lane, const shm::LaneView& view, Decoder* decoder) {
    for (int attempt = 0; attempt < attempts_max; ++attempt) {
        read_records_once(lane, view, decoder);
        const std::uint64_t written =
            __atomic_load_n(&view.producer->write_cursor, __ATOMIC_ACQUIRE);
        const bool overwritten =
            load(view.daemon->read_cursor) != lane.read && written - lane.read > view.data_bytes;
        if (!overwritten) return;
    }
    // Faster than we can look: not damaged, only not to be shown.
    lane.corrupt = false;
    lane.spans.clear();
}

void read_slots(RingLane& lane, const shm::LaneView& view, const shm::SegmentHeader& header,
                Decoder* decoder) {
    for (std::uint32_t i = 0; i < shm::slot_total(header); ++i) {
        const shm::SlotPlace place = shm::slot_place(header, i);
        const auto* control = reinterpret_cast<const shm::SlotControl*>(view.slots + place.offset);
        // Pairs with the holder's release: so many bytes of the record are valid.
        const std::uint32_t published_untrusted =
            __atomic_load_n(&control->published, __ATOMIC_ACQUIRE);
        if (published_untrusted == 0) continue;
        lane.open += 1;
        if (load(control->end_cursor) != shm::slot_open) lane.ending += 1;
        if (published_untrusted < sizeof(SpanRecord) || published_untrusted > place.record_bytes) {
            lane.corrupt = true;
            continue;
        }
        if (decoder == nullptr) continue;
        const auto* record =
            reinterpret_cast<const std::uint8_t*>(control) + sizeof(shm::SlotControl);
        lane.spans.push_back(decoder->decode(
            copy_untrusted(record, published_untrusted) + shm::dropped_fields(*control), true));
    }
}

void read_header(RingReport& report, const SegmentMap& map) {
    const shm::SegmentHeader& header = map.header();
    report.major = header.major;
    report.minor = header.minor;
    report.bytes = map.file_bytes();
    report.uid = map.owner();
    report.pid = header.pid;
    report.executable =
        clean_text({header.executable, strnlen(header.executable, sizeof header.executable)});
    for (const std::uint8_t byte : header.process_id)
        report.process_id += fmt::format("{:02x}", byte);
    report.segment_index = header.segment_index;
    report.alive = map.owner_alive();
    report.other_boot = map.other_boot();
    report.retired = load(map.daemon()->retired) != 0;
    report.quarantined = load(map.daemon()->quarantined) != 0;
    report.clock =
        header.clock_kind == static_cast<std::uint32_t>(shm::ClockKind::tsc) ? "tsc" : "monotonic";
    report.created_ns = static_cast<std::int64_t>(header.anchor_realtime_ns);
    report.lane_bytes = header.data_bytes;
    for (std::uint32_t i = 0; i < shm::slot_classes; ++i) {
        if (header.slot_count[i] != 0)
            report.slots.emplace_back(header.slot_count[i], header.slot_bytes[i]);
    }
    report.tables_bytes = header.tables_bytes;
    for (std::size_t i = 0; i < std::size(counter_names); ++i) {
        const std::uint64_t count = map.counter_untrusted(static_cast<shm::ProcessCounter>(i));
        if (count != 0) report.counters[std::string(counter_names[i])] = count;
    }
}

}  // namespace

Result<RingReport> read_ring(int directory_fd, const std::string& name, bool with_spans) {
    auto opened = SegmentMap::open(directory_fd, name, shm::SegmentAccess::inspect);
    if (!opened) return opened.error();
    const SegmentMap& map = **opened;
    RingReport report;
    report.file = name;
    read_header(report, map);
    const std::string_view tables_untrusted = map.tables_untrusted();
    report.tables_used = tables_untrusted.size();
    read_tables(report, tables_untrusted);
    const auto decoder = with_spans ? std::make_unique<Decoder>(map) : nullptr;
    for (std::uint32_t i = 0; i < map.lane_count(); ++i) {
        const shm::LaneView view = map.lane(i);
        RingLane& lane = report.lanes.emplace_back();
        read_counters(lane, view);
        if (view.data != nullptr) read_records(lane, view, decoder.get());
        read_slots(lane, view, map.header(), decoder.get());
        if (lane.corrupt)
            report.faults.push_back(fmt::format(
                "lane {} is damaged: its cursors, records or slots contradict each other", i));
    }
    if (report.quarantined)
        report.faults.push_back("the daemon has found it damaged and does not drain it any more");
    if (map.truncated())
        return Error{ErrorCode::corrupt, name + " was truncated: its end is missing"};
    return report;
}

}  // namespace oteld::status
