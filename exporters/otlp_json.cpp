#include "exporters/otlp_json.hpp"

#include "exporters/json.hpp"
#include "exporters/text.hpp"

namespace oteld::exporters {

namespace {

// Members with their default value are left out.
class Members : public JsonObject {
public:
    using JsonObject::JsonObject;

    void text(std::string_view name, std::string_view value) {
        if (!value.empty()) JsonObject::text(name, value);
    }
    void id(std::string_view name, std::string_view bytes) { text(name, hex(bytes)); }
    void number(std::string_view name, std::int64_t value) {
        if (value != 0) member(name) += std::to_string(value);
    }
    void fixed64(std::string_view name, std::uint64_t value) {
        if (value != 0) JsonObject::text(name, std::to_string(value));
    }
};

template <class View, class Append>
void append_array(Members& members, std::string_view name, const shm::Repeated<View>& views,
                  const Append& append) {
    if (views.empty()) return;
    append_json_list(members.member(name), views, append);
}

void append_any(std::string& out, const shm::AnyValue& value, int depth);

void append_attribute(std::string& out, const shm::Attribute& attribute, int depth) {
    Members members(out);
    members.text("key", attribute.key);
    append_any(members.member("value"), attribute.value, depth);
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
        case Kind::string: append_json_string(members.member("stringValue"), value.text()); return;
        case Kind::boolean:
            members.member("boolValue") += value.boolean() ? "true" : "false";
            return;
        case Kind::integer:
            append_json_string(members.member("intValue"), std::to_string(value.integer()));
            return;
        case Kind::floating:
            append_json_double(members.member("doubleValue"), value.floating());
            return;
        case Kind::bytes: append_json_base64(members.member("bytesValue"), value.text()); return;
        case Kind::array:
        case Kind::map: break;
    }
    if (depth >= shm::nesting_max) return;
    const bool is_map = value.kind() == Kind::map;
    Members inner(members.member(is_map ? "kvlistValue" : "arrayValue"));
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
    if (!runs[0].scope.empty()) append_scope(members.member("scope"), shm::Scope(runs[0].scope));
    members.member("spans") += '[';
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
        append_resource(members.member("resource"), shm::Resource(first.resource));
    }
    members.member("scopeSpans");
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
    members.member("resourceSpans");
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
    Members status(members.member("status"));
    status.text("message", span.status_message);
    status.number("code", span.status_code);
}

}  // namespace oteld::exporters
