#include "daemon/commands/traces_json.hpp"

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string_view>
#include <unordered_map>

#include "exporters/json.hpp"
#include "exporters/text.hpp"
#include "shm/span_view.hpp"

namespace oteld {

namespace {

using exporters::append_json_base64;
using exporters::append_json_double;
using exporters::append_json_list;
using exporters::append_json_string;
using exporters::hex;

constexpr int schema_version = 1;

class Object : public exporters::JsonObject {
public:
    using JsonObject::JsonObject;
    void unix_nano(std::string_view name, std::uint64_t value) {
        text(name, std::to_string(value));
    }
};

std::string rfc3339(std::uint64_t unix_ns) {
    const auto seconds = static_cast<std::time_t>(unix_ns / 1'000'000'000);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char buffer[64];
    const std::size_t bytes = std::strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(buffer + bytes, sizeof buffer - bytes, ".%09uZ",
                  static_cast<unsigned>(unix_ns % 1'000'000'000));
    return buffer;
}

void append_value(std::string& out, const shm::AnyValue& value, int depth);

// A key given twice would make readers differ: the last value wins here too, in its first place.
void append_attributes(std::string& out, const shm::Repeated<shm::Attribute>& attributes,
                       int depth) {
    std::vector<shm::Attribute> distinct;
    std::unordered_map<std::string_view, std::size_t> place;
    for (const shm::Attribute& attribute : attributes) {
        const auto [at, added] = place.emplace(attribute.key, distinct.size());
        if (added) {
            distinct.push_back(attribute);
        } else {
            distinct[at->second] = attribute;
        }
    }
    Object object(out);
    for (const shm::Attribute& attribute : distinct)
        append_value(object.member(attribute.key), attribute.value, depth);
}

void append_value(std::string& out, const shm::AnyValue& value, int depth) {
    using Kind = shm::AnyValue::Kind;
    if (depth >= shm::nesting_max) {
        out += "null";
        return;
    }
    switch (value.kind()) {
        case Kind::none: out += "null"; return;
        case Kind::string: append_json_string(out, value.text()); return;
        case Kind::boolean: out += value.boolean() ? "true" : "false"; return;
        case Kind::integer: out += std::to_string(value.integer()); return;
        case Kind::floating: append_json_double(out, value.floating()); return;
        case Kind::bytes: append_json_base64(out, value.text()); return;
        case Kind::map: append_attributes(out, value.map(), depth + 1); return;
        case Kind::array:
            append_json_list(out, value.array(),
                             [depth](std::string& to, const shm::AnyValue& element) {
                                 append_value(to, element, depth + 1);
                             });
            return;
    }
}

std::string_view status_text(std::int32_t code) {
    return code == 2 ? "error" : code == 1 ? "ok" : "unset";
}

void append_event(std::string& out, const shm::Event& event) {
    Object object(out);
    object.unix_nano("time_unix_nano", event.time_unix_ns);
    object.text("name", event.name);
    append_attributes(object.member("attributes"), event.attributes(), 0);
    object.number("dropped_attributes_count", event.dropped_attributes_count);
}

void append_link(std::string& out, const shm::Link& link) {
    Object object(out);
    object.text("trace_id", hex(link.trace_id));
    object.text("span_id", hex(link.span_id));
    object.text("trace_state", link.trace_state);
    object.number("flags", link.flags);
    append_attributes(object.member("attributes"), link.attributes(), 0);
    object.number("dropped_attributes_count", link.dropped_attributes_count);
}

void append_span(std::string& out, const exporters::StoredSpan& stored) {
    const shm::Span span(stored.message);
    const shm::Scope scope(stored.scope);
    Object object(out);
    object.text("span_id", hex(span.span_id));
    if (span.parent_span_id.empty()) {
        object.member("parent_span_id") += "null";
    } else {
        object.text("parent_span_id", hex(span.parent_span_id));
    }
    object.text("name", span.name);
    object.text("kind", exporters::kind_text(span.kind));
    object.text("service", stored.service);
    {
        Object inner(object.member("scope"));
        inner.text("name", scope.name);
        inner.text("version", scope.version);
    }
    object.unix_nano("start_unix_nano", span.start_unix_ns);
    object.number("duration_nano", span.end_unix_ns > span.start_unix_ns
                                       ? span.end_unix_ns - span.start_unix_ns
                                       : 0);
    object.text("status", status_text(span.status_code));
    object.text("status_message", span.status_message);
    object.boolean("unfinished", exporters::is_unfinished(span));
    object.text("trace_state", span.trace_state);
    object.number("flags", span.flags);
    append_attributes(object.member("attributes"), span.attributes(), 0);
    object.number("dropped_attributes_count", span.dropped_attributes_count);
    append_json_list(object.member("events"), span.events(), append_event);
    object.number("dropped_events_count", span.dropped_events_count);
    append_json_list(object.member("links"), span.links(), append_link);
    object.number("dropped_links_count", span.dropped_links_count);
    append_attributes(object.member("resource"), shm::Resource(stored.resource).attributes(), 0);
}

void append_summary(Object& object, const exporters::TraceSummary& trace) {
    object.text("trace_id", hex(trace.trace_id));
    object.unix_nano("start_unix_nano", trace.start_unix_ns);
    object.text("start", rfc3339(trace.start_unix_ns));
    object.number("duration_nano", trace.duration_ns);
    object.number("span_count", trace.spans);
    object.number("error_count", trace.errors);
    object.number("unfinished_count", trace.unfinished);
    object.number("pruned_count", trace.pruned);
    object.boolean("has_root", trace.has_root);
    object.text("name", trace.name);
    object.text("service", trace.service);
    append_json_list(object.member("services"), trace.services, append_json_string);
}

}  // namespace

std::string traces_json(const std::string& store,
                        const std::vector<exporters::TraceSummary>& traces) {
    std::string out;
    {
        Object document(out);
        document.number("schema_version", schema_version);
        document.text("store", store);
        append_json_list(document.member("traces"), traces,
                         [](std::string& to, const exporters::TraceSummary& trace) {
                             Object object(to);
                             append_summary(object, trace);
                         });
    }
    return out;
}

std::string trace_json(const std::string& store, const exporters::TraceSummary& trace,
                       const std::vector<exporters::StoredSpan>& spans) {
    std::string out;
    {
        Object document(out);
        document.number("schema_version", schema_version);
        document.text("store", store);
        Object object(document.member("trace"));
        append_summary(object, trace);
        append_json_list(object.member("spans"), spans, append_span);
    }
    return out;
}

}  // namespace oteld
