#include "daemon/status/page.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <string>
#include <thread>

#include "daemon/status/json.hpp"
#include "daemon/status/look.hpp"
#include "shm/ring_directory.hpp"
#include "tests/unit/daemon/fake_segment.hpp"

namespace oteld::status {
namespace {

using test::TemporaryDirectory;

std::string page_path(const TemporaryDirectory& directory) { return directory.path + "/status"; }

// Overwrites bytes of the file behind the writer's back.
void scribble(const TemporaryDirectory& directory, std::uint64_t offset, const std::string& bytes) {
    const int fd = open(page_path(directory).c_str(), O_WRONLY);
    REQUIRE(fd >= 0);
    REQUIRE(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(bytes.size()));
    close(fd);
}

StatusPage make_page(const TemporaryDirectory& directory) {
    auto page = StatusPage::create(directory.path);
    REQUIRE(page);
    return std::move(*page);
}

bool contains(const std::vector<std::string>& texts, const std::string& part) {
    for (const std::string& text : texts) {
        if (text.find(part) != std::string::npos) return true;
    }
    return false;
}

TEST_CASE("what was published last is read, from either half") {
    const TemporaryDirectory directory;
    StatusPage page = make_page(directory);
    for (const std::string document : {"first", "the second, longer", "", "fourth"}) {
        REQUIRE(page.publish(document));
        const auto view = read_page(directory.path);
        REQUIRE(view);
        CHECK(view->document == document);
        CHECK(view->pid == static_cast<std::uint32_t>(getpid()));
        CHECK_FALSE(view->other_boot);
        CHECK(view->documents_unwritten == 0);
    }
}

TEST_CASE("a beat moves the heartbeat and leaves the document") {
    const TemporaryDirectory directory;
    StatusPage page = make_page(directory);
    REQUIRE(page.publish("words"));
    const auto before = read_page(directory.path);
    REQUIRE(page.beat());
    const auto after = read_page(directory.path);
    REQUIRE(before);
    REQUIRE(after);
    CHECK(after->document == "words");
    CHECK(after->document_ns == before->document_ns);
    CHECK(after->heartbeat_ns > before->heartbeat_ns);
}

TEST_CASE("the last words stay when the writer is gone and until its successor has spoken") {
    const TemporaryDirectory directory;
    { REQUIRE(make_page(directory).publish("last words")); }
    StatusPage successor = make_page(directory);
    CHECK(read_page(directory.path)->document == "last words");
    REQUIRE(successor.publish("new"));
    CHECK(read_page(directory.path)->document == "new");
}

TEST_CASE("a page that was never published leaves no file") {
    const TemporaryDirectory directory;
    { const StatusPage page = make_page(directory); }
    CHECK(std::filesystem::is_empty(directory.path));
    CHECK(read_page(directory.path).error().code == ErrorCode::not_found);
}

TEST_CASE("the page is readable by everybody and writable by its owner, whatever the umask") {
    const TemporaryDirectory directory;
    const mode_t before = umask(0077);
    StatusPage page = make_page(directory);
    umask(before);
    REQUIRE(page.publish("x"));
    struct stat info {};
    REQUIRE(stat(page_path(directory).c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0644);
}

TEST_CASE("a document without room leaves the previous one whole and is counted") {
    const TemporaryDirectory directory;
    StatusPage page = make_page(directory);
    REQUIRE(page.publish("small"));
    const auto refused = page.publish(std::string(page_half_bytes + 1, 'x'));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::full);
    auto view = read_page(directory.path);
    REQUIRE(view);
    CHECK(view->document == "small");
    CHECK(view->documents_unwritten == 1);
    REQUIRE(page.publish("again"));
    view = read_page(directory.path);
    CHECK(view->document == "again");
    CHECK(view->documents_unwritten == 0);
}

TEST_CASE("a planted symbolic link is replaced, its target untouched") {
    const TemporaryDirectory directory;
    const std::string target = directory.path + "/target";
    close(open(target.c_str(), O_WRONLY | O_CREAT, 0600));
    REQUIRE(symlink(target.c_str(), page_path(directory).c_str()) == 0);
    CHECK_FALSE(read_page(directory.path));
    StatusPage page = make_page(directory);
    REQUIRE(page.publish("x"));
    CHECK(read_page(directory.path)->document == "x");
    CHECK(std::filesystem::file_size(target) == 0);
}

TEST_CASE("foreign and damaged pages are refused with a reason") {
    const TemporaryDirectory directory;
    StatusPage page = make_page(directory);
    REQUIRE(page.publish("one"));
    REQUIRE(page.publish("two"));
    SUBCASE("not a page") {
        scribble(directory, 0, "garbage!");
        CHECK(read_page(directory.path).error().code == ErrorCode::corrupt);
    }
    SUBCASE("a layout of the future") {
        scribble(directory, offsetof(PageHeader, major), std::string("\x02\x00", 2));
        const auto view = read_page(directory.path);
        REQUIRE_FALSE(view);
        CHECK(view.error().code == ErrorCode::unsupported);
        CHECK(view.error().message.find("layout 2") != std::string::npos);
    }
    SUBCASE("a damaged document") {
        scribble(directory, page_halves_offset, "X");
        CHECK(read_page(directory.path).error().code == ErrorCode::corrupt);
    }
    SUBCASE("a damaged header") {
        scribble(directory, offsetof(PageHeader, heartbeats), "XXXXXXXX");
        CHECK(read_page(directory.path).error().code == ErrorCode::corrupt);
    }
    SUBCASE("an empty file") {
        REQUIRE(truncate(page_path(directory).c_str(), 0) == 0);
        CHECK(read_page(directory.path).error().code == ErrorCode::corrupt);
    }
    SUBCASE("a directory") {
        REQUIRE(unlink(page_path(directory).c_str()) == 0);
        REQUIRE(mkdir(page_path(directory).c_str(), 0700) == 0);
        CHECK_FALSE(read_page(directory.path));
    }
}

TEST_CASE("a reader beside a writer sees whole documents only") {
    const TemporaryDirectory directory;
    StatusPage page = make_page(directory);
    REQUIRE(page.publish(std::string(1000, 'a')));
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> published{0};
    std::thread writer([&] {
        for (std::uint64_t i = 0; !done.load(std::memory_order_relaxed); ++i) {
            const std::string document(500 + i % 20'000, static_cast<char>('a' + i % 26));
            if (page.publish(document)) published.fetch_add(1, std::memory_order_relaxed);
        }
    });
    std::uint64_t whole = 0;
    std::uint64_t torn = 0;
    std::string last;
    while (whole < 200 || published.load(std::memory_order_relaxed) < 200) {
        const auto view = read_page(directory.path);
        if (!view) {
            ++torn;
            break;
        }
        ++whole;
        if (view->document.find_first_not_of(view->document[0]) != std::string::npos) ++torn;
    }
    done.store(true, std::memory_order_relaxed);
    writer.join();
    CHECK(whole >= 200);
    CHECK(torn == 0);
}

// --- look_at_daemon: page, lock and heartbeat together ---

// A daemon in a process of its own: holds the lock, publishes, and stays until `stop`, which kills
// it with `signal`.
class FakeDaemon {
public:
    FakeDaemon(const TemporaryDirectory& directory, const std::string& document) {
        int ready[2];
        REQUIRE(pipe(ready) == 0);
        pid_ = fork();
        if (pid_ == 0) {
            const auto handle = shm::open_ring_directory(directory.path, shm::DirectoryUse::daemon);
            if (!handle) _exit(1);
            const auto lock = shm::lock_directory(*handle);
            auto page = StatusPage::create(directory.path);
            if (!lock || !page || (!document.empty() && !page->publish(document))) _exit(1);
            if (write(ready[1], "r", 1) != 1) _exit(1);
            for (;;) pause();
        }
        close(ready[1]);
        char byte = 0;
        REQUIRE(read(ready[0], &byte, 1) == 1);
        close(ready[0]);
    }
    ~FakeDaemon() { kill(); }
    void kill() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }
    [[nodiscard]] pid_t pid() const { return pid_; }

private:
    pid_t pid_ = 0;
};

Snapshot running_snapshot() {
    Snapshot snapshot;
    snapshot.version = "9.9.9";
    snapshot.pid = 77;
    return snapshot;
}

TEST_CASE(
    "a daemon that lives is healthy, and the same killed is not running with its last words") {
    const TemporaryDirectory directory;
    FakeDaemon daemon(directory, to_json(running_snapshot()));
    Look look = look_at_daemon(directory.path);
    CHECK(look.snapshot.verdict == Verdict::healthy);
    CHECK(exit_code(look.snapshot.verdict) == 0);
    CHECK(look.snapshot.version == "9.9.9");
    daemon.kill();
    look = look_at_daemon(directory.path);
    CHECK(exit_code(look.snapshot.verdict) == 3);
    CHECK(look.snapshot.version == "9.9.9");
    CHECK(contains(look.snapshot.reasons, "it died at"));
}

TEST_CASE("a daemon that stopped on purpose is told from one that died") {
    const TemporaryDirectory directory;
    Snapshot snapshot = running_snapshot();
    snapshot.phase = Phase::stopped;
    FakeDaemon daemon(directory, to_json(snapshot));
    daemon.kill();
    const Look look = look_at_daemon(directory.path);
    CHECK(exit_code(look.snapshot.verdict) == 3);
    CHECK(contains(look.snapshot.reasons, "it was stopped at"));
}

TEST_CASE("what cannot be told has its own exit code and a reason") {
    const TemporaryDirectory directory;
    SUBCASE("no directory: nothing runs") {
        const Look look = look_at_daemon(directory.path + "/missing");
        CHECK(exit_code(look.snapshot.verdict) == 3);
    }
    SUBCASE("a directory without a page: nothing runs") {
        const Look look = look_at_daemon(directory.path);
        CHECK(exit_code(look.snapshot.verdict) == 3);
        CHECK(contains(look.snapshot.reasons, "oteld run"));
    }
    SUBCASE("a daemon without a page") {
        const FakeDaemon daemon(directory, "");
        const Look look = look_at_daemon(directory.path);
        CHECK(exit_code(look.snapshot.verdict) == 4);
        CHECK(contains(look.snapshot.reasons, std::to_string(daemon.pid())));
    }
    SUBCASE("a document that is not JSON") {
        const FakeDaemon daemon(directory, "{");
        CHECK(exit_code(look_at_daemon(directory.path).snapshot.verdict) == 4);
    }
    SUBCASE("a document of the future") {
        const FakeDaemon daemon(directory, R"({"schema_version":2,"verdict":"healthy"})");
        const Look look = look_at_daemon(directory.path);
        CHECK(exit_code(look.snapshot.verdict) == 4);
        CHECK(contains(look.snapshot.reasons, "schema_version"));
    }
    SUBCASE("a page that is not one") {
        const FakeDaemon daemon(directory, "x");
        scribble(directory, 0, "garbage!");
        CHECK(exit_code(look_at_daemon(directory.path).snapshot.verdict) == 4);
    }
}

struct OutsideCase {
    const char* what;
    Signs signs;
    Phase phase;
    Verdict verdict;
    const char* reason;
};

TEST_CASE("a heartbeat is as old as the clock says that was neither set nor shifted") {
    constexpr std::int64_t second = 1'000'000'000;
    constexpr std::int64_t hour = 3600 * second;
    CHECK(heartbeat_age(second, second, false) == second);
    CHECK(heartbeat_age(second, hour, false) == second);   // A time namespace behind ours,
    CHECK(heartbeat_age(second, -hour, false) == second);  // or ahead of it:
    CHECK(heartbeat_age(hour, -hour, false) == hour);      // a hang is seen all the same.
    CHECK(heartbeat_age(hour, second, false) == second);   // The wall clock was set, or the
    CHECK(heartbeat_age(-hour, second, false) == second);  // machine slept.
    CHECK(heartbeat_age(-hour, hour, false) == hour);
    CHECK(heartbeat_age(-second, -second, false) == 0);
    CHECK(heartbeat_age(hour, second, true) == hour);  // CLOCK_MONOTONIC begins anew with a boot.
    CHECK(heartbeat_age(-hour, second, true) == 0);
}

TEST_CASE("verdict from the signs of life") {
    constexpr std::int64_t second = 1'000'000'000;
    const Signs well{.locked = true,
                     .lock_pid = 7,
                     .page_pid = 7,
                     .now_ns = 100 * second,
                     .heartbeat_ns = 99 * second,
                     .heartbeat_age_ns = second,
                     .document_ns = 99 * second};
    std::vector<OutsideCase> cases;
    cases.push_back({"well", well, Phase::running, Verdict::healthy, ""});
    cases.push_back({"hangs", well, Phase::running, Verdict::degraded,
                     "HANGS: its last heartbeat came 12 s ago"});
    cases.back().signs.heartbeat_age_ns = 12 * second;
    cases.push_back({"late, not yet hanging", well, Phase::running, Verdict::healthy, ""});
    cases.back().signs.heartbeat_age_ns = page_hangs_after_ns - 1;
    cases.push_back(
        {"its successor starts", well, Phase::running, Verdict::cannot_tell, "pid 8) is starting"});
    cases.back().signs.lock_pid = 8;
    cases.push_back({"the lock names nobody", well, Phase::running, Verdict::healthy, ""});
    cases.back().signs.lock_pid = 0;
    cases.push_back(
        {"the page is of another boot", well, Phase::running, Verdict::cannot_tell, "is starting"});
    cases.back().signs.other_boot = true;
    cases.push_back({"no room for the page", well, Phase::running, Verdict::degraded, "is full"});
    cases.back().signs.documents_unwritten = 3;
    cases.push_back({"died", well, Phase::running, Verdict::not_running, "it died at"});
    cases.back().signs.locked = false;
    cases.push_back({"stopped", well, Phase::stopped, Verdict::not_running, "it was stopped at"});
    cases.back().signs.locked = false;
    cases.push_back({"died before the reboot", well, Phase::running, Verdict::not_running,
                     "before this machine was started"});
    cases.back().signs.locked = false;
    cases.back().signs.other_boot = true;
    for (const OutsideCase& c : cases) {
        CAPTURE(c.what);
        Snapshot snapshot;
        snapshot.phase = c.phase;
        judge_from_outside(snapshot, c.signs);
        CHECK(snapshot.verdict == c.verdict);
        if (*c.reason == '\0') {
            CHECK(snapshot.reasons.empty());
        } else {
            CHECK(contains(snapshot.reasons, c.reason));
        }
    }
}

TEST_CASE("what the daemon itself complained of stays below what is seen from outside") {
    Snapshot snapshot;
    snapshot.verdict = Verdict::degraded;
    snapshot.reasons = {"exporter x is retrying"};
    judge_from_outside(snapshot, Signs{});
    REQUIRE(snapshot.reasons.size() == 2);
    CHECK(snapshot.reasons[1] == "exporter x is retrying");
}

}  // namespace
}  // namespace oteld::status
