// Checked settings: what validate() returned and what components take. Never a raw string a person
// typed.
//
// Used by: daemon/pipeline.cpp, exporters. Threads: immutable after loading.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace oteld::config {

using std::chrono::milliseconds;

struct Tls {
    bool insecure = false;  // Plain text. The scheme of the endpoint beats it.
    bool insecure_skip_verify = false;
    std::string ca_file;    // Empty: the system's.
    std::string cert_file;  // With key_file: mTLS.
    std::string key_file;
    std::string server_name_override;
};

struct Retry {  // The Collector's retry_on_failure.
    bool enabled = true;
    milliseconds initial_interval{5000};
    milliseconds max_interval{30000};
    milliseconds max_elapsed_time{300000};  // 0: for ever.
    double multiplier = 1.5;
    double randomization_factor = 0.5;
};

struct SendingQueue {
    std::uint32_t num_consumers = 1;  // Requests under way at once.
    // sending_queue.batch
    milliseconds flush_timeout{200};
    std::uint32_t batch_spans_min = 8192;  // Sent at once when this many wait.
    std::uint32_t batch_spans_max = 8192;
    // Spans alone. A receiver's usual limit is 4 MiB for the whole request (gRPC's default, which
    // the Collector keeps): resources and scopes need room below it.
    std::uint64_t batch_bytes_max = 3ULL << 20;
};

enum class Compression { none, gzip };

struct Otlp {              // otlp_grpc and otlp_http
    std::string endpoint;  // grpc: host:port or unix:PATH. http: the full URL, path included.
    bool secure = false;   // From scheme and tls.insecure, decided once.
    Tls tls;
    std::vector<std::pair<std::string, std::string>> headers;
    Compression compression = Compression::gzip;
    milliseconds timeout{10000};
    std::uint64_t request_bytes_max = 64ULL << 20;  // Before compression.
    std::uint64_t response_bytes_max = 4ULL << 20;  // After decompression.
    std::string user_agent_prefix;
};

struct Debug {  // Console.
    enum class Verbosity { basic, normal, detailed } verbosity = Verbosity::normal;
};

struct File {                              // OTLP-JSON lines.
    std::string path;                      // "-" or "/dev/stdout": standard output.
    std::uint64_t rotation_bytes_max = 0;  // 0: no rotation.
    std::uint32_t rotation_backups_max = 100;
};

struct TraceStore {    // SQLite.
    std::string path;  // Empty: traces.db in the state directory.
    std::uint64_t bytes_max = 256ULL << 20;
    std::chrono::seconds age_max{72 * 3600};
};

struct Null {  // Takes everything and does nothing: for benchmarks ("nop").
};

struct ExporterSettings {
    std::string name;  // The component id, e.g. "otlp_grpc/tempo". Unique.
    enum class Kind { otlp_grpc, otlp_http, debug, file, trace_store, nop } kind = Kind::debug;
    std::variant<Otlp, Debug, File, TraceStore, Null> what;
    Retry retry;
    SendingQueue queue;
};

// Written on this machine, not sent over a network.
[[nodiscard]] constexpr bool is_local(ExporterSettings::Kind kind) noexcept {
    return kind != ExporterSettings::Kind::otlp_grpc && kind != ExporterSettings::Kind::otlp_http;
}

// Where nothing else is written. A full disk is somebody's to make room on: spans wait for that as
// long as the spool holds them, and giving up would only lose them earlier.
[[nodiscard]] constexpr Retry default_retry(ExporterSettings::Kind kind) noexcept {
    Retry retry;
    if (is_local(kind)) retry.max_elapsed_time = milliseconds(0);
    return retry;
}

struct Shm {                // Receiver.
    std::string directory;  // Empty: $OTELD_DIR, else /run/oteld, else /dev/shm/oteld-<uid>.
    std::uint64_t spool_bytes = 64ULL << 20;
    std::uint64_t user_bytes_max = 256ULL << 20;  // Ring bytes drained per user.
    std::uint32_t user_files_max = 4096;
    std::uint32_t user_spans_max = 1'000'000;  // In the spool, of one user.
    bool recording = true;  // false: the kill switch; applications start no recorded span.
};

struct Settings {
    std::string source;  // The file's path, "environment" or "embedded default": for status.
    Shm shm;
    std::vector<ExporterSettings> exporters;  // Those that the traces pipeline names, in its order.
    std::string state_directory;              // Filled in by the command line, not by the file.
    milliseconds shutdown_deadline{10000};
    std::string log_level = "info";
};

}  // namespace oteld::config
