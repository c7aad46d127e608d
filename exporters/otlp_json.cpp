#include "exporters/otlp_json.hpp"

#include "exporters/text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace oteld::exporters {

namespace {

// Writes the members of one JSON object; those with a default value write nothing.
class Members {
public:
    explicit Members(std::string& out) : out_(out) { out_ += '{'; }
    ~Members() { out_ += '}'; }
    Members(const Members&) = delete;
    Members& operator=(const Members&) = delete;

    std::string& name(std::string_view key) {
        if (!first_) out_ += ',';
        first_ = false;
        out_ += '"';
        out_ += key;
        out_ += "\":";
        return out_;
    }
    void text(std::string_view key, std::string_view value) {
        if (!value.empty()) append_json_string(name(key), value);
    }
    void id(std::string_view key, std::string_view bytes) {
        if (!bytes.empty()) name(key).append("\"").append(hex(bytes)).append("\"");
    }
    void number(std::string_view key, std::int64_t value) {
        if (value != 0) name(key) += std::to_string(value);
    }
    void fixed64(std::string_view key, std::uint64_t value) {
        if (value != 0) name(key).append("\"").append(std::to_string(value)).append("\"");
    }

private:
    std::string& out_;
    bool first_ = true;
};

template <class View, class Append>
void append_array(Members& members, std::string_view key, const shm::Repeated<View>& views,
                  Append append) {
    auto at = views.begin();
    if (at == views.end()) return;
    std::string& out = members.name(key);
    for (char separator = '['; at != views.end(); ++at, separator = ',') {
        out += separator;
        append(out, *at);
    }
    out += ']';
}

void append_any(std::string& out, const shm::AnyValue& value, int depth);

void append_attribute(std::string& out, const shm::Attribute& attribute, int depth) {
    Members members(out);
    members.text("key", attribute.key);
    append_any(members.name("value"), attribute.value, depth);
}

void append_attributes(Members& members, const shm::Repeated<shm::Attribute>& attributes) {
    append_array(members, "attributes", attributes,
                 [](std::string& out, const shm::Attribute& attribute) {
                     append_attribute(out, attribute, 0);
                 });
}

void append_any(std::string& out, const shm::AnyValue& value, int depth) {
    using Kind = shm::AnyValue::Kind;
    Members members(out);
    switch (value.kind()) {
        case Kind::none: return;
        case Kind::string: append_json_string(members.name("stringValue"), value.text()); return;
        case Kind::boolean: members.name("boolValue") += value.boolean() ? "true" : "false"; return;
        case Kind::integer:
            members.name("intValue")
                .append("\"")
                .append(std::to_string(value.integer()))
                .append("\"");
            return;
        case Kind::floating:
            append_json_double(members.name("doubleValue"), value.floating());
            return;
        case Kind::bytes: append_json_base64(members.name("bytesValue"), value.text()); return;
        case Kind::array:
        case Kind::map: break;
    }
    if (depth >= shm::nesting_max) return;
    const bool is_map = value.kind() == Kind::map;
    Members inner(members.name(is_map ? "kvlistValue" : "arrayValue"));
    if (is_map) {
        append_array(inner, "values", value.map(),
                     [depth](std::string& to, const shm::Attribute& entry) {
                         append_attribute(to, entry, depth + 1);
                     });
    } else {
        append_array(inner, "values", value.array(),
                     [depth](std::string& to, const shm::AnyValue& element) {
                         append_any(to, element, depth + 1);
                     });
    }
}

void append_event(std::string& out, const shm::Event& event) {
    Members members(out);
    members.fixed64("timeUnixNano", event.time_unix_ns);
    members.text("name", event.name);
    append_attributes(members, event.attributes());
    members.number("droppedAttributesCount", event.dropped_attributes_count);
}

void append_link(std::string& out, const shm::Link& link) {
    Members members(out);
    members.id("traceId", link.trace_id);
    members.id("spanId", link.span_id);
    members.text("traceState", link.trace_state);
    append_attributes(members, link.attributes());
    members.number("droppedAttributesCount", link.dropped_attributes_count);
    members.number("flags", link.flags);
}

void append_resource(std::string& out, const shm::Resource& resource) {
    Members members(out);
    append_attributes(members, resource.attributes());
    members.number("droppedAttributesCount", resource.dropped_attributes_count);
}

void append_scope(std::string& out, const shm::Scope& scope) {
    Members members(out);
    members.text("name", scope.name);
    members.text("version", scope.version);
    append_attributes(members, scope.attributes());
    members.number("droppedAttributesCount", scope.dropped_attributes_count);
}

using Runs = std::span<const SpanRun>;

bool same_resource(const SpanRun& a, const SpanRun& b) {
    return a.resource == b.resource && a.resource_schema_url == b.resource_schema_url;
}

bool same_scope(const SpanRun& a, const SpanRun& b) {
    return a.scope == b.scope && a.scope_schema_url == b.scope_schema_url;
}

// Takes the runs off the front that are like the first one.
template <class Same>
Runs take_group(Runs& rest, Same same) {
    std::size_t count = 1;
    while (count < rest.size() && same(rest[0], rest[count])) ++count;
    const Runs group = rest.first(count);
    rest = rest.subspan(count);
    return group;
}

void append_scope_spans(std::string& out, Runs runs) {
    Members members(out);
    if (!runs[0].scope.empty()) append_scope(members.name("scope"), shm::Scope(runs[0].scope));
    members.name("spans") += '[';
    const char* separator = "";
    for (const SpanRun& run : runs) {
        shm::FrameReader frames(run.frames);
        for (shm::Frame frame; frames.next(frame); separator = ",") {
            out += separator;
            append_json_span(out, shm::Span(frame.span));
        }
    }
    out += ']';
    members.text("schemaUrl", runs[0].scope_schema_url);
}

void append_resource_spans(std::string& out, Runs runs) {
    const SpanRun& first = runs[0];
    Members members(out);
    if (!first.resource.empty()) {
        append_resource(members.name("resource"), shm::Resource(first.resource));
    }
    members.name("scopeSpans");
    for (char separator = '['; !runs.empty(); separator = ',') {
        out += separator;
        append_scope_spans(out, take_group(runs, same_scope));
    }
    out += ']';
    members.text("schemaUrl", first.resource_schema_url);
}

}  // namespace

void append_traces_data(std::string& out, const Batch& batch) {
    Members members(out);
    Runs runs = batch.runs;
    if (runs.empty()) return;
    members.name("resourceSpans");
    for (char separator = '['; !runs.empty(); separator = ',') {
        out += separator;
        append_resource_spans(out, take_group(runs, same_resource));
    }
    out += ']';
}

void append_json_span(std::string& out, const shm::Span& span) {
    Members members(out);
    members.id("traceId", span.trace_id);
    members.id("spanId", span.span_id);
    members.text("traceState", span.trace_state);
    members.id("parentSpanId", span.parent_span_id);
    members.number("flags", span.flags);
    members.text("name", span.name);
    members.number("kind", span.kind);
    members.fixed64("startTimeUnixNano", span.start_unix_ns);
    members.fixed64("endTimeUnixNano", span.end_unix_ns);
    append_attributes(members, span.attributes());
    members.number("droppedAttributesCount", span.dropped_attributes_count);
    append_array(members, "events", span.events(), append_event);
    members.number("droppedEventsCount", span.dropped_events_count);
    append_array(members, "links", span.links(), append_link);
    members.number("droppedLinksCount", span.dropped_links_count);
    if (!span.has_status) return;
    Members status(members.name("status"));
    status.text("message", span.status_message);
    status.number("code", span.status_code);
}

void append_json_string(std::string& out, std::string_view text) {
    static constexpr char digits[] = "0123456789abcdef";
    out += '"';
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && c != '"' && c != '\\') {
            out += c;
            continue;
        }
        switch (c) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            default:
                out += "\\u00";
                out += digits[byte >> 4];
                out += digits[byte & 15];
        }
    }
    out += '"';
}

void append_json_double(std::string& out, double number) {
    if (std::isnan(number)) {
        out += "\"NaN\"";
    } else if (std::isinf(number)) {
        out += number > 0 ? "\"Infinity\"" : "\"-Infinity\"";
    } else if (number == 0 && std::signbit(number)) {
        out += "-0.0";  // "-0" is an integer to many readers, and loses its sign.
    } else {
        char buffer[32];
        out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr);
    }
}

void append_json_base64(std::string& out, std::string_view bytes) {
    static constexpr char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out += '"';
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        const std::size_t have = std::min<std::size_t>(3, bytes.size() - i);
        for (std::size_t j = 0; j < 3; ++j) {
            group = group << 8 | (j < have ? static_cast<unsigned char>(bytes[i + j]) : 0U);
        }
        for (std::size_t j = 0; j < 4; ++j)
            out += j <= have ? digits[group >> (18 - 6 * j) & 63] : '=';
    }
    out += '"';
}

}  // namespace oteld::exporters
