// Encodes attributes, events and links of a span into its buffer, in OTLP wire format.
//
// Used by: Span's inline members only. Threads: the span's one user. Never allocates (grow() may,
// for a span beyond its slot), never throws. What does not fit or exceeds a limit is dropped and
// counted in the span.
#pragma once

#include "oteld/context.hpp"
#include "oteld/value.hpp"

namespace oteld::detail {

// 9 bits of a key, for the duplicate filter: folds to a constant for a literal. Equal keys have
// equal hashes; a false hit costs a look at what the span holds already.
inline std::uint32_t key_hash(std::string_view key) noexcept {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    const std::size_t size = key.size();
    if (size >= 8) {
        std::memcpy(&first, key.data(), 8);
        std::memcpy(&last, key.data() + size - 8, 8);
    } else if (size >= 4) {
        std::uint32_t low = 0;
        std::uint32_t high = 0;
        std::memcpy(&low, key.data(), 4);
        std::memcpy(&high, key.data() + size - 4, 4);
        first = low;
        last = high;
    } else {
        for (std::size_t i = 0; i < size; ++i)
            first = first << 8 | static_cast<unsigned char>(key[i]);
    }
    const std::uint64_t mixed =
        (first * 0x9E3779B97F4A7C15ULL) ^ (last * 0xC2B2AE3D27D4EB4FULL) ^ size;
    return static_cast<std::uint32_t>((mixed ^ mixed >> 29) * 0x9E3779B97F4A7C15ULL >> (64 - 9));
}

// Whether the span's body already holds this key in field 9. Only asked at the count limit: walks
// the span.
inline bool body_has_key(const abi::Span& span, std::string_view key) noexcept {
    const auto* at = reinterpret_cast<const std::uint8_t*>(span.record + 1);
    const auto varint = [&at, end = span.cursor](std::uint64_t& value) {
        value = 0;
        for (unsigned shift = 0; at < end && shift < 64; shift += 7) {
            const std::uint8_t byte = *at++;
            value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
            if (byte < 0x80) return true;
        }
        return false;
    };
    std::uint64_t tag = 0;
    std::uint64_t length = 0;
    while (at < span.cursor && varint(tag)) {
        if ((tag & 7U) == wire::varint_type) {
            if (!varint(length)) return false;
            continue;
        }
        if ((tag & 7U) != wire::bytes_type || !varint(length)) return false;
        if (length > static_cast<std::uint64_t>(span.cursor - at)) return false;
        const std::uint8_t* next = at + length;
        if (tag == wire::tag(9, wire::bytes_type) && at < next &&
            *at == wire::tag(1, wire::bytes_type)) {
            ++at;
            if (varint(length) && length == key.size() &&
                length <= static_cast<std::uint64_t>(next - at) &&
                std::memcmp(at, key.data(), key.size()) == 0) {
                return true;
            }
        }
        at = next;
    }
    return false;
}

// The rest of note_key(), for a key that may be a repetition. False: drop the attribute.
[[gnu::noinline]] inline bool note_key_slow(abi::Span& span, std::string_view key,
                                            bool hit) noexcept {
    if (key.empty()) {
        abi::count_dropped(span, abi::Dropped::attributes);
        return false;
    }
    const bool limit_reached = span.attributes >= span.limits->attributes;
    if (!hit && !limit_reached) return true;
    if (body_has_key(span, key)) {
        span.record->prefix.flags |= record_duplicate_keys;
        --span.attributes;  // The caller adds one: a key set twice counts once.
        return true;
    }
    if (!limit_reached) return true;
    abi::count_dropped(span, abi::Dropped::attributes);
    return false;
}

// Remembers the key. False: the attribute is to be dropped (and has been counted).
[[gnu::always_inline]] inline bool note_key(abi::Span& span, std::string_view key) noexcept {
    // One bit of 512, in a word: a span with ten different keys meets a false hit once in eleven.
    const std::uint32_t hash = key_hash(key);
    std::uint64_t& word = span.key_filter[hash / 64];
    const std::uint64_t bit = 1ULL << hash % 64;
    const std::uint64_t hit = word & bit;
    word |= bit;
    if (__builtin_expect(hit != 0 || span.attributes >= span.limits->attributes || key.empty(),
                         0)) {
        if (!note_key_slow(span, key, hit != 0)) return false;
    }
    ++span.attributes;
    return true;
}

inline void lost_attribute(abi::Span& span) noexcept {
    --span.attributes;
    abi::count_dropped(span, abi::Dropped::attributes);
}

[[gnu::noinline]] inline void set_any(abi::Span& span, std::string_view key,
                                      const Value& value) noexcept {
    if (!note_key(span, key)) return;
    const std::size_t bytes = key_value_field_bytes(9, key, value, span.limits->value_length);
    if (!abi::room(span, bytes)) return lost_attribute(span);
    span.cursor = put_key_value(span.cursor, 9, key, value, span.limits->value_length);
}

// The fast forms: key and value below 128 bytes in all, one length byte each. Others go through
// set_any().
[[gnu::always_inline]] inline bool short_key(std::string_view key) noexcept {
    return key.size() < 96;
}

[[gnu::always_inline]] inline std::uint8_t* put_short_key(std::uint8_t* at, std::string_view key,
                                                          std::size_t value_bytes) noexcept {
    at[0] = static_cast<std::uint8_t>(wire::tag(9, wire::bytes_type));
    at[1] = static_cast<std::uint8_t>(2 + key.size() + 2 + value_bytes);
    at[2] = static_cast<std::uint8_t>(wire::tag(1, wire::bytes_type));
    at[3] = static_cast<std::uint8_t>(key.size());
    at = wire::put_short(at + 4, key.data(), key.size());
    at[0] = static_cast<std::uint8_t>(wire::tag(2, wire::bytes_type));
    at[1] = static_cast<std::uint8_t>(value_bytes);
    return at + 2;
}

[[gnu::always_inline]] inline void set_integer(abi::Span& span, std::string_view key,
                                               std::int64_t value) noexcept {
    if (!short_key(key)) return set_any(span, key, value);
    if (!note_key(span, key)) return;
    if (!abi::room(span, key.size() + 18)) return lost_attribute(span);
    const auto bits = static_cast<std::uint64_t>(value);
    const std::size_t value_bytes = 1 + (bits < 0x80 ? 1 : wire::varint_bytes(bits));
    std::uint8_t* at = put_short_key(span.cursor, key, value_bytes);
    *at++ = static_cast<std::uint8_t>(wire::tag(3, wire::varint_type));
    span.cursor = wire::put_varint(at, bits);
}

[[gnu::always_inline]] inline void set_boolean(abi::Span& span, std::string_view key,
                                               bool value) noexcept {
    if (!short_key(key)) return set_any(span, key, value);
    if (!note_key(span, key)) return;
    if (!abi::room(span, key.size() + 8)) return lost_attribute(span);
    std::uint8_t* at = put_short_key(span.cursor, key, 2);
    *at++ = static_cast<std::uint8_t>(wire::tag(2, wire::varint_type));
    *at++ = value ? 1 : 0;
    span.cursor = at;
}

[[gnu::always_inline]] inline void set_real(abi::Span& span, std::string_view key,
                                            double value) noexcept {
    if (!short_key(key)) return set_any(span, key, value);
    if (!note_key(span, key)) return;
    if (!abi::room(span, key.size() + 15)) return lost_attribute(span);
    std::uint8_t* at = put_short_key(span.cursor, key, 9);
    *at++ = static_cast<std::uint8_t>(wire::tag(4, wire::fixed64_type));
    std::memcpy(at, &value, 8);
    span.cursor = at + 8;
}

[[gnu::always_inline]] inline void set_string(abi::Span& span, std::string_view key,
                                              std::string_view value) noexcept {
    // 120: with its four tags and lengths the whole attribute stays below 128.
    if (key.size() + value.size() > 120 || value.size() > span.limits->value_length)
        return set_any(span, key, value);
    if (!note_key(span, key)) return;
    if (!abi::room(span, key.size() + value.size() + 8)) return lost_attribute(span);
    std::uint8_t* at = put_short_key(span.cursor, key, 2 + value.size());
    at[0] = static_cast<std::uint8_t>(wire::tag(1, wire::bytes_type));
    at[1] = static_cast<std::uint8_t>(value.size());
    span.cursor = wire::put_short(at + 2, value.data(), value.size());
}

// The form that fits the type best; anything unusual becomes a Value.
template <class T>
[[gnu::always_inline]] inline void set_one(abi::Span& span, std::string_view key,
                                           const T& value) noexcept {
    if constexpr (std::is_same_v<T, bool>) {
        set_boolean(span, key, value);
    } else if constexpr (std::is_floating_point_v<T>) {
        set_real(span, key, static_cast<double>(value));
    } else if constexpr (std::is_integral_v<T> && (std::is_signed_v<T> || sizeof(T) < 8)) {
        set_integer(span, key, static_cast<std::int64_t>(value));
    } else if constexpr (std::is_convertible_v<const T&, const char*>) {
        const char* text = value;
        set_string(span, key, text == nullptr ? std::string_view() : std::string_view(text));
    } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
        set_string(span, key, value);
    } else {
        set_any(span, key, Value(value));
    }
}

// A value whose type is known only at run time: one of a list.
[[gnu::noinline]] inline void set_value(abi::Span& span, std::string_view key,
                                        const Value& value) noexcept {
    value.visit([&](auto plain) { set_one(span, key, plain); }, [&] { set_any(span, key, value); });
}

// How many of the attributes count: later ones over the limit are dropped, empty keys too; of a
// repeated key the last one counts. Quadratic, but lists at events and links are short.
struct AttributeList {
    const Attribute* first;
    std::size_t count;
    std::uint32_t limit;

    [[nodiscard]] bool kept(std::size_t i) const noexcept {
        if (first[i].key.empty()) return false;
        for (std::size_t later = i + 1; later < count; ++later) {
            if (first[later].key == first[i].key) return false;
        }
        return true;
    }
    template <class Function>
    std::uint32_t each(Function function) const noexcept {  // Returns the number dropped.
        std::uint32_t taken = 0;
        std::uint32_t dropped = 0;
        for (std::size_t i = 0; i < count; ++i) {
            if (!kept(i)) {
                if (first[i].key.empty()) ++dropped;
                continue;
            }
            if (taken == limit) {
                ++dropped;
                continue;
            }
            ++taken;
            function(first[i]);
        }
        return dropped;
    }
};

// Event { time_unix_nano = 1, name = 2, attributes = 3, dropped_attributes_count = 4 } as field 11.
[[gnu::noinline]] inline void add_event(abi::Span& span, std::string_view name,
                                        const AttributeList& list, std::uint64_t time,
                                        std::uint32_t text_limit) noexcept {
    if (span.events >= span.limits->events) {
        abi::count_dropped(span, abi::Dropped::events);
        return;
    }
    std::size_t inner = 9 + wire::bytes_field_bytes(2, name.size());
    const std::uint32_t dropped = list.each(
        [&](const Attribute& a) { inner += key_value_field_bytes(3, a.key, a.value, text_limit); });
    if (dropped != 0) inner += 1 + wire::varint_bytes(dropped);
    if (!abi::room(span, wire::bytes_field_bytes(11, inner))) {
        abi::count_dropped(span, abi::Dropped::events);
        return;
    }
    std::uint8_t* at = wire::put_varint(wire::put_tag(span.cursor, 11, wire::bytes_type), inner);
    at = wire::put_fixed64(wire::put_tag(at, 1, wire::fixed64_type), time);
    at = wire::put_bytes(at, 2, name.data(), name.size());
    list.each([&](const Attribute& a) { at = put_key_value(at, 3, a.key, a.value, text_limit); });
    if (dropped != 0) at = wire::put_varint(wire::put_tag(at, 4, wire::varint_type), dropped);
    span.cursor = at;
    ++span.events;
}

// Link { trace_id = 1, span_id = 2, trace_state = 3, attributes = 4, dropped_attributes_count = 5,
// flags = 6 } as field 13.
[[gnu::noinline]] inline void add_link(abi::Span& span, const SpanContext& context,
                                       const AttributeList& list) noexcept {
    if (span.links >= span.limits->links) {
        abi::count_dropped(span, abi::Dropped::links);
        return;
    }
    const std::string_view state = context.trace_state();
    std::size_t inner = 18 + 10 + 5;
    if (!state.empty()) inner += wire::bytes_field_bytes(3, state.size());
    const std::uint32_t text_limit = span.limits->value_length;
    const std::uint32_t dropped = list.each(
        [&](const Attribute& a) { inner += key_value_field_bytes(4, a.key, a.value, text_limit); });
    if (dropped != 0) inner += 1 + wire::varint_bytes(dropped);
    if (!abi::room(span, wire::bytes_field_bytes(13, inner))) {
        abi::count_dropped(span, abi::Dropped::links);
        return;
    }
    std::uint8_t* at = wire::put_varint(wire::put_tag(span.cursor, 13, wire::bytes_type), inner);
    at = wire::put_bytes(at, 1, context.trace_id(), 16);
    at = wire::put_bytes(at, 2, context.span_id(), 8);
    if (!state.empty()) at = wire::put_bytes(at, 3, state.data(), state.size());
    list.each([&](const Attribute& a) { at = put_key_value(at, 4, a.key, a.value, text_limit); });
    if (dropped != 0) at = wire::put_varint(wire::put_tag(at, 5, wire::varint_type), dropped);
    const std::uint32_t flags = context.flags() | 0x100U | (context.remote() ? 0x200U : 0U);
    span.cursor = wire::put_fixed32(wire::put_tag(at, 6, wire::fixed32_type), flags);
    ++span.links;
}

}  // namespace oteld::detail
