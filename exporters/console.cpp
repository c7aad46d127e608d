#include "exporters/console.hpp"

#include "exporters/stream_writer.hpp"
#include "exporters/text.hpp"

#include <unistd.h>

#include <algorithm>
#include <map>

namespace oteld::exporters {

namespace {

using Verbosity = config::Debug::Verbosity;

constexpr std::size_t value_bytes_max = 200;  // On a line of verbosity normal.

std::uint64_t duration_of(const shm::Span& span) {
    return span.end_unix_ns > span.start_unix_ns ? span.end_unix_ns - span.start_unix_ns : 0;
}

std::string service_of(const SpanRun& run) {
    std::string name;
    append_printable(name, shm::Resource(run.resource).attribute("service.name").text());
    return name.empty() ? "(no service)" : name;
}

void append_status(std::string& out, const shm::Span& span) {
    if (is_unfinished(span)) out += "  UNFINISHED";
    if (span.status_code == 1) out += "  OK";
    if (span.status_code != 2) return;
    out += "  ERROR";
    if (span.status_message.empty()) return;
    out += " \"";
    append_printable(out, span.status_message);
    out += '"';
}

void append_pairs(std::string& out, const shm::Repeated<shm::Attribute>& attributes) {
    const char* separator = "";
    for (const shm::Attribute& attribute : attributes) {
        out += separator;
        append_printable(out, attribute.key);
        out += '=';
        append_value(out, attribute.value, value_bytes_max);
        separator = " ";
    }
}

void append_dropped(std::string& out, std::string_view indent, std::uint32_t count,
                    std::string_view what) {
    if (count == 0) return;
    out.append(indent)
        .append("(")
        .append(std::to_string(count))
        .append(" ")
        .append(what)
        .append(" dropped)\n");
}

void append_count(std::string& out, std::size_t count, std::string_view what) {
    if (count == 0) return;
    out.append("  ")
        .append(std::to_string(count))
        .append(" ")
        .append(what)
        .append(count == 1 ? "" : "s");
}

// 14:06:40.123456   12.4 ms  orders  POST /checkout  server  ERROR "refused"  trace=… span=…
// parent=…  key=value …
void append_line(std::string& out, const std::string& service, const shm::Span& span) {
    const std::string duration = duration_text(duration_of(span));
    out += local_time(span.start_unix_ns);
    out.append(9 - std::min<std::size_t>(9, duration.size()) + 1, ' ').append(duration);
    out.append("  ").append(service).append("  ");
    append_printable(out, span.name);
    out.append("  ").append(kind_text(span.kind));
    append_status(out, span);
    out.append("  trace=").append(hex(span.trace_id)).append(" span=").append(hex(span.span_id));
    if (!span.parent_span_id.empty()) out.append(" parent=").append(hex(span.parent_span_id));
    append_count(out, span.events().count(), "event");
    append_count(out, span.links().count(), "link");
    if (!span.attributes().empty()) out += "  ";
    append_pairs(out, span.attributes());
    out += '\n';
}

void append_attribute_lines(std::string& out, std::string_view indent,
                            const shm::Repeated<shm::Attribute>& attributes) {
    for (const shm::Attribute& attribute : attributes) {
        out += indent;
        append_printable(out, attribute.key);
        out += " = ";
        append_value(out, attribute.value);
        out += '\n';
    }
}

void append_origin(std::string& out, const SpanRun& run) {
    const shm::Resource resource(run.resource);
    out += "Resource";
    if (!run.resource_schema_url.empty())
        append_printable(out += "  schema ", run.resource_schema_url);
    out += '\n';
    append_attribute_lines(out, "  ", resource.attributes());
    append_dropped(out, "  ", resource.dropped_attributes_count, "attributes");
    const shm::Scope scope(run.scope);
    append_printable(out += "Scope  ", scope.name);
    append_printable(out += " ", scope.version);
    if (!run.scope_schema_url.empty()) append_printable(out += "  schema ", run.scope_schema_url);
    out += '\n';
    append_attribute_lines(out, "  ", scope.attributes());
    append_dropped(out, "  ", scope.dropped_attributes_count, "attributes");
}

void append_flags(std::string& out, std::uint32_t flags) {
    if ((flags & 0x100) != 0) out += (flags & 0x200) != 0 ? "  parent remote" : "  parent local";
    if ((flags & 0xff) != 0)
        out.append("  trace flags ").append(hex(std::string(1, static_cast<char>(flags))));
}

void append_details(std::string& out, const shm::Span& span) {
    append_printable(out += "Span  ", span.name);
    out.append("  ").append(kind_text(span.kind));
    append_status(out, span);
    out.append("\n  trace ").append(hex(span.trace_id)).append("  span ").append(hex(span.span_id));
    out.append("  parent ")
        .append(span.parent_span_id.empty() ? "none (root)" : hex(span.parent_span_id));
    append_flags(out, span.flags);
    if (!span.trace_state.empty()) append_printable(out += "  state ", span.trace_state);
    out.append("\n  from ").append(local_date_time(span.start_unix_ns, 9));
    out.append("  to ").append(local_date_time(span.end_unix_ns, 9));
    out.append("  ").append(duration_text(duration_of(span))).append("\n");
    append_attribute_lines(out, "  ", span.attributes());
    append_dropped(out, "  ", span.dropped_attributes_count, "attributes");
    for (const shm::Event& event : span.events()) {
        append_printable(out += "  Event  ", event.name);
        out.append("  ").append(local_date_time(event.time_unix_ns, 9)).append("\n");
        append_attribute_lines(out, "    ", event.attributes());
        append_dropped(out, "    ", event.dropped_attributes_count, "attributes");
    }
    append_dropped(out, "  ", span.dropped_events_count, "events");
    for (const shm::Link& link : span.links()) {
        out.append("  Link  trace ")
            .append(hex(link.trace_id))
            .append("  span ")
            .append(hex(link.span_id));
        append_flags(out, link.flags);
        if (!link.trace_state.empty()) append_printable(out += "  state ", link.trace_state);
        out += '\n';
        append_attribute_lines(out, "    ", link.attributes());
        append_dropped(out, "    ", link.dropped_attributes_count, "attributes");
    }
    append_dropped(out, "  ", span.dropped_links_count, "links");
}

std::string summary(const Batch& batch) {
    std::map<std::string, std::uint32_t> spans_of;
    for (const SpanRun& run : batch.runs) spans_of[service_of(run)] += run.spans;
    std::string out = std::to_string(batch.spans) + (batch.spans == 1 ? " span, " : " spans, ") +
                      std::to_string(batch.bytes) + " bytes:";
    const char* separator = " ";
    for (const auto& [service, spans] : spans_of) {
        out.append(separator).append(service).append(" ").append(std::to_string(spans));
        separator = ", ";
    }
    return out + "\n";
}

class Console final : public Exporter {
public:
    Console(config::Debug settings, int fd) : settings_(settings), writer_(fd) {}

    SendResult send(const Batch& batch) override {
        const std::string text = console_text(batch, settings_.verbosity);
        if (const int error = writer_.write(text, cancelled_); error != 0) {
            return {.outcome = SendResult::Outcome::retry_after,
                    .message = write_error_text("standard output", error)};
        }
        return {.request_bytes = text.size()};
    }
    void cancel() noexcept override { cancelled_.store(true, std::memory_order_relaxed); }

private:
    config::Debug settings_;
    StreamWriter writer_;
    std::atomic<bool> cancelled_{false};
};

}  // namespace

Result<std::unique_ptr<Exporter>> make_console(const config::ExporterSettings& settings) {
    const auto* debug = std::get_if<config::Debug>(&settings.what);
    if (debug == nullptr) {
        return Error{ErrorCode::invalid_argument,
                     "exporter " + settings.name + " has no debug settings"};
    }
    return make_console(*debug, STDOUT_FILENO);
}

std::unique_ptr<Exporter> make_console(config::Debug settings, int fd) {
    return std::make_unique<Console>(settings, fd);
}

std::string console_text(const Batch& batch, Verbosity verbosity) {
    if (verbosity == Verbosity::basic) return summary(batch);
    std::string out;
    for (const SpanRun& run : batch.runs) {
        const std::string service = service_of(run);
        if (verbosity == Verbosity::detailed) append_origin(out, run);
        shm::FrameReader frames(run.frames);
        for (shm::Frame frame; frames.next(frame);) {
            const shm::Span span(frame.span);
            if (verbosity == Verbosity::detailed) {
                append_details(out, span);
            } else {
                append_line(out, service, span);
            }
        }
    }
    return out;
}

}  // namespace oteld::exporters
