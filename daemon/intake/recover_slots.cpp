#include "daemon/intake/recover_slots.hpp"

#include "daemon/intake/validate.hpp"
#include "oteld/detail/wire.hpp"
#include "shm/span_view.hpp"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <unordered_map>

namespace oteld::daemon {
namespace {

namespace wire = detail::wire;
using detail::SpanRecord;

struct OpenSlot {
    Segment* segment = nullptr;
    std::uint32_t lane = 0;
    const std::uint8_t* record = nullptr;
    std::uint32_t published = 0;
    std::uint64_t span_id = 0;
};

// Whether end() had got this span into a lane, or had dropped and counted it.
bool ended(const shm::SlotControl& control, std::span<Segment* const> process) {
    const std::uint64_t end_untrusted = __atomic_load_n(&control.end_cursor, __ATOMIC_ACQUIRE);
    if (end_untrusted == shm::slot_open) return false;
    if (end_untrusted == 0) return true;
    const std::uint32_t segment_untrusted = control.end_segment;
    const std::uint32_t lane_untrusted = control.end_lane;
    for (const Segment* segment : process) {
        if (segment->header().segment_index != segment_untrusted) continue;
        if (lane_untrusted >= segment->lanes().size()) return false;
        const auto& producer = *segment->lanes()[lane_untrusted].view.producer;
        return __atomic_load_n(&producer.write_cursor, __ATOMIC_ACQUIRE) >= end_untrusted;
    }
    return true;  // A segment that is gone had been drained to its end.
}

std::vector<OpenSlot> open_slots(std::span<Segment* const> process) {
    std::vector<OpenSlot> found;
    for (Segment* segment : process) {
        if (segment->quarantined()) continue;
        for (std::uint32_t lane = 0; lane < segment->lanes().size(); ++lane) {
            for (std::uint32_t i = 0; i < shm::slot_total(segment->header()); ++i) {
                const shm::SlotPlace place = shm::slot_place(segment->header(), i);
                const std::uint8_t* at = segment->lanes()[lane].view.slots + place.offset;
                const auto& control = *reinterpret_cast<const shm::SlotControl*>(at);
                // Acquire pairs with the release of whoever held the span: so many bytes are whole.
                const std::uint32_t published_untrusted =
                    __atomic_load_n(&control.published, __ATOMIC_ACQUIRE);
                if (published_untrusted < sizeof(SpanRecord) ||
                    published_untrusted > place.record_bytes)
                    continue;
                if (ended(control, process)) continue;
                OpenSlot slot{segment, lane, at + sizeof control, published_untrusted, 0};
                shm::copy_untrusted(&slot.span_id, slot.record + offsetof(SpanRecord, span_id), 8);
                found.push_back(slot);
            }
        }
    }
    return found;
}

// A span that was moving to a larger slot lies in two: the one with more bytes is the newer.
void keep_larger(std::vector<OpenSlot>& slots) {
    std::unordered_map<std::uint64_t, const OpenSlot*> best;
    for (const OpenSlot& slot : slots) {
        const OpenSlot*& kept = best[slot.span_id];
        if (kept == nullptr || slot.published > kept->published) kept = &slot;
    }
    std::vector<OpenSlot> kept;
    for (const OpenSlot& slot : slots)
        if (best[slot.span_id] == &slot) kept.push_back(slot);
    slots = std::move(kept);
}

// The latest of its own times; ticks and Unix times are not compared with each other.
std::uint64_t latest_time(const SpanRecord& record, std::string_view body) {
    std::uint64_t latest = std::max(record.start, record.end);
    if (record.end != 0 && ((record.start ^ record.end) & detail::time_is_ticks) != 0)
        latest = record.end;
    shm::FieldReader fields(body);
    shm::WireField field;
    while (fields.next(field)) {
        if (field.field != 11) continue;
        shm::FieldReader event(field.bytes);
        shm::WireField part;
        while (event.next(part)) {
            const bool same_clock = ((part.number ^ latest) & detail::time_is_ticks) == 0;
            if (part.field == 1 && part.type == wire::fixed64_type && same_clock)
                latest = std::max(latest, part.number);
        }
    }
    return latest;
}

std::uint64_t realtime_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

struct LaneRecovery {
    Segment& segment;
    std::uint32_t index;
    std::uint64_t created_ticks;
};

Recovery recover_lane(const LaneRecovery& what, std::span<const OpenSlot> slots, Spool& spool,
                      const DaemonClock& clock, Drain& drain, std::vector<ExtentRef>& extents) {
    Lane& lane = what.segment.lanes()[what.index];
    const auto here = [&](const OpenSlot& slot) {
        return slot.segment == &what.segment && slot.lane == what.index;
    };
    if (std::none_of(slots.begin(), slots.end(), here)) {
        what.segment.publish_recovered(lane);
        return Recovery::done;
    }
    const Spool::Place place = spool.place(Spool::payload_bytes_max / 2);
    if (place.payload == nullptr) return Recovery::spool_full;
    ExtentWriter writer(place.payload, place.room, drain.next_extent_number());
    TickConverter converter(what.segment.clock(), what.created_ticks, clock, read_ticks());
    std::uint32_t malformed = 0;
    for (const OpenSlot& slot : slots) {
        if (!here(slot)) continue;
        const auto& control =
            *reinterpret_cast<const shm::SlotControl*>(slot.record - sizeof(shm::SlotControl));
        const auto record =
            unfinished_record(slot.record, slot.published, shm::dropped_fields(control));
        const auto length = static_cast<std::uint32_t>(record.size());
        std::uint16_t scope_index;
        std::memcpy(&scope_index, record.data() + offsetof(SpanRecord, scope), sizeof scope_index);
        ScopeBytes* scope = what.segment.scope(scope_index);
        SpanFrame frame;
        Refusal refusal = Refusal::scope;
        if (scope != nullptr && writer.fits(*scope, frame_room(length)))
            refusal =
                write_span_frame(writer.frame(*scope), record.data(), length, converter, frame);
        if (refusal == Refusal::none) {
            writer.written(frame.bytes);
        } else {
            ++malformed;
            drain.note_refusal(refusal);
        }
    }
    if (what.segment.map().truncated()) {
        // What was copied may be zeros. Nobody will ever read this file.
        what.segment.quarantine("its file was truncated");
        return Recovery::done;
    }
    ExtentDraft draft;
    draft.lane = {what.segment.map().identity(), what.index};
    draft.row = what.segment.row;
    draft.cursor_from = lane.cursor;
    draft.spans = writer.spans();
    draft.recovered = draft.spans;
    draft.malformed = malformed;
    draft.payload_bytes = writer.finish();
    draft.now_ns = realtime_ns();
    draft.after = {lane.cursor + 1, lane.drained + draft.spans, lane.malformed + malformed,
                   lane.skipped};
    const ExtentRef extent = drain.commit(draft);
    if (draft.spans != 0) extents.push_back(extent);
    lane.drained = draft.after.drained;
    lane.malformed = draft.after.malformed;
    what.segment.publish_recovered(lane);
    return Recovery::done;
}

}  // namespace

std::vector<std::uint8_t> unfinished_record(const std::uint8_t* record_untrusted,
                                            std::uint32_t published, std::string_view dropped) {
    SpanRecord record;
    std::string body(published - sizeof record, '\0');
    shm::copy_untrusted(&record, record_untrusted, sizeof record);
    shm::copy_untrusted(body.data(), record_untrusted + sizeof record, body.size());
    record.end = latest_time(record, body);
    body.append(dropped);

    std::uint8_t attribute[64];
    std::uint8_t* end = wire::put_tag(attribute, 9, wire::bytes_type);
    const std::uint8_t yes[] = {wire::tag(2, wire::varint_type), 1};
    end = wire::put_varint(end, wire::bytes_field_bytes(1, unfinished_attribute.size()) +
                                    wire::bytes_field_bytes(2, sizeof yes));
    end = wire::put_bytes(end, 1, unfinished_attribute.data(), unfinished_attribute.size());
    end = wire::put_bytes(end, 2, yes, sizeof yes);
    body.append(reinterpret_cast<const char*>(attribute),
                static_cast<std::size_t>(end - attribute));

    record.body_bytes = static_cast<std::uint32_t>(body.size());
    record.kind_status = static_cast<std::uint8_t>((record.kind_status & 15U) | 2U << 4U);
    record.prefix.flags |= detail::record_has_description;
    record.prefix.header_bytes = sizeof record;
    record.prefix.type = static_cast<std::uint8_t>(detail::RecordType::span);
    const auto description_bytes = static_cast<std::uint32_t>(unfinished_description.size());
    body.append(reinterpret_cast<const char*>(&description_bytes), sizeof description_bytes);
    body.append(unfinished_description);
    body.resize((body.size() + 7) / 8 * 8);
    record.prefix.length = static_cast<std::uint32_t>(sizeof record + body.size());
    std::vector<std::uint8_t> whole(record.prefix.length);
    std::memcpy(whole.data(), &record, sizeof record);
    std::memcpy(whole.data() + sizeof record, body.data(), body.size());
    return whole;
}

Recovery recover_open_slots(std::span<Segment* const> process, std::uint64_t created_ticks,
                            Spool& spool, const DaemonClock& clock, Drain& drain,
                            std::vector<ExtentRef>& extents) {
    // Over all lanes, also those recovered before a restart: which of two slots is kept must not
    // depend on that.
    std::vector<OpenSlot> slots = open_slots(process);
    keep_larger(slots);
    for (Segment* segment : process) {
        for (std::uint32_t lane = 0; lane < segment->lanes().size(); ++lane) {
            if (segment->lanes()[lane].recovered) continue;
            const LaneRecovery what{*segment, lane, created_ticks};
            if (recover_lane(what, slots, spool, clock, drain, extents) == Recovery::spool_full)
                return Recovery::spool_full;
        }
        if (segment->map().truncated()) segment->quarantine("its file was truncated");
    }
    return Recovery::done;
}

}  // namespace oteld::daemon
