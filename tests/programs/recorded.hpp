// What a test program records, told twice: to the client, and on standard output in OTLP's JSON
// form.
//
// Used by: every_field.cpp, random_spans.cpp; read by tests/conformance/compare.py. The JSON is
// made from what the program asked for and from the specification, with no code of the client's: it
// is the other side of the comparison. One line per span: {"span": a ResourceSpans message with
// this one span, "between": {field: [from, to]}}, where `between` lists the times that the client
// read from its own clock. Ids and bytes are base64, as protobuf has it. Threads: one.
#pragma once

#include "oteld/client.hpp"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace recorded {

inline std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (static_cast<unsigned char>(c) < 0x20) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
            out += escaped;
        } else {
            out += c;
        }
    }
    return out + '"';
}

inline std::string base64(std::string_view bytes) {
    static constexpr char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k)
            group =
                group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        for (std::size_t k = 0; k < 4; ++k)
            out += i + k <= bytes.size() ? digits[group >> (18 - 6 * k) & 63U] : '=';
    }
    return '"' + out + '"';
}

template <std::size_t size>
std::string base64(const std::uint8_t (&id)[size]) {
    return base64(std::string_view(reinterpret_cast<const char*>(id), size));
}

// 64-bit integers are strings in OTLP's JSON.
inline std::string whole(std::uint64_t value) { return '"' + std::to_string(value) + '"'; }

inline std::string real(double value) {
    if (std::isnan(value)) return "\"NaN\"";
    if (std::isinf(value)) return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", value);
    const std::string out = text;
    return out.find_first_of(".e") == std::string::npos ? out + ".0"
                                                        : out;  // "-0" would lose its sign.
}

struct Pair;

// An attribute value as the program means it.
struct Any {
    enum class Kind : std::uint8_t { boolean, integer, real, string, bytes, array, map };
    Kind kind = Kind::boolean;
    std::int64_t integer = 0;  // Also a boolean.
    double number = 0;
    std::string text;  // Also bytes.
    std::vector<Any> items;
    std::vector<Pair> pairs;

    [[nodiscard]] std::string json() const;
};
struct Pair {
    std::string key;
    Any value;
};
using Pairs = std::vector<Pair>;

inline Any any_bool(bool value) { return {Any::Kind::boolean, value ? 1 : 0, 0, {}, {}, {}}; }
inline Any any_int(std::int64_t value) { return {Any::Kind::integer, value, 0, {}, {}, {}}; }
inline Any any_real(double value) { return {Any::Kind::real, 0, value, {}, {}, {}}; }
inline Any any_text(std::string value) {
    return {Any::Kind::string, 0, 0, std::move(value), {}, {}};
}
inline Any any_bytes(std::string value) {
    return {Any::Kind::bytes, 0, 0, std::move(value), {}, {}};
}
inline Any any_array(std::vector<Any> items) {
    return {Any::Kind::array, 0, 0, {}, std::move(items), {}};
}
inline Any any_map(Pairs pairs) { return {Any::Kind::map, 0, 0, {}, {}, std::move(pairs)}; }

template <class List, class Function>
std::string list(const List& items, Function json) {
    std::string out = "[";
    for (const auto& item : items) out += (out.size() > 1 ? "," : "") + json(item);
    return out + ']';
}

inline std::string attributes(const Pairs& pairs) {
    return list(pairs, [](const Pair& pair) {
        return "{\"key\":" + quoted(pair.key) + ",\"value\":" + pair.value.json() + "}";
    });
}

inline std::string Any::json() const {
    switch (kind) {
        case Kind::boolean:
            return std::string("{\"boolValue\":") + (integer != 0 ? "true}" : "false}");
        case Kind::integer: return "{\"intValue\":\"" + std::to_string(integer) + "\"}";
        case Kind::real: return "{\"doubleValue\":" + recorded::real(number) + "}";
        case Kind::string: return "{\"stringValue\":" + quoted(text) + "}";
        case Kind::bytes: return "{\"bytesValue\":" + base64(text) + "}";
        case Kind::array:
            return "{\"arrayValue\":{\"values\":" +
                   list(items, [](const Any& item) { return item.json(); }) + "}}";
        case Kind::map: break;
    }
    return "{\"kvlistValue\":{\"values\":" + attributes(pairs) + "}}";
}

// Keeps what the client's values, which are views, point to.
class Values {
public:
    oteld::Value value(const Any& any) {
        switch (any.kind) {
            case Any::Kind::boolean: return any.integer != 0;
            case Any::Kind::integer: return any.integer;
            case Any::Kind::real: return any.number;
            case Any::Kind::string: return std::string_view(any.text);
            case Any::Kind::bytes: return oteld::bytes{any.text.data(), any.text.size()};
            case Any::Kind::array: {
                auto& items = arrays_.emplace_back();
                for (const Any& item : any.items) items.push_back(value(item));
                return {items.data(), items.size()};
            }
            case Any::Kind::map: break;
        }
        const auto& pairs = attributes(any.pairs);
        return {pairs.data(), pairs.size()};
    }
    const std::vector<oteld::Attribute>& attributes(const Pairs& pairs) {
        auto& out = maps_.emplace_back();
        for (const Pair& pair : pairs) out.emplace_back(pair.key, value(pair.value));
        return out;
    }

private:
    std::deque<std::vector<oteld::Value>> arrays_;
    std::deque<std::vector<oteld::Attribute>> maps_;
};

inline std::uint64_t unix_ns(oteld::Time time) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}
inline oteld::Time at(std::uint64_t ns) { return oteld::Time(std::chrono::nanoseconds(ns)); }

// The low 8 bits are W3C's; 0x100: it is known whether the other one is remote, 0x200: it is.
inline std::uint32_t otlp_flags(std::uint8_t w3c, bool remote) {
    return w3c | 0x100U | (remote ? 0x200U : 0U);
}

struct Event {
    std::string name;
    std::uint64_t time = 0;
    Pairs attributes;
    std::uint32_t dropped = 0;

    [[nodiscard]] std::string json() const {
        return "{\"timeUnixNano\":" + whole(time) + ",\"name\":" + quoted(name) +
               ",\"attributes\":" + recorded::attributes(attributes) +
               ",\"droppedAttributesCount\":" + std::to_string(dropped) + "}";
    }
};

struct Link {
    oteld::SpanContext context;
    Pairs attributes;
    std::uint32_t dropped = 0;

    [[nodiscard]] std::string json() const {
        return "{\"traceId\":" + base64(context.trace_id()) +
               ",\"spanId\":" + base64(context.span_id()) +
               ",\"traceState\":" + quoted(context.trace_state()) +
               ",\"attributes\":" + recorded::attributes(attributes) +
               ",\"droppedAttributesCount\":" + std::to_string(dropped) +
               ",\"flags\":" + std::to_string(otlp_flags(context.flags(), context.remote())) + "}";
    }
};

struct Resource {
    Pairs attributes;
    std::string schema_url;
};

struct Scope {
    std::string name, version, schema_url;
    Pairs attributes;
};

struct Span {
    const Scope* scope = nullptr;
    oteld::SpanContext context;  // From the client: ids are random.
    oteld::SpanContext parent;   // Invalid: a root.
    std::string name;
    oteld::Kind kind = oteld::internal;
    std::uint64_t start = 0, end = 0;
    Pairs attributes;
    std::uint32_t dropped_attributes = 0, dropped_events = 0, dropped_links = 0;
    std::vector<Event> events;
    std::vector<Link> links;
    oteld::Status status = oteld::Status::unset;
    std::string description;
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> between;

    [[nodiscard]] std::string json() const {
        std::string out =
            "{\"traceId\":" + base64(parent.valid() ? parent.trace_id() : context.trace_id()) +
            ",\"spanId\":" + base64(context.span_id());
        if (parent.valid()) out += ",\"parentSpanId\":" + base64(parent.span_id());
        const std::uint8_t w3c = static_cast<std::uint8_t>(
            parent.valid() ? parent.flags() : 3);  // A root: sampled, random.
        out += ",\"traceState\":" + quoted(parent.trace_state()) +
               ",\"flags\":" + std::to_string(otlp_flags(w3c, parent.remote())) +
               ",\"name\":" + quoted(name) + ",\"kind\":" + std::to_string(static_cast<int>(kind)) +
               ",\"startTimeUnixNano\":" + whole(start) + ",\"endTimeUnixNano\":" + whole(end) +
               ",\"attributes\":" + recorded::attributes(attributes) +
               ",\"droppedAttributesCount\":" + std::to_string(dropped_attributes);
        out += ",\"events\":" + list(events, [](const Event& event) { return event.json(); }) +
               ",\"droppedEventsCount\":" + std::to_string(dropped_events) +
               ",\"links\":" + list(links, [](const Link& link) { return link.json(); }) +
               ",\"droppedLinksCount\":" + std::to_string(dropped_links);
        return out + ",\"status\":{\"code\":" + std::to_string(static_cast<int>(status)) +
               ",\"message\":" + quoted(description) + "}}";
    }
};

inline void print(const Resource& resource, const Span& span) {
    std::string times;
    for (const auto& [field, limits] : span.between) {
        times += (times.empty() ? "" : ",") + quoted(field) + ":[" + whole(limits.first) + "," +
                 whole(limits.second) + "]";
    }
    const Scope& scope = *span.scope;
    const std::string scope_json = "{\"name\":" + quoted(scope.name) +
                                   ",\"version\":" + quoted(scope.version) +
                                   ",\"attributes\":" + attributes(scope.attributes) + "}";
    std::printf(
        "{\"span\":{\"resource\":{\"attributes\":%s},\"schemaUrl\":%s,\"scopeSpans\":[{\"scope\":%"
        "s,\"schemaUrl\":%s,"
        "\"spans\":[%s]}]},\"between\":{%s}}\n",
        attributes(resource.attributes).c_str(), quoted(resource.schema_url).c_str(),
        scope_json.c_str(), quoted(scope.schema_url).c_str(), span.json().c_str(), times.c_str());
}

}  // namespace recorded
