// The client's state of one process: its segments and lanes, and of one thread: the lane it records
// into.
//
// Used by: span.cpp and slow_span.cpp (span path), process.cpp and lanes.cpp (slow path). Nothing
// here is freed before the process ends: a span may end in a static destructor. Threads: Process
// under its mutex, except what says otherwise; Lane and Thread by their owner.
//
// fork: a lane's state lies in a page that the kernel empties in the child, and the segments are
// not mapped there. The child finds generation 0, goes the slow way and makes a Process of its own;
// the old one, its mutex possibly held by a thread that does not exist any more, is never touched
// again.
#pragma once

#include "process_context.hpp"
#include "provider.hpp"
#include "random.hpp"
#include "shm/lane_writer.hpp"
#include "shm/open_spans.hpp"
#include "shm/segment_create.hpp"
#include "thread_context.hpp"

#include <pthread.h>
#include <sys/types.h>

#include <cstddef>
#include <mutex>
#include <optional>
#include <vector>

namespace oteld::sdk {

struct Thread;
struct SegmentEntry;
struct HookFrame;

// In the private page behind a lane's producer page; emptied by the kernel in a fork's child.
struct Lane {
    std::uint64_t generation;  // Of its Process; 0 in a child. First: abi::recording() reads it.
    shm::LaneWriter writer;
    shm::Slots slots;
    Random random;
    std::atomic<const Thread*> owner;  // Null: free.
    SegmentEntry* segment;
    const shm::DaemonSegment* daemon;  // What the daemon says about the segment.
    std::uint32_t index;               // In the segment.
    std::uint64_t
        grow_at_ns;  // CLOCK_MONOTONIC_COARSE: growth was refused; not tried again before.
    std::uint64_t bank_at_ns;  // The same for further slots.
    Lane* next_bank;           // Further slots of the same owner, in segments without data.
};

struct SegmentEntry {
    shm::Segment segment;
    std::uint32_t index = 0;
    std::uint64_t data_bytes = 0;  // Per lane.
};

// The daemon took the segment for dead: it has settled what was in there and reads it no more.
[[nodiscard]] inline bool retired(const Lane& lane) noexcept {
    return __atomic_load_n(&lane.daemon->retired, __ATOMIC_RELAXED) != 0;
}

// `retired` and `recording_off` in one load, which finds 0 nearly always.
[[nodiscard]] inline std::uint32_t attention(const Lane& lane) noexcept {
    using Word [[gnu::may_alias]] = const std::uint32_t;
    return __atomic_load_n(reinterpret_cast<Word*>(lane.daemon), __ATOMIC_RELAXED);
}
static_assert(offsetof(shm::DaemonSegment, retired) == 0);

// In the private page, not at the page offset of the write cursor: the two would alias in the store
// buffer.
inline constexpr std::size_t lane_state_offset = 1024;

// A refusal stands for so long: what was refused must not cost every span a look at it.
inline constexpr std::uint64_t retry_interval_ns = 1000000000U;

struct Process {
    std::mutex mutex;
    std::uint64_t generation = 0;
    pid_t pid = 0;  // Who made it. A child of vfork() finds it, too.
    std::uint8_t process_id[16] = {};
    std::vector<SegmentEntry*> segments;
    std::vector<Lane*> lanes;    // With data.
    std::vector<Lane*> banks;    // Slots only.
    std::vector<Scope*> scopes;  // Their index is what records name.
    std::vector<const Provider*> resources;
    std::uint64_t bytes = 0;  // Of all segments.
    std::uint64_t bytes_max = 0;
    std::uint64_t lane_bytes_first = 0;
    std::atomic<bool> growth{true};  // Off: no file is opened but by set_up_rings().
    bool set_up = false;             // By set_up_rings(), once.
    std::atomic<std::uint64_t> retry_at_ns{
        0};  // CLOCK_MONOTONIC_COARSE: when to make a segment again.
    // Whether it is worth looking for a free lane before that. Relaxed: a hint.
    std::atomic<bool> lane_may_be_free{false};
    // Of the first segment; of a later one when the daemon has taken that for dead.
    std::atomic<shm::SegmentHeader*> counters{nullptr};
    std::atomic<const shm::DaemonSegment*> first_daemon{nullptr};  // Likewise.
    std::atomic<const shm::ControlPage*> control{nullptr};
    std::atomic<std::uint64_t> control_retry_at_ns{
        0};  // CLOCK_MONOTONIC_COARSE: when to look for a daemon's page again.
    std::uint64_t control_inode = 0;
    shm::Reclaimed reclaimed;  // Not counted yet: that takes a ring.
    bool warned = false;
    ProcessContext context;

    void count(shm::ProcessCounter counter, std::uint64_t by = 1) noexcept {
        if (shm::SegmentHeader* header = counters.load(std::memory_order_acquire)) {
            // Release: like a lane's `dropped`.
            __atomic_fetch_add(&header->counters[static_cast<std::uint32_t>(counter)], by,
                               __ATOMIC_RELEASE);
        }
    }
};

// The calling thread. Constant-initialised, so that reading it costs no guard.
struct Thread {
    Lane* lane = nullptr;
    volatile std::uint32_t inside =
        0;  // 1 while the thread is in the client: a signal handler must not enter.
    // Which stack of contexts is on this thread, less the number of its own (table.cpp): 0 but
    // while a coroutine runs.
    std::uint32_t stack = 0;
    volatile std::uint32_t reentered = 0;  // Spans that a signal handler wanted to start meanwhile.
    volatile std::uint32_t reentered_ends = 0;
    bool announced = false;  // Profilers find `shown`.
    ThreadContext shown{};   // `current`, for profilers.
    abi::FullContext current{};
    const HookFrame* hooks = nullptr;  // hooks.hpp
};
extern thread_local constinit Thread this_thread __attribute__((tls_model("initial-exec")));

// `reentered` and `reentered_ends` in one load, which finds 0 nearly always.
[[nodiscard]] inline std::uint64_t reentries(const Thread& thread) noexcept {
    using Word [[gnu::may_alias]] = const volatile std::uint64_t;
    return *reinterpret_cast<Word*>(&thread.reentered);
}
static_assert(offsetof(Thread, reentered) % 8 == 0 &&
              offsetof(Thread, reentered_ends) == offsetof(Thread, reentered) + 4);

// Keeps a signal handler out while the thread's lane or its context is being changed: what the
// handler starts or ends meanwhile is dropped and counted.
class Inside {
public:
    // `before`: 1 when this is itself a signal handler that the thread's state keeps out.
    explicit Inside(Thread& thread, std::uint32_t before = 0) noexcept
        : thread_(thread), before_(before) {
        thread_.inside = 1;
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    ~Inside() {
        std::atomic_signal_fence(std::memory_order_seq_cst);
        thread_.inside = before_;
        if (__builtin_expect(reentries(thread_) != 0, 0) && before_ == 0) count_reentries(thread_);
    }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

    // Returns `result`, for callers that have nothing else to do.
    [[gnu::noinline]] static std::uint8_t* count_reentries(Thread& thread,
                                                           std::uint8_t* result = nullptr) noexcept;

private:
    Thread& thread_;
    const std::uint32_t before_;
};

// The process, made at the first call; a new one in a fork's child. Null: out of memory.
[[nodiscard]] Process* this_process() noexcept;
// Whether libc takes the caller for another thread: it is a child of a raw clone(2), or of vfork().
[[nodiscard]] bool mistaken_by_libc() noexcept;
// Of such a caller: it stands in the memory of its parent, until it execs. What it decided would be
// decided for its parent, and a file that it opened would not be its parent's.
[[nodiscard]] bool borrows(const Process& process) noexcept;
// A child of a raw clone(2) records nothing. Called with the mutex held.
void count_raw_clone(Process& process);

// Slow paths (lanes.cpp). Signals are blocked inside; none of them throws.
// A lane for the calling thread in which `scope` is registered; null: nothing can be recorded now,
// and the span that is about to start, a child of `parent`, has been counted where it had to be.
[[nodiscard]] Lane* prepare(Thread& thread, Scope& scope, const abi::Context& parent) noexcept;
// Room for a record in the calling thread's lane, after waking the daemon or moving to a larger
// lane.
[[nodiscard]] std::uint8_t* make_room(Thread& thread, std::uint64_t record_bytes) noexcept;
// Why it is dropped that found none.
[[nodiscard]] shm::DropReason why_no_room(const Thread& thread,
                                          std::uint64_t record_bytes) noexcept;
// A lane for ending a span on a thread that has none, or one in a segment that the daemon took for
// dead.
[[nodiscard]] Lane* claim_for_end(Thread& thread) noexcept;
// What the daemon has to say about the segment of a span that ends. False: it took the segment for
// dead, and the span for recovered.
[[nodiscard]] bool heed_daemon(const Lane& owner) noexcept;
// A further slot when the lane's own small ones are taken; null: use the heap. `owner` is where it
// came from.
[[nodiscard]] shm::SlotControl* take_bank_slot(Thread& thread, Lane*& owner,
                                               std::uint32_t& slot) noexcept;
// Of the whole process (process.cpp).
void wake_daemon(Process& process) noexcept;
bool flush(std::uint64_t timeout_ns) noexcept;
[[nodiscard]] std::uint64_t dropped() noexcept;
[[nodiscard]] std::uint64_t dropped_without_lane() noexcept;  // Part of it.

// What a program wants of its rings; absent: the default.
struct RingWishes {
    std::optional<std::size_t> lanes;
    std::optional<std::size_t> lane_bytes;
    bool growth = true;
};
// Makes the rings, with the resource of this provider in them. Says on standard error what cannot
// be done (setup.cpp). May throw std::bad_alloc.
void set_up_rings(const Provider& provider, const RingWishes& wishes);
// What a fork's child takes over of that.
[[nodiscard]] std::uint64_t lane_bytes_wanted() noexcept;
[[nodiscard]] bool growth_wanted() noexcept;

// Bytes that this process may take for rings, and whether `bytes` more would come near the memory
// cgroup's limit.
[[nodiscard]] std::uint64_t ring_bytes_max() noexcept;
[[nodiscard]] bool memory_allows(std::uint64_t bytes) noexcept;

}  // namespace oteld::sdk
