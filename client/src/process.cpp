// The process: made at its first span, anew in a fork's child; and what concerns all of its lanes:
// the bell, flush(), what was dropped.

#include "process.hpp"

#include "clock.hpp"
#include "hooks.hpp"
#include "segments.hpp"
#include "signals.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

namespace oteld::sdk {

namespace {

constexpr std::size_t segments_max = 1024;

// A page that the kernel empties in a fork's child: there the process has to be made anew.
struct ForkPage {
    std::atomic<Process*> process;
    Lane no_lane;  // Of spans in private memory; its generation is the process's.
};
constinit std::atomic<ForkPage*> fork_page{nullptr};
constinit std::atomic<std::uint64_t> generations{0};

// The process that the last fork came from, to tidy up after it.
constinit std::atomic<Process*> last_process{nullptr};

ForkPage* the_fork_page() noexcept {
    ForkPage* page = fork_page.load(std::memory_order_acquire);
    if (page != nullptr) return page;
    const ErrnoKept kept;
    const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* fresh = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) return nullptr;
    if (madvise(fresh, bytes, MADV_WIPEONFORK) != 0) {
        munmap(fresh, bytes);
        return nullptr;
    }
    if (fork_page.compare_exchange_strong(page, static_cast<ForkPage*>(fresh),
                                          std::memory_order_acq_rel)) {
        return static_cast<ForkPage*>(fresh);
    }
    munmap(fresh, bytes);
    return page;
}

Process* make_process() {
    auto process = std::make_unique<Process>();
    process->generation = generations.fetch_add(1, std::memory_order_relaxed) + 1;
    process->pid = getpid();
    if (growth_wanted()) choose_clock();  // Else it is chosen: the wish is older than this process.
    Random random{};
    random.seed();
    const std::uint64_t id[2] = {random.next(), random.next()};
    std::memcpy(process->process_id, id, sizeof process->process_id);
    // Never moved, which add_segment() sees to: a fork's child reads the list, in whatever state
    // another thread of its parent left it.
    process->segments.reserve(segments_max);
    process->lane_bytes_first = lane_bytes_wanted();
    process->growth.store(growth_wanted(), std::memory_order_relaxed);
    // Without growth no file is opened here: set_up_rings() looks itself.
    process->bytes_max = process->growth.load(std::memory_order_relaxed) ? ring_bytes_max() : 0;
    return process.release();
}

}  // namespace

Process* this_process() noexcept {
    ForkPage* page = the_fork_page();
    if (page == nullptr) return nullptr;
    Process* process = page->process.load(std::memory_order_acquire);
    if (__builtin_expect(process != nullptr, 1)) return process;
    return guarded([&]() -> Process* {
        Process* parent = last_process.load(std::memory_order_relaxed);
        // The child of a raw clone of a process that has recorded is counted, in a ring of its own.
        // Any other such caller may be a child of vfork(), in whose memory its parent is yet to
        // make the process that it is.
        if (mistaken_by_libc() && (parent == nullptr || parent->pid != getppid())) return nullptr;
        Process* fresh = make_process();
        Process* expected = nullptr;
        if (!page->process.compare_exchange_strong(expected, fresh, std::memory_order_acq_rel)) {
            delete fresh;
            return expected;
        }
        if (parent != nullptr) close_inherited(*parent);
        last_process.store(fresh, std::memory_order_relaxed);
        if (parent != nullptr && parent->context.provider != nullptr)
            publish_context(*fresh, *parent->context.provider, Occasion::provider_made);
        return fresh;
    });
}

// A child of a raw clone(2) has its parent's thread identity in libc: a liveness word would carry a
// living thread's number for ever. Seen by what libc writes into a mutex.
bool mistaken_by_libc() noexcept {
    pthread_mutexattr_t attributes;
    pthread_mutex_t probe;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&probe, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_mutex_lock(&probe);
    std::uint32_t word = 0;
    std::memcpy(&word, &probe, sizeof word);
    pthread_mutex_unlock(&probe);
    return (word & shm::lock_tid_mask) != static_cast<std::uint32_t>(syscall(SYS_gettid));
}

bool borrows(const Process& process) noexcept {
    return mistaken_by_libc() && process.pid != getpid();
}

// A ring that only says how many such children there were; without a lane it is dead at once.
void count_raw_clone(Process& process) {
    if (!process.segments.empty() || !process.growth.load(std::memory_order_relaxed)) return;
    shm::Geometry geometry;
    geometry.lanes = 1;
    if (SegmentEntry* entry = add_segment(process, geometry)) {
        process.count(shm::ProcessCounter::raw_clones);
        close(entry->segment.fd);
        entry->segment.fd = -1;
    }
}

Lane* no_lane() noexcept {
    const Process* process = this_process();
    ForkPage* page = the_fork_page();
    if (process == nullptr || page == nullptr) return nullptr;
    // Threads may store the same at once.
    __atomic_store_n(&page->no_lane.generation, process->generation, __ATOMIC_RELAXED);
    return &page->no_lane;
}

void wake_daemon(Process& process) noexcept {
    const ErrnoKept kept;
    const shm::ControlPage* page = process.control.load(std::memory_order_acquire);
    const std::uint64_t now = clock_ns(CLOCK_MONOTONIC_COARSE);
    if (process.growth.load(std::memory_order_relaxed) &&
        (page == nullptr || !same_generation(process)) &&
        now >= process.control_retry_at_ns.load(std::memory_order_relaxed)) {
        process.control_retry_at_ns.store(now + retry_interval_ns, std::memory_order_relaxed);
        guarded(
            [&]() -> bool {  // The daemon came, or came back, after this process's first segment.
                const std::lock_guard lock(process.mutex);
                const Directory directory;
                if (directory.error == shm::CreateError::none)
                    map_control(process, directory.facts);
                return true;
            });
        page = process.control.load(std::memory_order_acquire);
    }
    if (page == nullptr || __atomic_load_n(&page->sleeping, __ATOMIC_RELAXED) == 0) return;
    process.count(shm::ProcessCounter::bells);
    syscall(SYS_futex, &page->bell, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

namespace {

struct Goal {
    const shm::DaemonLane* lane;
    std::uint64_t cursor;
};

std::optional<std::vector<Goal>> flush_goals(Process& process) {
    std::vector<Goal> goals;
    const std::lock_guard lock(process.mutex);
    for (const Lane* lane : process.lanes) {
        if (retired(*lane)) continue;  // Settled long ago.
        // The producer's word, not the owner's private cursor: other threads are recording.
        goals.push_back({lane->writer.daemon,
                         __atomic_load_n(&lane->writer.producer->write_cursor, __ATOMIC_ACQUIRE)});
    }
    return goals;
}

}  // namespace

bool flush(std::uint64_t timeout_ns) noexcept {
    Process* process = this_process();
    if (process == nullptr) return false;
    const CancellationOff no_cancellation;  // nanosleep() is a cancellation point.
    const std::uint64_t now = clock_ns(CLOCK_MONOTONIC);
    const std::uint64_t deadline = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    const auto goals = guarded([&] { return flush_goals(*process); });
    wake_daemon(*process);
    if (!goals) return false;  // Out of memory: nobody knows.
    for (const Goal& goal : *goals) {
        // Acquire: pairs with the daemon's release of its cursor.
        while (__atomic_load_n(&goal.lane->read_cursor, __ATOMIC_ACQUIRE) < goal.cursor) {
            const std::uint64_t at = clock_ns(CLOCK_MONOTONIC);
            if (at >= deadline) return false;
            constexpr std::uint64_t pause_ns = 500000;
            const timespec pause{0, static_cast<long>(std::min(pause_ns, deadline - at))};
            nanosleep(&pause, nullptr);
        }
    }
    return true;
}

std::uint64_t dropped() noexcept {
    Process* process = this_process();
    if (process == nullptr) return 0;
    const SignalsBlocked blocked;
    const std::lock_guard lock(process->mutex);
    std::uint64_t total = 0;
    for (const Lane* lane : process->lanes) {
        for (const std::uint64_t& count : lane->writer.producer->dropped)
            total += __atomic_load_n(&count, __ATOMIC_RELAXED);
    }
    if (shm::SegmentHeader* header = process->counters.load(std::memory_order_acquire)) {
        for (const auto counter :
             {shm::ProcessCounter::dropped_no_lane, shm::ProcessCounter::begun_no_lane})
            total += __atomic_load_n(&header->counters[static_cast<std::uint32_t>(counter)],
                                     __ATOMIC_RELAXED);
    }
    return total;
}

std::uint64_t dropped_without_lane() noexcept {
    Process* process = this_process();
    const shm::SegmentHeader* header =
        process == nullptr ? nullptr : process->counters.load(std::memory_order_acquire);
    if (header == nullptr) return 0;
    const auto counter = static_cast<std::uint32_t>(shm::ProcessCounter::begun_no_lane);
    return __atomic_load_n(&header->counters[counter], __ATOMIC_RELAXED);
}

}  // namespace oteld::sdk
