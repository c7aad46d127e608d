#include "shm/fault_guard.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <mutex>
#include <utility>

namespace oteld::shm {
namespace {

// Two ranges a segment. A place is taken by a compare-and-swap of `begin` and never moves.
constexpr int ranges_max = 32768;

struct Range {
    std::atomic<std::uintptr_t> begin{0};  // 0: free; 1: being filled.
    std::atomic<std::uintptr_t> end{0};
    std::atomic<std::uint32_t> truncated{0};
};
Range ranges[ranges_max];
std::atomic<int> ranges_used{0};  // Places that were ever taken: how far the handler looks.
std::atomic<std::uint64_t> survived{0};
struct sigaction previous_action;

void on_bus_error(int signal, siginfo_t* info, void* context) {
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    const int used = ranges_used.load(std::memory_order_acquire);  // Pairs with take().
    for (int i = 0; i < used; ++i) {
        const auto begin = ranges[i].begin.load(std::memory_order_acquire);  // Pairs with take().
        const auto end = ranges[i].end.load(std::memory_order_relaxed);
        if (begin <= 1 || address < begin || address >= end) continue;
        const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
        const std::uintptr_t from = address & ~(page - 1);
        // Writable, because the daemon's own pages are guarded as well; nothing reaches the file
        // any more.
        void* mapped = ::mmap(reinterpret_cast<void*>(from), end - from, PROT_READ | PROT_WRITE,
                              MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED) break;
        survived.fetch_add(1, std::memory_order_relaxed);
        ranges[i].truncated.store(1, std::memory_order_release);  // Pairs with truncated().
        return;
    }
    if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr)
        return previous_action.sa_sigaction(signal, info, context);
    if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN)
        return previous_action.sa_handler(signal);
    // Returning runs the faulting instruction again, this time with the default action.
    ::signal(SIGBUS, SIG_DFL);
}

void install_once() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action {};
        action.sa_sigaction = on_bus_error;
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        ::sigemptyset(&action.sa_mask);
        ::sigaction(SIGBUS, &action, &previous_action);
    });
}

int take(std::uintptr_t begin, std::uintptr_t end) noexcept {
    for (int i = 0; i < ranges_max; ++i) {
        std::uintptr_t unused = 0;
        if (!ranges[i].begin.compare_exchange_strong(unused, 1, std::memory_order_acq_rel))
            continue;
        ranges[i].truncated.store(0, std::memory_order_relaxed);
        ranges[i].end.store(end, std::memory_order_relaxed);
        ranges[i].begin.store(begin, std::memory_order_release);  // Pairs with the handler.
        int used = ranges_used.load(std::memory_order_relaxed);
        while (used < i + 1 &&
               !ranges_used.compare_exchange_weak(used, i + 1, std::memory_order_acq_rel)) {
        }
        return i;
    }
    return -1;
}

}  // namespace

std::uint64_t faults_survived() noexcept { return survived.load(std::memory_order_relaxed); }

FaultGuard::FaultGuard(const void* begin, std::size_t bytes) noexcept {
    install_once();
    const auto from = reinterpret_cast<std::uintptr_t>(begin);
    index_ = take(from, from + bytes);
}

FaultGuard::FaultGuard(FaultGuard&& other) noexcept : index_(std::exchange(other.index_, -1)) {}

FaultGuard& FaultGuard::operator=(FaultGuard&& other) noexcept {
    std::swap(index_, other.index_);
    return *this;
}

FaultGuard::~FaultGuard() {
    if (index_ >= 0) ranges[index_].begin.store(0, std::memory_order_release);
}

bool FaultGuard::truncated() const noexcept {
    return index_ >= 0 && ranges[index_].truncated.load(std::memory_order_acquire) != 0;
}

}  // namespace oteld::shm
