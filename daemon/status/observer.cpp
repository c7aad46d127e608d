#include "daemon/status/observer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "daemon/status/words.hpp"

namespace oteld::status {
namespace {

constexpr std::int64_t rate_window_ns = 10'000'000'000;
constexpr std::int64_t loss_window_ns = 60'000'000'000;
constexpr std::size_t named_max =
    3;  // Reasons of one kind that are spelled out; the rest is a number.

constexpr std::string_view recording_off_words =
    "recording is turned off by configuration (receivers: shm: recording): applications record "
    "nothing";

struct Advice {
    std::string_view reason;
    std::string_view what;
};

// What a person can do about a reason of loss.
constexpr Advice advice[] = {
    {"ring_full",
     "its rings were full and could not grow: it writes faster than oteld drains, or draining has "
     "stopped"},
    {"too_large", "spans did not fit a lane even without attributes"},
    {"no_memory", "the process was out of memory"},
    {"reentrant", "a signal handler recorded while its thread was inside the client"},
    {"orphaned", "spans were ended after a fork or after they had been recovered"},
    {"no_lane", "a thread found no lane: the ring directory is full or a limit was reached"},
    {"reclaimed",
     "no oteld drained its rings, and they were removed to make room for newer ones: keep it "
     "running, or enlarge the ring directory"},
    {"malformed", "records were damaged: the program may be writing over its memory"},
};

std::string_view why_dropped(const Counts& dropped) {
    const auto most =
        std::max_element(dropped.begin(), dropped.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most == dropped.end() || most->second == 0) return "open spans died with the process";
    for (const Advice& entry : advice) {
        if (entry.reason == most->first) return entry.what;
    }
    return most->first;
}

std::string application_name(const Application& application) {
    if (application.process == 0) return application.service;
    return fmt::format("{} (pid {})", application.service, application.process);
}

std::string waiting_words(const Exporter& exporter) {
    return exporter.queue_spans == 0 ? ""
                                     : fmt::format("; {} wait", spans_words(exporter.queue_spans));
}

void judge_exporter(const Exporter& exporter, std::int64_t now_ns,
                    std::vector<std::string>& reasons) {
    const std::string why = exporter.words.empty() ? exporter.last_error : exporter.words;
    const std::string since = exporter.failing_since_ns == 0
                                  ? ""
                                  : " for " + duration_words(now_ns - exporter.failing_since_ns);
    switch (exporter.state) {
        case ExporterState::idle:
        case ExporterState::ok: break;
        case ExporterState::retrying:
            reasons.push_back(fmt::format("exporter {} has been retrying{}: {}{}", exporter.name,
                                          since, why, waiting_words(exporter)));
            return;
        case ExporterState::rejecting:
            reasons.push_back(fmt::format(
                "exporter {} loses spans, its destination refuses them: {}", exporter.name, why));
            return;
        case ExporterState::failed:
            reasons.push_back(fmt::format("exporter {} does not run: {}{}", exporter.name, why,
                                          waiting_words(exporter)));
            return;
    }
    if (exporter.rejected_recently != 0) {
        reasons.push_back(fmt::format("exporter {} rejected {} in the last minute: {}",
                                      exporter.name, spans_words(exporter.rejected_recently),
                                      exporter.last_error));
    }
}

void judge_applications(const Snapshot& snapshot, std::vector<std::string>& reasons) {
    std::size_t named = 0;
    std::size_t unnamed = 0;
    for (const Application& application : snapshot.applications) {
        if (application.lost_recently == 0) continue;
        if (++named > named_max) {
            ++unnamed;
            continue;
        }
        reasons.push_back(
            fmt::format("{} lost {} in the last minute: {}", application_name(application),
                        spans_words(application.lost_recently), why_dropped(application.dropped)));
    }
    if (unnamed != 0)
        reasons.push_back(
            fmt::format("{} lost spans too", count_words(unnamed, "more application")));
}

void judge_files(const std::vector<NamedFile>& files, std::string_view what,
                 std::vector<std::string>& reasons) {
    if (files.empty()) return;
    const std::string more =
        files.size() == 1 ? "" : fmt::format(" (and {} more)", files.size() - 1);
    reasons.push_back(
        fmt::format("ring file {} is {}: {}{}", files.front().name, what, files.front().why, more));
}

void judge_room(Snapshot& snapshot) {
    const std::string& directory = snapshot.directory.path;
    if (snapshot.directory.full || snapshot.spool.file_system_full) {
        snapshot.reasons.push_back(fmt::format(
            "the file system of {} is full: programs that start now are not recorded, and rings "
            "and spool do not grow; make room there, or enlarge it (mount -o remount,size=)",
            directory));
    }
    if (snapshot.spool.full) {
        const std::string size = snapshot.spool.file_system_full
                                     ? "as large as the file system lets it be"
                                     : bytes_words(snapshot.spool.bytes);
        snapshot.reasons.push_back(
            fmt::format("the spool is full ({}): draining has stopped until an exporter delivers; "
                        "rings fill up, then spans are dropped",
                        size));
    }
}

}  // namespace

void judge(Snapshot& snapshot, std::int64_t now_ns) {
    snapshot.reasons.clear();
    for (const Exporter& exporter : snapshot.exporters)
        judge_exporter(exporter, now_ns, snapshot.reasons);
    judge_room(snapshot);
    judge_applications(snapshot, snapshot.reasons);
    judge_files(snapshot.rings.quarantined, "damaged and not drained any more", snapshot.reasons);
    judge_files(snapshot.rings.refused, "not drained", snapshot.reasons);
    snapshot.verdict = snapshot.reasons.empty() ? Verdict::healthy : Verdict::degraded;
    // Meant, so nothing is wrong; but who misses spans has to read it first.
    if (!snapshot.recording)
        snapshot.reasons.insert(snapshot.reasons.begin(), std::string(recording_off_words));
}

void Observer::observe(Snapshot& snapshot, std::int64_t now_ns, std::int64_t elapsed_ns) {
    std::map<std::string, Series> applications;
    for (Application& application : snapshot.applications) {
        Series& series = applications[application.id] = std::move(applications_[application.id]);
        // A young application has lost nothing before its first second: what it lost in it is
        // recent.
        const bool young =
            application.since_ns > now_ns - loss_window_ns && application.since_ns < now_ns;
        if (series.empty() && young)
            series.push_back({elapsed_ns - (now_ns - application.since_ns), 0, 0});
        const std::uint64_t loss = sum(application.dropped) + application.lost;
        const Change change = follow(series, {elapsed_ns, application.started, loss});
        application.spans_per_s = change.flow_per_s;
        application.lost_recently = change.loss;
    }
    applications_ = std::move(applications);

    std::map<std::string, Series> exporters;
    for (Exporter& exporter : snapshot.exporters) {
        Series& series = exporters[exporter.name] = std::move(exporters_[exporter.name]);
        const Change change =
            follow(series, {elapsed_ns, exporter.delivered, sum(exporter.rejected)});
        exporter.delivered_per_s = change.flow_per_s;
        exporter.rejected_recently = change.loss;
    }
    exporters_ = std::move(exporters);
    judge(snapshot, now_ns);
}

// The series keeps one sample from before the window, so that a window is never cut short.
Observer::Change Observer::follow(Series& series, const Sample& now) {
    series.push_back(now);
    while (series.size() > 2 && series[1].time_ns <= now.time_ns - loss_window_ns)
        series.pop_front();
    const Sample* rate_from = &series.front();
    for (const Sample& sample : series) {
        if (sample.time_ns <= now.time_ns - rate_window_ns) rate_from = &sample;
    }
    const auto seconds = static_cast<double>(now.time_ns - rate_from->time_ns) / 1e9;
    const std::uint64_t flow = now.flow < rate_from->flow ? 0 : now.flow - rate_from->flow;
    const std::uint64_t loss = now.loss < series.front().loss ? 0 : now.loss - series.front().loss;
    return {seconds <= 0 ? 0 : static_cast<double>(flow) / seconds, loss};
}

}  // namespace oteld::status
