// Attribute values: what can be one, and how it is encoded as an OTLP AnyValue.
//
// Example:
//     const std::vector<int> sizes{38, 41};
//     span.set("lines", 2).set("total", 59.9).set("gift", true).set("sizes", sizes);
//     span.set("tags", {"web", "gift"}).set("ship.to", {{"country", "NL"}, {"floor", 3}});
//     span.set("digest", oteld::bytes{digest.data(), digest.size()});
//
// Used by: everybody who sets attributes. A Value is a view: it must not outlive what it was made
// from, which for literals and temporaries is the end of the statement. Threads: values. Never
// allocates or throws.
//   - bool: bool_value
//   - integers: int_value; an unsigned 64-bit one above 2^63-1: string_value, its decimal digits
//   - double, float: double_value, NaN and infinities included
//   - const char*, string, string_view: string_value; invalid UTF-8 arrives as '?', counted by the
//     daemon
//   - oteld::bytes{pointer, size}: bytes_value
//   - containers of these: array_value
//   - {{key, value}, ...}, std::map: kvlist_value
//
// Anything else does not compile. A null const char* is an empty string.
#pragma once

#include "oteld/detail/wire.hpp"

#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <string_view>
#include <type_traits>
#include <utility>

namespace oteld {

struct bytes {
    const void* data = nullptr;
    std::size_t size = 0;
};

struct Attribute;

namespace detail {

template <class T, class = void>
struct is_range : std::false_type {};
template <class T>
struct is_range<T, std::void_t<decltype(std::begin(std::declval<const T&>())),
                               decltype(std::end(std::declval<const T&>()))>> : std::true_type {};

template <class T, class = void>
struct is_map : std::false_type {};
template <class T>
struct is_map<T, std::void_t<typename T::mapped_type, typename T::key_type>>
    : std::is_convertible<const typename T::key_type&, std::string_view> {};

// Messages within messages: an array adds two, a map three. Protobuf's parsers refuse a hundred,
// and with them the whole request; deeper arrays and maps become empty. Leaves 40 levels of arrays
// or 26 of maps.
inline constexpr std::uint32_t value_depth_max = 80;
inline constexpr std::uint32_t array_depth = 2;
inline constexpr std::uint32_t map_depth = 3;

// The first `characters` characters of UTF-8 text.
inline std::string_view truncated(std::string_view text, std::uint32_t characters) noexcept {
    if (text.size() <= characters) return text;
    std::size_t at = 0;
    for (std::uint32_t seen = 0; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xC0U) != 0x80U && seen++ == characters) break;
    }
    return text.substr(0, at);
}

}  // namespace detail

// A value that is no container: what a braced array may hold.
class Scalar {
public:
    template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
    constexpr Scalar(T value) noexcept {  // NOLINT(google-explicit-constructor)
        if constexpr (std::is_same_v<T, bool>) {
            kind_ = Kind::boolean;
            integer_ = value ? 1 : 0;
        } else if constexpr (std::is_floating_point_v<T>) {
            kind_ = Kind::real;
            real_ = static_cast<double>(value);
        } else if constexpr (std::is_unsigned_v<T> && sizeof(T) == 8) {
            kind_ = value > static_cast<T>(INT64_MAX) ? Kind::big : Kind::integer;
            integer_ = static_cast<std::uint64_t>(value);
        } else {
            kind_ = Kind::integer;
            integer_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
        }
    }
    constexpr Scalar(const char* text) noexcept  // NOLINT(google-explicit-constructor)
        : Scalar(text == nullptr ? std::string_view() : std::string_view(text)) {}
    constexpr Scalar(std::string_view text) noexcept  // NOLINT(google-explicit-constructor)
        : data_(text.data()), size_(text.size()), kind_(Kind::string) {}
    constexpr Scalar(bytes value) noexcept  // NOLINT(google-explicit-constructor)
        : data_(value.data), size_(value.size), kind_(Kind::bytes) {}
    template <class T, std::enable_if_t<!std::is_arithmetic_v<T> &&
                                            std::is_convertible_v<const T&, std::string_view> &&
                                            !std::is_base_of_v<Scalar, T>,
                                        int> = 0>
    Scalar(const T& text) noexcept
        : Scalar(std::string_view(text)) {}  // NOLINT(google-explicit-constructor)

    // Calls `plain` with the bool, std::int64_t, double or std::string_view that this is, else
    // `other`.
    template <class Plain, class Other>
    [[gnu::always_inline]] auto visit(Plain plain, Other other) const noexcept {
        switch (kind_) {
            case Kind::boolean: return plain(integer_ != 0);
            case Kind::integer: return plain(static_cast<std::int64_t>(integer_));
            case Kind::real: return plain(real_);
            case Kind::string:
                return plain(std::string_view(static_cast<const char*>(data_), size_));
            default: return other();
        }
    }

    // Bytes of the AnyValue message, and the message itself. `limit`: characters or bytes kept of
    // each text.
    [[nodiscard]] inline std::size_t encoded_bytes(std::uint32_t limit,
                                                   std::uint32_t depth = 1) const noexcept;
    inline std::uint8_t* put(std::uint8_t* at, std::uint32_t limit,
                             std::uint32_t depth = 1) const noexcept;

protected:
    enum class Kind : std::uint8_t {
        boolean,
        integer,
        big,
        real,
        string,
        bytes,
        values,
        map,
        erased_array,
        erased_map
    };
    // at == nullptr: returns the size of the content; else writes it and returns where it ends, as
    // a number.
    using Encoder = std::size_t (*)(const void* range, std::uint8_t* at, std::uint32_t limit,
                                    std::uint32_t depth) noexcept;

    Scalar(const void* data, std::size_t size, Kind kind) noexcept
        : data_(data), size_(size), kind_(kind) {}
    Scalar(const void* range, Encoder encoder, Kind kind) noexcept
        : data_(range), encoder_(encoder), kind_(kind) {}
    static std::size_t element_bytes(std::size_t value_bytes) noexcept {
        return detail::wire::bytes_field_bytes(1, value_bytes);
    }
    // The repeated fields of ArrayValue or KeyValueList.
    [[nodiscard]] inline std::size_t content_bytes(std::uint32_t limit,
                                                   std::uint32_t depth) const noexcept;
    inline std::uint8_t* put_content(std::uint8_t* at, std::uint32_t limit,
                                     std::uint32_t depth) const noexcept;
    [[nodiscard]] std::uint32_t depth_added() const noexcept {
        return kind_ == Kind::map || kind_ == Kind::erased_map ? detail::map_depth
                                                               : detail::array_depth;
    }
    [[nodiscard]] std::size_t text_bytes(std::uint32_t limit) const noexcept {
        if (kind_ == Kind::bytes) return size_ < limit ? size_ : limit;
        return detail::truncated({static_cast<const char*>(data_), size_}, limit).size();
    }
    // Decimal digits of an unsigned value above the signed range.
    std::size_t digits(char (&out)[20]) const noexcept {
        std::size_t count = 0;
        char reversed[20];
        for (std::uint64_t rest = integer_; rest != 0; rest /= 10)
            reversed[count++] = static_cast<char>('0' + rest % 10);
        for (std::size_t i = 0; i < count; ++i) out[i] = reversed[count - 1 - i];
        return count;
    }

    union {
        const void* data_;
        std::uint64_t integer_;
        double real_;
    };
    union {
        std::size_t size_ = 0;
        Encoder encoder_;
    };
    Kind kind_;
};

// Any value. Braces around scalars make an array, braces around {key, value} pairs a map.
class Value : public Scalar {
public:
    using Scalar::Scalar;
    Value(std::initializer_list<Scalar> values) noexcept
        : Scalar(values.begin(), values.size(), Kind::values) {}
    inline Value(std::initializer_list<Attribute> map) noexcept;
    // Arrays and maps whose length is known only at run time.
    Value(const Value* first, std::size_t count) noexcept : Scalar(first, count, Kind::values) {}
    inline Value(const Attribute* first, std::size_t count) noexcept;
    template <class T, std::enable_if_t<detail::is_range<T>::value &&
                                            !std::is_convertible_v<const T&, std::string_view>,
                                        int> = 0>
    Value(const T& range) noexcept  // NOLINT(google-explicit-constructor)
        : Scalar(&range, &range_encoder<T>,
                 detail::is_map<T>::value ? Kind::erased_map : Kind::erased_array) {}

private:
    template <class T>
    static std::size_t range_encoder(const void* range, std::uint8_t* at, std::uint32_t limit,
                                     std::uint32_t depth) noexcept;
};
static_assert(sizeof(Value) == sizeof(Scalar), "an array of either is walked as one of Scalar");

struct Attribute {
    std::string_view key;
    Value value;

    template <class T>
    Attribute(std::string_view name, const T& v) noexcept : key(name), value(v) {}
    Attribute(std::string_view name, std::initializer_list<Scalar> v) noexcept
        : key(name), value(v) {}
    Attribute(std::string_view name, std::initializer_list<Attribute> v) noexcept
        : key(name), value(v) {}
};

using Attributes = std::initializer_list<Attribute>;

inline Value::Value(std::initializer_list<Attribute> map) noexcept
    : Scalar(map.begin(), map.size(), Kind::map) {}
inline Value::Value(const Attribute* first, std::size_t count) noexcept
    : Scalar(first, count, Kind::map) {}

namespace detail {

// KeyValue { key = 1, value = 2 }
inline std::size_t key_value_bytes(std::string_view key, std::size_t value_bytes) noexcept {
    return wire::bytes_field_bytes(1, key.size()) + wire::bytes_field_bytes(2, value_bytes);
}

inline std::uint8_t* put_key_value(std::uint8_t* at, std::uint32_t field, std::string_view key,
                                   const Value& value, std::uint32_t limit,
                                   std::uint32_t depth = 1) noexcept {
    const std::size_t value_bytes = value.encoded_bytes(limit, depth);
    at = wire::put_tag(at, field, wire::bytes_type);
    at = wire::put_varint(at, key_value_bytes(key, value_bytes));
    at = wire::put_bytes(at, 1, key.data(), key.size());
    at = wire::put_tag(at, 2, wire::bytes_type);
    at = wire::put_varint(at, value_bytes);
    return value.put(at, limit, depth);
}

inline std::size_t key_value_field_bytes(std::uint32_t field, std::string_view key,
                                         const Value& value, std::uint32_t limit,
                                         std::uint32_t depth = 1) noexcept {
    return wire::bytes_field_bytes(field, key_value_bytes(key, value.encoded_bytes(limit, depth)));
}

}  // namespace detail

template <class T>
std::size_t Value::range_encoder(const void* range, std::uint8_t* at, std::uint32_t limit,
                                 std::uint32_t depth) noexcept {
    std::size_t bytes = 0;
    for (const auto& element : *static_cast<const T*>(range)) {
        if constexpr (detail::is_map<T>::value) {
            const Value value(element.second);
            if (at == nullptr)
                bytes += detail::key_value_field_bytes(1, element.first, value, limit, depth);
            else
                at = detail::put_key_value(at, 1, element.first, value, limit, depth);
        } else {
            // vector<bool> and the like hand out proxies.
            using Element = typename std::iterator_traits<decltype(std::begin(
                std::declval<const T&>()))>::value_type;
            const Value value(static_cast<const Element&>(element));
            const std::size_t value_bytes = value.encoded_bytes(limit, depth);
            if (at == nullptr)
                bytes += element_bytes(value_bytes);
            else {
                at = detail::wire::put_tag(at, 1, detail::wire::bytes_type);
                at = detail::wire::put_varint(at, value_bytes);
                at = value.put(at, limit, depth);
            }
        }
    }
    return at == nullptr ? bytes : reinterpret_cast<std::uintptr_t>(at);
}

inline std::size_t Scalar::content_bytes(std::uint32_t limit, std::uint32_t depth) const noexcept {
    if (depth > detail::value_depth_max) return 0;
    depth += depth_added();
    if (kind_ == Kind::erased_array || kind_ == Kind::erased_map)
        return encoder_(data_, nullptr, limit, depth);
    std::size_t total = 0;
    for (std::size_t i = 0; i < size_; ++i) {
        if (kind_ == Kind::values) {
            total +=
                element_bytes(static_cast<const Scalar*>(data_)[i].encoded_bytes(limit, depth));
        } else {
            const auto& pair = static_cast<const Attribute*>(data_)[i];
            total += detail::key_value_field_bytes(1, pair.key, pair.value, limit, depth);
        }
    }
    return total;
}

inline std::uint8_t* Scalar::put_content(std::uint8_t* at, std::uint32_t limit,
                                         std::uint32_t depth) const noexcept {
    if (depth > detail::value_depth_max) return at;
    depth += depth_added();
    if (kind_ == Kind::erased_array || kind_ == Kind::erased_map) {
        return reinterpret_cast<std::uint8_t*>(encoder_(data_, at, limit, depth));
    }
    for (std::size_t i = 0; i < size_; ++i) {
        if (kind_ == Kind::values) {
            const Scalar& value = static_cast<const Scalar*>(data_)[i];
            at = detail::wire::put_tag(at, 1, detail::wire::bytes_type);
            at = detail::wire::put_varint(at, value.encoded_bytes(limit, depth));
            at = value.put(at, limit, depth);
        } else {
            const auto& pair = static_cast<const Attribute*>(data_)[i];
            at = detail::put_key_value(at, 1, pair.key, pair.value, limit, depth);
        }
    }
    return at;
}

inline std::size_t Scalar::encoded_bytes(std::uint32_t limit, std::uint32_t depth) const noexcept {
    switch (kind_) {
        case Kind::boolean: return 2;
        case Kind::integer: return 1 + detail::wire::varint_bytes(integer_);
        case Kind::big: {
            char text[20];
            const std::size_t size = digits(text);
            return 2 + (size < limit ? size : limit);
        }
        case Kind::real: return 9;
        case Kind::string:
        case Kind::bytes: return detail::wire::bytes_field_bytes(1, text_bytes(limit));
        default: return detail::wire::bytes_field_bytes(5, content_bytes(limit, depth));
    }
}

inline std::uint8_t* Scalar::put(std::uint8_t* at, std::uint32_t limit,
                                 std::uint32_t depth) const noexcept {
    using namespace detail::wire;
    switch (kind_) {
        case Kind::boolean:
            *at++ = tag(2, varint_type);
            *at++ = static_cast<std::uint8_t>(integer_);
            return at;
        case Kind::integer: *at++ = tag(3, varint_type); return put_varint(at, integer_);
        case Kind::big: {
            char text[20];
            const std::size_t size = digits(text);
            return put_bytes(at, 1, text, size < limit ? size : limit);
        }
        case Kind::real: {
            *at++ = tag(4, fixed64_type);
            std::uint64_t bits;
            static_assert(sizeof bits == sizeof real_);
            std::memcpy(&bits, &real_, sizeof bits);
            return put_fixed64(at, bits);
        }
        case Kind::string: return put_bytes(at, 1, data_, text_bytes(limit));
        case Kind::bytes: return put_bytes(at, 7, data_, text_bytes(limit));
        default: {
            const bool map = kind_ == Kind::map || kind_ == Kind::erased_map;
            at = put_tag(at, map ? 6 : 5, bytes_type);
            at = put_varint(at, content_bytes(limit, depth));
            return put_content(at, limit, depth);
        }
    }
}

}  // namespace oteld
