// Drain, validation and copy into the spool, per span: one core, a lane that another process has
// just written.
//
// Usage: drain_bench [ROUNDS]. Prints JSON lines: the drain, and beside it in the same rounds a
// memcpy of as many bytes out of shared memory. Settling is not timed; the spool's blocks stay
// warm.

#include "daemon/intake/intake.hpp"
#include "oteld/client.hpp"
#include "tests/bench/measure.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using namespace oteld;
using Clock = std::chrono::steady_clock;

constexpr int batch = 3500;  // About 800 KB of records: below half of the largest lane.

std::chrono::nanoseconds monotonic() { return Clock::now().time_since_epoch(); }

void write_spans(const Tracer& tracer, int count) {
    for (int i = 0; i < count; ++i) {
        auto span = tracer.span("GET /orders/{id}");
        span.set("http.request.method", "GET")
            .set("http.route", "/orders/{id}")
            .set("http.response.status_code", 200);
        span.set("server.address", "orders.internal").set("cache.hit", i % 2 == 0);
    }
}

// Writes a batch for each byte it is sent, and answers with one.
[[noreturn]] void writer(int commands, int answers) {
    const auto tracer = oteld::tracer("bench", "1");
    char byte = 0;
    while (read(commands, &byte, 1) == 1) {
        write_spans(tracer, batch);
        if (write(answers, &byte, 1) != 1) break;
    }
    _exit(0);
}

struct Writer {
    Writer() {
        if (pipe(commands) != 0 || pipe(answers) != 0) std::exit(1);
        pid = fork();
        if (pid == 0) {
            close(commands[1]);
            writer(commands[0], answers[1]);
        }
        close(commands[0]);
    }
    ~Writer() {
        close(commands[1]);
        waitpid(pid, nullptr, 0);
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    void one_batch() {
        char byte = 0;
        if (write(commands[1], &byte, 1) != 1 || read(answers[0], &byte, 1) != 1) std::exit(1);
    }

    int commands[2];
    int answers[2];
    pid_t pid;
};

}  // namespace

int main(int count, char** arguments) {
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 200;
    char path[] = "/dev/shm/oteld-bench-XXXXXX";
    if (mkdtemp(path) == nullptr || setenv("OTELD_DIR", path, 1) != 0) return 1;
    Writer other;
    auto directory = shm::open_ring_directory(path, shm::DirectoryUse::daemon);
    if (!directory) return 1;
    auto spool = daemon::Spool::open(*directory, 64 << 20, {"nop"});
    if (!spool) return 1;
    const daemon::ClockAnchor first = daemon::read_anchor();
    usleep(10000);
    const daemon::DaemonClock clock(daemon::read_anchor(), first);
    std::vector<daemon::ExtentRef> extents;
    daemon::Intake intake(
        *directory, config::Shm{}, 0, **spool, clock,
        [&](std::span<const daemon::ExtentRef> fresh) {
            extents.insert(extents.end(), fresh.begin(), fresh.end());
        },
        "");
    daemon::Nap nap;
    const auto settle = [&] {
        for (const daemon::ExtentRef& extent : extents) {
            (*spool)->settle(extent, (*spool)->exporter_words()[0], extent.header->spans, 0,
                             exporters::RejectReason::refused);
        }
        extents.clear();
    };
    for (int i = 0; i < 40; ++i) {  // The lane grows to its full size, the spool gets warm.
        other.one_batch();
        intake.round(monotonic(), nap);
        settle();
    }
    std::vector<double> drained;
    std::vector<double> copied;
    std::vector<std::uint8_t> to(4 << 20, 1);
    void* shared = mmap(nullptr, 4 << 20, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    for (int i = 0; i < rounds; ++i) {
        other.one_batch();
        const auto start = Clock::now();
        const std::uint64_t spans = intake.round(monotonic(), nap);
        const std::chrono::duration<double, std::nano> took = Clock::now() - start;
        if (spans == 0) continue;
        drained.push_back(took.count() / static_cast<double>(spans));
        std::uint64_t bytes = 0;
        for (const daemon::ExtentRef& extent : extents) bytes += extent.header->payload_bytes;
        settle();
        std::memset(shared, i, 4 << 20);
        const auto copy_start = Clock::now();
        std::memcpy(to.data(), shared, bytes < to.size() ? bytes : to.size());
        const std::chrono::duration<double, std::nano> copy_took = Clock::now() - copy_start;
        copied.push_back(copy_took.count() / static_cast<double>(spans));
    }
    bench::report("drain + validate + spool", bench::figures(drained));
    bench::report("memcpy of as many bytes", bench::figures(copied));
    (void)std::system((std::string("rm -rf ") + path).c_str());
}
