// Drain, validation and copy into the spool, per span, by size of the lane: first of a batch that
// another processor has just written, then beside a writer that never pauses, and what that costs
// the writer.
//
// Usage: drain_bench [ROUNDS]. Prints JSON lines. Beside the drain, in the same rounds: a memcpy of
// as many bytes out of shared memory. Settling is not timed; the spool's blocks stay warm.

#include "daemon/intake/intake.hpp"
#include "oteld/client.hpp"
#include "tests/bench/measure.hpp"
#include "tests/bench/stand_in.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace oteld;
using Clock = std::chrono::steady_clock;

constexpr std::size_t span_bytes = 232;  // Of a record, to size batches by.
constexpr int writer_round = 25;         // Below the first mark of the smallest lane.
constexpr std::chrono::milliseconds full_speed{300};

std::chrono::nanoseconds monotonic() { return Clock::now().time_since_epoch(); }

// Writer and reader never share a processor, where there are two.
void run_on(unsigned processor) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(processor % std::thread::hardware_concurrency(), &only);
    (void)sched_setaffinity(0, sizeof only, &only);
}

void write_spans(const Tracer& tracer, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        auto span = tracer.span("GET /orders/{id}");
        span.set("http.request.method", "GET")
            .set("http.route", "/orders/{id}")
            .set("http.response.status_code", 200);
        span.set("server.address", "orders.internal").set("cache.hit", i % 2 == 0);
    }
}

template <class T>
T must(Result<T> result) {
    if (result) return std::move(*result);
    std::fprintf(stderr, "drain_bench: %s\n", result.error().message.c_str());
    std::exit(1);
}

// What the writer tells, in memory that both map.
struct Report {
    std::atomic<bool> done;
    std::uint64_t spans;
    std::uint64_t dropped;
    bench::Figures writer;  // ns a span, of rounds in which none was dropped.
};

// Rounds until the time is over; `between` runs untimed in front of each.
template <class Between>
void write_at_full_speed(const Tracer& tracer, Report& report, Between between) {
    std::vector<double> values;
    values.reserve(1 << 20);
    const std::uint64_t dropped_before = spans_dropped();
    report.spans = 0;
    for (const auto until = Clock::now() + full_speed; Clock::now() < until;) {
        between();
        const std::uint64_t dropped = spans_dropped();
        const auto start = Clock::now();
        write_spans(tracer, writer_round);
        const std::chrono::duration<double, std::nano> took = Clock::now() - start;
        report.spans += writer_round;
        if (spans_dropped() == dropped) values.push_back(took.count() / writer_round);
    }
    report.dropped = spans_dropped() - dropped_before;
    report.writer = bench::figures(std::move(values));
}

// A process of its own with one lane of that size, and a ring directory of its own.
class Writer {
public:
    Writer(const std::string& directory, std::size_t lane_bytes)
        : report_(static_cast<Report*>(mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE,
                                            MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
        if (pipe(commands_) != 0 || pipe(answers_) != 0) std::exit(1);
        pid_ = fork();
        if (pid_ == 0) {
            close(commands_[1]);
            setenv("OTELD_DIR", directory.c_str(), 1);
            run_on(0);
            obey(lane_bytes);
        }
        close(commands_[0]);
    }
    ~Writer() {
        close(commands_[1]);
        waitpid(pid_, nullptr, 0);
        munmap(report_, sizeof(Report));
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    enum Command : char { batch = 'b', full = 'f', full_undrained = 'u' };

    void begin(Command command) {
        report_->done = false;
        if (write(commands_[1], &command, 1) != 1) std::exit(1);
    }
    const Report& finish() {
        char byte = 0;
        if (read(answers_[0], &byte, 1) != 1) std::exit(1);
        return *report_;
    }
    [[nodiscard]] bool done() const { return report_->done; }

private:
    [[noreturn]] void obey(std::size_t lane_bytes) {
        const TracerProvider provider{
            Settings{}.service("bench").lanes(1).lane_size(lane_bytes).growth(false)};
        const Tracer tracer = provider.tracer("bench", "1");
        char command = 0;
        while (read(commands_[0], &command, 1) == 1) {
            if (command == batch) write_spans(tracer, lane_bytes / 2 / span_bytes);
            if (command == full) write_at_full_speed(tracer, *report_, [] {});
            if (command == full_undrained)
                write_at_full_speed(tracer, *report_, bench::move_cursors);
            report_->done = true;
            if (write(answers_[1], &command, 1) != 1) break;
        }
        _exit(0);
    }

    Report* report_;
    int commands_[2];
    int answers_[2];
    pid_t pid_;
};

// The daemon's half, without its threads.
class Reader {
public:
    explicit Reader(const std::string& directory)
        : directory_(must(shm::open_ring_directory(directory, shm::DirectoryUse::daemon))),
          spool_(must(daemon::Spool::open(directory_, 64 << 20, {"nop"}))),
          clock_(make_clock()),
          intake_(
              directory_, config::Shm{}, 0, *spool_, clock_,
              [this](std::span<const daemon::ExtentRef> fresh) {
                  extents_.insert(extents_.end(), fresh.begin(), fresh.end());
              },
              "") {}

    std::uint64_t round() { return intake_.round(monotonic(), nap_); }

    // Returns the bytes that were in the spool.
    std::uint64_t settle() {
        std::uint64_t bytes = 0;
        for (const daemon::ExtentRef& extent : extents_) {
            bytes += extent.header->payload_bytes;
            spool_->settle(extent, spool_->exporter_words()[0], extent.header->spans, 0,
                           exporters::RejectReason::refused);
        }
        extents_.clear();
        return bytes;
    }

private:
    static daemon::DaemonClock make_clock() {
        const daemon::ClockAnchor first = daemon::read_anchor();
        usleep(10000);
        return {daemon::read_anchor(), first};
    }

    shm::DirectoryHandle directory_;
    std::unique_ptr<daemon::Spool> spool_;
    daemon::DaemonClock clock_;
    std::vector<daemon::ExtentRef> extents_;
    daemon::Intake intake_;
    daemon::Nap nap_;
};

// A batch of half a lane lies ready when the drain begins.
void drain_alone(Writer& writer, Reader& reader, int rounds, const std::string& lane) {
    constexpr std::size_t most = 4 << 20;
    std::vector<std::uint8_t> to(most, 1);
    void* shared = mmap(nullptr, most, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    std::vector<double> drained;
    std::vector<double> copied;
    for (int i = -40; i < rounds; ++i) {  // Until the spool is warm they do not count.
        writer.begin(Writer::batch);
        writer.finish();
        const auto start = Clock::now();
        const std::uint64_t spans = reader.round();
        const std::chrono::duration<double, std::nano> took = Clock::now() - start;
        const std::uint64_t bytes = std::min<std::uint64_t>(reader.settle(), most);
        if (spans == 0 || i < 0) continue;
        drained.push_back(took.count() / static_cast<double>(spans));
        std::memset(shared, i, most);
        const auto copy_start = Clock::now();
        std::memcpy(to.data(), shared, bytes);
        const std::chrono::duration<double, std::nano> copy_took = Clock::now() - copy_start;
        copied.push_back(copy_took.count() / static_cast<double>(spans));
    }
    munmap(shared, most);
    bench::report(("drain + validate + spool" + lane).c_str(), bench::figures(drained));
    bench::report(("memcpy of as many bytes" + lane).c_str(), bench::figures(copied));
}

// The reader does not nap, so this is the most that one lane gives.
void drain_beside_writer(Writer& writer, Reader& reader, const std::string& lane) {
    std::vector<double> drained;
    writer.begin(Writer::full);
    while (!writer.done()) {
        const auto start = Clock::now();
        const std::uint64_t spans = reader.round();
        const std::chrono::duration<double, std::nano> took = Clock::now() - start;
        reader.settle();
        if (spans != 0) drained.push_back(took.count() / static_cast<double>(spans));
    }
    const Report& report = writer.finish();
    bench::report(("drain beside a writer" + lane).c_str(), bench::figures(drained));
    bench::report(("the writer beside a drain" + lane).c_str(), report.writer);
    std::printf("{\"name\":\"dropped%s\",\"percent\":%.1f}\n", lane.c_str(),
                100.0 * static_cast<double>(report.dropped) / static_cast<double>(report.spans));
}

void measure_lane(const std::string& home, std::size_t lane_bytes, int rounds) {
    // The largest is what `compare --drain` knows by this name.
    const std::string lane = lane_bytes == shm::lane_data_bytes_max
                                 ? ""
                                 : ", lane " + std::to_string(lane_bytes >> 10) + " KiB";
    const std::string drained = home + "/" + std::to_string(lane_bytes);
    const std::string undrained = drained + "-undrained";
    if (mkdir(drained.c_str(), 0700) != 0 || mkdir(undrained.c_str(), 0700) != 0) std::exit(1);
    // Both before the reader has threads or locks that a fork would copy.
    Writer alone(undrained, lane_bytes);
    Writer writer(drained, lane_bytes);
    Reader reader(drained);
    drain_alone(writer, reader, rounds, lane);
    alone.begin(Writer::full_undrained);
    bench::report(("the writer alone" + lane).c_str(), alone.finish().writer);
    drain_beside_writer(writer, reader, lane);
}

}  // namespace

int main(int count, char** arguments) {
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 200;
    char home[] = "/dev/shm/oteld-bench-XXXXXX";
    if (mkdtemp(home) == nullptr) return 1;
    run_on(1);
    for (const std::size_t lane_bytes :
         std::array<std::size_t, 4>{shm::lane_data_bytes_max, 512U << 10, 128U << 10, 16U << 10})
        measure_lane(home, lane_bytes, rounds);
    (void)std::system((std::string("rm -rf ") + home).c_str());
}
