// The long way of a span: buffers beyond the lane's small slots, providers with code of their own,
// other threads, signal handlers, forks, a full lane, and whatever else is unusual.

#include "span_path.hpp"

#include <cstdlib>

namespace oteld::sdk {
namespace {

void not_recorded(abi::Span& span, const abi::Context& parent) noexcept {
    span.record = nullptr;
    span.context = parent;
    abi::retain(span.context.trace_state);
}

// A buffer beyond the slots: not visible after a crash, counted.
shm::SlotControl* allocate(std::size_t bytes) noexcept {
    auto* control = static_cast<shm::SlotControl*>(std::malloc(sizeof(shm::SlotControl) + bytes));
    if (control != nullptr) std::memset(static_cast<void*>(control), 0, sizeof *control);
    return control;
}

constexpr std::size_t heap_bytes_first = 32 << 10;

struct Place {
    shm::SlotControl* control = nullptr;  // Null: nowhere.
    std::size_t bytes = 0;
    Lane* owner = nullptr;
    std::uint32_t slot = heap_slot;
};

// Where the span is built: a small slot of the lane, of a further bank, or the heap.
Place find_place(Thread& thread, Lane* lane) noexcept {
    Place place;
    place.owner = lane;
    place.control = lane->slots.take(0, place.slot);
    if (place.control == nullptr) place.control = take_bank_slot(thread, place.owner, place.slot);
    if (place.control != nullptr) {
        place.bytes = place.owner->slots.bytes[0];
        return place;
    }
    place = {allocate(heap_bytes_first), heap_bytes_first, lane, heap_slot};
    if (place.control == nullptr) return place;
    add(lane->writer.producer->heap_spans);
    if (Process* process = this_process()) process->count(shm::ProcessCounter::not_crash_visible);
    return place;
}

void free_place(abi::Span& span, const Thread& thread) noexcept {
    shm::SlotControl* control = control_of(span.record);
    auto* owner = static_cast<Lane*>(span.owner);
    if (on_heap(span.slot)) {
        std::free(control);
        if (span.slot == private_slot) return;
        if (Process* process = this_process()) process->count(shm::ProcessCounter::heap_closed);
        return;
    }
    shm::SlotSteps<>::close(*control);
    if (owner->owner.load(std::memory_order_relaxed) == &thread)
        owner->slots.give_back(span.slot);
    else
        owner->slots.give_back_from_elsewhere(span.slot);
}

// The marker first: a death right behind it leaves a span that is neither open nor dropped, which
// is "lost".
void drop(abi::Span& span, Thread& thread, Lane* lane, shm::DropReason reason) noexcept {
    shm::SlotSteps<>::dropped(*control_of(span.record));
    if (lane != nullptr)
        add_finished(dropped(*lane, reason));
    else if (Process* process = this_process())
        process->count(shm::ProcessCounter::dropped_no_lane);
    free_place(span, thread);
}

// The daemon took its segment for dead, settled what had begun in there and reads it no more. So it
// is counted where somebody reads, as one that began there.
[[gnu::noinline]] void drop_orphan(abi::Span& span, Thread& thread) noexcept {
    shm::SlotSteps<>::dropped(*control_of(span.record));
    if (Lane* lane = claim_for_end(thread)) {
        add(lane->writer.producer->begun);
        add_finished(dropped(*lane, shm::DropReason::orphaned));
    } else if (Process* process = this_process()) {
        process->count(shm::ProcessCounter::begun_no_lane);
    }
    free_place(span, thread);
}

// The larger buffers: the lane's medium and large slots, then the heap.
shm::SlotControl* take_larger(abi::Span& span, Thread& thread, std::size_t bytes,
                              std::uint32_t& slot, std::size_t& got) noexcept {
    auto* owner = static_cast<Lane*>(span.owner);
    // Another thread's slots are not ours to take.
    if (owner->owner.load(std::memory_order_relaxed) == &thread && !on_heap(span.slot)) {
        for (std::uint32_t c = 1; c < shm::slot_classes; ++c) {
            if (owner->slots.bytes[c] < bytes) continue;
            if (shm::SlotControl* control = owner->slots.take(c, slot)) {
                got = owner->slots.bytes[c];
                return control;
            }
        }
    }
    if (bytes > shm::record_bytes_max) return nullptr;
    slot = span.slot == private_slot ? private_slot : heap_slot;
    got = heap_bytes_first;
    while (got < bytes) got *= 2;
    if (got > shm::record_bytes_max) got = shm::record_bytes_max;
    return allocate(got);
}

// Copies the span, whose content ends at `at`, into another buffer. Returns that end there. The old
// buffer is the caller's to give back.
std::uint8_t* move_into(abi::Span& span, const std::uint8_t* at, shm::SlotControl* control,
                        std::size_t bytes, std::uint32_t slot) noexcept {
    const auto* record = reinterpret_cast<const std::uint8_t*>(span.record);
    auto* to = reinterpret_cast<std::uint8_t*>(record_of(control));
    auto* end = reinterpret_cast<std::uint8_t*>(control) + bytes - span.description_bytes;
    std::memcpy(control->dropped, control_of(span.record)->dropped, sizeof control->dropped);
    std::memcpy(to, record, static_cast<std::size_t>(at - record));
    std::memcpy(end, span.end, span.description_bytes);
    span.cursor = to + (span.cursor - record);
    span.record = record_of(control);
    span.end = end;
    span.room_end = to + (at - record);  // How many attributes there are is asked at the next one.
    span.slot = slot;
    return span.room_end;
}

// Moves the span, whose content ends at `at`, to where `more` bytes fit behind it. Returns the end
// of the content there.
std::uint8_t* grow_here(abi::Span& span, Thread& thread, std::uint8_t* at,
                        std::size_t more) noexcept {
    shm::SlotControl* old_control = control_of(span.record);
    const auto used = static_cast<std::size_t>(at - reinterpret_cast<std::uint8_t*>(span.record));
    // Whatever comes later must still fit: dropped counts, a length in front of the description.
    const std::size_t needed = sizeof(shm::SlotControl) + used + more + span.description_bytes + 64;
    if (more > shm::record_bytes_max || needed > shm::record_bytes_max) return nullptr;
    std::uint32_t slot = 0;
    std::size_t bytes = 0;
    shm::SlotControl* control = take_larger(span, thread, needed, slot, bytes);
    if (control == nullptr) return nullptr;
    shm::SlotSteps<>::open(*control);
    abi::Span old = span;
    at = move_into(span, at, control, bytes, slot);
    // Open in the new place before it is closed in the old one; recovery keeps the longer of two.
    const std::uint32_t published = __atomic_load_n(&old_control->published, __ATOMIC_RELAXED);
    shm::SlotSteps<>::publish(*control, published);
    if (slot == heap_slot && old.slot != heap_slot) {
        if (Lane* lane = thread.lane; lane != nullptr && lane->generation != 0)
            add(lane->writer.producer->heap_spans);
        if (Process* process = this_process())
            process->count(shm::ProcessCounter::not_crash_visible);
    }
    if (on_heap(old.slot)) {
        std::free(old_control);
    } else {
        shm::SlotSteps<>::close(*old_control);
        clear_dropped(*old_control);
        free_place(old, thread);
    }
    return at;
}

// Counts that are not zero go behind the body.
void put_dropped_counts(abi::Span& span, Thread& thread) noexcept {
    using namespace detail;
    std::uint8_t* at = span.cursor;
    const std::uint32_t fields[] = {10, 12, 14};
    for (std::size_t i = 0; i < 3; ++i) {
        const std::uint32_t count = control_of(span.record)->dropped[i];
        constexpr std::size_t bytes = 1 + 5;
        if (count == 0) continue;
        if (span.end - at < static_cast<std::ptrdiff_t>(bytes)) {
            std::uint8_t* to = grow_here(span, thread, at, bytes);
            if (to == nullptr) continue;
            at = to;
        }
        at = wire::put_varint(wire::put_tag(at, fields[i], wire::varint_type), count);
    }
    abi::publish(span, at);
    clear_dropped(*control_of(span.record));
}

// Copies the span to its place in the lane.
void copy(const abi::Span& span, std::uint8_t* to, std::size_t used, std::uint64_t bytes,
          std::uint64_t end_time) noexcept {
    std::memset(to + bytes - 8, 0, 8);
    std::memcpy(to, span.record, used);
    put_end(to, used, bytes, end_time);
    if (span.description_bytes != 0) {
        reinterpret_cast<SpanRecord*>(to)->prefix.flags |= detail::record_has_description;
        std::memcpy(to + used, &span.description_bytes, 4);
        std::memcpy(to + used + 4, span.end, span.description_bytes);
    }
}

[[gnu::noinline]] void end_in_handler(abi::Span& span, Thread& thread) noexcept {
    // The heap's locks may be held by what was interrupted: the buffer is not freed.
    if (span.slot == private_slot) return;
    shm::SlotSteps<>::dropped(*control_of(span.record));
    __atomic_fetch_add(&thread.reentered_ends, 1, __ATOMIC_RELAXED);
    auto* owner = static_cast<Lane*>(span.owner);
    if (span.slot == heap_slot) return;
    shm::SlotSteps<>::close(*control_of(span.record));
    clear_dropped(*control_of(span.record));
    owner->slots.give_back_from_elsewhere(span.slot);
}

// The provider of the scope's spans, if that is known already.
const Provider* provider_of(const Scope& scope) noexcept {
    return scope.own != nullptr ? scope.own : known_global_provider();
}

// X-Ray: the seconds since 1970 in front, 96 random bits behind.
void put_xray_time(Identity& own) noexcept {
    const auto seconds = static_cast<std::uint32_t>(clock_ns(CLOCK_REALTIME_COARSE) / 1000000000U);
    own.trace_first = (own.trace_first & ~0xFFFFFFFFULL) | __builtin_bswap32(seconds);
}

std::uint32_t watched_state(const Identity& own, const abi::Context& parent) noexcept {
    return watched | (own.root ? watched_root : 0U) |
           ((parent.flags & 1U) != 0 ? watched_parent_sampled : 0U) |
           (parent_decides(parent, own.root) ? watched_parent_decides : 0U);
}

}  // namespace

std::uint8_t* put_trace_state(abi::Span& span, std::uint8_t* at) noexcept {
    const abi::TraceState* state = span.context.trace_state;
    if (state == nullptr) return at;
    const std::size_t bytes = detail::wire::bytes_field_bytes(3, state->bytes);
    std::uint8_t* to = span.end - at >= static_cast<std::ptrdiff_t>(bytes)
                           ? at
                           : grow_here(span, this_thread, at, bytes);
    return to == nullptr ? at : detail::wire::put_bytes(to, 3, state + 1, state->bytes);
}

std::uint8_t* start_slowly(abi::Span* span, const void* scope_handle,
                           const abi::Context* given_parent, std::uint64_t start_unix_ns,
                           std::uint32_t kind) noexcept {
    Thread& thread = this_thread;
    auto& scope = *static_cast<Scope*>(const_cast<void*>(scope_handle));
    const abi::Context& parent = given_parent != nullptr ? *given_parent : thread.current.span;
    const Provider* provider = provider_of(scope);
    if (provider != nullptr && silent(*provider, scope)) {
        not_recorded(*span, parent);
        return nullptr;
    }
    if (thread.inside != 0) {
        if (provider == nullptr || !provider->local)
            __atomic_fetch_add(&thread.reentered, 1, __ATOMIC_RELAXED);
        not_recorded(*span, parent);
        return nullptr;
    }
    const Inside inside(thread);
    ScopeBinding* binding =
        provider != nullptr && provider->starts_slowly() ? bind(scope, *provider) : nullptr;
    const bool is_watched =
        binding != nullptr && provider->hooks != nullptr && !in_hook_of(thread, *provider);
    bool off = false;
    Lane* lane = thread.lane;
    if (binding != nullptr) {
        lane = provider->local ? nullptr
                               : prepare_bound(thread, scope, *binding, parent, is_watched, off);
    } else if (lane == nullptr ||
               lane->generation != scope.generation.load(std::memory_order_acquire)) {
        lane = prepare(thread, scope, parent);
    }
    Lane* owner = lane == nullptr && is_watched && !off ? no_lane() : lane;
    if (owner == nullptr) {
        not_recorded(*span, parent);
        return nullptr;
    }
    if (binding == nullptr) provider = scope.active.load(std::memory_order_relaxed);
    Random fresh{};
    if (lane == nullptr) fresh.seed();
    Identity own = identify(parent, lane != nullptr ? lane->random : fresh);
    if (own.root && provider->xray_ids) put_xray_time(own);
    const bool record = is_watched || provider->sampler.samples(parent, own.root, own.trace_last);
    if (record && !is_watched) own.flags |= 1U;
    put_context(span->context, own);
    abi::retain(own.trace_state);
    if (own.trace_state != nullptr && parent.remote != 0 && !is_watched) {
        const bool parent_decided =
            provider->sampler.parent_based && parent_decides(parent, own.root);
        check_threshold(span->context, parent_decided, record);
        own.trace_state = span->context.trace_state;
    }
    span->record = nullptr;
    if (!record) {
        add(lane->writer.producer->unsampled);
        return nullptr;
    }
    if (!is_watched) add(lane->writer.producer->begun);
    const Place place =
        lane != nullptr ? find_place(thread, lane)
                        : Place{allocate(heap_bytes_first), heap_bytes_first, owner, private_slot};
    if (place.control == nullptr) {
        if (lane == nullptr) return nullptr;
        if (is_watched) add(lane->writer.producer->begun);
        add_finished(dropped(*lane, shm::DropReason::no_memory));
        return nullptr;
    }
    const std::uint32_t index =
        (binding != nullptr ? binding->index : scope.index).load(std::memory_order_relaxed);
    const Known under{index, binding != nullptr ? binding->limits : provider->limits};
    put_start(*span, place.owner, place.slot, place.control, place.bytes, under, own, kind);
    auto* at = reinterpret_cast<std::uint8_t*>(span->record + 1);
    if (is_watched)
        span->watched = watched_state(own, parent);  // The sampler has a say in the trace state.
    else
        at = put_trace_state(*span, at);
    span->record->start = start_unix_ns != 0 ? start_unix_ns : now();
    return at;
}

std::uint8_t* grow(abi::Span* span, std::uint8_t* at, std::size_t bytes) noexcept {
    Thread& thread = this_thread;
    // In a fork's child there is nothing to grow; in a signal handler the interrupted code may be
    // taking a slot.
    if (!abi::recording(*span) || thread.inside != 0) return nullptr;
    const Inside inside(thread);
    return grow_here(*span, thread, at, bytes);
}

void discard(abi::Span& span) noexcept {
    auto* owner = static_cast<Lane*>(span.owner);
    Thread& thread = this_thread;
    if (owner->generation == span.generation) {
        const Inside inside(thread);
        clear_dropped(*control_of(span.record));
        free_place(span, thread);
    } else if (on_heap(span.slot)) {  // A hook has forked.
        std::free(control_of(span.record));
    }
    span.record = nullptr;
}

std::uint8_t* make_private(abi::Span& span, std::uint8_t* at) noexcept {
    if (span.slot == private_slot) return at;
    Thread& thread = this_thread;
    const Inside inside(thread);
    const auto used = static_cast<std::size_t>(at - reinterpret_cast<std::uint8_t*>(span.record));
    std::size_t bytes = heap_bytes_first;
    while (bytes < sizeof(shm::SlotControl) + used + 64) bytes *= 2;
    shm::SlotControl* control = allocate(bytes);
    if (control == nullptr) return nullptr;
    abi::Span old = span;
    at = move_into(span, at, control, bytes, private_slot);
    clear_dropped(*control_of(old.record));
    free_place(old, thread);
    return at;
}

void count_started(const abi::Span& span, bool sampled) noexcept {
    const Lane* lane = this_thread.lane;
    if (static_cast<const Lane*>(span.owner)->segment == nullptr || lane == nullptr) {
        // Delivered nowhere: dropped, where there is a ring to say so.
        const ScopeBinding& binding = binding_of(span);
        if (!sampled || binding.provider->local) return;
        if (Process* process = this_process()) process->count(shm::ProcessCounter::begun_no_lane);
        return;
    }
    add(sampled ? lane->writer.producer->begun : lane->writer.producer->unsampled);
}

void end_slowly(abi::Span* span, std::uint64_t end_time) noexcept {
    Thread& thread = this_thread;
    auto* owner = static_cast<Lane*>(span->owner);
    if (end_time == 0) end_time = now();
    if (owner->generation != span->generation) {  // A parent's span in a fork's child: inert.
        if (on_heap(span->slot)) std::free(control_of(span->record));
        span->record = nullptr;
        return;
    }
    if (thread.inside != 0) {
        end_in_handler(*span, thread);
        span->record = nullptr;
        return;
    }
    if (span->watched != 0) {
        if (!hooked_end(*span, end_time)) return;
        if (span->slot == private_slot || owner->generation != span->generation)
            return discard(*span);
        owner = static_cast<Lane*>(span->owner);
    }
    const Inside inside(thread);
    Lane* lane = thread.lane;
    // Not the lane where it began: that one's generation is known, and its segment is looked at
    // below.
    if (lane != owner &&
        (lane == nullptr || lane->generation != span->generation || attention(*lane) != 0))
        lane = claim_for_end(thread);
    if (any_dropped(*control_of(span->record))) put_dropped_counts(*span, thread);
    const std::size_t used = content_bytes(*span);
    const std::uint64_t description =
        span->description_bytes == 0 ? 0 : std::uint64_t{4} + span->description_bytes;
    const std::uint64_t bytes = (used + description + 7) & ~7ULL;
    if (attention(*owner) != 0 && !heed_daemon(*owner)) {
        drop_orphan(*span, thread);
    } else if (lane == nullptr) {
        drop(*span, thread, nullptr, shm::DropReason::no_lane);
    } else {
        std::uint8_t* to = lane->writer.claim(bytes);
        if (to == nullptr) {
            to = make_room(thread, bytes);
            lane = thread.lane;  // It may have moved to a larger one.
        }
        if (to == nullptr) {
            drop(*span, thread, lane, why_no_room(thread, bytes));
        } else {
            copy(*span, to, used, bytes, end_time);
            shm::SlotSteps<>::ending(*control_of(span->record), lane->segment->index, lane->index,
                                     lane->writer.cursor + bytes);
            lane->writer.publish(bytes);
            add_finished(lane->writer.producer->ended);
            free_place(*span, thread);
        }
    }
    span->record = nullptr;
}

// Signals that arrive in here are kept out too, so the sums are taken before anything is added.
std::uint8_t* Inside::count_reentries(Thread& thread, std::uint8_t* result) noexcept {
    thread.inside = 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    // In one step each: a signal between load and store would be lost.
    const std::uint32_t starts = __atomic_exchange_n(&thread.reentered, 0, __ATOMIC_RELAXED);
    const std::uint32_t ends = __atomic_exchange_n(&thread.reentered_ends, 0, __ATOMIC_RELAXED);
    if (Lane* lane = thread.lane; lane != nullptr && lane->generation != 0) {
        add(lane->writer.producer->begun, starts);
        add_finished(dropped(*lane, shm::DropReason::reentrant), starts + ends);
    } else if (Process* process = this_process()) {
        process->count(shm::ProcessCounter::begun_no_lane, starts);
        process->count(shm::ProcessCounter::dropped_no_lane, ends);
    }
    std::atomic_signal_fence(std::memory_order_seq_cst);
    thread.inside = 0;
    return result;
}

}  // namespace oteld::sdk
