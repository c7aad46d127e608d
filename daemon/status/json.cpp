#include "daemon/status/json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/src.hpp>  // The header-only form: in this file alone.
#include <cmath>
#include <optional>
#include <utility>

#include "daemon/status/words.hpp"

namespace oteld::status {
namespace {

namespace json = boost::json;

template <class Enum, std::size_t size>
using Names = std::array<std::pair<Enum, std::string_view>, size>;

constexpr Names<Verdict, 4> verdicts{{{Verdict::healthy, "healthy"},
                                      {Verdict::degraded, "degraded"},
                                      {Verdict::not_running, "not_running"},
                                      {Verdict::cannot_tell, "cannot_tell"}}};
constexpr Names<Phase, 4> phases{{{Phase::starting, "starting"},
                                  {Phase::running, "running"},
                                  {Phase::stopping, "stopping"},
                                  {Phase::stopped, "stopped"}}};
constexpr Names<Life, 4> lives{{{Life::alive, "alive"},
                                {Life::ended, "ended"},
                                {Life::crashed, "crashed"},
                                {Life::merged, "merged"}}};
constexpr Names<ExporterState, 5> exporter_states{{{ExporterState::idle, "idle"},
                                                   {ExporterState::ok, "ok"},
                                                   {ExporterState::retrying, "retrying"},
                                                   {ExporterState::rejecting, "rejecting"},
                                                   {ExporterState::failed, "failed"}}};

template <class Enum, std::size_t size>
std::string_view name_of(const Names<Enum, size>& names, Enum value) noexcept {
    for (const auto& [known, name] : names) {
        if (known == value) return name;
    }
    return "unknown";
}

template <class Enum, std::size_t size>
void read_name(const Names<Enum, size>& names, std::string_view text, Enum& value) noexcept {
    for (const auto& [known, name] : names) {
        if (name == text) value = known;
    }
}

// One list of fields per struct serves both directions: each `fields` function names a field once,
// and an archive either writes it or reads it.
class Writer {
public:
    explicit Writer(json::object& object) : object_(object) {}
    void field(std::string_view name, const std::string& value) {
        object_[name] = clean_text(value);
    }
    void field(std::string_view name, std::uint64_t value) { object_[name] = value; }
    void field(std::string_view name, std::uint32_t value) { object_[name] = value; }
    void field(std::string_view name, std::int64_t value) { object_[name] = value; }
    void field(std::string_view name, double value) { object_[name] = value; }
    void field(std::string_view name, bool value) { object_[name] = value; }
    void field(std::string_view name, const Counts& counts) {
        json::object object;
        for (const auto& [reason, spans] : counts) object[clean_text(reason)] = spans;
        object_[name] = std::move(object);
    }
    void field(std::string_view name, const std::vector<std::string>& texts) {
        json::array array;
        for (const std::string& text : texts) array.push_back(json::string(clean_text(text)));
        object_[name] = std::move(array);
    }
    template <class Enum, std::size_t size>
    void field(std::string_view name, Enum value, const Names<Enum, size>& names) {
        object_[name] = name_of(names, value);
    }
    template <class Struct>
    void group(std::string_view name, Struct& value) {
        json::object object;
        Writer writer(object);
        fields(writer, value);
        object_[name] = std::move(object);
    }
    template <class Struct>
    void list(std::string_view name, std::vector<Struct>& values) {
        json::array array;
        for (Struct& value : values) {
            json::object object;
            Writer writer(object);
            fields(writer, value);
            array.push_back(std::move(object));
        }
        object_[name] = std::move(array);
    }
    void derived(std::string_view name, std::int64_t value) { object_[name] = value; }

private:
    json::object& object_;
};

class Reader {
public:
    explicit Reader(const json::object& object) : object_(object) {}
    void field(std::string_view name, std::string& value) {
        const json::value* found = object_.if_contains(name);
        if (found != nullptr && found->is_string())
            value = clean_text(std::string_view(found->get_string()));
    }
    void field(std::string_view name, std::uint64_t& value) { number(name, value); }
    void field(std::string_view name, std::uint32_t& value) { number(name, value); }
    void field(std::string_view name, std::int64_t& value) { number(name, value); }
    void field(std::string_view name, double& value) { number(name, value); }
    void field(std::string_view name, bool& value) {
        const json::value* found = object_.if_contains(name);
        if (found != nullptr && found->is_bool()) value = found->get_bool();
    }
    void field(std::string_view name, Counts& counts) {
        const json::value* found = object_.if_contains(name);
        if (found == nullptr || !found->is_object()) return;
        const Reader reader(found->get_object());
        for (const auto& entry : found->get_object()) {
            reader.number(entry.key(), counts[clean_text(std::string_view(entry.key()))]);
        }
    }
    void field(std::string_view name, std::vector<std::string>& texts) {
        const json::value* found = object_.if_contains(name);
        if (found == nullptr || !found->is_array()) return;
        for (const json::value& text : found->get_array()) {
            if (text.is_string()) texts.push_back(clean_text(std::string_view(text.get_string())));
        }
    }
    template <class Enum, std::size_t size>
    void field(std::string_view name, Enum& value, const Names<Enum, size>& names) {
        std::string text;
        field(name, text);
        read_name(names, text, value);
    }
    template <class Struct>
    void group(std::string_view name, Struct& value) {
        const json::value* found = object_.if_contains(name);
        if (found == nullptr || !found->is_object()) return;
        Reader reader(found->get_object());
        fields(reader, value);
    }
    template <class Struct>
    void list(std::string_view name, std::vector<Struct>& values) {
        const json::value* found = object_.if_contains(name);
        if (found == nullptr || !found->is_array()) return;
        for (const json::value& entry : found->get_array()) {
            if (!entry.is_object()) continue;
            Reader reader(entry.get_object());
            fields(reader, values.emplace_back());
        }
    }
    void derived(std::string_view /*name*/, std::int64_t /*value*/) {}  // Computed again.

private:
    template <class Number>
    void number(std::string_view name, Number& value) const {
        const json::value* found = object_.if_contains(name);
        if (found == nullptr || !found->is_number()) return;
        json::error_code error;
        const Number read = found->to_number<Number>(error);
        if (!error) value = read;
    }

    const json::object& object_;
};

template <class Archive>
void share_fields(Archive& archive, const Application& application, ExporterShare& share) {
    archive.field("name", share.name);
    archive.field("filtered", share.filtered);
    archive.field("in_daemon", share.in_daemon);
    archive.field("delivered", share.delivered);
    archive.field("rejected", share.rejected);
    archive.derived("balance", balance(application, share));
}

// A share cannot compute its balance alone, so the pair travels together.
struct BoundShare {
    const Application* application;
    ExporterShare* share;
};
template <class Archive>
void fields(Archive& archive, BoundShare& bound) {
    share_fields(archive, *bound.application, *bound.share);
}

void shares(Writer& writer, Application& application) {
    std::vector<BoundShare> bound;
    for (ExporterShare& share : application.exporters) bound.push_back({&application, &share});
    writer.list("exporters", bound);
}

template <class Archive>
void fields(Archive& archive, ExporterShare& share) {
    share_fields(archive, Application{}, share);
}
void shares(Reader& reader, Application& application) {
    reader.list("exporters", application.exporters);
}

template <class Archive>
void fields(Archive& archive, Application& application) {
    archive.field("service", application.service);
    archive.field("process", application.process);
    archive.field("id", application.id);
    archive.field("uid", application.uid);
    archive.field("executable", application.executable);
    archive.field("life", application.life, lives);
    archive.field("since_unix_ns", application.since_ns);
    archive.field("last_seen_unix_ns", application.last_seen_ns);
    archive.field("started", application.started);
    archive.field("unsampled", application.unsampled);
    archive.field("open", application.open);
    archive.field("lost", application.lost);
    archive.field("dropped", application.dropped);
    archive.field("in_ring", application.in_ring);
    archive.field("recovered_open", application.recovered_open);
    archive.field("not_crash_visible", application.not_crash_visible);
    archive.field("skipped_records", application.skipped_records);
    archive.field("ring_bytes", application.ring_bytes);
    archive.field("ring_used_bytes", application.ring_used);
    archive.field("spans_per_s", application.spans_per_s);
    archive.field("lost_last_minute", application.lost_recently);
    shares(archive, application);
}

template <class Archive>
void fields(Archive& archive, Exporter& exporter) {
    archive.field("name", exporter.name);
    archive.field("kind", exporter.kind);
    archive.field("destination", exporter.destination);
    archive.field("state", exporter.state, exporter_states);
    archive.field("state_text", exporter.words);
    archive.field("last_ok_unix_ns", exporter.last_ok_ns);
    archive.field("failing_since_unix_ns", exporter.failing_since_ns);
    archive.field("attempts", exporter.attempts);
    archive.field("last_error", exporter.last_error);
    archive.field("errors", exporter.errors);
    archive.field("queue_spans", exporter.queue_spans);
    archive.field("queue_bytes", exporter.queue_bytes);
    archive.field("requests", exporter.requests);
    archive.field("sent_bytes", exporter.sent_bytes);
    archive.field("delivered", exporter.delivered);
    archive.field("rejected", exporter.rejected);
    archive.field("delivered_per_s", exporter.delivered_per_s);
    archive.field("rejected_last_minute", exporter.rejected_recently);
    archive.field("warnings", exporter.warnings);
}

template <class Archive>
void fields(Archive& archive, Spool& spool) {
    archive.field("bytes", spool.bytes);
    archive.field("used_bytes", spool.used);
    archive.field("blocks", spool.blocks);
    archive.field("blocks_max", spool.blocks_max);
    archive.field("full", spool.full);
    archive.field("file_system_full", spool.file_system_full);
}

template <class Archive>
void fields(Archive& archive, NamedFile& file) {
    archive.field("name", file.name);
    archive.field("why", file.why);
}

template <class Archive>
void fields(Archive& archive, Rings& rings) {
    archive.field("segments", rings.segments);
    archive.field("lanes", rings.lanes);
    archive.field("bytes", rings.bytes);
    archive.field("bus_errors", rings.bus_errors);
    archive.list("quarantined", rings.quarantined);
    archive.list("refused", rings.refused);
}

template <class Archive>
void fields(Archive& archive, Clocks& clocks) {
    archive.field("jumps", clocks.jumps);
    archive.field("steps", clocks.steps);
    archive.field("times_clamped", clocks.times_clamped);
}

template <class Archive>
void fields(Archive& archive, Directory& directory) {
    archive.field("path", directory.path);
    archive.field("tmpfs", directory.tmpfs);
    archive.field("setgid", directory.setgid);
    archive.field("mode", directory.mode);
    archive.field("free_bytes", directory.free_bytes);
    archive.field("full", directory.full);
    archive.field("consequences", directory.consequences);
}

template <class Archive>
void fields(Archive& archive, Resources& resources) {
    archive.field("rss_bytes", resources.rss_bytes);
    archive.field("shared_bytes", resources.shared_bytes);
    archive.field("cpu_share", resources.cpu_share);
    archive.field("cpu_seconds", resources.cpu_seconds);
    archive.field("fds", resources.fds);
    archive.field("threads", resources.threads);
}

template <class Archive>
void fields(Archive& archive, LastError& error) {
    archive.field("time_unix_ns", error.time_ns);
    archive.field("who", error.who);
    archive.field("text", error.text);
    archive.field("count", error.count);
}

template <class Archive>
void fields(Archive& archive, Snapshot& snapshot) {
    archive.field("verdict", snapshot.verdict, verdicts);
    archive.field("reasons", snapshot.reasons);
    archive.field("recording", snapshot.recording);
    archive.field("phase", snapshot.phase, phases);
    archive.field("last_words", snapshot.last_words);
    archive.field("version", snapshot.version);
    archive.field("pid", snapshot.pid);
    archive.field("started_unix_ns", snapshot.started_ns);
    archive.field("config_source", snapshot.config_source);
    archive.list("applications", snapshot.applications);
    archive.list("exporters", snapshot.exporters);
    archive.group("spool", snapshot.spool);
    archive.group("rings", snapshot.rings);
    archive.group("clocks", snapshot.clocks);
    archive.group("directory", snapshot.directory);
    archive.group("resources", snapshot.resources);
    archive.list("last_errors", snapshot.last_errors);
    archive.field("notes", snapshot.notes);
}

// Not json::serialize, which writes 12.5 as 1.25E1. Two spaces per level when there is a depth,
// else one line.
void write(const json::value& value, std::optional<std::size_t> depth, std::string& out) {
    const auto deeper = depth ? std::optional<std::size_t>(*depth + 1) : std::nullopt;
    const auto line = [&out](std::optional<std::size_t> level) {
        if (level) out.append(1, '\n').append(2 * *level, ' ');
    };
    if (value.is_object() && !value.get_object().empty()) {
        char separator = '{';
        for (const auto& entry : value.get_object()) {
            out += separator;
            line(deeper);
            out.append(json::serialize(json::string(entry.key()))).append(depth ? ": " : ":");
            write(entry.value(), deeper, out);
            separator = ',';
        }
        line(depth);
        out += '}';
    } else if (value.is_array() && !value.get_array().empty()) {
        char separator = '[';
        for (const json::value& entry : value.get_array()) {
            out += separator;
            line(deeper);
            write(entry, deeper, out);
            separator = ',';
        }
        line(depth);
        out += ']';
    } else if (value.is_double()) {
        const double number = value.get_double();
        out += std::isfinite(number) ? fmt::format("{}", number) : "0";
    } else {
        out += json::serialize(value);
    }
}

std::string serialize(Snapshot& snapshot) {
    json::value value(json::object_kind);
    value.get_object()["schema_version"] = schema_version;
    Writer writer(value.get_object());
    fields(writer, snapshot);
    std::string document;
    write(value, std::nullopt, document);
    return document;
}

}  // namespace

std::string to_json(const Snapshot& snapshot, std::size_t bytes_max) {
    Snapshot shown = snapshot;
    std::string document = serialize(shown);
    if (document.size() <= bytes_max) return document;
    std::stable_sort(
        shown.applications.begin(), shown.applications.end(),
        [](const Application& a, const Application& b) { return a.last_seen_ns > b.last_seen_ns; });
    while (document.size() > bytes_max && !shown.applications.empty()) {
        shown.applications.resize(shown.applications.size() / 2);
        shown.notes = snapshot.notes;
        shown.notes.push_back("the page has no room for all applications: only the " +
                              count_words(shown.applications.size()) + " seen last are shown of " +
                              count_words(snapshot.applications.size()));
        document = serialize(shown);
    }
    return document;
}

Result<Snapshot> from_json(std::string_view document) {
    json::error_code error;
    const json::value value = json::parse({document.data(), document.size()}, error);
    if (error || !value.is_object()) {
        return Error{ErrorCode::corrupt,
                     "the status document is not valid JSON" +
                         (error ? " (" + error.message() + ")" : std::string())};
    }
    const json::value* version = value.get_object().if_contains("schema_version");
    if (version == nullptr || !version->is_int64() || version->get_int64() != schema_version) {
        return Error{ErrorCode::unsupported,
                     "the status document has another schema_version than this oteld reads (" +
                         std::to_string(schema_version) +
                         "); use the `oteld status` of the running version"};
    }
    Snapshot snapshot;
    Reader reader(value.get_object());
    fields(reader, snapshot);
    return snapshot;
}

std::string indent_json(std::string_view document) {
    json::error_code error;
    const json::value value = json::parse({document.data(), document.size()}, error);
    if (error) return std::string(document);
    std::string out;
    write(value, std::size_t{0}, out);
    return out;
}

std::string_view to_string(Verdict verdict) noexcept { return name_of(verdicts, verdict); }
std::string_view to_string(Phase phase) noexcept { return name_of(phases, phase); }
std::string_view to_string(Life life) noexcept { return name_of(lives, life); }
std::string_view to_string(ExporterState state) noexcept { return name_of(exporter_states, state); }

}  // namespace oteld::status
