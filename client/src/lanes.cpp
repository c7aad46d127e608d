// The slow path of a thread: claiming a lane, moving to a larger one, further slots, and leaving
// them.

#include "clock.hpp"
#include "hooks.hpp"
#include "process.hpp"
#include "segments.hpp"
#include "signals.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace oteld::sdk {

thread_local constinit Thread this_thread;

namespace {

constexpr std::uint32_t lanes_first = 2;
constexpr std::uint32_t lanes_grown_max = 64;  // In a segment that growth makes.
constexpr std::size_t many_lanes = 16;
constexpr std::uint64_t growth_factor = 4;
constexpr std::uint32_t bank_lanes = 16;
constexpr std::uint32_t bank_slots = 64;

// Room for at least half of what it holds, by the daemon's word: a thread with much to say should
// not start in a lane that its predecessor left full.
bool roomy(const Lane& lane) noexcept {
    const std::uint64_t read_untrusted =
        __atomic_load_n(&lane.writer.daemon->read_cursor, __ATOMIC_RELAXED);
    return lane.writer.cursor - read_untrusted <= lane.writer.bytes / 2;
}

// A refusal stands for a second: a full file system must not cost every span a look at it.
bool too_early(const Process& process) noexcept {
    return clock_ns(CLOCK_MONOTONIC_COARSE) < process.retry_at_ns.load(std::memory_order_relaxed);
}

// Whether a thread without a lane gets none, without a lock.
bool no_lane_now(const Process& process) noexcept {
    return !process.lane_may_be_free.load(std::memory_order_relaxed) && too_early(process);
}

// Owns the lanes whose liveness word another process has changed: nobody takes them again, because
// libc may have them in the list of a thread that has ended.
constinit const Thread nobody;

// A free lane of at least that size: one with room, then the smallest.
Lane* best_free(const std::vector<Lane*>& lanes, std::uint64_t bytes_min) noexcept {
    Lane* best = nullptr;
    bool best_roomy = false;
    for (Lane* lane : lanes) {
        // Acquire: pairs with the release of its last owner, whose private state this thread
        // continues.
        if (lane->owner.load(std::memory_order_acquire) != nullptr ||
            lane->writer.bytes < bytes_min || retired(*lane))
            continue;
        const bool lane_roomy = roomy(*lane);
        if (bytes_min != 0 && !lane_roomy) continue;  // Nobody moves from one full lane to another.
        if (best == nullptr || lane_roomy > best_roomy ||
            (lane_roomy == best_roomy && lane->writer.bytes < best->writer.bytes)) {
            best = lane;
            best_roomy = lane_roomy;
        }
    }
    return best;
}

// Its liveness word is held from here on.
Lane* take_free(std::vector<Lane*>& lanes, const Thread& thread, std::uint64_t bytes_min) noexcept {
    Lane* best = best_free(lanes, bytes_min);
    // A free lane's word is 0, or somebody else has written into it.
    while (best != nullptr && pthread_mutex_trylock(liveness_word(*best)) != 0) {
        best->owner.store(&nobody, std::memory_order_relaxed);
        best = best_free(lanes, bytes_min);
    }
    if (best == nullptr) return nullptr;
    __atomic_fetch_add(&best->writer.producer->epoch, 1, __ATOMIC_RELAXED);
    best->owner.store(&thread, std::memory_order_release);
    best->next_bank = nullptr;
    return best;
}

// More threads, more lanes in the next segment; and smaller ones when little of the cap is left.
// Few threads have half of what is left for their next lanes; of many each segment takes a
// sixteenth, which gives two thousand of them a lane within 64 MiB.
shm::Geometry next_geometry(const Process& process, std::uint64_t bytes_wanted) noexcept {
    shm::Geometry geometry;
    geometry.data_bytes = bytes_wanted;
    if (bytes_wanted > process.lane_bytes_first) {
        geometry.lanes = 1;  // A lane that overflowed: one thread's own.
        return geometry;
    }
    geometry.lanes = std::min<std::uint32_t>(
        std::max<std::uint32_t>(lanes_first, static_cast<std::uint32_t>(process.lanes.size())),
        lanes_grown_max);
    const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    const std::uint64_t allowed = bytes_allowed(process);
    const std::uint64_t left = allowed - std::min(allowed, process.bytes);
    const std::uint64_t share = left / (process.lanes.size() < many_lanes ? 2 : 16);
    while (geometry.file_bytes(page) > share && geometry.data_bytes > lane_bytes_least) {
        geometry.data_bytes /= 2;
        geometry.slot_count[0] = std::max(geometry.slot_count[0] / 2, 8U);
        geometry.slot_count[1] = geometry.data_bytes > lane_bytes_least ? 1 : 0;
        geometry.slot_count[2] = 0;
    }
    while (geometry.file_bytes(page) > left && geometry.lanes > 1) geometry.lanes /= 2;
    return geometry;
}

Lane* claim(Process& process, Thread& thread, std::uint64_t bytes_wanted) {
    const std::uint64_t smallest = bytes_wanted > process.lane_bytes_first ? bytes_wanted : 0;
    Lane* lane = take_free(process.lanes, thread, smallest);
    if (lane != nullptr) return lane;
    if (smallest == 0) process.lane_may_be_free.store(false, std::memory_order_relaxed);
    if (!process.growth.load(std::memory_order_relaxed)) return nullptr;
    if (smallest == 0 && too_early(process)) return nullptr;
    if (add_segment(process, next_geometry(process, bytes_wanted)) == nullptr) return nullptr;
    return take_free(process.lanes, thread, smallest);
}

// libc refuses when the word is not this thread's any more, and leaves the lane in its list.
void let_go(Lane& lane) noexcept {
    const bool unlocked = pthread_mutex_unlock(liveness_word(lane)) == 0;
    lane.owner.store(unlocked ? nullptr : &nobody, std::memory_order_release);
}

void release(Process& process, Lane* lane) noexcept {
    for (Lane* bank = lane->next_bank; bank != nullptr;) {
        Lane* next = bank->next_bank;
        bank->next_bank = nullptr;
        let_go(*bank);
        bank = next;
    }
    lane->next_bank = nullptr;
    let_go(*lane);
    process.lane_may_be_free.store(true, std::memory_order_relaxed);
}

// Out of a lane that nobody reads any more. Called with the mutex held.
void leave_retired(Process& process, Thread& thread) noexcept {
    Lane* lane = thread.lane;
    if (lane == nullptr || !retired(*lane)) return;
    thread.lane = nullptr;
    release(process, lane);
}

// Gives the lane back when its thread ends. Slots that are still open stay what they are until
// their spans end.
void thread_ended(void*) {
    Thread& thread = this_thread;
    Lane* lane = thread.lane;
    if (lane == nullptr || lane->generation == 0) return;
    const SignalsBlocked blocked;
    // Of a handler that left the client by siglongjmp().
    if (reentries(thread) != 0) Inside::count_reentries(thread);
    thread.lane = nullptr;
    if (Process* process = this_process()) {
        const std::lock_guard lock(process->mutex);
        release(*process, lane);
    }
}

// A thread-specific value, not a thread_local object: its destructor runs after those of all
// thread_local objects, and once more when spans that end in others' destructors have claimed a
// lane again.
constinit std::atomic<std::uint32_t> thread_end_key{0};  // One more than the key; 0: none yet.

void call_at_thread_end(Thread& thread) noexcept {
    std::uint32_t known = thread_end_key.load(std::memory_order_acquire);
    if (known == 0) {
        pthread_key_t fresh;
        if (pthread_key_create(&fresh, thread_ended) != 0)
            return;  // Then the kernel tells the daemon.
        if (thread_end_key.compare_exchange_strong(known, fresh + 1, std::memory_order_acq_rel))
            known = fresh + 1;
        else
            pthread_key_delete(fresh);
    }
    pthread_setspecific(known - 1, &thread);
}

Lane* claim_first(Process& process, Thread& thread) {
    if (mistaken_by_libc()) {
        if (process.pid != getpid()) return nullptr;  // A child of vfork(): as in borrows().
        count_raw_clone(process);
        process.retry_at_ns.store(UINT64_MAX, std::memory_order_relaxed);
        process.lane_may_be_free.store(false, std::memory_order_relaxed);
        return nullptr;
    }
    const bool refused_before = too_early(process);
    Lane* lane = claim(process, thread, process.lane_bytes_first);
    if (lane == nullptr) {
        if (refused_before) return nullptr;
        process.count(shm::ProcessCounter::growth_refused);
        process.retry_at_ns.store(clock_ns(CLOCK_MONOTONIC_COARSE) + retry_interval_ns,
                                  std::memory_order_relaxed);
        return nullptr;
    }
    thread.lane = lane;
    call_at_thread_end(thread);
    return lane;
}

// A larger lane for a thread whose lane overflowed, or one that fits a large span.
Lane* move_up(Process& process, Thread& thread, std::uint64_t record_bytes) {
    Lane* old = thread.lane;
    std::uint64_t bytes = old->writer.bytes;
    do bytes *= growth_factor;
    while (bytes < record_bytes * 2 && bytes < shm::lane_data_bytes_max);
    bytes = std::min(bytes, shm::lane_data_bytes_max);
    Lane* lane =
        process.growth.load(std::memory_order_relaxed) ? claim(process, thread, bytes) : nullptr;
    if (lane == nullptr) {
        process.count(shm::ProcessCounter::growth_refused);
        old->grow_at_ns = clock_ns(CLOCK_MONOTONIC_COARSE) + retry_interval_ns;
        return nullptr;
    }
    thread.lane = lane;
    lane->next_bank = old->next_bank;
    old->next_bank = nullptr;
    release(process, old);
    return lane;
}

}  // namespace

// Neighbouring numbers become independent ones (the end of SplitMix64).
static std::uint64_t spread(std::uint64_t number) noexcept {
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9ULL;
    number = (number ^ number >> 27) * 0x94D049BB133111EBULL;
    return number ^ number >> 31;
}

// A span that begins without a lane to be counted in, as far as one can tell whether it would have
// been sampled. In a process without a ring there is nothing to count in, and nobody to ask.
static void count_unplaced(Process& process, const Scope& scope,
                           const abi::Context& parent) noexcept {
    const Provider* provider = scope.active.load(std::memory_order_acquire);
    // Without a provider there was no memory to make one: who knows what it would have said.
    if (provider == nullptr) return process.count(shm::ProcessCounter::begun_no_lane);
    const Sampler& sampler = provider->sampler;
    std::uint64_t trace[2];
    std::memcpy(trace, parent.trace_id, sizeof trace);
    const bool root = (trace[0] | trace[1]) == 0;
    const bool asked = sampler.parent_based && parent_decides(parent, root);
    if (sampler.disabled || (asked && (parent.flags & 1U) == 0)) return;
    if (!asked && sampler.root_threshold != Sampler::always) {
        // A root has no id yet.
        const std::uint64_t low = root ? spread(now()) : __builtin_bswap64(trace[1]);
        if (low >= sampler.root_threshold) return;
    }
    process.count(shm::ProcessCounter::begun_no_lane);
}

Lane* prepare(Thread& thread, Scope& scope, const abi::Context& parent) noexcept {
    // Acquire: pairs with register_scope() on another thread.
    const Provider* provider = scope.active.load(std::memory_order_acquire);
    if (provider != nullptr && provider->sampler.disabled &&
        (scope.own == provider || (scope.own == nullptr && is_global(provider)))) {
        return nullptr;
    }
    Process* process = this_process();
    if (process == nullptr) return nullptr;
    if (thread.lane != nullptr && thread.lane->generation != process->generation)
        thread.lane = nullptr;  // A fork's child.
    // Without a segment of its own the process looks at the daemon's page before it makes one.
    if (process->first_daemon.load(std::memory_order_acquire) != nullptr && recording_off(*process))
        return nullptr;
    const bool none_now = thread.lane == nullptr && no_lane_now(*process);
    if (none_now &&
        (provider != nullptr || process->counters.load(std::memory_order_acquire) == nullptr)) {
        count_unplaced(*process, scope, parent);
        return nullptr;
    }
    Lane* lane = guarded([&]() -> Lane* {
        const std::lock_guard lock(process->mutex);
        if (scope.generation.load(std::memory_order_relaxed) != process->generation)
            register_scope(*process, scope, scope.own != nullptr ? scope.own : global_provider());
        if (scope.active.load(std::memory_order_relaxed)->sampler.disabled) return nullptr;
        leave_retired(*process, thread);
        if (thread.lane != nullptr) return thread.lane;
        return none_now ? nullptr : claim_first(*process, thread);
    });
    if (lane == nullptr) count_unplaced(*process, scope, parent);
    return lane;
}

Lane* prepare_bound(Thread& thread, Scope& scope, ScopeBinding& binding, const abi::Context& parent,
                    bool watched, bool& off) noexcept {
    Process* process = this_process();
    off = false;
    if (process == nullptr) return nullptr;
    if (thread.lane != nullptr && thread.lane->generation != process->generation)
        thread.lane = nullptr;  // A fork's child.
    off =
        process->first_daemon.load(std::memory_order_acquire) != nullptr && recording_off(*process);
    if (off) return nullptr;
    // Acquire: pairs with the release below; the index is that of this process.
    const bool known = binding.generation.load(std::memory_order_acquire) == process->generation;
    if (known && thread.lane != nullptr && !retired(*thread.lane)) return thread.lane;
    const bool none_now = thread.lane == nullptr && no_lane_now(*process);
    const bool no_ring = process->counters.load(std::memory_order_acquire) == nullptr;
    Lane* lane = none_now && (known || no_ring) ? nullptr : guarded([&]() -> Lane* {
        const std::lock_guard lock(process->mutex);
        if (binding.generation.load(std::memory_order_relaxed) != process->generation) {
            register_scope(*process, scope, binding.provider);
            binding.index.store(scope.index.load(std::memory_order_relaxed),
                                std::memory_order_relaxed);
            binding.generation.store(process->generation, std::memory_order_release);
        }
        leave_retired(*process, thread);
        if (thread.lane != nullptr) return thread.lane;
        return none_now ? nullptr : claim_first(*process, thread);
    });
    if (lane != nullptr) return lane;
    off = recording_off(*process);  // It may have been found out only now.
    if (!off && !watched) count_unplaced(*process, scope, parent);
    return nullptr;
}

Lane* claim_for_end(Thread& thread) noexcept {
    Process* process = this_process();
    if (process == nullptr) return nullptr;
    if (thread.lane != nullptr && thread.lane->generation != process->generation)
        thread.lane = nullptr;
    if (thread.lane != nullptr && !retired(*thread.lane)) return thread.lane;
    if (thread.lane == nullptr && no_lane_now(*process)) return nullptr;
    return guarded([&]() -> Lane* {
        const std::lock_guard lock(process->mutex);
        leave_retired(*process, thread);
        return claim_first(*process, thread);
    });
}

bool heed_daemon(const Lane& owner) noexcept {
    Process* process = this_process();
    // All threads of the process are stopped by the first of its spans to end.
    if (process != nullptr && recording_off(*process)) forget_scopes();
    return !retired(owner);
}

std::uint8_t* make_room(Thread& thread, std::uint64_t record_bytes) noexcept {
    bool ring_bell = false;
    const auto room = thread.lane->writer.make_room(record_bytes, ring_bell);
    Process* process = this_process();
    if (process == nullptr) return nullptr;
    if (ring_bell) wake_daemon(*process);
    if (room == shm::LaneWriter::Room::ok) return thread.lane->writer.claim(record_bytes);
    // A refusal stands for a second: a full ring must not cost every span a lock.
    while (thread.lane->writer.bytes < shm::lane_data_bytes_max &&
           clock_ns(CLOCK_MONOTONIC_COARSE) >= thread.lane->grow_at_ns) {
        Lane* lane = guarded([&]() -> Lane* {
            const std::lock_guard lock(process->mutex);
            return move_up(*process, thread, record_bytes);
        });
        if (lane == nullptr) return nullptr;
        if (lane->writer.make_room(record_bytes, ring_bell) == shm::LaneWriter::Room::ok)
            return lane->writer.claim(record_bytes);
    }
    return nullptr;
}

// Of the lanes that the thread may come to have. Called with the mutex held.
static std::uint64_t largest_lane(const Process& process, const Thread& thread) noexcept {
    std::uint64_t largest = thread.lane->writer.bytes;
    if (!process.growth.load(std::memory_order_relaxed)) return largest;
    for (const Lane* lane : process.lanes)
        if (!retired(*lane)) largest = std::max(largest, lane->writer.bytes);
    const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    const std::uint64_t allowed = bytes_allowed(process);
    shm::Geometry geometry;
    geometry.lanes = 1;
    for (geometry.data_bytes = largest * 2; geometry.data_bytes <= shm::lane_data_bytes_max;
         geometry.data_bytes *= 2) {
        if (process.bytes + geometry.file_bytes(page) <= allowed) largest = geometry.data_bytes;
    }
    return largest;
}

shm::DropReason why_no_room(const Thread& thread, std::uint64_t record_bytes) noexcept {
    // Wherever a lane's cursor stands, half of its size fits once it is drained.
    if (record_bytes <= thread.lane->writer.bytes / 2) return shm::DropReason::ring_full;
    Process* process = this_process();
    if (process == nullptr) return shm::DropReason::ring_full;
    return guarded([&] {
        const std::lock_guard lock(process->mutex);
        return record_bytes > largest_lane(*process, thread) / 2 ? shm::DropReason::too_large
                                                                 : shm::DropReason::ring_full;
    });
}

shm::SlotControl* take_bank_slot(Thread& thread, Lane*& owner, std::uint32_t& slot) noexcept {
    for (Lane* bank = thread.lane->next_bank; bank != nullptr; bank = bank->next_bank) {
        if (shm::SlotControl* control = bank->slots.take(0, slot)) {
            owner = bank;
            return control;
        }
    }
    Process* process = this_process();
    if (process == nullptr || !process->growth.load(std::memory_order_relaxed) ||
        clock_ns(CLOCK_MONOTONIC_COARSE) < thread.lane->bank_at_ns)
        return nullptr;
    Lane* bank = guarded([&]() -> Lane* {
        const std::lock_guard lock(process->mutex);
        Lane* free_bank = take_free(process->banks, thread, 0);
        if (free_bank != nullptr) return free_bank;
        shm::Geometry geometry;
        geometry.lanes = bank_lanes;
        geometry.data_bytes = 0;
        geometry.slot_count[0] = bank_slots;
        geometry.slot_count[1] = geometry.slot_count[2] = 0;
        if (add_segment(*process, geometry) == nullptr) {
            process->count(shm::ProcessCounter::growth_refused);
            return nullptr;
        }
        return take_free(process->banks, thread, 0);
    });
    if (bank == nullptr) {
        thread.lane->bank_at_ns = clock_ns(CLOCK_MONOTONIC_COARSE) + retry_interval_ns;
        return nullptr;
    }
    bank->next_bank = thread.lane->next_bank;
    thread.lane->next_bank = bank;
    owner = bank;
    if (shm::SlotControl* control = bank->slots.take(0, slot)) return control;
    // The bank of a thread that ended with all of its spans open. It is ours now; the next one may
    // have room.
    return take_bank_slot(thread, owner, slot);
}

}  // namespace oteld::sdk
