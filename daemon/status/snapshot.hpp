// What `oteld status` knows: plain facts that the daemon fills each second.
//
// Used by: daemon.cpp (fills the raw counts), observer.hpp (adds rates, recent losses and the
// verdict), json.hpp, render.hpp. Threads: values; built and read on one thread at a time. Never
// holds span content: the page made from it is readable by every user of the machine.
//
// Counts are of spans since the application started unless the name says otherwise. Times are Unix
// nanoseconds, 0: never. Texts are sentences for people; text from applications and backends is
// cleaned by json.cpp before anybody sees it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace oteld::status {

using Counts =
    std::map<std::string, std::uint64_t>;  // reason -> spans; a reason with 0 spans is left out

// The first two are the daemon's to say, the others are found by who reads its page.
enum class Verdict : std::uint8_t { healthy, degraded, not_running, cannot_tell };

enum class Phase : std::uint8_t { starting, running, stopping, stopped };

// What became of one application's spans on the way to one exporter.
struct ExporterShare {
    std::string name;
    Counts filtered;              // by rule
    std::uint64_t in_daemon = 0;  // in the spool, not settled
    std::uint64_t delivered = 0;
    Counts rejected;  // by exporters::RejectReason

    bool operator==(const ExporterShare&) const = default;
};

enum class Life : std::uint8_t {
    alive,
    ended,    // With nothing open or lost: finished normally, or killed between two spans.
    crashed,  // Killed, or it crashed, or it left spans open: some were recovered or lost.
    merged,   // several ended processes of one service in one row
};

struct Application {
    std::string
        id;  // Unique among rows and stable: the process id of the segment and the resource index.
    std::string service;        // service.name
    std::uint64_t process = 0;  // As the process sees its own pid; 0 when merged.
    std::uint32_t uid = 0;      // Owner of its ring files.
    std::string executable;
    Life life = Life::alive;
    std::int64_t since_ns = 0;      // First seen.
    std::int64_t last_seen_ns = 0;  // Last span drained, or death seen.

    std::uint64_t started = 0;
    std::uint64_t unsampled = 0;
    std::uint64_t open = 0;
    std::uint64_t lost = 0;  // with the process
    Counts dropped;  // shm::DropReason by name, and "malformed": records that the daemon refused.
    std::uint64_t in_ring = 0;  // finished, not drained

    // Not terms of the balance: these spans are counted in the stage that they reached.
    std::uint64_t recovered_open = 0;  // open at the death of the process, exported as unfinished
    std::uint64_t not_crash_visible = 0;  // outgrew their slot and lived on the heap
    std::uint64_t skipped_records = 0;    // of a type that this daemon does not know: not spans

    std::uint64_t ring_bytes = 0;  // lane bytes that it may fill
    std::uint64_t ring_used = 0;   // of these, written and not drained

    std::vector<ExporterShare> exporters;

    // Filled by the observer.
    double spans_per_s = 0;           // started, over the last 10 s
    std::uint64_t lost_recently = 0;  // dropped or lost with it in the last minute

    bool operator==(const Application&) const = default;
};

// started - everything accounted for. 0 when nothing moves; while spans flow it may be off by what
// moved between two reads of counters.
[[nodiscard]] std::int64_t balance(const Application& application,
                                   const ExporterShare& share) noexcept;
[[nodiscard]] std::uint64_t sum(const Counts& counts) noexcept;

enum class ExporterState : std::uint8_t {
    idle,       // has sent nothing yet
    ok,         // the last request was delivered
    retrying,   // the destination is away or busy: spans wait
    rejecting,  // the last request was refused for good: spans were lost
    failed,     // could not be started
};

struct Exporter {
    std::string name;         // component id, e.g. otlp_grpc/tempo
    std::string kind;         // otlp_grpc, otlp_http, debug, file, trace_store, nop
    std::string destination;  // endpoint or path, without secrets
    ExporterState state = ExporterState::idle;
    std::string words;  // the state in words: "503, Retry-After 30 s"
    std::int64_t last_ok_ns = 0;
    std::int64_t failing_since_ns = 0;  // 0 when ok
    std::uint64_t attempts = 0;         // of the request under way
    std::string last_error;
    std::uint64_t errors = 0;  // failed requests since start
    std::uint64_t queue_spans = 0;
    std::uint64_t queue_bytes = 0;
    std::uint64_t requests = 0;         // sent since start
    std::uint64_t sent_bytes = 0;       // of requests, compressed
    std::uint64_t delivered = 0;        // since start of the daemon
    Counts rejected;                    // since start of the daemon
    std::vector<std::string> warnings;  // what a backend warned of, settings that do not fit, ...

    // Filled by the observer.
    double delivered_per_s = 0;           // over the last 10 s
    std::uint64_t rejected_recently = 0;  // in the last minute

    bool operator==(const Exporter&) const = default;
};

struct Spool {
    std::uint64_t bytes = 0;   // bound
    std::uint64_t used = 0;    // blocks in use
    std::uint64_t blocks = 0;  // in use
    std::uint64_t blocks_max = 0;
    bool full = false;              // draining has stopped until an exporter settles
    bool file_system_full = false;  // it found no memory, or none but the block that it holds

    bool operator==(const Spool&) const = default;
};

struct NamedFile {
    std::string name;  // file name in the ring directory
    std::string why;

    bool operator==(const NamedFile&) const = default;
};

struct Rings {
    std::uint64_t segments = 0;
    std::uint64_t lanes = 0;  // claimed
    std::uint64_t bytes = 0;  // of all segments
    // SIGBUS survived since the daemon's start: files cut short under it. At most two a file.
    std::uint64_t bus_errors = 0;
    std::vector<NamedFile> quarantined;  // corrupt: not drained any more
    std::vector<NamedFile>
        refused;  // a layout of the future, no permission, a foreign owner, above a cap

    bool operator==(const Rings&) const = default;
};

// Since the daemon's start.
struct Clocks {
    std::uint64_t jumps = 0;          // Counter and CLOCK_MONOTONIC parted: suspend, migration.
    std::uint64_t steps = 0;          // The wall clock was set.
    std::uint64_t times_clamped = 0;  // Outside the life of their process: moved to its nearer end.
    bool operator==(const Clocks&) const = default;
};

struct Directory {
    std::string path;
    bool tmpfs = true;
    bool setgid = true;
    std::uint32_t mode = 0;  // permission bits
    std::uint64_t free_bytes = 0;
    std::vector<std::string>
        consequences;   // what a mode 0600, a directory on disk, ... means for the user
    bool full = false;  // no ring is made any more

    bool operator==(const Directory&) const = default;
};

struct Resources {
    std::uint64_t rss_bytes =
        0;  // the daemon's own: anonymous and file pages, without applications' rings
    std::uint64_t shared_bytes = 0;  // shared memory mapped: rings and spool
    double cpu_share = 0;            // of one core, since the last snapshot
    double cpu_seconds = 0;          // since start
    std::uint64_t fds = 0;
    std::uint64_t threads = 0;

    bool operator==(const Resources&) const = default;
};

struct LastError {
    std::int64_t time_ns = 0;
    std::string who;  // exporter, "spool", "rings", ...
    std::string text;
    std::uint64_t count = 1;  // the same text in a row

    bool operator==(const LastError&) const = default;
};

struct Snapshot {
    std::string version;
    std::uint64_t pid = 0;
    std::int64_t started_ns = 0;
    std::string config_source;  // file, "environment" or "embedded default"
    bool recording = true;      // false: the configuration has turned recording off
    Phase phase = Phase::running;
    std::string last_words;  // at the end: what stayed undelivered and where
    Verdict verdict = Verdict::healthy;
    std::vector<std::string> reasons;

    std::vector<Application> applications;
    std::vector<Exporter> exporters;
    Spool spool;
    Rings rings;
    Clocks clocks;
    Directory directory;
    Resources resources;
    std::vector<LastError> last_errors;  // newest first, bounded by who fills it
    std::vector<std::string> notes;

    bool operator==(const Snapshot&) const = default;
};

}  // namespace oteld::status
