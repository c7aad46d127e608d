#include "daemon/status_publisher.hpp"

#include "daemon/status/json.hpp"
#include "shm/layout.hpp"

#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace oteld::daemon {
namespace {

constexpr std::int64_t document_interval_max_ns = 10'000'000'000;
constexpr std::size_t last_errors_max = 20;
constexpr std::uint64_t ring_bytes_least = 400 << 10;  // Of a program with one thread.

std::int64_t realtime_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

// For what is measured: the wall clock may be set at any time.
std::int64_t monotonic_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

double seconds_of(const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

std::string kind_name(config::ExporterSettings::Kind kind) {
    using Kind = config::ExporterSettings::Kind;
    switch (kind) {
        case Kind::otlp_grpc: return "otlp_grpc";
        case Kind::otlp_http: return "otlp_http";
        case Kind::debug: return "debug";
        case Kind::file: return "file";
        case Kind::trace_store: return "trace_store";
        case Kind::nop: return "nop";
    }
    return {};
}

// Without what an endpoint may carry in front of its host.
std::string without_user_info(std::string endpoint) {
    const std::size_t scheme = endpoint.find("://");
    const std::size_t begin = scheme == std::string::npos ? 0 : scheme + 3;
    const std::size_t at = endpoint.find('@', begin);
    const std::size_t slash = endpoint.find('/', begin);
    if (at != std::string::npos && (slash == std::string::npos || at < slash))
        endpoint.erase(begin, at + 1 - begin);
    return endpoint;
}

std::string destination_of(const config::ExporterSettings& exporter,
                           const std::string& state_directory) {
    if (const auto* otlp = std::get_if<config::Otlp>(&exporter.what))
        return without_user_info(otlp->endpoint);
    if (const auto* file = std::get_if<config::File>(&exporter.what)) return file->path;
    if (const auto* store = std::get_if<config::TraceStore>(&exporter.what))
        return store->path.empty() ? state_directory + "/traces.db" : store->path;
    if (std::holds_alternative<config::Debug>(exporter.what)) return "standard output";
    return {};
}

status::ExporterState state_of(ExporterFacts::State state) {
    switch (state) {
        case ExporterFacts::State::idle: return status::ExporterState::idle;
        case ExporterFacts::State::ok: return status::ExporterState::ok;
        case ExporterFacts::State::retrying: return status::ExporterState::retrying;
        case ExporterFacts::State::rejecting: return status::ExporterState::rejecting;
    }
    return status::ExporterState::idle;
}

struct ProcessFacts {
    std::uint64_t resident = 0;  // Bytes.
    std::uint64_t shared = 0;
    std::uint64_t threads = 0;
};

// The number in the line that begins with `name`.
std::uint64_t number_in(std::string_view text, std::string_view name) {
    std::size_t at = text.find(name);
    if (at == std::string_view::npos) return 0;
    at = std::min(text.find_first_not_of(" \t", at + name.size()), text.size());
    std::uint64_t number = 0;
    (void)std::from_chars(text.data() + at, text.data() + text.size(), number);
    return number;
}

// statm: size resident shared ..., in pages. Mappings of files and tmpfs both count as shared
// there; RssShmem in /proc/self/status tells them apart.
ProcessFacts facts_of_self() {
    ProcessFacts facts;
    std::ifstream file("/proc/self/status");
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    facts.resident = (number_in(text, "\nRssAnon:") + number_in(text, "\nRssFile:"))
                     << 10;  // In KiB.
    facts.shared = number_in(text, "\nRssShmem:") << 10;
    facts.threads = number_in(text, "\nThreads:");
    return facts;
}

std::uint64_t entries_of(const char* directory) {
    std::error_code error;
    const auto listing = std::filesystem::directory_iterator(directory, error);
    return error ? 0 : static_cast<std::uint64_t>(std::distance(begin(listing), end(listing)));
}

}  // namespace

StatusPublisher::StatusPublisher(const config::Settings& settings,
                                 const shm::DirectoryHandle& directory, const Pipeline& pipeline)
    : settings_(settings), directory_(directory), pipeline_(pipeline), started_ns_(realtime_ns()) {
    auto page = status::StatusPage::create(directory.path);
    if (page) {
        page_.emplace(std::move(*page));
    } else {
        spdlog::warn("`oteld status` will not see this daemon: {}", page.error().message);
    }
}

void StatusPublisher::publish(status::Phase phase, const std::string& last_words) {
    status::Snapshot snapshot = gather(phase, last_words);
    // Everything but what always moves.
    const std::int64_t elapsed = monotonic_ns();
    const bool changed =
        snapshot != last_facts_ || elapsed - last_document_ns_ >= document_interval_max_ns;
    if (changed) {
        last_facts_ = snapshot;
        last_document_ns_ = elapsed;
        fill_resources(snapshot);  // Reads /proc: too dear for a heartbeat.
    }
    observer_.observe(snapshot, realtime_ns(), elapsed);
    line_ = std::string(status::to_string(snapshot.verdict));
    for (const std::string& reason : snapshot.reasons)
        line_ += (line_.find(':') == std::string::npos ? ": " : "; ") + reason;
    if (!page_) return;
    const Result<void> written =
        changed ? page_->publish(status::to_json(snapshot)) : page_->beat();
    if (!written) spdlog::debug("status page: {}", written.error().message);
}

status::Snapshot StatusPublisher::gather(status::Phase phase, const std::string& last_words) const {
    status::Snapshot snapshot;
    if (const auto drained = pipeline_.drain->snapshot()) snapshot = *drained;
    snapshot.version = OTELD_VERSION;
    snapshot.pid = static_cast<std::uint64_t>(::getpid());
    snapshot.started_ns = started_ns_;
    snapshot.config_source = settings_.source;
    snapshot.recording = settings_.shm.recording;
    snapshot.phase = phase;
    snapshot.last_words = last_words;
    fill_exporters(snapshot);
    fill_directory(snapshot);
    return snapshot;
}

void StatusPublisher::fill_exporters(status::Snapshot& snapshot) const {
    for (const auto& worker : pipeline_.workers) {
        const ExporterFacts facts = worker->facts();
        status::Exporter& exporter = snapshot.exporters.emplace_back();
        exporter.name = worker->settings().name;
        exporter.kind = kind_name(worker->settings().kind);
        exporter.destination = destination_of(worker->settings(), settings_.state_directory);
        exporter.state = state_of(facts.state);
        exporter.words = facts.words;
        exporter.last_ok_ns = facts.last_ok_ns;
        exporter.failing_since_ns = facts.failing_since_ns;
        exporter.attempts = facts.attempts;
        exporter.last_error = facts.last_error;
        exporter.errors = facts.errors;
        exporter.queue_spans = facts.queue_spans;
        exporter.queue_bytes = facts.queue_bytes;
        exporter.requests = facts.requests;
        exporter.sent_bytes = facts.sent_bytes;
        exporter.delivered = facts.delivered;
        for (std::size_t i = 0; i < facts.rejected.size(); ++i)
            if (facts.rejected[i] != 0)
                exporter.rejected[std::string(exporters::to_string(
                    static_cast<exporters::RejectReason>(i)))] = facts.rejected[i];
        if (!facts.warning.empty()) exporter.warnings.push_back(facts.warning);
        if (!facts.last_error.empty())
            snapshot.last_errors.push_back(
                {facts.last_error_ns, exporter.name, facts.last_error, facts.errors});
    }
    std::sort(snapshot.last_errors.begin(), snapshot.last_errors.end(),
              [](const auto& a, const auto& b) { return a.time_ns > b.time_ns; });
    if (snapshot.last_errors.size() > last_errors_max) snapshot.last_errors.resize(last_errors_max);
}

void StatusPublisher::fill_directory(status::Snapshot& snapshot) const {
    status::Directory& directory = snapshot.directory;
    directory.path = directory_.path;
    directory.tmpfs = directory_.tmpfs;
    directory.setgid = (directory_.mode & 02000) != 0;
    directory.mode = directory_.mode;
    struct statvfs space {};
    if (::fstatvfs(directory_.fd.get(), &space) == 0) {
        // In steps of a MiB: less is no news.
        const std::uint64_t free = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
        directory.free_bytes = free >> 20 << 20;
        const std::uint64_t all = static_cast<std::uint64_t>(space.f_blocks) * space.f_frsize;
        directory.full = all != 0 && free < ring_bytes_least +
                                                shm::bytes_left_free(all, shm::daemon_bytes_first);
    }
    if (!directory_.warning.empty()) directory.consequences.push_back(directory_.warning);
}

void StatusPublisher::fill_resources(status::Snapshot& snapshot) const {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const double cpu = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
    const std::int64_t now = monotonic_ns();
    status::Resources& resources = snapshot.resources;
    resources.cpu_seconds = cpu;
    if (last_cpu_ns_ != 0 && now > last_cpu_ns_)
        resources.cpu_share =
            (cpu - last_cpu_seconds_) * 1e9 / static_cast<double>(now - last_cpu_ns_);
    last_cpu_seconds_ = cpu;
    last_cpu_ns_ = now;
    const ProcessFacts facts = facts_of_self();
    resources.rss_bytes = facts.resident;
    resources.shared_bytes = facts.shared;
    resources.threads = facts.threads;
    resources.fds = entries_of("/proc/self/fd");
}

}  // namespace oteld::daemon
