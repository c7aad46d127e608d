#include "shm/span_view.hpp"

#include "oteld/detail/wire.hpp"

#include <cstring>

namespace oteld::shm {

namespace wire = oteld::detail::wire;

namespace {

// Takes a varint off the front of `rest`. Like protobuf's parsers, drops what overflows 64 bits in
// its tenth byte.
bool take_varint(std::string_view& rest, std::uint64_t& value) noexcept {
    value = 0;
    for (std::size_t i = 0; i < wire::varint_bytes_max && i < rest.size(); ++i) {
        const auto byte = static_cast<std::uint8_t>(rest[i]);
        value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            rest.remove_prefix(i + 1);
            return true;
        }
    }
    return false;
}

template <class Integer>
bool take_fixed(std::string_view& rest, std::uint64_t& value) noexcept {
    Integer number;
    if (rest.size() < sizeof number) return false;
    std::memcpy(&number, rest.data(), sizeof number);
    value = number;
    rest.remove_prefix(sizeof number);
    return true;
}

bool is(const WireField& met, std::uint32_t field, wire::Type type) noexcept {
    return met.field == field && met.type == type;
}

void take_bytes(const WireField& met, std::uint32_t field, std::string_view& into) noexcept {
    if (is(met, field, wire::bytes_type)) into = met.bytes;
}

template <class Integer>
void take_number(const WireField& met, std::uint32_t field, wire::Type type,
                 Integer& into) noexcept {
    if (is(met, field, type)) into = static_cast<Integer>(met.number);
}

AnyValue last_of(const Repeated<Attribute>& attributes, std::string_view key) noexcept {
    AnyValue found;
    for (const Attribute& attribute : attributes) {
        if (attribute.key == key) found = attribute.value;
    }
    return found;
}

}  // namespace

bool FieldReader::next(WireField& field) noexcept {
    if (rest_.empty()) return false;
    std::uint64_t tag = 0;
    if (!take_varint(rest_, tag) || tag >> 32 != 0 || tag >> 3 == 0) return fail();
    field =
        WireField{static_cast<std::uint32_t>(tag >> 3), static_cast<std::uint32_t>(tag & 7), 0, {}};
    switch (field.type) {
        case wire::varint_type: return take_varint(rest_, field.number) || fail();
        case wire::fixed64_type: return take_fixed<std::uint64_t>(rest_, field.number) || fail();
        case wire::fixed32_type: return take_fixed<std::uint32_t>(rest_, field.number) || fail();
        case wire::bytes_type:
            if (!take_varint(rest_, field.number) || field.number > rest_.size()) return fail();
            field.bytes = rest_.substr(0, field.number);
            rest_.remove_prefix(field.number);
            return true;
        default: return fail();  // Groups: nothing in OTLP has them.
    }
}

bool FieldReader::fail() noexcept {
    malformed_ = true;
    rest_ = {};
    return false;
}

bool FrameReader::next(Frame& frame) noexcept {
    const std::string_view before = fields_.rest();
    WireField field;
    if (malformed_ || !fields_.next(field)) return false;
    if (!is(field, 2, wire::bytes_type)) {
        malformed_ = true;
        return false;
    }
    frame.bytes = before.substr(0, before.size() - fields_.rest().size());
    frame.span = field.bytes;
    return true;
}

void AnyValue::merge(std::string_view message) noexcept {
    const auto set = [this](const WireField& met, wire::Type type, Kind kind) {
        if (met.type != type) return;
        kind_ = kind;
        number_ = met.number;
        bytes_ = met.bytes;
    };
    FieldReader fields(message);
    for (WireField met; fields.next(met);) {
        switch (met.field) {
            case 1: set(met, wire::bytes_type, Kind::string); break;
            case 2: set(met, wire::varint_type, Kind::boolean); break;
            case 3: set(met, wire::varint_type, Kind::integer); break;
            case 4: set(met, wire::fixed64_type, Kind::floating); break;
            case 5: set(met, wire::bytes_type, Kind::array); break;
            case 6: set(met, wire::bytes_type, Kind::map); break;
            case 7: set(met, wire::bytes_type, Kind::bytes); break;
            default: break;
        }
    }
}

double AnyValue::floating() const noexcept {
    double value;
    std::memcpy(&value, &number_, sizeof value);
    return value;
}

Attribute::Attribute(std::string_view message) noexcept {
    FieldReader fields(message);
    for (WireField met; fields.next(met);) {
        take_bytes(met, 1, key);
        if (is(met, 2, wire::bytes_type)) value.merge(met.bytes);
    }
}

Event::Event(std::string_view message) noexcept : message_(message) {
    FieldReader fields(message);
    for (WireField met; fields.next(met);) {
        take_number(met, 1, wire::fixed64_type, time_unix_ns);
        take_bytes(met, 2, name);
        take_number(met, 4, wire::varint_type, dropped_attributes_count);
    }
}

Link::Link(std::string_view message) noexcept : message_(message) {
    FieldReader fields(message);
    for (WireField met; fields.next(met);) {
        take_bytes(met, 1, trace_id);
        take_bytes(met, 2, span_id);
        take_bytes(met, 3, trace_state);
        take_number(met, 5, wire::varint_type, dropped_attributes_count);
        take_number(met, 6, wire::fixed32_type, flags);
    }
}

Span::Span(std::string_view message) noexcept : message_(message) {
    FieldReader fields(message);
    for (WireField met; fields.next(met);) {
        switch (met.field) {
            case 1: take_bytes(met, 1, trace_id); break;
            case 2: take_bytes(met, 2, span_id); break;
            case 3: take_bytes(met, 3, trace_state); break;
            case 4: take_bytes(met, 4, parent_span_id); break;
            case 5: take_bytes(met, 5, name); break;
            case 6: take_number(met, 6, wire::varint_type, kind); break;
            case 7: take_number(met, 7, wire::fixed64_type, start_unix_ns); break;
            case 8: take_number(met, 8, wire::fixed64_type, end_unix_ns); break;
            case 10: take_number(met, 10, wire::varint_type, dropped_attributes_count); break;
            case 12: take_number(met, 12, wire::varint_type, dropped_events_count); break;
            case 14: take_number(met, 14, wire::varint_type, dropped_links_count); break;
            case 15:
                if (met.type == wire::bytes_type) read_status(met.bytes);
                break;
            case 16: take_number(met, 16, wire::fixed32_type, flags); break;
            default: break;
        }
    }
    malformed_ = fields.malformed();
}

void Span::read_status(std::string_view message) noexcept {
    has_status = true;
    FieldReader fields(message);
    for (WireField met; fields.next(met);) {
        take_bytes(met, 2, status_message);
        take_number(met, 3, wire::varint_type, status_code);
    }
}

AnyValue Span::attribute(std::string_view key) const noexcept { return last_of(attributes(), key); }

Resource::Resource(std::string_view message) noexcept : message_(message) {
    FieldReader fields(message);
    for (WireField met; fields.next(met);) {
        take_number(met, 2, wire::varint_type, dropped_attributes_count);
    }
}

AnyValue Resource::attribute(std::string_view key) const noexcept {
    return last_of(attributes(), key);
}

Scope::Scope(std::string_view message) noexcept : message_(message) {
    FieldReader fields(message);
    for (WireField met; fields.next(met);) {
        take_bytes(met, 1, name);
        take_bytes(met, 2, version);
        take_number(met, 4, wire::varint_type, dropped_attributes_count);
    }
}

}  // namespace oteld::shm
