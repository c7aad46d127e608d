// What a span holds, decoded: a view that processors and samplers get (ReadableSpan), and a copy to
// keep (RecordedSpan).
//
// Example:
//     const oteld::RecordedSpan seen = recorder.find("checkout");
//     assert(seen["order.lines"] == 3 && seen.kind == oteld::server);
//     for (const oteld::RecordedEvent& event : seen.events) std::puts(event.name.c_str());
//
// Used by: sampler.hpp, processor.hpp, testing.hpp, and who implements them. Needs the client.
// Threads: a view belongs to the call that it was given to, and is gone when that returns; copies
// are values. Text is as the program gave it: invalid UTF-8 becomes '?' only in the daemon.
// https://opentelemetry.io/docs/specs/otel/trace/sdk/#additional-span-interfaces
#pragma once

#include "oteld/span.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace oteld {

struct RecordedAttribute;

// The value of an attribute; `none` when there is no such attribute. Compares with plain values:
// span["order.lines"] == 3.
struct RecordedValue {
    using None = std::monostate;
    using Bytes = std::vector<std::uint8_t>;
    using Array = std::vector<RecordedValue>;
    using Map = std::vector<RecordedAttribute>;

    std::variant<None, bool, std::int64_t, double, std::string, Bytes, Array, Map> is;

    // Defined below, where a RecordedAttribute is complete.
    inline RecordedValue();
    inline RecordedValue(const RecordedValue&);
    inline RecordedValue(RecordedValue&&) noexcept;
    inline RecordedValue& operator=(const RecordedValue&);
    inline RecordedValue& operator=(RecordedValue&&) noexcept;
    inline ~RecordedValue();
    template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
    inline RecordedValue(T value);                // NOLINT(google-explicit-constructor)
    inline RecordedValue(const char* text);       // NOLINT(google-explicit-constructor)
    inline RecordedValue(std::string text);       // NOLINT(google-explicit-constructor)
    inline RecordedValue(std::string_view text);  // NOLINT(google-explicit-constructor)
    inline RecordedValue(Bytes bytes);            // NOLINT(google-explicit-constructor)
    inline RecordedValue(Array array);            // NOLINT(google-explicit-constructor)
    inline RecordedValue(Map map);                // NOLINT(google-explicit-constructor)

    // 42, 1.5, true, text without quotes, bytes as hex, [1,"a"], {"key":1}; nothing of none.
    [[nodiscard]] __attribute__((visibility("default"))) std::string text() const;
    [[nodiscard]] bool none() const noexcept { return is.index() == 0; }

    friend inline bool operator==(const RecordedValue& a, const RecordedValue& b);
    friend bool operator!=(const RecordedValue& a, const RecordedValue& b) { return !(a == b); }
};

struct RecordedAttribute {
    std::string key;
    RecordedValue value;

    friend bool operator==(const RecordedAttribute& a, const RecordedAttribute& b) {
        return a.key == b.key && a.value == b.value;
    }
};
using RecordedAttributes = std::vector<RecordedAttribute>;

template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int>>
RecordedValue::RecordedValue(T value) {
    if constexpr (std::is_same_v<T, bool>)
        is = value;
    else if constexpr (std::is_floating_point_v<T>)
        is = static_cast<double>(value);
    else
        is = static_cast<std::int64_t>(value);
}
inline RecordedValue::RecordedValue() = default;
inline RecordedValue::RecordedValue(const RecordedValue&) = default;
inline RecordedValue::RecordedValue(RecordedValue&&) noexcept = default;
inline RecordedValue& RecordedValue::operator=(const RecordedValue&) = default;
inline RecordedValue& RecordedValue::operator=(RecordedValue&&) noexcept = default;
inline RecordedValue::~RecordedValue() = default;
inline RecordedValue::RecordedValue(const char* text) : is(std::string(text)) {}
inline RecordedValue::RecordedValue(std::string text) : is(std::move(text)) {}
inline RecordedValue::RecordedValue(std::string_view text) : is(std::string(text)) {}
inline RecordedValue::RecordedValue(Bytes bytes) : is(std::move(bytes)) {}
inline RecordedValue::RecordedValue(Array array) : is(std::move(array)) {}
inline RecordedValue::RecordedValue(Map map) : is(std::move(map)) {}
inline bool operator==(const RecordedValue& a, const RecordedValue& b) { return a.is == b.is; }

namespace detail {
inline const RecordedValue& find_value(const RecordedAttributes& in, std::string_view key) {
    static const RecordedValue none;
    for (const RecordedAttribute& attribute : in)
        if (attribute.key == key) return attribute.value;
    return none;
}
}  // namespace detail

struct RecordedEvent {
    std::string name;
    Time time;
    RecordedAttributes attributes;
    std::uint32_t dropped_attributes = 0;

    const RecordedValue& operator[](std::string_view key) const {
        return detail::find_value(attributes, key);
    }
};

struct RecordedLink {
    SpanContext context;
    RecordedAttributes attributes;
    std::uint32_t dropped_attributes = 0;
};

struct RecordedScope {
    std::string name, version, schema_url;
    RecordedAttributes attributes;
};

struct RecordedSpan {
    std::string name;
    SpanContext context;  // Ids, flags, trace state.
    SpanContext parent;   // Invalid for a root. Its flags and trace state are not known.
    Kind kind = Kind::internal;
    Time start, end;  // `end` is {} while the span has not ended.
    Status status = Status::unset;
    std::string status_description;
    RecordedAttributes attributes;  // Of a key set twice the last value.
    std::vector<RecordedEvent> events;
    std::vector<RecordedLink> links;
    std::uint32_t dropped_attributes = 0, dropped_events = 0, dropped_links = 0;
    RecordedScope scope;
    RecordedAttributes resource;

    const RecordedValue& operator[](std::string_view key) const {
        return detail::find_value(attributes, key);
    }
    [[nodiscard]] bool sampled() const noexcept { return context.sampled(); }
};

// A span as it is at this moment, read where it lies. Of spans whose provider has processors, a
// sampler or an id generator of its own; of others it is empty.
class __attribute__((visibility("default"))) ReadableSpan {
public:
    explicit ReadableSpan(Span& span) noexcept : ReadableSpan(span.raw(), nullptr, 0) {}

    [[nodiscard]] std::string_view name() const noexcept;
    [[nodiscard]] SpanContext context() const noexcept;
    [[nodiscard]] SpanContext parent() const noexcept;  // As in RecordedSpan.
    [[nodiscard]] Kind kind() const noexcept;
    [[nodiscard]] Time start() const noexcept;
    [[nodiscard]] Time end() const noexcept;  // {}: not yet.
    [[nodiscard]] Status status() const noexcept;
    [[nodiscard]] std::string_view status_description() const noexcept;
    [[nodiscard]] std::string_view scope_name() const noexcept;
    [[nodiscard]] bool sampled() const noexcept { return context().sampled(); }

    // These decode, and may throw std::bad_alloc.
    [[nodiscard]] RecordedValue operator[](std::string_view key) const;
    [[nodiscard]] RecordedAttributes attributes() const;
    [[nodiscard]] RecordedSpan copy() const;

    // For the client: `at` is where the content ends, null where the span says so itself.
    ReadableSpan(const abi::Span& span, const std::uint8_t* at, std::uint64_t end_time) noexcept;

private:
    [[nodiscard]] std::string_view body() const noexcept;

    const abi::Span* span_;  // Null: of a span that cannot be read.
    const std::uint8_t* at_;
    std::uint64_t end_time_;
};

}  // namespace oteld
