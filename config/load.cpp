#include "config/load.hpp"

#include "config/defaults.hpp"
#include "config/exporter_keys.hpp"
#include "config/file_access.hpp"
#include "config/nearest.hpp"
#include "config/schema.hpp"
#include "config/substitute.hpp"
#include "config/yaml.hpp"

#include <sys/stat.h>
#include <algorithm>
#include <cerrno>
#include <map>

namespace oteld::config {
namespace {

constexpr std::size_t exporters_max = 16;  // The spool has a table of as many.
constexpr std::size_t id_bytes_max = 63;
constexpr std::size_t problems_shown_max = 100;

// "type" or "type/name".
struct ComponentId {
    std::string_view type;
    bool valid = false;
};

ComponentId parse_id(std::string_view id) {
    const std::size_t slash = id.find('/');
    const std::string_view name = slash == id.npos ? "-" : id.substr(slash + 1);
    const bool clean = std::all_of(id.begin(), id.end(), [](char c) {
        return static_cast<unsigned char>(c) > 0x20 && c != 0x7f && c != '"';
    });
    return {id.substr(0, slash), clean && slash != 0 && !name.empty() && id.size() <= id_bytes_max};
}

// Reads a whole document. Sections are read from the bottom up: what a pipeline may name is known
// before the pipeline is read.
class Document {
public:
    Document(const YamlNode& root, Report& report) : root_(&root, "", report), report_(report) {}

    void read(Settings& settings) {
        read_receivers(root_.section("receivers"), settings);
        read_processors(root_.section("processors"));
        read_exporters(root_.section("exporters"));
        refuse_members(root_.find("extensions"), "extensions", extension_advice);
        root_.replaced("connectors", "oteld has none; remove it");
        read_service(root_.section("service"), settings);
        root_.finish();
    }

private:
    static std::string receiver_advice(std::string_view type) {
        if (type == "otlp") {
            return "oteld does not listen for OTLP: applications write to shared memory through "
                   "the client (receivers: shm); let a Collector take OTLP from others";
        }
        return "the only receiver is shm, which drains what applications write through the client";
    }

    static std::string processor_advice(std::string_view type) {
        if (type == "memory_limiter") {
            return "memory is bounded by receivers.shm.spool_size; remove the processor";
        }
        if (type == "resource" || type == "resourcedetection" || type == "attributes") {
            return "oteld adds no attributes; set them in the application "
                   "(OTEL_RESOURCE_ATTRIBUTES), and remove the processor";
        }
        if (type == "probabilistic_sampler" || type == "tail_sampling") {
            return "oteld does not sample; set OTEL_TRACES_SAMPLER in the application, and remove "
                   "the processor";
        }
        return "oteld has no processors but batch; remove it, or export to a Collector that has it";
    }

    static std::string extension_advice(std::string_view type) {
        if (type == "health_check" || type == "healthcheckv2") {
            return "probe with \"oteld status\", which exits with 0 when all is well; remove it";
        }
        if (type == "zpages" || type == "pprof") return "see \"oteld status\"; remove it";
        if (type == "file_storage") {
            return "the spool survives a restart of oteld by itself; remove it";
        }
        if (type.ends_with("auth") || type == "bearertokenauth" || type == "headers_setter") {
            return "put the credential under the exporter's headers, for example authorization: "
                   "Bearer ${env:TOKEN}";
        }
        return "oteld has no extensions; remove it";
    }

    // A section of which nothing is read: each member is an error with its own advice.
    template <class Advice>
    void refuse_members(const YamlNode* node, const std::string& path, Advice advice) {
        if (node == nullptr) return;
        for (const Member& member : node->members) {
            report_.problem(member.place,
                            path + "." + member.key + ": " + advice(parse_id(member.key).type));
        }
        for (const YamlNode& item : node->items) {
            report_.problem(item.place, path + ": " + quoted(item.text) + ": " +
                                            advice(parse_id(item.text).type));
        }
    }

    bool good_id(const std::string& section, const Member& member) {
        if (parse_id(member.key).valid) return true;
        report_.problem(member.place, quoted(member.key) + " in " + section +
                                          " must be type or type/name, without blanks and up to " +
                                          std::to_string(id_bytes_max) + " bytes long");
        return false;
    }

    void read_receivers(const Section& section, Settings& settings) {
        for (const Member& member : section.members()) {
            if (!good_id("receivers", member)) continue;
            const std::string_view type = parse_id(member.key).type;
            if (type != "shm") {
                const std::string meant = nearest(type, std::vector<std::string_view>{"shm"});
                report_.problem(member.place,
                                "receivers." + member.key + ": " +
                                    (meant.empty() ? receiver_advice(type) : "unknown receiver"),
                                meant);
            } else if (!receiver_.empty()) {
                report_.problem(member.place, "receivers." + member.key +
                                                  ": one shm receiver is all there can be; run a "
                                                  "second oteld for a second directory");
            } else {
                settings.shm = read_shm(member, report_);
            }
            // Known to pipelines even when wrong: one mistake is reported once.
            receivers_.push_back(member.key);
            if (type == "shm" && receiver_.empty()) receiver_ = member.key;
        }
    }

    void read_processors(const Section& section) {
        for (const Member& member : section.members()) {
            processors_.push_back(member.key);
            if (!good_id("processors", member)) continue;
            const std::string_view type = parse_id(member.key).type;
            if (type == "batch") {
                read_batch_processor(member);
                continue;
            }
            const std::string meant = nearest(type, std::vector<std::string_view>{"batch"});
            report_.problem(member.place,
                            "processors." + member.key + ": " +
                                (meant.empty() ? processor_advice(type) : "unknown processor"),
                            meant);
        }
    }

    void read_batch_processor(const Member& member) {
        Section keys(&member.value, "processors." + member.key, report_);
        const std::string batch = "set exporters.*.sending_queue.batch.";
        keys.replaced("timeout", batch + "flush_timeout instead");
        keys.replaced("send_batch_size", batch + "min_size instead");
        keys.replaced("send_batch_max_size", batch + "max_size instead");
        keys.replaced("metadata_keys", "spans carry no request metadata; remove it");
        keys.replaced("metadata_cardinality_limit", "spans carry no request metadata; remove it");
        keys.finish();
        report_.warning(member.place,
                        "processors." + member.key +
                            " changes nothing: each exporter batches for itself, under "
                            "exporters.*.sending_queue.batch");
    }

    void read_exporters(const Section& section) {
        for (const Member& member : section.members()) {
            exporter_ids_.push_back(member.key);
            if (!good_id("exporters", member)) continue;
            const std::string_view type = parse_id(member.key).type;
            const auto kind = exporter_kind(type);
            if (kind) {
                exporters_.emplace(member.key, read_exporter(member, *kind, report_));
                continue;
            }
            report_.problem(member.place,
                            "exporters." + member.key +
                                ": unknown exporter; there are otlp_grpc, otlp_http, debug, file, "
                                "trace_store and nop",
                            nearest(type, exporter_types()));
        }
    }

    void read_service(Section service, Settings& settings) {
        if (!root_.has("service")) {
            report_.problem(root_.place(),
                            "nothing says where spans go: add service: {pipelines: {traces: "
                            "{receivers: [shm], exporters: [...]}}}");
        } else {
            read_pipelines(service.section("pipelines"), settings);
        }
        read_telemetry(service.section("telemetry"), settings);
        refuse_members(service.find("extensions"), "service.extensions", extension_advice);
        service.finish();
    }

    void read_pipelines(Section pipelines, Settings& settings) {
        const YamlNode* traces = pipelines.find("traces");
        if (traces == nullptr) {
            pipelines.missing("traces",
                              "service.pipelines.traces is missing: add traces: {receivers: "
                              "[shm], exporters: [...]}");
        } else {
            read_traces(Section(traces, "service.pipelines.traces", report_), settings);
        }
        for (const Member& member : pipelines.members()) {
            const std::string_view type = parse_id(member.key).type;
            if (type == "metrics" || type == "logs" || type == "profiles") {
                pipelines.replaced(member.key, "oteld carries traces only; remove it");
            } else if (type == "traces" && member.key != "traces") {
                pipelines.replaced(member.key,
                                   "there is one traces pipeline; name all exporters in it");
            }
        }
        pipelines.finish();
    }

    void read_traces(Section traces, Settings& settings) {
        const auto receivers = named(traces, "receivers", receivers_);
        const auto exporters = named(traces, "exporters", exporter_ids_);
        named(traces, "processors", processors_);
        traces.finish();
        for (const std::string& id : exporters) {
            const auto found = exporters_.find(id);
            if (found != exporters_.end()) settings.exporters.push_back(found->second);
        }
        if (exporters.size() > exporters_max) {
            traces.problem("exporters", "more than " + std::to_string(exporters_max) +
                                            " exporters in one pipeline; run a second oteld "
                                            "for the rest");
        }
        // With mistakes about, the exporter may be the one that a mistyped name meant.
        if (!report_.problems.empty()) return;
        for (const auto& [id, settings_of] : exporters_) {
            if (std::find(exporters.begin(), exporters.end(), id) != exporters.end()) continue;
            report_.warning(root_.find("exporters")->find(id)->place,
                            "exporters." + id +
                                " is in no pipeline: add it to service.pipelines.traces.exporters");
        }
    }

    // The ids in a pipeline's list, each known and named once.
    std::vector<std::string> named(Section& traces, std::string_view key,
                                   const std::vector<std::string>& known) {
        std::vector<std::string> ids;
        const std::string path = traces.path() + "." + std::string(key);
        const YamlNode* list = traces.find(key);
        const bool needed = key != "processors";
        if (list == nullptr || (list->kind == YamlNode::Kind::sequence && list->items.empty())) {
            if (needed) {
                traces.problem(
                    key, path + " is empty; name at least one of those under " + std::string(key));
            }
            return ids;
        }
        if (list->kind != YamlNode::Kind::sequence) {
            traces.problem(key, path + " must be a list, such as [" +
                                    (list->text.empty() ? "shm" : list->text) + "]");
            return ids;
        }
        for (const YamlNode& item : list->items) add_id(item, path, std::string(key), known, ids);
        return ids;
    }

    void add_id(const YamlNode& item, const std::string& path, const std::string& section,
                const std::vector<std::string>& known, std::vector<std::string>& ids) {
        if (item.kind != YamlNode::Kind::scalar) {
            report_.problem(item.place, path + " must hold names only");
        } else if (std::find(ids.begin(), ids.end(), item.text) != ids.end()) {
            report_.problem(item.place, path + " names " + quoted(item.text) + " twice");
        } else if (std::find(known.begin(), known.end(), item.text) == known.end()) {
            report_.problem(item.place,
                            path + " names " + quoted(item.text) + ", which is not under " +
                                section +
                                (known.empty() ? "; add " + section + ": {" + item.text + ": {}}"
                                               : "; add it there"),
                            nearest(item.text, known));
        } else {
            ids.push_back(item.text);
        }
    }

    void read_telemetry(Section telemetry, Settings& settings) {
        Section logs = telemetry.section("logs");
        const std::vector<std::string_view> levels{"debug", "info", "warn", "error"};
        if (const auto level = logs.word("level", levels)) settings.log_level = levels[*level];
        const std::string journal = "oteld logs to standard error as lines of text; remove it";
        for (const char* key :
             {"encoding", "output_paths", "error_output_paths", "development", "disable_caller",
              "disable_stacktrace", "sampling", "initial_fields", "processors"}) {
            logs.replaced(key, journal);
        }
        logs.finish();
        telemetry.replaced("metrics", "numbers are in \"oteld status --json\"; remove it");
        telemetry.replaced("traces", "oteld does not trace itself; remove it");
        telemetry.replaced("resource", "oteld sends nothing about itself; remove it");
        telemetry.finish();
    }

    Section root_;
    Report& report_;
    std::string receiver_;  // The shm receiver's id.
    std::vector<std::string> receivers_;
    std::vector<std::string> processors_;
    std::vector<std::string> exporter_ids_;
    std::map<std::string, ExporterSettings> exporters_;
};

// In the order of the file, and not more than anybody reads.
void tidy(Problems& problems) {
    std::stable_sort(problems.begin(), problems.end(), [](const Problem& a, const Problem& b) {
        return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
    });
    if (problems.size() <= problems_shown_max) return;
    const std::size_t more = problems.size() - problems_shown_max;
    problems.resize(problems_shown_max);
    problems.push_back({problems.back().source, {}, "and " + std::to_string(more) + " more", {}});
}

void tidy(std::vector<std::string>& warnings, const std::string& source) {
    if (warnings.size() <= problems_shown_max) return;
    const std::size_t more = warnings.size() - problems_shown_max;
    warnings.resize(problems_shown_max);
    warnings.push_back(source + ": and " + std::to_string(more) + " more");
}

Loaded refused(const std::string& source, const std::string& message) {
    Loaded loaded;
    loaded.settings.source = source;
    loaded.problems.push_back({source, {}, message, {}});
    return loaded;
}

}  // namespace

Loaded load(const std::string& config_path, const Environment& environment,
            const std::string& fallback_path) {
    if (!config_path.empty()) return load_file(config_path, environment);
    // A file that is there and cannot be read, or even be looked for, must not be passed over.
    struct stat facts {};
    const bool there = ::stat(fallback_path.c_str(), &facts) == 0;
    if (there || (errno != ENOENT && errno != ENOTDIR))
        return load_file(fallback_path, environment);
    if (otlp_environment_is_set(environment)) return load_otlp_environment(environment);
    return embedded_default();
}

Loaded load_file(const std::string& path, const Environment& environment) {
    const auto text = read_file(path, yaml_bytes_max);
    if (!text) return refused(path, text.error().message);
    return load_text(*text, path, environment);
}

Loaded load_text(std::string_view yaml, const std::string& source, const Environment& environment) {
    Loaded loaded;
    loaded.settings.source = source;
    ParsedYaml parsed = parse_yaml(yaml, source);
    Report report;
    report.source = source;
    report.problems = std::move(parsed.problems);
    if (report.problems.empty() && parsed.root.kind == YamlNode::Kind::null) {
        return refused(source,
                       "is empty; write receivers, exporters and service into it, or remove it for "
                       "the embedded default (the local trace store)");
    }
    // Broken YAML has no tree worth checking; duplicate keys leave one.
    if (parsed.root.kind != YamlNode::Kind::null) {
        substitute(parsed.root, source, environment, report.problems, report.warnings);
        Document(parsed.root, report).read(loaded.settings);
    }
    tidy(report.problems);
    tidy(report.warnings, source);
    loaded.problems = std::move(report.problems);
    loaded.warnings = std::move(report.warnings);
    return loaded;
}

}  // namespace oteld::config
