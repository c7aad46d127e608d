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
    } else if (size != 0) {  // First, middle and last: all that there are.
        first = static_cast<std::uint64_t>(static_cast<unsigned char>(key[0])) << 16 |
                static_cast<std::uint64_t>(static_cast<unsigned char>(key[size / 2])) << 8 |
                static_cast<unsigned char>(key[size - 1]);
    }
    const std::uint64_t mixed =
        (first ^ size) * 0x9E3779B97F4A7C15ULL + last * 0xC2B2AE3D27D4EB4FULL;
    return static_cast<std::uint32_t>(mixed >> (64 - 9));
}

// What the span's body up to `end` says about a key. Walks the span.
struct KeySearch {
    std::uint32_t attributes = 0;  // Of any key.
    bool found = false;
};
inline KeySearch search_key(const abi::Span& span, const std::uint8_t* end,
                            std::string_view key) noexcept {
    KeySearch result;
    const auto* at = reinterpret_cast<const std::uint8_t*>(span.record + 1);
    const auto varint = [&at, end](std::uint64_t& value) {
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
    while (at < end && varint(tag)) {
        if ((tag & 7U) == wire::varint_type) {
            if (!varint(length)) break;
            continue;
        }
        if ((tag & 7U) != wire::bytes_type || !varint(length)) break;
        if (length > static_cast<std::uint64_t>(end - at)) break;
        const std::uint8_t* next = at + length;
        if (tag == wire::tag(9, wire::bytes_type)) {
            ++result.attributes;
            if (at < next && *at == wire::tag(1, wire::bytes_type)) {
                ++at;
                if (varint(length) && length == key.size() &&
                    length <= static_cast<std::uint64_t>(next - at) &&
                    std::memcmp(at, key.data(), key.size()) == 0) {
                    result.found = true;
                }
            }
        }
        at = next;
    }
    return result;
}

// The shortest attribute: a key of one byte and a bool, with all tags and lengths.
inline constexpr std::size_t attribute_bytes_least = 9;

// The rest of attribute_room(): the key may be a repetition, room or the limit of attributes may be
// reached. Null: the attribute is dropped, and has been counted.
[[gnu::noinline]] inline std::uint8_t* attribute_room_slow(abi::Span& span, std::uint8_t* at,
                                                           std::string_view key,
                                                           std::size_t bytes) noexcept {
    const auto dropped = [&span]() -> std::uint8_t* {
        abi::count_dropped(span, abi::Dropped::attributes);
        return nullptr;
    };
    if (key.empty()) return dropped();
    const KeySearch body = search_key(span, at, key);
    // A key set twice counts once.
    std::uint32_t kept = body.attributes - span.repeated_keys + (body.found ? 0 : 1);
    const std::uint32_t limit = span.limits->attributes;
    if (kept > limit) return dropped();
    std::uint8_t* to = abi::room(span, at, bytes);
    if (to == nullptr) return dropped();
    if (body.found) {
        span.record->prefix.flags |= record_duplicate_keys;
        ++span.repeated_keys;
    }
    // Next asked when as many could have come as are left.
    const std::size_t left = static_cast<std::size_t>(limit - kept) * attribute_bytes_least;
    const auto until_end = static_cast<std::size_t>(span.end - to);
    span.room_end = bytes + left < until_end ? to + bytes + left : span.end;
    return to;
}

// Where an attribute of at most `bytes` is to be written when nothing about it is unusual: `at`.
// Null: ask attribute_room_slow(). One compare for room and limit: a body that is shorter than the
// limit's number of shortest attributes cannot have reached it.
[[gnu::always_inline]] inline std::uint8_t* attribute_room(abi::Span& span, std::uint8_t* at,
                                                           std::string_view key,
                                                           std::size_t bytes) noexcept {
    // One bit of 512, in a word: a span with ten different keys meets a false hit once in eleven.
    const std::uint32_t hash = key_hash(key);
    std::uint64_t& word = span.key_filter[hash / 64];
    const std::uint64_t bit = 1ULL << hash % 64;
    const std::uint64_t hit = word & bit;
    word |= bit;
    return __builtin_expect(hit != 0 || !abi::fits(span, at, bytes) || key.empty(), 0) ? nullptr
                                                                                       : at;
}

// Any attribute. Writes behind `at` and returns where the content ends then: at `at` if the
// attribute had to be dropped, which is counted. The caller publishes.
[[gnu::noinline]] inline std::uint8_t* set_any(abi::Span& span, std::uint8_t* at,
                                               std::string_view key, const Value& value) noexcept {
    const std::size_t bytes = key_value_field_bytes(9, key, value, span.limits->value_length);
    std::uint8_t* to = attribute_room(span, at, key, bytes);
    if (to == nullptr) to = attribute_room_slow(span, at, key, bytes);
    return to == nullptr ? at : put_key_value(to, 9, key, value, span.limits->value_length);
}

// The quick forms: key and value below 128 bytes in all, one length byte each, nothing unusual.
// Null: nothing was written, and set_any() is to be asked. Tags and lengths are written in one
// store, which may reach over what is written next.
[[gnu::always_inline]] inline bool short_key(std::string_view key) noexcept {
    return key.size() < 96;
}

[[gnu::always_inline]] inline std::uint8_t* put_four(std::uint8_t* at, std::size_t first,
                                                     std::size_t second, std::size_t third,
                                                     std::size_t fourth) noexcept {
    return wire::put_fixed32(
        at, static_cast<std::uint32_t>(first | second << 8 | third << 16 | fourth << 24));
}

// Up to the value's tag; `inside` is what goes into the byte behind that.
[[gnu::always_inline]] inline std::uint8_t* put_short_key(std::uint8_t* at, std::string_view key,
                                                          std::size_t value_bytes,
                                                          std::uint32_t value_tag,
                                                          std::size_t inside) noexcept {
    at = put_four(at, wire::tag(9, wire::bytes_type), 2 + key.size() + 2 + value_bytes,
                  wire::tag(1, wire::bytes_type), key.size());
    at = wire::put_short(at, key.data(), key.size());
    return put_four(at, wire::tag(2, wire::bytes_type), value_bytes, value_tag, inside);
}

[[gnu::always_inline]] inline std::uint8_t* set_quickly(abi::Span& span, std::uint8_t* at,
                                                        std::string_view key,
                                                        std::int64_t value) noexcept {
    std::uint8_t* to = short_key(key) ? attribute_room(span, at, key, key.size() + 18) : nullptr;
    if (to == nullptr) return nullptr;
    const auto bits = static_cast<std::uint64_t>(value);
    constexpr std::uint32_t tag = wire::tag(3, wire::varint_type);
    if (__builtin_expect(bits < 0x80, 1)) return put_short_key(to, key, 2, tag, bits);
    to = put_short_key(to, key, 1 + wire::varint_bytes(bits), tag, 0);
    return wire::put_varint(to - 1, bits);
}

[[gnu::always_inline]] inline std::uint8_t* set_quickly(abi::Span& span, std::uint8_t* at,
                                                        std::string_view key, bool value) noexcept {
    std::uint8_t* to = short_key(key) ? attribute_room(span, at, key, key.size() + 8) : nullptr;
    if (to == nullptr) return nullptr;
    return put_short_key(to, key, 2, wire::tag(2, wire::varint_type), value ? 1 : 0);
}

[[gnu::always_inline]] inline std::uint8_t* set_quickly(abi::Span& span, std::uint8_t* at,
                                                        std::string_view key,
                                                        double value) noexcept {
    std::uint8_t* to = short_key(key) ? attribute_room(span, at, key, key.size() + 15) : nullptr;
    if (to == nullptr) return nullptr;
    to = put_short_key(to, key, 9, wire::tag(4, wire::fixed64_type), 0);
    std::memcpy(to - 1, &value, 8);
    return to + 7;
}

[[gnu::always_inline]] inline std::uint8_t* set_quickly(abi::Span& span, std::uint8_t* at,
                                                        std::string_view key,
                                                        std::string_view value) noexcept {
    // 120: with its four tags and lengths the whole attribute stays below 128.
    if (key.size() + value.size() > 120 || value.size() > span.limits->value_length) return nullptr;
    std::uint8_t* to = attribute_room(span, at, key, key.size() + value.size() + 8);
    if (to == nullptr) return nullptr;
    to = put_short_key(to, key, 2 + value.size(), wire::tag(1, wire::bytes_type), value.size());
    return wire::put_short(to, value.data(), value.size());
}

template <class T>
[[gnu::noinline]] inline void set_slowly(abi::Span& span, std::string_view key, T value) noexcept {
    abi::publish(span, set_any(span, span.cursor, key, Value(value)));
}

// Sets and publishes. The slow way is its last call, so that nothing has to be saved around it.
template <class T>
[[gnu::always_inline]] inline void set_plain(abi::Span& span, std::string_view key,
                                             T value) noexcept {
    std::uint8_t* at = set_quickly(span, span.cursor, key, value);
    if (__builtin_expect(at == nullptr, 0)) return set_slowly(span, key, value);
    abi::publish(span, at);
}

// The form that fits the type best; anything unusual becomes a Value.
template <class T>
[[gnu::always_inline]] inline void set_one(abi::Span& span, std::string_view key,
                                           const T& value) noexcept {
    if constexpr (std::is_same_v<T, bool>) {
        set_plain(span, key, value);
    } else if constexpr (std::is_floating_point_v<T>) {
        set_plain(span, key, static_cast<double>(value));
    } else if constexpr (std::is_integral_v<T> && (std::is_signed_v<T> || sizeof(T) < 8)) {
        set_plain(span, key, static_cast<std::int64_t>(value));
    } else if constexpr (std::is_convertible_v<const T&, const char*>) {
        const char* text = value;
        set_plain(span, key, text == nullptr ? std::string_view() : std::string_view(text));
    } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
        set_plain(span, key, std::string_view(value));
    } else {
        abi::publish(span, set_any(span, span.cursor, key, Value(value)));
    }
}

// Like set_any(), for values whose type is known only at run time.
[[gnu::noinline]] inline std::uint8_t* set_list(abi::Span& span, std::uint8_t* at,
                                                const Attribute* first,
                                                std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        std::uint8_t* end = first[i].value.visit(
            [&](auto plain) { return set_quickly(span, at, first[i].key, plain); },
            []() -> std::uint8_t* { return nullptr; });
        at = end != nullptr ? end : set_any(span, at, first[i].key, first[i].value);
    }
    return at;
}

// The last name counts. One that is too long for any record is left out.
[[gnu::always_inline]] inline std::uint8_t* put_name(abi::Span& span, std::uint8_t* at,
                                                     std::string_view name) noexcept {
    std::uint8_t* to = abi::room(span, at, wire::bytes_field_bytes(5, name.size()));
    if (__builtin_expect(to == nullptr, 0)) return at;
    if (__builtin_expect(name.size() >= 128, 0))
        return wire::put_bytes(to, 5, name.data(), name.size());
    to[0] = wire::tag(5, wire::bytes_type);
    to[1] = static_cast<std::uint8_t>(name.size());
    return wire::put_short(to + 2, name.data(), name.size());
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
    // What they take as fields of this number, and how many are dropped; and the fields.
    std::size_t bytes(std::uint32_t field, std::uint32_t text_limit,
                      std::uint32_t& dropped) const noexcept {
        std::size_t total = 0;
        dropped = each([&](const Attribute& a) {
            total += key_value_field_bytes(field, a.key, a.value, text_limit);
        });
        return total;
    }
    std::uint8_t* put(std::uint8_t* at, std::uint32_t field,
                      std::uint32_t text_limit) const noexcept {
        each(
            [&](const Attribute& a) { at = put_key_value(at, field, a.key, a.value, text_limit); });
        return at;
    }
};

// Event { time_unix_nano = 1, name = 2, attributes = 3, dropped_attributes_count = 4 } as field 11.
// The list is an AttributeList, or has its bytes() and put().
template <class List = AttributeList>
[[gnu::noinline]] std::uint8_t* add_event(abi::Span& span, std::uint8_t* end, std::string_view name,
                                          const List& list, std::uint64_t time,
                                          std::uint32_t text_limit) noexcept {
    if (span.events >= span.limits->events) {
        abi::count_dropped(span, abi::Dropped::events);
        return end;
    }
    std::uint32_t dropped = 0;
    std::size_t inner = 9 + wire::bytes_field_bytes(2, name.size());
    inner += list.bytes(3, text_limit, dropped);
    if (dropped != 0) inner += 1 + wire::varint_bytes(dropped);
    std::uint8_t* at = abi::room(span, end, wire::bytes_field_bytes(11, inner));
    if (at == nullptr) {
        abi::count_dropped(span, abi::Dropped::events);
        return end;
    }
    at = wire::put_varint(wire::put_tag(at, 11, wire::bytes_type), inner);
    at = wire::put_fixed64(wire::put_tag(at, 1, wire::fixed64_type), time);
    at = wire::put_bytes(at, 2, name.data(), name.size());
    at = list.put(at, 3, text_limit);
    if (dropped != 0) at = wire::put_varint(wire::put_tag(at, 4, wire::varint_type), dropped);
    ++span.events;
    return at;
}

// Link { trace_id = 1, span_id = 2, trace_state = 3, attributes = 4, dropped_attributes_count = 5,
// flags = 6 } as field 13. The list is as for add_event().
template <class List = AttributeList>
[[gnu::noinline]] std::uint8_t* add_link(abi::Span& span, std::uint8_t* end,
                                         const SpanContext& context, const List& list) noexcept {
    if (span.links >= span.limits->links) {
        abi::count_dropped(span, abi::Dropped::links);
        return end;
    }
    const std::string_view state = context.trace_state();
    std::size_t inner = 18 + 10 + 5;
    if (!state.empty()) inner += wire::bytes_field_bytes(3, state.size());
    const std::uint32_t text_limit = span.limits->value_length;
    std::uint32_t dropped = 0;
    inner += list.bytes(4, text_limit, dropped);
    if (dropped != 0) inner += 1 + wire::varint_bytes(dropped);
    std::uint8_t* at = abi::room(span, end, wire::bytes_field_bytes(13, inner));
    if (at == nullptr) {
        abi::count_dropped(span, abi::Dropped::links);
        return end;
    }
    at = wire::put_varint(wire::put_tag(at, 13, wire::bytes_type), inner);
    at = wire::put_bytes(at, 1, context.trace_id(), 16);
    at = wire::put_bytes(at, 2, context.span_id(), 8);
    if (!state.empty()) at = wire::put_bytes(at, 3, state.data(), state.size());
    at = list.put(at, 4, text_limit);
    if (dropped != 0) at = wire::put_varint(wire::put_tag(at, 5, wire::varint_type), dropped);
    const std::uint32_t flags = context.flags() | 0x100U | (context.remote() ? 0x200U : 0U);
    ++span.links;
    return wire::put_fixed32(wire::put_tag(at, 6, wire::fixed32_type), flags);
}

}  // namespace oteld::detail
