#include "daemon/intake/validate.hpp"

#include "daemon/intake/duplicate_keys.hpp"
#include "daemon/intake/validate_body.hpp"
#include "oteld/detail/wire.hpp"
#include "shm/lane_reader.hpp"

#include <cstring>

namespace oteld::daemon {
namespace {

namespace wire = detail::wire;
using detail::SpanRecord;

constexpr std::uint32_t flags_field = 16;
constexpr std::uint32_t status_field = 15;
constexpr std::size_t flags_bytes = 6;  // Two of tag, four of value.
constexpr std::uint32_t otlp_remote_known = 0x100;
constexpr std::uint32_t otlp_remote = 0x200;

// The record's header in registers: each of its eight words is read from shared memory once. A copy
// in memory would be read back across the stores that made it, and wait for them.
struct Header {
    std::uint64_t trace_id[2];
    std::uint64_t span_id;
    std::uint64_t parent_id;  // 0: a root.
    std::uint64_t start;
    std::uint64_t end;
    std::uint32_t record_flags;  // detail::RecordFlags
    std::uint32_t body_at;       // From the start of the record.
    std::uint32_t body_bytes;
    std::uint32_t kind;
    std::uint32_t status;
    std::uint32_t flags;  // As OTLP has them.
    std::uint16_t scope;
    const std::uint8_t* description;  // In shared memory; null: none.
    std::uint32_t description_bytes;
};

std::uint64_t word(const std::uint8_t* record_untrusted, std::size_t offset) {
    return __atomic_load_n(reinterpret_cast<const std::uint64_t*>(record_untrusted + offset),
                           __ATOMIC_RELAXED);
}

[[gnu::always_inline]] inline Refusal read_header(Header& header,
                                                  const std::uint8_t* record_untrusted,
                                                  std::uint32_t length) {
    const std::uint64_t prefix = word(record_untrusted, 0);
    const std::uint64_t last = word(record_untrusted, offsetof(SpanRecord, kind_status));
    header.trace_id[0] = word(record_untrusted, offsetof(SpanRecord, trace_id));
    header.trace_id[1] = word(record_untrusted, offsetof(SpanRecord, trace_id) + 8);
    header.span_id = word(record_untrusted, offsetof(SpanRecord, span_id));
    header.parent_id = word(record_untrusted, offsetof(SpanRecord, parent_id));
    header.start = word(record_untrusted, offsetof(SpanRecord, start));
    header.end = word(record_untrusted, offsetof(SpanRecord, end));
    header.record_flags = prefix >> 40 & 0xFF;
    header.body_at = static_cast<std::uint32_t>(prefix >> 48);
    header.kind = last & 15;
    header.status = last >> 4 & 15;
    header.flags = last >> 8 & 0xFF;
    header.scope = static_cast<std::uint16_t>(last >> 16);
    header.body_bytes = static_cast<std::uint32_t>(last >> 32);
    if (header.body_at < sizeof(SpanRecord) || header.body_at % 8 != 0 || header.body_at > length ||
        header.body_bytes > length - header.body_at)
        return Refusal::header;
    if (header.kind > 5 || header.status > 2) return Refusal::header;
    if ((header.trace_id[0] | header.trace_id[1]) == 0 || header.span_id == 0) return Refusal::ids;
    if ((header.record_flags & detail::record_parent_known) != 0) header.flags |= otlp_remote_known;
    if ((header.record_flags & detail::record_parent_remote) != 0) header.flags |= otlp_remote;
    header.description = nullptr;
    header.description_bytes = 0;
    if (__builtin_expect((header.record_flags & detail::record_has_description) == 0, 1))
        return Refusal::none;

    const std::uint32_t rest = length - header.body_at - header.body_bytes;
    if (rest < sizeof(std::uint32_t)) return Refusal::header;
    const std::uint8_t* at = record_untrusted + header.body_at + header.body_bytes;
    shm::copy_untrusted(&header.description_bytes, at, sizeof(std::uint32_t));
    if (header.description_bytes > rest - sizeof(std::uint32_t)) return Refusal::header;
    header.description = at + sizeof(std::uint32_t);
    return Refusal::none;
}
static_assert(offsetof(SpanRecord, trace_flags) == 57 &&
              offsetof(detail::RecordPrefix, flags) == 5 &&
              offsetof(detail::RecordPrefix, header_bytes) == 6);

std::size_t status_payload_bytes(const Header& header) {
    std::size_t bytes = header.status != 0 ? 2 : 0;
    if (header.description_bytes != 0)
        bytes += wire::bytes_field_bytes(2, header.description_bytes);
    return bytes;
}

std::size_t tail_bytes(const Header& header) {
    std::size_t bytes = header.flags != 0 ? flags_bytes : 0;
    const std::size_t status = status_payload_bytes(header);
    if (status != 0) bytes += wire::bytes_field_bytes(status_field, status);
    return bytes;
}

std::size_t head_bytes(const Header& header) {
    return 18 + 10 + (header.parent_id == 0 ? 0 : 10) + (header.kind != 0 ? 2 : 0) + 9 + 9;
}

struct Times {
    std::uint64_t start;
    std::uint64_t end;
};

Times convert_times(const Header& record, TickConverter& clock) {
    const bool start_ticks = (record.start & detail::time_is_ticks) != 0;
    const bool end_ticks = (record.end & detail::time_is_ticks) != 0;
    Times times{record.start, record.end};
    if (start_ticks) times.start = clock.to_unix(record.start & ~detail::time_is_ticks);
    if (end_ticks) times.end = clock.to_unix(record.end & ~detail::time_is_ticks);
    // Counters of two processors may differ by a few ticks. Times that the caller gave are the
    // caller's.
    if ((start_ticks || end_ticks) && times.end < times.start) times.end = times.start;
    return times;
}

std::uint8_t* put_head(std::uint8_t* at, const Header& header, TickConverter& clock) {
    const Times times = convert_times(header, clock);
    at[0] = wire::tag(1, wire::bytes_type);
    at[1] = 16;
    std::memcpy(at + 2, header.trace_id, 16);
    at[18] = wire::tag(2, wire::bytes_type);
    at[19] = 8;
    std::memcpy(at + 20, &header.span_id, 8);
    at += 28;
    if (header.parent_id != 0) {
        at[0] = wire::tag(4, wire::bytes_type);
        at[1] = 8;
        std::memcpy(at + 2, &header.parent_id, 8);
        at += 10;
    }
    if (header.kind != 0) {
        at[0] = wire::tag(6, wire::varint_type);
        at[1] = static_cast<std::uint8_t>(header.kind);
        at += 2;
    }
    at[0] = wire::tag(7, wire::fixed64_type);
    at = wire::put_fixed64(at + 1, times.start);
    at[0] = wire::tag(8, wire::fixed64_type);
    return wire::put_fixed64(at + 1, times.end);
}

std::uint8_t* put_tail(std::uint8_t* at, const Header& header, std::uint32_t& bytes_repaired) {
    if (const std::size_t status = status_payload_bytes(header); status != 0) {
        at = wire::put_tag(at, status_field, wire::bytes_type);
        at = wire::put_varint(at, status);
        if (header.description_bytes != 0) {
            at = wire::put_tag(at, 2, wire::bytes_type);
            at = wire::put_varint(at, header.description_bytes);
            shm::copy_untrusted(at, header.description, header.description_bytes);
            bytes_repaired += repair_utf8(at, header.description_bytes);
            at += header.description_bytes;
        }
        if (header.status != 0) {
            *at++ = wire::tag(3, wire::varint_type);
            *at++ = static_cast<std::uint8_t>(header.status);
        }
    }
    if (header.flags == 0) return at;
    constexpr std::uint32_t tag = wire::tag(flags_field, wire::fixed32_type);
    at[0] = static_cast<std::uint8_t>(tag | 0x80);
    at[1] = tag >> 7;
    return wire::put_fixed32(at + 2, header.flags);
}

}  // namespace

std::string_view to_string(Refusal refusal) noexcept {
    switch (refusal) {
        case Refusal::none: return "none";
        case Refusal::header: return "contradictory header";
        case Refusal::ids: return "no trace or span id";
        case Refusal::wire: return "not protobuf wire format";
        case Refusal::field: return "unexpected field";
        case Refusal::nesting: return "nested too deeply";
        case Refusal::scope: return "unknown scope";
    }
    return "unknown";
}

Refusal write_span_frame(std::uint8_t* to, const std::uint8_t* record_untrusted,
                         std::uint32_t length, TickConverter& clock, SpanFrame& frame) noexcept {
    Header header;
    if (const Refusal refusal = read_header(header, record_untrusted, length);
        refusal != Refusal::none)
        return refusal;
    std::size_t body_bytes = header.body_bytes;
    const std::size_t fixed_bytes = head_bytes(header) + tail_bytes(header);
    const std::size_t length_bytes = wire::varint_bytes(fixed_bytes + body_bytes);

    std::uint8_t* const span = to + 1 + length_bytes;
    std::uint8_t* const body = put_head(span, header, clock);
    std::uint8_t* const first_high =
        copy_and_find_high(body, record_untrusted + header.body_at, body_bytes);
    BodyValidator validator(clock);
    if (!validator.span_body(body, body + body_bytes, first_high)) return validator.refusal();
    frame.keys_removed = 0;
    if (__builtin_expect((header.record_flags & detail::record_duplicate_keys) != 0, 0))
        body_bytes = remove_duplicate_keys(body, body_bytes, frame.keys_removed);
    frame.bytes_repaired = validator.bytes_repaired();
    std::uint8_t* const end = put_tail(body + body_bytes, header, frame.bytes_repaired);

    to[0] = wire::tag(2, wire::bytes_type);
    const auto span_bytes = static_cast<std::size_t>(end - span);
    const std::uint8_t* const begin = wire::put_varint(to + 1, span_bytes);
    // Without its duplicate keys the span may need a shorter length.
    if (__builtin_expect(begin != span, 0)) std::memmove(to + (begin - to), span, span_bytes);
    frame.bytes = static_cast<std::size_t>(begin - to) + span_bytes;
    frame.scope = header.scope;
    return Refusal::none;
}

Refusal validate_table_message(TableMessage kind, std::uint8_t* message, std::size_t bytes,
                               std::uint32_t& bytes_repaired) noexcept {
    TickConverter no_clock;
    BodyValidator validator(no_clock);
    const bool good = kind == TableMessage::resource
                          ? validator.resource(message, message + bytes)
                          : validator.instrumentation_scope(message, message + bytes);
    bytes_repaired += validator.bytes_repaired();
    return good ? Refusal::none : validator.refusal();
}

}  // namespace oteld::daemon
