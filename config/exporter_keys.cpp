#include "config/exporter_keys.hpp"

#include "config/endpoint.hpp"
#include "config/file_access.hpp"
#include "config/headers.hpp"

#include <algorithm>

namespace oteld::config {
namespace {

using Kind = ExporterSettings::Kind;
using std::chrono::hours;

constexpr milliseconds no_time{0};
constexpr milliseconds one_ms{1};
constexpr milliseconds day = hours(24);
constexpr std::uint64_t kib = 1ULL << 10;
constexpr std::uint64_t mib = 1ULL << 20;
constexpr std::uint64_t gib = 1ULL << 30;
constexpr std::uint32_t spans_max = 1'000'000;

struct Name {
    std::string_view type;
    Kind kind;
};
constexpr Name names[] = {
    {"otlp_grpc", Kind::otlp_grpc},
    {"otlp_http", Kind::otlp_http},
    {"otlp", Kind::otlp_grpc},
    {"otlphttp", Kind::otlp_http},
    {"debug", Kind::debug},
    {"file", Kind::file},
    {"trace_store", Kind::trace_store},
    {"nop", Kind::nop},
};

void read_retry(Section keys, Retry& retry) {
    keys.boolean("enabled", retry.enabled);
    keys.duration("initial_interval", retry.initial_interval, one_ms, day);
    const bool max_given = keys.duration("max_interval", retry.max_interval, one_ms, day);
    keys.duration("max_elapsed_time", retry.max_elapsed_time, no_time, 30 * day);
    keys.decimal("multiplier", retry.multiplier, 1, 100);
    keys.decimal("randomization_factor", retry.randomization_factor, 0, 1);
    if (!max_given) {
        retry.max_interval = std::max(retry.max_interval, retry.initial_interval);
    } else if (retry.max_interval < retry.initial_interval) {
        keys.problem("max_interval",
                     keys.path() + ".max_interval is shorter than initial_interval");
    }
    keys.finish();
}

void read_batch(Section keys, SendingQueue& queue) {
    keys.duration("flush_timeout", queue.flush_timeout, one_ms, hours(1));
    const auto sizer = keys.word("sizer", {"items", "bytes"});
    if (sizer == 1) {
        keys.size("max_size", queue.batch_bytes_max, 16 * kib, gib);
        keys.replaced("min_size",
                      "with sizer: bytes a batch is sent when it has max_size bytes or "
                      "after flush_timeout; remove min_size");
    } else {
        const bool min = keys.whole("min_size", queue.batch_spans_min, 1, spans_max);
        const bool max = keys.whole("max_size", queue.batch_spans_max, 1, spans_max);
        // One of the two moves the other's default along; two that contradict are a mistake.
        if (min && max && queue.batch_spans_min > queue.batch_spans_max) {
            keys.problem("min_size", keys.path() + ".min_size is larger than max_size");
        } else if (min) {
            queue.batch_spans_max = std::max(queue.batch_spans_max, queue.batch_spans_min);
        } else {
            queue.batch_spans_min = std::min(queue.batch_spans_min, queue.batch_spans_max);
        }
    }
    keys.replaced("partition", "batches always keep resources apart; remove it");
    keys.finish();
}

void read_queue(Section keys, SendingQueue& queue) {
    keys.whole("num_consumers", queue.num_consumers, 1, 64);
    read_batch(keys.section("batch"), queue);
    const std::string spool =
        "what waits lies in the spool, which is bounded for all exporters "
        "together; set receivers.shm.spool_size instead";
    keys.replaced("queue_size", spool);
    keys.replaced("enabled", "the queue cannot be turned off: " + spool);
    keys.replaced("storage", "the spool survives a restart of oteld by itself; remove it");
    keys.replaced("block_on_overflow",
                  "a full spool stops the draining of rings, and applications "
                  "never block; remove it");
    keys.replaced("wait_for_result", "every span is kept until its result is known; remove it");
    keys.replaced("sizer", "set it under sending_queue.batch");
    keys.finish();
}

void read_file_name(Section& keys, std::string_view key, std::string& target) {
    if (!keys.text(key, target) || target.empty()) return;
    const std::string why = why_unreadable(target);
    if (!why.empty()) {
        keys.problem(key, keys.path() + "." + std::string(key) + ": " + why);
    }
}

void read_tls(Section keys, Tls& tls) {
    keys.boolean("insecure", tls.insecure);
    keys.boolean("insecure_skip_verify", tls.insecure_skip_verify);
    read_file_name(keys, "ca_file", tls.ca_file);
    read_file_name(keys, "cert_file", tls.cert_file);
    read_file_name(keys, "key_file", tls.key_file);
    keys.text("server_name_override", tls.server_name_override);
    if (tls.cert_file.empty() != tls.key_file.empty()) {
        const bool cert = !tls.cert_file.empty();
        keys.problem(cert ? "cert_file" : "key_file",
                     keys.path() + (cert ? ".cert_file needs key_file beside it"
                                         : ".key_file needs cert_file beside it"));
    }
    for (const char* part : {"ca", "cert", "key"}) {
        const std::string name(part);
        keys.replaced(name + "_pem",
                      "put the PEM text into a file and name it with " + name + "_file");
    }
    keys.replaced("min_version",
                  "the TLS library's own oldest version holds (1.2 on Debian 12); "
                  "remove it");
    keys.replaced("max_version", "the newest version that both sides know is used; remove it");
    keys.replaced("cipher_suites", "the TLS library's own choice is used; remove it");
    keys.replaced("curve_preferences", "the TLS library's own choice is used; remove it");
    keys.replaced("reload_interval",
                  "certificates are read when oteld starts: restart it after "
                  "they have changed, and remove this key");
    keys.replaced("include_system_ca_certs_pool",
                  "without ca_file the system's certificates are "
                  "used, with ca_file that file alone");
    keys.replaced("tpm", "keys are read from key_file only");
    keys.finish();
}

void read_headers(Section& exporter, Otlp& otlp, Report& report) {
    const YamlNode* node = exporter.find("headers");
    const std::string path = exporter.path() + ".headers";
    if (node == nullptr) return;
    if (node->kind != YamlNode::Kind::map) {
        report.problem(node->place, path + " must be a map of names and values (name: value)");
        return;
    }
    for (const Member& member : node->members) {
        if (member.value.kind == YamlNode::Kind::sequence ||
            member.value.kind == YamlNode::Kind::map) {
            report.problem(member.value.place, path + "." + member.key + " must be text");
            continue;
        }
        auto header = checked_header(member.key, member.value.text);
        if (!header) {
            report.problem(member.place, path + ": " + header.error().message);
        } else if (member.value.kind == YamlNode::Kind::scalar && !member.value.text.empty()) {
            otlp.headers.push_back(std::move(*header));
        } else {
            report.warning(member.place, path + "." + member.key + " is empty and is not sent");
        }
    }
}

void read_compression(Section& keys, Otlp& otlp) {
    const auto chosen = keys.word("compression", {"none", "gzip"});
    if (chosen) otlp.compression = chosen == 1 ? Compression::gzip : Compression::none;
    keys.replaced("compression_params", "gzip's level is fixed; remove it");
}

// tls keys that have no effect with the endpoint as it is: said, because they look as if they had.
void note_idle_tls(Section& keys, const Otlp& otlp, const Endpoint& endpoint) {
    const Tls& tls = otlp.tls;
    const bool files = !tls.ca_file.empty() || !tls.cert_file.empty();
    if (!otlp.secure && (files || tls.insecure_skip_verify)) {
        keys.warning("tls", keys.path() + ".tls is not used: the connection to " + otlp.endpoint +
                                " is plain text");
    } else if (otlp.secure && endpoint.scheme_decided && tls.insecure) {
        keys.warning("tls", keys.path() + ".tls.insecure is not used: https decides");
    } else if (otlp.secure && tls.insecure_skip_verify) {
        keys.warning("tls", keys.path() +
                                ".tls.insecure_skip_verify accepts any certificate: "
                                "whoever sits in between can read the spans");
    }
}

void take_endpoint(Section& keys, std::string_view key, const Result<Endpoint>& parsed,
                   Otlp& otlp) {
    const std::string name = keys.path() + "." + std::string(key);
    if (!parsed) {
        keys.problem(key, name + ": " + parsed.error().message);
        return;
    }
    otlp.endpoint = parsed->target;
    otlp.secure = parsed->secure;
    if (!parsed->warning.empty()) keys.warning(key, name + ": " + parsed->warning);
    note_idle_tls(keys, otlp, *parsed);
}

void read_endpoint(Section& keys, bool grpc, Otlp& otlp) {
    std::string endpoint;
    std::string traces_endpoint;
    const bool given = keys.text("endpoint", endpoint);
    if (grpc) {
        if (given) {
            take_endpoint(keys, "endpoint", parse_grpc_endpoint(endpoint, otlp.tls.insecure), otlp);
        } else {
            keys.missing("endpoint", keys.path() +
                                         " needs an endpoint, such as localhost:4317 or "
                                         "https://collector:4317");
        }
        keys.replaced("traces_endpoint", "gRPC has one endpoint for all; write it as endpoint");
        return;
    }
    if (keys.text("traces_endpoint", traces_endpoint)) {
        take_endpoint(keys, "traces_endpoint",
                      parse_http_endpoint(traces_endpoint, HttpUrl::traces), otlp);
    } else if (given) {
        take_endpoint(keys, "endpoint", parse_http_endpoint(endpoint, HttpUrl::base), otlp);
    } else {
        keys.missing("endpoint", keys.path() + " needs an endpoint, such as http://localhost:4318");
    }
}

void replaced_otlp_keys(Section& keys, bool grpc) {
    const std::string fixed = "it cannot be changed here; remove it";
    keys.replaced("auth",
                  "put the credential under headers, for example "
                  "authorization: Bearer ${env:TOKEN}");
    for (const char* key :
         {"read_buffer_size", "write_buffer_size", "keepalive", "balancer_name", "wait_for_ready",
          "max_idle_conns", "max_idle_conns_per_host", "max_conns_per_host", "idle_conn_timeout",
          "disable_keep_alives", "http2_read_idle_timeout", "http2_ping_timeout", "cookies",
          "force_attempt_http2", "middlewares"}) {
        keys.replaced(key, fixed);
    }
    keys.replaced("authority", "write the server's name as tls.server_name_override");
    keys.replaced("proxy_url", "set the variable https_proxy (or http_proxy) for oteld instead");
    for (const char* key : {"metrics_endpoint", "logs_endpoint", "profiles_endpoint"}) {
        keys.replaced(key, "oteld carries traces only; remove it");
    }
    if (!grpc && keys.word("encoding", {"proto", "json"}) == 1) {
        keys.problem("encoding", keys.path() +
                                     ".encoding: spans are sent as protobuf only; "
                                     "remove it");
    }
}

Otlp read_otlp(Section& keys, bool grpc, Report& report) {
    Otlp otlp;
    read_tls(keys.section("tls"), otlp.tls);
    read_endpoint(keys, grpc, otlp);
    read_headers(keys, otlp, report);
    read_compression(keys, otlp);
    keys.duration("timeout", otlp.timeout, no_time, day);
    if (otlp.timeout == no_time) otlp.timeout = day;  // "No limit" for people; never for ever.
    keys.size("max_request_size", otlp.request_bytes_max, 64 * kib, gib);
    keys.size("max_response_size", otlp.response_bytes_max, kib, gib);
    replaced_otlp_keys(keys, grpc);
    return otlp;
}

Debug read_debug(Section& keys) {
    Debug debug;
    const auto chosen = keys.word("verbosity", {"basic", "normal", "detailed"});
    if (chosen) debug.verbosity = static_cast<Debug::Verbosity>(*chosen);
    for (const char* key : {"sampling_initial", "sampling_thereafter"}) {
        keys.replaced(key, "every span is printed; remove it");
    }
    keys.replaced("use_internal_logger", "spans go to standard output; remove it");
    keys.replaced("output_paths", "spans go to standard output; take the file exporter for a file");
    return debug;
}

void check_absolute(Section& keys, std::string_view key, const std::string& path) {
    if (path.empty() || path.starts_with('/')) return;
    keys.problem(key, keys.path() + "." + std::string(key) + " must be an absolute path, not " +
                          quoted(path));
}

void read_rotation(Section& exporter, File& file) {
    // The Collector's defaults, which count once the key is there, even with nothing behind it.
    if (exporter.has("rotation")) file.rotation_bytes_max = 100 * mib;
    Section keys = exporter.section("rotation");
    std::uint32_t megabytes = 0;
    if (keys.whole("max_megabytes", megabytes, 1, 1'000'000)) {
        file.rotation_bytes_max = megabytes * mib;
    }
    keys.whole("max_backups", file.rotation_backups_max, 1, 100'000);
    keys.replaced("max_days", "old files are removed by number only; set max_backups");
    keys.replaced("localtime", "remove it");
    keys.finish();
}

File read_file_exporter(Section& keys) {
    File file;
    if (!keys.text("path", file.path) || file.path.empty()) {
        keys.missing("path", keys.path() +
                                 " needs a path, such as /var/lib/oteld/spans.jsonl or "
                                 "- for standard output");
    } else if (file.path != "-") {
        check_absolute(keys, "path", file.path);
    }
    read_rotation(keys, file);
    if (keys.word("format", {"json", "proto"}) == 1) {
        keys.problem("format", keys.path() + ".format: lines of OTLP JSON only; remove it");
    }
    keys.replaced("compression", "files are not compressed; remove it");
    keys.replaced("append", "lines are always appended; remove it");
    keys.replaced("flush_interval", "each batch is written at once; remove it");
    keys.replaced("encoding", "lines of OTLP JSON only; remove it");
    keys.replaced("group_by", "one file takes all spans; remove it");
    keys.replaced("create_directory", "make the directory beforehand; remove this key");
    return file;
}

TraceStore read_trace_store(Section& keys) {
    TraceStore store;
    keys.text("path", store.path);
    check_absolute(keys, "path", store.path);
    keys.size("max_size", store.bytes_max, mib, 1024 * gib);
    milliseconds age = store.age_max;
    if (keys.duration("max_age", age, std::chrono::minutes(1), 3650 * day)) {
        store.age_max = std::chrono::duration_cast<std::chrono::seconds>(age);
    }
    return store;
}

}  // namespace

const std::vector<std::string_view>& exporter_types() {
    static const std::vector<std::string_view> types = [] {
        std::vector<std::string_view> made;
        for (const Name& name : names) made.push_back(name.type);
        return made;
    }();
    return types;
}

std::optional<Kind> exporter_kind(std::string_view type) {
    for (const Name& name : names) {
        if (name.type == type) return name.kind;
    }
    return std::nullopt;
}

ExporterSettings read_exporter(const Member& member, Kind kind, Report& report) {
    ExporterSettings settings;
    settings.name = member.key;
    settings.kind = kind;
    Section keys(&member.value, "exporters." + member.key, report);
    switch (kind) {
        case Kind::otlp_grpc:
        case Kind::otlp_http:
            settings.what = read_otlp(keys, kind == Kind::otlp_grpc, report);
            break;
        case Kind::debug: settings.what = read_debug(keys); break;
        case Kind::file: settings.what = read_file_exporter(keys); break;
        case Kind::trace_store: settings.what = read_trace_store(keys); break;
        case Kind::nop: settings.what = Null{}; break;
    }
    settings.retry = default_retry(kind);
    read_retry(keys.section("retry_on_failure"), settings.retry);
    read_queue(keys.section("sending_queue"), settings.queue);
    keys.finish();
    return settings;
}

Shm read_shm(const Member& member, Report& report) {
    Shm shm;
    Section keys(&member.value, "receivers." + member.key, report);
    keys.text("directory", shm.directory);
    check_absolute(keys, "directory", shm.directory);
    keys.size("spool_size", shm.spool_bytes, 4 * mib, 4 * gib);
    keys.size("user_bytes_max", shm.user_bytes_max, mib, 1024 * gib);
    keys.whole("user_files_max", shm.user_files_max, 1, 1'000'000);
    keys.whole("user_spans_max", shm.user_spans_max, 1000, 1'000'000'000);
    keys.boolean("recording", shm.recording);
    keys.finish();
    return shm;
}

}  // namespace oteld::config
