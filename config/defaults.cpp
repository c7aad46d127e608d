#include "config/defaults.hpp"

#include "config/endpoint.hpp"
#include "config/file_access.hpp"
#include "config/headers.hpp"
#include "config/nearest.hpp"
#include "config/schema.hpp"
#include "config/units.hpp"

#include <optional>

namespace oteld::config {
namespace {

constexpr const char* source_name = "environment";
constexpr std::string_view suffixes[] = {"ENDPOINT",   "PROTOCOL",           "HEADERS",
                                         "TIMEOUT",    "COMPRESSION",        "CERTIFICATE",
                                         "CLIENT_KEY", "CLIENT_CERTIFICATE", "INSECURE"};

struct Variable {
    std::string name;
    std::string value;
    bool for_traces = false;  // OTEL_EXPORTER_OTLP_TRACES_*
};

// The variable for traces wins over the one for all signals, as a whole: values are never merged.
std::optional<Variable> find(const Environment& environment, std::string_view suffix) {
    for (const bool for_traces : {true, false}) {
        const std::string name = std::string("OTEL_EXPORTER_OTLP_") +
                                 (for_traces ? "TRACES_" : "") + std::string(suffix);
        auto value = environment(name);
        if (value && !value->empty()) return Variable{name, std::move(*value), for_traces};
    }
    return std::nullopt;
}

std::string lower_case(std::string text) {
    for (char& c : text) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return text;
}

class OtlpVariables {
public:
    OtlpVariables(const Environment& environment, Report& report)
        : environment_(environment), report_(report) {}

    ExporterSettings read() {
        const bool grpc = read_protocol();
        Otlp otlp;
        otlp.compression = Compression::none;  // The specification's default; a file's is gzip.
        read_insecure(grpc, otlp.tls);
        read_endpoint(grpc, otlp);
        read_headers(otlp);
        read_timeout(otlp);
        read_compression(otlp);
        read_certificates(otlp.tls);
        ExporterSettings exporter;
        exporter.name = grpc ? "otlp_grpc" : "otlp_http";
        exporter.kind =
            grpc ? ExporterSettings::Kind::otlp_grpc : ExporterSettings::Kind::otlp_http;
        exporter.what = std::move(otlp);
        return exporter;
    }

private:
    bool read_protocol() {
        const auto variable = find(environment_, "PROTOCOL");
        if (!variable) return false;
        const std::string value = lower_case(variable->value);
        if (value == "grpc") return true;
        if (value == "http/protobuf") return false;
        if (value == "http/json") {
            problem(*variable,
                    "http/json is not sent; set http/protobuf, which goes to the same "
                    "endpoint, or grpc");
        } else {
            const std::vector<std::string_view> words{"grpc", "http/protobuf"};
            problem(*variable, "must be grpc or http/protobuf, not " + quoted(variable->value),
                    value == "http" ? "http/protobuf" : nearest(value, words));
        }
        return false;
    }

    // A truth value that is not "true" means false, says the specification; it asks for a warning.
    void read_insecure(bool grpc, Tls& tls) {
        const auto variable = find(environment_, "INSECURE");
        if (!variable) return;
        const std::string value = lower_case(variable->value);
        tls.insecure = value == "true";
        if (value != "true" && value != "false") {
            warning(*variable, "must be true or false, not " + quoted(variable->value) +
                                   "; it counts as false");
        } else if (!grpc && tls.insecure) {
            warning(*variable, "has no effect on OTLP over HTTP: the endpoint's scheme decides");
        }
    }

    void read_endpoint(bool grpc, Otlp& otlp) {
        const auto variable = find(environment_, "ENDPOINT");
        if (!variable) {
            otlp.endpoint = grpc ? "localhost:4317" : "http://localhost:4318/v1/traces";
            return;
        }
        const HttpUrl kind = variable->for_traces ? HttpUrl::traces : HttpUrl::base;
        const auto endpoint = grpc ? parse_grpc_endpoint(variable->value, otlp.tls.insecure)
                                   : parse_http_endpoint(variable->value, kind);
        if (!endpoint) return problem(*variable, endpoint.error().message);
        otlp.endpoint = endpoint->target;
        otlp.secure = endpoint->secure;
        if (endpoint->warning.empty()) return;
        // The protocol is what people forget: the default is HTTP, the port that they know is
        // gRPC's.
        const bool grpc_port = !grpc && !find(environment_, "PROTOCOL") &&
                               endpoint->warning.find("4317 is where") != std::string::npos;
        warning(*variable, endpoint->warning +
                               (grpc_port ? "; for it set OTEL_EXPORTER_OTLP_PROTOCOL=grpc" : ""));
    }

    void read_headers(Otlp& otlp) {
        const auto variable = find(environment_, "HEADERS");
        if (!variable) return;
        auto headers = parse_header_list(variable->value);
        if (!headers) return problem(*variable, headers.error().message);
        otlp.headers = std::move(*headers);
    }

    void read_timeout(Otlp& otlp) {
        const auto variable = find(environment_, "TIMEOUT");
        if (!variable) return;
        constexpr milliseconds day = std::chrono::hours(24);
        const auto number = parse_whole(variable->value);
        if (!number || *number > static_cast<std::uint64_t>(day.count())) {
            const auto meant = parse_duration(variable->value);
            const bool near = meant && *meant <= day;
            return problem(*variable,
                           "must be a whole number of milliseconds up to a day (86400000), not " +
                               quoted(variable->value),
                           near ? std::to_string(meant->count()) : "");
        }
        otlp.timeout = milliseconds(static_cast<std::int64_t>(*number));
        if (*number == 0) otlp.timeout = day;  // "No limit" for people; never for ever.
    }

    void read_compression(Otlp& otlp) {
        const auto variable = find(environment_, "COMPRESSION");
        if (!variable) return;
        const std::string value = lower_case(variable->value);
        const std::vector<std::string_view> words{"gzip", "none"};
        if (value != "gzip" && value != "none") {
            return problem(*variable, "must be gzip or none, not " + quoted(variable->value),
                           nearest(value, words));
        }
        otlp.compression = value == "gzip" ? Compression::gzip : Compression::none;
    }

    void read_certificates(Tls& tls) {
        read_file_name("CERTIFICATE", tls.ca_file);
        const auto certificate = read_file_name("CLIENT_CERTIFICATE", tls.cert_file);
        const auto key = read_file_name("CLIENT_KEY", tls.key_file);
        if (certificate && !key)
            problem(*certificate, "needs the variable ..._CLIENT_KEY beside it");
        if (key && !certificate)
            problem(*key, "needs the variable ..._CLIENT_CERTIFICATE beside it");
    }

    std::optional<Variable> read_file_name(std::string_view suffix, std::string& target) {
        auto variable = find(environment_, suffix);
        if (!variable) return variable;
        target = variable->value;
        const std::string why = why_unreadable(target);
        if (!why.empty()) problem(*variable, why);
        return variable;
    }

    void problem(const Variable& variable, const std::string& message,
                 std::string suggestion = {}) {
        report_.problem({}, variable.name + ": " + message, std::move(suggestion));
    }
    void warning(const Variable& variable, const std::string& message) {
        report_.warning({}, variable.name + ": " + message);
    }

    const Environment& environment_;
    Report& report_;
};

}  // namespace

bool otlp_environment_is_set(const Environment& environment) {
    for (const std::string_view suffix : suffixes) {
        if (find(environment, suffix)) return true;
    }
    return false;
}

Loaded load_otlp_environment(const Environment& environment) {
    Report report;
    report.source = source_name;
    Loaded loaded;
    loaded.settings.source = source_name;
    loaded.settings.exporters.push_back(OtlpVariables(environment, report).read());
    loaded.problems = std::move(report.problems);
    loaded.warnings = std::move(report.warnings);
    return loaded;
}

Loaded embedded_default() {
    Loaded loaded;
    loaded.settings.source = "embedded default";
    ExporterSettings exporter;
    exporter.name = "trace_store";
    exporter.kind = ExporterSettings::Kind::trace_store;
    exporter.what = TraceStore{};
    exporter.retry = default_retry(exporter.kind);
    loaded.settings.exporters.push_back(std::move(exporter));
    return loaded;
}

}  // namespace oteld::config
