#include "daemon/commands/load.hpp"

#include "oteld/client.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace oteld::daemon {
namespace {

using Clock = std::chrono::steady_clock;

struct Totals {
    std::uint64_t started = 0;
    std::uint64_t ended = 0;
    std::uint64_t not_recorded = 0;  // No ring, or the sampler said no.
    std::uint64_t open = 0;
};

// One word per thread, alone in memory that survives the process.
std::atomic<std::uint64_t>* map_progress(const LoadOptions& options) {
    const std::size_t bytes = options.threads * sizeof(std::uint64_t);
    int file = -1;
    if (!options.progress.empty()) {
        file = open(options.progress.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) {
            std::fprintf(stderr, "oteld load: cannot write the progress file %s: %s\n",
                         options.progress.c_str(), std::strerror(errno));
            return nullptr;
        }
    }
    void* map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     file < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, file, 0);
    if (file >= 0) close(file);
    return map == MAP_FAILED ? nullptr : static_cast<std::atomic<std::uint64_t>*>(map);
}

// `number` further attributes, of all types in turn.
void add_attributes(Span& span, unsigned number, std::uint64_t seq) {
    static constexpr const char* keys[] = {"load.a0", "load.a1", "load.a2", "load.a3",
                                           "load.a4", "load.a5", "load.a6", "load.a7"};
    char long_key[24];
    for (unsigned i = 0; i < number; ++i) {
        const char* key = keys[i % 8];
        if (i >= 8) {
            std::snprintf(long_key, sizeof long_key, "load.a%u", i);
            key = long_key;
        }
        switch (i % 7) {
            case 0: span.set(key, "a string of some length"); break;
            case 1: span.set(key, seq); break;
            case 2: span.set(key, static_cast<double>(seq) * 0.5); break;
            case 3: span.set(key, seq % 2 == 0); break;
            case 4: span.set(key, {1, 2, 3}); break;
            case 5: span.set(key, bytes{"\x00\x01\x02", 3}); break;
            default: span.set(key, {{"inner", 1}, {"text", "nested"}}); break;
        }
    }
}

class Worker {
public:
    Worker(const LoadOptions& options, const Tracer& tracer, unsigned number,
           std::atomic<std::uint64_t>& progress, Clock::time_point start)
        : options_(options), tracer_(tracer), number_(number), progress_(progress), start_(start) {}

    void run() {
        const std::uint64_t spans = share(options_.spans);
        const auto until = start_ + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(options_.seconds));
        for (std::uint64_t i = 0; options_.spans == 0 || i < spans; ++i) {
            if (options_.rate > 0) wait_for_turn(i);
            // Reading the clock for every span would be most of a span's cost.
            if (options_.seconds > 0 && (options_.rate > 0 || i % 64 == 0) && Clock::now() >= until)
                break;
            one();
        }
    }

    // Started and never ended; they outlive the thread.
    void leave_open(std::vector<Span>& open) {
        for (std::uint64_t i = share(options_.leave_open); i > 0; --i) {
            open.push_back(start());
            ++(open.back().recording() ? totals.open : totals.not_recorded);
        }
    }

    Totals totals;

private:
    [[nodiscard]] std::uint64_t share(std::uint64_t total) const {
        return total / options_.threads + (number_ < total % options_.threads ? 1 : 0);
    }

    void wait_for_turn(std::uint64_t i) const {
        const double own_rate = options_.rate / options_.threads;
        const auto due =
            start_ + std::chrono::duration_cast<Clock::duration>(
                         std::chrono::duration<double>(static_cast<double>(i) / own_rate));
        // Sleeps are coarse: above 10,000 spans/s a thread sends what is due since it last slept.
        for (auto left = due - Clock::now(); left > Clock::duration::zero();
             left = due - Clock::now())
            std::this_thread::sleep_for(left);
    }

    Span start() {
        ++totals.started;
        return tracer_.span("load", {{"load.thread", number_}, {"load.seq", totals.started}});
    }

    void one() {
        Span span = start();
        if (!span.recording()) {
            ++totals.not_recorded;
            return;
        }
        add_attributes(span, options_.attributes, totals.started);
        span.end();
        ++totals.ended;
        progress_.store(totals.started, std::memory_order_release);
    }

    const LoadOptions& options_;
    const Tracer& tracer_;
    unsigned number_;
    std::atomic<std::uint64_t>& progress_;
    Clock::time_point start_;
};

Totals run_workers(const LoadOptions& options, const Tracer& tracer,
                   std::atomic<std::uint64_t>* progress, Clock::time_point start,
                   std::vector<std::vector<Span>>& open) {
    std::vector<Worker> workers;
    std::vector<std::thread> threads;
    workers.reserve(options.threads);
    for (unsigned i = 0; i < options.threads; ++i)
        workers.emplace_back(options, tracer, i, progress[i], start);
    for (unsigned i = 0; i < options.threads; ++i) {
        threads.emplace_back([&, i] {
            workers[i].run();
            workers[i].leave_open(open[i]);
        });
    }
    Totals sum;
    for (unsigned i = 0; i < options.threads; ++i) {
        threads[i].join();
        sum.started += workers[i].totals.started;
        sum.ended += workers[i].totals.ended;
        sum.not_recorded += workers[i].totals.not_recorded;
        sum.open += workers[i].totals.open;
    }
    return sum;
}

}  // namespace

int load_command(const LoadOptions& options) {
    std::atomic<std::uint64_t>* progress = map_progress(options);
    if (progress == nullptr) return 1;
    TracerProvider provider{Settings{}.service(options.service)};
    const Tracer tracer = provider.tracer("oteld.load", OTELD_VERSION);
    std::vector<std::vector<Span>> open(options.threads);
    const Clock::time_point start = Clock::now();
    const Totals totals = run_workers(options, tracer, progress, start, open);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const std::uint64_t dropped = spans_dropped();
    const std::uint64_t without_lane = spans_without_lane();
    const std::uint64_t unseen = totals.not_recorded - without_lane;  // Nobody counted these.
    if (unseen != 0) {
        std::fprintf(stderr,
                     "oteld load: %llu spans were not recorded: there is no ring directory (start "
                     "`oteld run`, see OTELD_DIR) or the sampler said no\n",
                     static_cast<unsigned long long>(unseen));
    }
    if (without_lane != 0) {
        std::fprintf(stderr,
                     "oteld load: %llu spans were dropped at their start: there was no room for "
                     "rings for all %u threads (a memory limit, or a full ring directory)\n",
                     static_cast<unsigned long long>(without_lane), options.threads);
    }
    std::printf(
        "{\"started\":%llu,\"ended\":%llu,\"dropped\":%llu,\"open\":%llu,\"seconds\":%.3f}\n",
        static_cast<unsigned long long>(totals.started - unseen),
        static_cast<unsigned long long>(totals.ended - (dropped - without_lane)),
        static_cast<unsigned long long>(dropped), static_cast<unsigned long long>(totals.open),
        seconds);
    std::fflush(stdout);
    // Spans that were left open stay so: neither their destructors nor a static one may end them.
    if (totals.open != 0) _exit(0);
    return 0;
}

}  // namespace oteld::daemon
