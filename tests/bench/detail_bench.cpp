// One span at a time: how its cost is distributed, cold and among threads, and what it never does.
//
// Usage: detail_bench [--drain]   OTELD_DIR names an existing ring directory; --drain as in
// span_bench. Times of single spans hold two more clock readings, the floor of which is printed
// too. Allocations are counted by standing in for malloc(), system calls by the kernel's user
// dispatch, page faults and context switches by getrusage().

#include "tests/bench/spans.hpp"
#include "tests/bench/stand_in.hpp"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <ucontext.h>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

// NOLINTBEGIN(bugprone-reserved-identifier): glibc's own names of what is stood in for.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
}
// NOLINTEND(bugprone-reserved-identifier)

namespace {

std::atomic<std::uint64_t> allocations{0};
int rounds_with_calls = 0;
volatile char dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;

}  // namespace

extern "C" {
void* malloc(std::size_t bytes) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    return __libc_calloc(count, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
    allocations.fetch_add(1, std::memory_order_relaxed);
    return __libc_realloc(memory, bytes);
}
}

namespace {

using namespace oteld;
using Clock = std::chrono::steady_clock;

using bench::bench_tracer;
bool drain = false;
constexpr int round_spans = 200;  // Below the first mark of the smallest lane.

void span(int i) { bench::header_span(i, "someone"); }
void c_span(int i) { bench::c_span(i, "someone"); }

void between() {
    if (drain)
        bench::move_cursors();
    else
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    for (int i = 0; i < 20; ++i) span(i);
}

double ns_since(Clock::time_point start) {
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

long resident_kib() {
    long kib = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        long pages = 0;
        if (std::fscanf(file, "%*s %ld", &pages) == 1) kib = pages * (sysconf(_SC_PAGESIZE) / 1024);
        std::fclose(file);
    }
    return kib;
}

void report(const char* name, std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto at = [&](double share) {
        return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
    };
    std::printf("{\"name\":\"%s\",\"p50\":%.0f,\"p99\":%.0f,\"p999\":%.0f,\"max\":%.0f}\n", name,
                at(0.5), at(0.99), at(0.999), at(1));
    std::fflush(stdout);
}

// Every span timed by itself; `before` runs in front of each, untimed.
template <class Function, class Before>
void each(const char* name, int rounds, Function function, Before before) {
    std::vector<double> values;
    values.reserve(static_cast<std::size_t>(rounds) * round_spans);
    for (int round = 0; round < rounds; ++round) {
        between();
        for (int i = 0; i < round_spans; ++i) {
            before();
            const auto start = Clock::now();
            function(i);
            values.push_back(ns_since(start));
        }
    }
    report(name, std::move(values));
}

// Each thread has a lane of its own; the threads run at the same time, each round long enough to
// overlap.
void among_threads(int count) {
    std::vector<std::vector<double>> values(static_cast<std::size_t>(count));
    std::vector<std::thread> threads;
    threads.reserve(values.size());
    std::atomic<int> waiting{0};
    for (auto& mine : values) {
        threads.emplace_back([&mine, &waiting, count] {
            mine.reserve(500);
            for (int round = 0; round < 500; ++round) {
                for (int i = 0; i < 20; ++i) span(i);
                // All start the round together.
                waiting.fetch_add(1);
                while (waiting.load() < count * (round + 1)) std::this_thread::yield();
                const auto start = Clock::now();
                for (int i = 0; i < round_spans; ++i) span(i);
                mine.push_back(ns_since(start) / round_spans);
                if (drain)
                    bench::move_cursors();
                else
                    std::this_thread::sleep_for(std::chrono::milliseconds(2));
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<double> all;
    for (const auto& mine : values) all.insert(all.end(), mine.begin(), mine.end());
    const std::string name = "threads: " + std::to_string(count);
    report(name.c_str(), std::move(all));
}

// The span starts here and ends on the other thread; timed is what both spend on it in turn.
void ends_elsewhere() {
    std::atomic<Span*> handed{nullptr};
    std::atomic<bool> over{false};
    std::vector<double> ends;
    ends.reserve(std::size_t{100} * round_spans);
    std::thread other([&] {
        while (!over.load(std::memory_order_relaxed)) {
            Span* span = handed.load(std::memory_order_acquire);
            if (span == nullptr) {
                std::this_thread::yield();
                continue;
            }
            const auto start = Clock::now();
            span->end();
            ends.push_back(ns_since(start));
            handed.store(nullptr, std::memory_order_release);
        }
    });
    for (int round = 0; round < 100; ++round) {
        between();
        for (int i = 0; i < round_spans; ++i) {
            Span span = bench_tracer.span("checkout");
            handed.store(&span, std::memory_order_release);
            while (handed.load(std::memory_order_acquire) != nullptr) std::this_thread::yield();
        }
    }
    over = true;
    other.join();
    report("end() on another thread", std::move(ends));
}

#if defined(__x86_64__)
// Runs the call that was kept back, and counts it. Returning is a call too, so the rest of the
// round runs without the filter.
void on_system_call(int, siginfo_t*, void* context) {
    dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
    ++rounds_with_calls;
    auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    register long r10 asm("r10") = registers[REG_R10];
    register long r8 asm("r8") = registers[REG_R8];
    register long r9 asm("r9") = registers[REG_R9];
    long result;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(registers[REG_RAX]), "D"(registers[REG_RDI]), "S"(registers[REG_RSI]),
                   "d"(registers[REG_RDX]), "r"(r10), "r"(r8), "r"(r9)
                 : "rcx", "r11", "memory");
    registers[REG_RAX] = result;
}
#endif

// False: this kernel cannot.
bool count_system_calls(bool on) {
#if defined(__x86_64__) && defined(PR_SET_SYSCALL_USER_DISPATCH)
    struct sigaction action {};
    action.sa_sigaction = on_system_call;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &action, nullptr);
    return prctl(PR_SET_SYSCALL_USER_DISPATCH, on ? PR_SYS_DISPATCH_ON : PR_SYS_DISPATCH_OFF, 0, 0,
                 on ? &dispatch : nullptr) == 0;
#else
    (void)on;
    return false;
#endif
}

void count_what_should_not_be() {
    constexpr int rounds = 100;
    std::uint64_t malloc_calls = 0;
    std::uint64_t faults = 0;
    std::uint64_t switches = 0;
    const bool counts_calls = count_system_calls(true);
    for (int round = 0; round < rounds; ++round) {
        between();
        const std::uint64_t allocations_before = allocations.load();
        rusage before{};
        rusage after{};
        getrusage(RUSAGE_THREAD, &before);
        dispatch = SYSCALL_DISPATCH_FILTER_BLOCK;
        for (int i = 0; i < round_spans; ++i) span(i);
        dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
        getrusage(RUSAGE_THREAD, &after);
        malloc_calls += allocations.load() - allocations_before;
        faults += static_cast<std::uint64_t>(after.ru_minflt + after.ru_majflt - before.ru_minflt -
                                             before.ru_majflt);
        switches += static_cast<std::uint64_t>(after.ru_nvcsw - before.ru_nvcsw);
    }
    if (counts_calls) count_system_calls(false);
    std::printf(
        "{\"name\":\"counted\",\"spans\":%d,\"allocations\":%llu,\"rounds_with_calls\":%d,"
        "\"page_faults\":%llu,\"voluntary_context_switches\":%llu}\n",
        rounds * round_spans, static_cast<unsigned long long>(malloc_calls),
        counts_calls ? rounds_with_calls : -1, static_cast<unsigned long long>(faults),
        static_cast<unsigned long long>(switches));
}

}  // namespace

int main(int count, char** arguments) {
    drain = count > 1 && std::strcmp(arguments[1], "--drain") == 0;
    if (std::getenv("OTELD_DIR") == nullptr) {
        std::fprintf(stderr, "detail_bench: set OTELD_DIR to an existing ring directory\n");
        return 2;
    }
    const long before = resident_kib();
    const auto start = Clock::now();
    if (!bench_tracer.span("probe").recording()) {
        std::fprintf(stderr, "detail_bench: spans are not recorded; is OTELD_DIR writable?\n");
        return 1;
    }
    const double us = ns_since(start) / 1000;
    std::printf("{\"name\":\"first span\",\"us\":%.1f,\"resident_kib\":%ld}\n", us,
                resident_kib() - before);
    const auto nothing = [] {};
    each(
        "clock readings alone", 100, [](int) {}, nothing);
    each("each span", 1000, span, nothing);
    each("each span, C interface", 1000, c_span, nothing);
    std::vector<char> cold(4 << 20);
    const auto touch = [&] {
        for (std::size_t i = 0; i < cold.size(); i += 64) {
            auto& byte = *static_cast<volatile char*>(&cold[i]);
            byte = static_cast<char>(byte + 1);
        }
    };
    each("each span, 4 MiB touched before it", 10, span, touch);
    each("the same, C interface", 10, c_span, touch);
    for (const int threads : {1, 2, 4}) among_threads(threads);
    ends_elsewhere();
    count_what_should_not_be();
}
