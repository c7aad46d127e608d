// ConsoleExporter: spans as text, for people.

#include "oteld/processor.hpp"

#include <cinttypes>
#include <cstdio>
#include <ctime>

namespace oteld {
namespace {

constexpr const char* kinds[] = {"unspecified", "internal", "server",
                                 "client",      "producer", "consumer"};
constexpr const char* statuses[] = {"unset", "ok", "error"};

template <class... Arguments>
void put(std::string& out, const char* format, Arguments... arguments) {
    char text[128];
    std::snprintf(text, sizeof text, format, arguments...);
    out += text;
}

void put_time(std::string& out, Time time) {
    const auto ns = static_cast<std::int64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
    const std::time_t seconds = ns / 1000000000;
    std::tm parts{};
    char text[40] = "?";
    if (gmtime_r(&seconds, &parts) != nullptr) std::strftime(text, sizeof text, "%FT%T", &parts);
    put(out, "%s.%09" PRId64 "Z", text, ns % 1000000000);
}

void put_attributes(std::string& out, const char* indent, const RecordedAttributes& attributes) {
    for (const RecordedAttribute& attribute : attributes)
        out += indent + attribute.key + " = " + attribute.value.text() + '\n';
}

void put_dropped(std::string& out, const RecordedSpan& span) {
    if ((span.dropped_attributes | span.dropped_events | span.dropped_links) == 0) return;
    put(out, "  dropped     %" PRIu32 " attributes, %" PRIu32 " events, %" PRIu32 " links\n",
        span.dropped_attributes, span.dropped_events, span.dropped_links);
}

double milliseconds(Time::duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

std::string to_text(const RecordedSpan& span) {
    std::string out = "span \"" + span.name + "\"\n";
    out += "  trace       " + span.context.trace_id_hex() + '\n';
    out += "  id          " + span.context.span_id_hex() + '\n';
    if (span.parent.valid())
        out += "  parent      " + span.parent.span_id_hex() +
               (span.parent.remote() ? " (remote)\n" : "\n");
    if (!span.context.trace_state().empty())
        out += "  state       " + std::string(span.context.trace_state()) + '\n';
    const auto kind = static_cast<std::size_t>(span.kind);
    put(out, "  kind        %s\n", kinds[kind < std::size(kinds) ? kind : 0]);
    out += "  start       ";
    put_time(out, span.start);
    put(out, "\n  duration    %.3f ms\n", milliseconds(span.end - span.start));
    const auto status = static_cast<std::size_t>(span.status);
    put(out, "  status      %s", statuses[status < std::size(statuses) ? status : 0]);
    out += span.status_description.empty() ? "\n" : ": " + span.status_description + '\n';
    out += "  scope       " + span.scope.name + ' ' + span.scope.version + '\n';
    out += "  service     " + detail::find_value(span.resource, "service.name").text() + '\n';
    put_attributes(out, "    ", span.attributes);
    for (const RecordedEvent& event : span.events) {
        out += "  event       ";
        put_time(out, event.time);
        out += ' ' + event.name + '\n';
        put_attributes(out, "    ", event.attributes);
    }
    for (const RecordedLink& link : span.links) {
        out += "  link        " + link.context.trace_id_hex() + ' ' + link.context.span_id_hex() +
               '\n';
        put_attributes(out, "    ", link.attributes);
    }
    put_dropped(out, span);
    return out;
}

void ConsoleExporter::on_end(const ReadableSpan& span) {
    if (!span.sampled()) return;
    // In one call: blocks of several threads do not mix.
    const std::string text = to_text(span.copy());
    std::fwrite(text.data(), 1, text.size(), file_);
    std::fflush(file_);
}

}  // namespace oteld
