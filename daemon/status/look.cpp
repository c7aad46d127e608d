#include "daemon/status/look.hpp"

#include <fmt/format.h>

#include <ctime>
#include <utility>

#include "daemon/status/json.hpp"
#include "daemon/status/page.hpp"
#include "daemon/status/words.hpp"
#include "shm/ring_directory.hpp"

namespace oteld::status {
namespace {

std::int64_t realtime_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

Look without_page(Verdict verdict, std::string reason) {
    Look look;
    look.now_ns = realtime_ns();
    look.snapshot.verdict = verdict;
    look.snapshot.reasons.push_back(std::move(reason));
    return look;
}

std::string pid_words(std::uint64_t pid) { return pid == 0 ? "" : fmt::format(" (pid {})", pid); }

Look page_failed(const Error& error, const std::string& directory, bool locked,
                 std::uint64_t lock_pid) {
    if (error.code != ErrorCode::not_found) {
        return without_page(
            Verdict::cannot_tell,
            locked ? error.message : error.message + ". No oteld serves this directory now");
    }
    if (locked) {
        return without_page(
            Verdict::cannot_tell,
            fmt::format(
                "oteld{} serves {} but has written no status page: it is starting, or there is "
                "no room; look again, then see its log",
                pid_words(lock_pid), directory));
    }
    return without_page(
        Verdict::not_running,
        fmt::format(
            "no oteld serves {}; start it with `oteld run` or `systemctl start oteld`, or name "
            "its directory with --dir or OTELD_DIR",
            directory));
}

std::string how_it_ended(const Snapshot& snapshot, const Signs& signs) {
    const std::string when = fmt::format("{} ({})", clock_words(signs.heartbeat_ns, signs.now_ns),
                                         ago_words(signs.heartbeat_ns, signs.now_ns));
    const std::string boot = signs.other_boot ? ", before this machine was started" : "";
    if (snapshot.phase == Phase::stopped) {
        return fmt::format(
            "it was stopped at {}{}; below is what it said last. `oteld run` starts it", when,
            boot);
    }
    return fmt::format(
        "it died at {}{} without a word: killed, or it crashed (see its log). Spans in rings and "
        "spool wait for the next "
        "`oteld run`; below is what it said last",
        when, boot);
}

}  // namespace

int exit_code(Verdict verdict) noexcept {
    switch (verdict) {
        case Verdict::healthy: return 0;
        case Verdict::degraded: return 1;
        case Verdict::not_running: return 3;
        case Verdict::cannot_tell: return 4;
    }
    return 4;
}

void judge_from_outside(Snapshot& snapshot, const Signs& signs) {
    std::vector<std::string> reasons;
    if (!signs.locked) {
        snapshot.verdict = Verdict::not_running;
        reasons.push_back(how_it_ended(snapshot, signs));
    } else if (signs.other_boot || (signs.lock_pid != 0 && signs.lock_pid != signs.page_pid)) {
        snapshot.verdict = Verdict::cannot_tell;
        reasons.push_back(fmt::format(
            "oteld{} is starting: the status page is still its predecessor's; look again",
            pid_words(signs.lock_pid)));
    } else if (signs.heartbeat_age_ns >= page_hangs_after_ns) {
        snapshot.verdict = Verdict::degraded;
        reasons.push_back(
            fmt::format("oteld HANGS: its last heartbeat came {} ago, one is due each second; what "
                        "follows is from then. Restarting "
                        "it loses nothing: spans wait in rings and spool",
                        duration_words(signs.heartbeat_age_ns)));
    } else if (signs.documents_unwritten != 0) {
        snapshot.verdict = Verdict::degraded;
        reasons.push_back(fmt::format(
            "{} is full: the status page could not be written again; what follows is from {}",
            snapshot.directory.path, ago_words(signs.document_ns, signs.now_ns)));
    }
    snapshot.reasons.insert(snapshot.reasons.begin(), reasons.begin(), reasons.end());
}

Look look_at_daemon(const std::string& configured) {
    const auto directory = shm::open_ring_directory(configured, shm::DirectoryUse::inspect);
    if (!directory) {
        const bool absent = directory.error().code == ErrorCode::not_found;
        return without_page(absent ? Verdict::not_running : Verdict::cannot_tell,
                            directory.error().message);
    }
    const auto holder = shm::directory_lock_holder(*directory);
    const auto lock_pid = holder ? static_cast<std::uint64_t>(holder->pid) : 0;
    const auto page = read_page(directory->path);
    if (!page) return page_failed(page.error(), directory->path, holder.has_value(), lock_pid);
    auto snapshot = from_json(page->document);
    if (!snapshot)
        return without_page(Verdict::cannot_tell,
                            directory->path + ": " + snapshot.error().message);

    Look look{std::move(*snapshot), realtime_ns()};
    Signs signs;
    signs.locked = holder.has_value();
    signs.lock_pid = lock_pid;
    signs.page_pid = page->pid;
    signs.now_ns = look.now_ns;
    signs.heartbeat_ns = page->heartbeat_ns;
    signs.heartbeat_age_ns = page->heartbeat_age_ns;
    signs.document_ns = page->document_ns;
    signs.documents_unwritten = page->documents_unwritten;
    signs.other_boot = page->other_boot;
    judge_from_outside(look.snapshot, signs);
    if (look.snapshot.verdict == Verdict::not_running) look.now_ns = page->heartbeat_ns;
    return look;
}

}  // namespace oteld::status
