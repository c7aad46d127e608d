#include "rings.hpp"

#include "daemon/intake/validate.hpp"
#include "shm/lane_reader.hpp"
#include "shm/segment_map.hpp"
#include "shm/span_view.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>

namespace oteld::test {
namespace {

using detail::SpanRecord;

std::string hex(const void* data, std::size_t bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < bytes; ++i) {
        const auto byte = static_cast<const std::uint8_t*>(data)[i];
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}
std::string hex(std::string_view bytes) { return hex(bytes.data(), bytes.size()); }

std::string quoted(std::string_view text) { return '"' + std::string(text) + '"'; }

std::string text_of(const shm::AnyValue& value) {
    using Kind = shm::AnyValue::Kind;
    switch (value.kind()) {
        case Kind::none: return "null";
        case Kind::string: return quoted(value.text());
        case Kind::boolean: return value.boolean() ? "true" : "false";
        case Kind::integer: return std::to_string(value.integer());
        case Kind::bytes: return "bytes:" + hex(value.text());
        case Kind::floating: {
            char text[40];
            std::snprintf(text, sizeof text, "%.17g", value.floating());
            const std::string_view view(text);
            return view.find_first_of(".en") == view.npos ? std::string(view) + ".0" : text;
        }
        case Kind::array: {
            std::string text;
            for (const shm::AnyValue& element : value.array()) {
                text += (text.empty() ? "" : ",") + text_of(element);
            }
            return '[' + text + ']';
        }
        case Kind::map: {
            std::string text;
            for (const shm::Attribute& pair : value.map()) {
                text += (text.empty() ? "" : ",") + quoted(pair.key) + ':' + text_of(pair.value);
            }
            return '{' + text + '}';
        }
    }
    return "?";
}

Pairs pairs_of(const shm::Repeated<shm::Attribute>& list) {
    Pairs pairs;
    for (const shm::Attribute& attribute : list) {
        pairs.emplace_back(attribute.key, text_of(attribute.value));
    }
    return pairs;
}

std::string find(const Pairs& pairs, const std::string& key) {
    for (const auto& [name, value] : pairs) {
        if (name == key) return value;
    }
    return "(none)";
}

ReadSpan span_of(std::string_view message) {
    const shm::Span view(message);
    CHECK_FALSE(view.malformed());
    ReadSpan span;
    span.trace_id = hex(view.trace_id);
    span.span_id = hex(view.span_id);
    span.parent_id = hex(view.parent_span_id);
    span.trace_state = view.trace_state;
    span.name = view.name;
    span.flags = view.flags;
    span.kind = view.kind;
    span.start = view.start_unix_ns;
    span.end = view.end_unix_ns;
    span.status = view.status_code;
    span.description = view.status_message;
    span.attributes = pairs_of(view.attributes());
    for (const shm::Event& event : view.events()) {
        span.events.push_back({std::string(event.name), event.time_unix_ns,
                               pairs_of(event.attributes()), event.dropped_attributes_count});
    }
    for (const shm::Link& link : view.links()) {
        span.links.push_back({hex(link.trace_id), hex(link.span_id), std::string(link.trace_state),
                              pairs_of(link.attributes()), link.flags,
                              link.dropped_attributes_count});
    }
    span.dropped_attributes = view.dropped_attributes_count;
    span.dropped_events = view.dropped_events_count;
    span.dropped_links = view.dropped_links_count;
    return span;
}

void read_tables(const shm::SegmentMap& map, ReadSegment& segment) {
    std::string_view rest = map.tables_untrusted();
    while (rest.size() >= sizeof(shm::TableEntry)) {
        shm::TableEntry entry;
        std::memcpy(&entry, rest.data(), sizeof entry);
        REQUIRE(entry.bytes <= rest.size());
        const std::string_view url = rest.substr(sizeof entry, entry.schema_url_bytes);
        const std::string_view message =
            rest.substr(sizeof entry + entry.schema_url_bytes, entry.message_bytes);
        if (entry.kind == static_cast<std::uint16_t>(shm::TableKind::resource)) {
            const shm::Resource resource(message);
            segment.resources[entry.index] = {std::string(url), pairs_of(resource.attributes())};
        } else {
            const shm::Scope scope(message);
            segment.scopes[entry.index] = {std::string(scope.name), std::string(scope.version),
                                           std::string(url), pairs_of(scope.attributes()),
                                           entry.resource};
        }
        rest.remove_prefix(entry.bytes);
    }
    REQUIRE(rest.empty());
}

class Reader {
public:
    explicit Reader(Rings& rings) : rings_(rings) {}

    void add(std::unique_ptr<shm::SegmentMap> map) {
        ReadSegment segment;
        segment.file = map->name();
        segment.process = hex(map->header().process_id, 16);
        segment.index = map->header().segment_index;
        segment.lanes = map->header().lane_count;
        segment.pid = map->header().pid;
        segment.data_bytes = map->header().data_bytes;
        segment.alive = map->owner_alive();
        read_tables(*map, segment);
        for (std::uint32_t i = 0; i < shm::process_counters_max; ++i) {
            rings_.counters[i] += map->counter_untrusted(static_cast<shm::ProcessCounter>(i));
        }
        rings_.begun += map->counter_untrusted(shm::ProcessCounter::begun_no_lane);
        maps_.emplace_back(segment.process, std::move(map));
        rings_.segments.push_back(std::move(segment));
    }

    // Finished spans first: whether a slot's span has ended is a matter of the lanes' cursors.
    void read() {
        for (const auto& [process, map] : maps_) {
            for (std::uint32_t i = 0; i < map->lane_count(); ++i) read_lane(process, *map, i);
        }
        for (const auto& [process, map] : maps_) {
            for (std::uint32_t i = 0; i < map->lane_count(); ++i) read_slots(process, *map, i);
        }
    }

private:
    void read_lane(const std::string& process, const shm::SegmentMap& map, std::uint32_t index) {
        const shm::LaneView lane = map.lane(index);
        const shm::LaneProducer& producer = *lane.producer;
        rings_.begun += producer.begun;
        rings_.ended += producer.ended;
        rings_.unsampled += producer.unsampled;
        rings_.heap_spans += producer.heap_spans;
        for (std::uint32_t i = 0; i < shm::drop_reasons_max; ++i) {
            rings_.drops[i] += producer.dropped[i];
        }
        if (lane.data == nullptr) return;
        const shm::LaneRange range = shm::look_at_lane(lane, lane.daemon->read_cursor);
        REQUIRE(range.state != shm::LaneState::corrupt);
        shm::LaneReader reader(lane, range);
        for (;;) {
            const shm::LaneRecord record = reader.next();
            REQUIRE(record.kind != shm::LaneRecord::Kind::corrupt);
            if (record.kind == shm::LaneRecord::Kind::end) break;
            REQUIRE(record.kind == shm::LaneRecord::Kind::span);
            decode(process, map, index, record.bytes, record.length, rings_.spans);
        }
    }

    void read_slots(const std::string& process, const shm::SegmentMap& map, std::uint32_t index) {
        const shm::LaneView lane = map.lane(index);
        for (std::uint32_t slot = 0; slot < shm::slot_total(map.header()); ++slot) {
            const shm::SlotPlace place = shm::slot_place(map.header(), slot);
            shm::SlotControl control;
            std::memcpy(&control, lane.slots + place.offset, sizeof control);
            if (control.published < sizeof(SpanRecord) || finished(process, control)) continue;
            REQUIRE(control.published <= place.record_bytes);
            const std::string dropped = shm::dropped_fields(control);
            const std::size_t bytes = control.published + dropped.size();
            std::vector<std::uint8_t> copy((bytes + 7U) & ~std::size_t{7});
            std::memcpy(copy.data(), lane.slots + place.offset + sizeof control, control.published);
            std::memcpy(copy.data() + control.published, dropped.data(), dropped.size());
            auto* record = reinterpret_cast<SpanRecord*>(copy.data());
            record->prefix.length = static_cast<std::uint32_t>(copy.size());
            record->body_bytes = static_cast<std::uint32_t>(bytes - sizeof(SpanRecord));
            std::vector<ReadSpan> found;
            decode(process, map, index, copy.data(), record->prefix.length, found);
            for (ReadSpan& span : found) keep_larger(std::move(span));
        }
    }

    bool finished(const std::string& process, const shm::SlotControl& control) const {
        if (control.end_cursor == shm::slot_open) return false;
        if (control.end_cursor == 0) return true;
        for (const auto& [owner, map] : maps_) {
            if (owner != process || map->header().segment_index != control.end_segment) continue;
            REQUIRE(control.end_lane < map->lane_count());
            return map->lane(control.end_lane).producer->write_cursor >= control.end_cursor;
        }
        FAIL("a slot names a segment that is not there");
        return false;
    }

    void keep_larger(ReadSpan span) {
        for (ReadSpan& known : rings_.open) {
            if (known.span_id != span.span_id) continue;
            if (known.record_bytes < span.record_bytes) known = std::move(span);
            return;
        }
        rings_.open.push_back(std::move(span));
    }

    void decode(const std::string& process, const shm::SegmentMap& map, std::uint32_t lane,
                const std::uint8_t* record, std::uint32_t length, std::vector<ReadSpan>& to) {
        std::vector<std::uint8_t> memory(daemon::frame_room(length));
        daemon::TickConverter clock;
        daemon::SpanFrame frame;
        const daemon::Refusal refusal =
            daemon::write_span_frame(memory.data(), record, length, clock, frame);
        if (refusal != daemon::Refusal::none) {
            MESSAGE("refused: ", std::string(daemon::to_string(refusal)));
            ++rings_.malformed;
            return;
        }
        rings_.keys_removed += frame.keys_removed;
        shm::FrameReader frames({reinterpret_cast<const char*>(memory.data()), frame.bytes});
        shm::Frame one;
        REQUIRE(frames.next(one));
        ReadSpan span = span_of(one.span);
        span.scope = frame.scope;
        span.process = process;
        span.file = map.name();
        span.lane = lane;
        span.record_bytes = length;
        to.push_back(std::move(span));
    }

    Rings& rings_;
    std::vector<std::pair<std::string, std::unique_ptr<shm::SegmentMap>>> maps_;
};

const ReadSegment& segment_of(const Rings& rings, const ReadSpan& span) {
    for (const ReadSegment& segment : rings.segments) {
        if (segment.file == span.file) return segment;
    }
    FAIL("no such segment");
    return rings.segments.front();
}

}  // namespace

std::string ReadSpan::at(const std::string& key) const { return find(attributes, key); }
std::string ReadResource::at(const std::string& key) const { return find(attributes, key); }

std::uint64_t Rings::dropped() const {
    std::uint64_t total =
        counted(shm::ProcessCounter::dropped_no_lane) + counted(shm::ProcessCounter::begun_no_lane);
    for (const std::uint64_t count : drops) total += count;
    return total;
}

const ReadSpan& Rings::span(const std::string& name) const {
    const ReadSpan* found = nullptr;
    for (const ReadSpan& span : spans) {
        if (span.name != name) continue;
        REQUIRE_MESSAGE(found == nullptr, "two spans are called ", name);
        found = &span;
    }
    REQUIRE_MESSAGE(found != nullptr, "no span is called ", name);
    return *found;
}

const ReadScope& Rings::scope_of(const ReadSpan& span) const {
    const ReadSegment& segment = segment_of(*this, span);
    const auto found = segment.scopes.find(span.scope);
    REQUIRE_MESSAGE(found != segment.scopes.end(), "no scope ", span.scope, " for ", span.name);
    return found->second;
}

const ReadResource& Rings::resource_of(const ReadSpan& span) const {
    const ReadSegment& segment = segment_of(*this, span);
    const auto found = segment.resources.find(scope_of(span).resource);
    REQUIRE(found != segment.resources.end());
    return found->second;
}

const ReadResource& Rings::resource() const {
    REQUIRE_FALSE(segments.empty());
    REQUIRE(segments.front().resources.count(0) == 1);
    return segments.front().resources.at(0);
}

Rings read_rings(const std::string& directory, const std::string& process) {
    Rings rings;
    const shm::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(fd);
    std::vector<std::unique_ptr<shm::SegmentMap>> maps;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        if (entry.path().extension() != shm::ring_suffix) continue;
        auto map =
            shm::SegmentMap::open(fd.get(), entry.path().filename(), shm::SegmentAccess::inspect);
        REQUIRE_MESSAGE(map, (map ? std::string() : map.error().message));
        if ((*map)->daemon()->retired != 0) continue;
        if (process.empty() || process == hex((*map)->header().process_id, 16)) {
            maps.push_back(std::move(*map));
        }
    }
    std::sort(maps.begin(), maps.end(), [](const auto& a, const auto& b) {
        const int order = std::memcmp(a->header().process_id, b->header().process_id, 16);
        return order != 0 ? order < 0 : a->header().segment_index < b->header().segment_index;
    });
    Reader reader(rings);
    for (auto& map : maps) reader.add(std::move(map));
    reader.read();
    return rings;
}

}  // namespace oteld::test
