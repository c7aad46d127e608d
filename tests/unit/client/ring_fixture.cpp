#include "ring_fixture.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <filesystem>

// Tests fork while other threads run, hold more liveness words than the sanitizer's deadlock
// detector takes, and record in signal handlers that interrupt nothing which allocates (see "Signal
// handlers" in client/README.md).
extern "C" const char* __tsan_default_options();  // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __tsan_default_options() {
    return "die_after_fork=0:detect_deadlocks=0:report_signal_unsafe=0";
}

namespace oteld::test {
namespace {

constexpr int watchdog_seconds = 60;

void set_environment(const std::string& directory, const Environment& environment) {
    std::vector<std::string> old;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string text = *entry;
        if (text.rfind("OTEL", 0) == 0) old.push_back(text.substr(0, text.find('=')));
    }
    for (const std::string& name : old) ::unsetenv(name.c_str());
    ::setenv("OTELD_DIR", directory.c_str(), 1);
    for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
}

}  // namespace

RingDirectory::RingDirectory() {
    std::string pattern = "/dev/shm/oteld-client-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
}

RingDirectory::~RingDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::size_t RingDirectory::rings() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
        count += entry.path().extension() == shm::ring_suffix ? 1 : 0;
    }
    return count;
}

std::size_t RingDirectory::files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
}

void Child::clean() const {
    const bool exited = WIFEXITED(status);
    const int code = exited ? WEXITSTATUS(status) : WTERMSIG(status);
    REQUIRE_MESSAGE((exited && code == 0), (exited ? "exit code " : "signal "), code, "\n", text);
}

Child run_child(const std::string& directory, const std::function<void()>& body,
                const Environment& environment) {
    std::FILE* errors = std::tmpfile();
    REQUIRE(errors != nullptr);
    std::fflush(nullptr);
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        ::dup2(::fileno(errors), STDERR_FILENO);
        ::alarm(watchdog_seconds * 5);
        set_environment(directory, environment);
        body();
        ::_exit(0);
    }
    Child child;
    REQUIRE(::waitpid(pid, &child.status, 0) == pid);
    std::rewind(errors);
    char piece[4096];
    while (const std::size_t got = std::fread(piece, 1, sizeof piece, errors))
        child.text.append(piece, got);
    std::fclose(errors);
    return child;
}

Rings in_child(const std::function<void()>& body, const Environment& environment) {
    const RingDirectory directory;
    run_child(directory.path(), body, environment).clean();
    return read_rings(directory.path());
}

LivingChild::LivingChild(const std::string& directory, const std::function<void()>& body) {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    std::fflush(nullptr);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
        ::close(ready[0]);
        ::alarm(watchdog_seconds * 5);
        set_environment(directory, {});
        body();
        if (::write(ready[1], "r", 1) != 1) ::_exit(43);
        for (;;) ::pause();
    }
    ::close(ready[1]);
    char byte = 0;
    const bool well = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
    REQUIRE_MESSAGE(well, "the child ended before it was ready");
}

LivingChild::~LivingChild() { kill(); }

void LivingChild::kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

void refuse(long call, int argument, std::uint32_t value, int error) {
    const auto offset = static_cast<std::uint32_t>(offsetof(seccomp_data, args) +
                                                   8 * static_cast<std::size_t>(argument));
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{sizeof filter / sizeof filter[0], filter};
    EXPECT(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

void wait_until(const std::function<bool()>& condition) {
    const std::time_t deadline = std::time(nullptr) + watchdog_seconds;
    while (!condition()) {
        if (std::time(nullptr) > deadline) {
            std::fprintf(stderr, "waited %d s in vain\n", watchdog_seconds);
            ::_exit(44);
        }
        const timespec pause{0, 2000000};
        ::nanosleep(&pause, nullptr);
    }
}

void expect_well(pid_t pid) {
    int status = 0;
    EXPECT(pid > 0);
    EXPECT(::waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status))
        std::fprintf(stderr, "the grandchild died of signal %d\n", WTERMSIG(status));
    EXPECT(status == 0);
}

void check_balance(const Rings& rings) {
    CHECK(rings.malformed == 0);
    CHECK(rings.ended == rings.spans.size());
    CHECK(rings.begun == rings.ended + rings.dropped() + rings.open.size());
}

}  // namespace oteld::test
