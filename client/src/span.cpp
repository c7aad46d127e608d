// The span path: start, grow, end. What is not needed for every span is in lanes.cpp.

#include "clock.hpp"
#include "process.hpp"

#include "oteld/detail/encode.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace oteld::sdk {
namespace {

using detail::SpanRecord;

constexpr std::uint32_t heap_slot = 0xFFFFFFFFU;
static_assert(sizeof(shm::SlotControl) == abi::control_bytes);
static_assert(offsetof(shm::SlotControl, dropped) == abi::control_dropped_at);
static_assert(offsetof(Lane, generation) == 0);  // abi::recording()

shm::SlotControl* control_of(SpanRecord* record) noexcept {
    return reinterpret_cast<shm::SlotControl*>(reinterpret_cast<std::uint8_t*>(record) -
                                               abi::control_bytes);
}

SpanRecord* record_of(shm::SlotControl* control) noexcept {
    return reinterpret_cast<SpanRecord*>(control + 1);
}

// Only the lane's owner writes these words: a plain add, which the daemon reads without tearing.
void add(std::uint64_t& counter, std::uint64_t by = 1) noexcept {
    __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + by, __ATOMIC_RELAXED);
}

// `ended` and `dropped`, which follow the span's `begun`. Release: pairs with the daemon's acquire,
// behind which it looks at `begun`.
void add_finished(std::uint64_t& counter, std::uint64_t by = 1) noexcept {
    __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + by, __ATOMIC_RELEASE);
}

std::uint64_t& dropped(Lane& lane, shm::DropReason reason) noexcept {
    return lane.writer.producer->dropped[static_cast<std::uint32_t>(reason)];
}

std::uint64_t nonzero(Random& random) noexcept {
    std::uint64_t value = random.next();
    while (__builtin_expect(value == 0, 0)) value = random.next();
    return value;
}

// The identity of a span under way, in registers: writing it to memory and reading it back in other
// widths stalls.
struct Identity {
    std::uint64_t trace[2];
    std::uint64_t span;
    std::uint64_t parent;
    std::uint8_t flags;
    bool has_parent;
};

Identity identify(const abi::Context& parent, Random& random) noexcept {
    Identity own;
    std::memcpy(own.trace, parent.trace_id, sizeof own.trace);
    own.has_parent = (own.trace[0] | own.trace[1]) != 0;
    if (own.has_parent) {
        std::memcpy(&own.parent, parent.span_id, sizeof own.parent);
        own.flags = parent.flags & ~1U;
    } else {
        own.trace[0] = nonzero(random);
        own.trace[1] = random.next();
        own.parent = 0;
        own.flags = 2;  // Random trace id (W3C level 2).
    }
    own.span = nonzero(random);
    return own;
}

bool sampled(const Sampler& sampler, const abi::Context& parent, const Identity& own) noexcept {
    if (sampler.parent_based && own.has_parent) return (parent.flags & 1U) != 0;
    if (sampler.root_threshold == Sampler::always) return true;
    return __builtin_bswap64(own.trace[1]) < sampler.root_threshold;
}

// The trace state is the parent's, with a reference of its own.
void put_context(abi::Context& context, const Identity& own, const abi::Context& parent) noexcept {
    std::memcpy(context.trace_id, own.trace, sizeof context.trace_id);
    std::memcpy(context.span_id, &own.span, sizeof context.span_id);
    const std::uint64_t flags = own.flags;  // And remote and reserved: zero.
    std::memcpy(&context.flags, &flags, sizeof flags);
    context.trace_state = own.has_parent ? parent.trace_state : nullptr;
    abi::retain(context.trace_state);
}

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

// Several fields in one store, the first in the lowest bits.
void put_word(void* at, std::uint64_t word) noexcept { std::memcpy(at, &word, sizeof word); }
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

void put_start(SpanRecord& record, const abi::Start& options, const Scope& scope,
               const abi::Context& parent, const Identity& own) noexcept {
    std::uint8_t flags = detail::record_parent_known;
    if (own.has_parent && parent.remote != 0) flags |= detail::record_parent_remote;
    put_word(&record.prefix, static_cast<std::uint64_t>(detail::RecordType::span) << 32 |
                                 std::uint64_t{flags} << 40 | sizeof(SpanRecord) << 48);
    std::memcpy(record.trace_id, own.trace, sizeof record.trace_id);
    std::memcpy(record.span_id, &own.span, sizeof record.span_id);
    std::memcpy(record.parent_id, &own.parent, sizeof record.parent_id);
    record.end = 0;
    const std::uint32_t kind = options.kind - 1U < 5U ? options.kind : 1U;  // Others are refused.
    const std::uint32_t index = scope.index.load(std::memory_order_relaxed);
    put_word(&record.kind_status, kind | std::uint64_t{own.flags} << 8 |
                                      static_cast<std::uint64_t>(index & 0xFFFFU) << 16);
}

bool grow_here(abi::Span& span, Thread& thread, std::size_t more) noexcept;

// abi::room() for the client itself, which is inside.
bool room_here(abi::Span& span, std::size_t bytes) noexcept {
    return static_cast<std::size_t>(span.end - span.cursor) >= bytes ||
           grow_here(span, this_thread, bytes);
}

void put_name(abi::Span& span, const abi::Start& options) noexcept {
    using namespace detail;
    std::size_t name_bytes = options.name_bytes;
    if (!room_here(span, wire::bytes_field_bytes(5, name_bytes))) name_bytes = 0;
    if (__builtin_expect(name_bytes < 128, 1)) {
        span.cursor[0] = wire::tag(5, wire::bytes_type);
        span.cursor[1] = static_cast<std::uint8_t>(name_bytes);
        span.cursor = wire::put_short(span.cursor + 2, options.name, name_bytes);
    } else {
        span.cursor = wire::put_bytes(span.cursor, 5, options.name, name_bytes);
    }
    if (__builtin_expect(span.context.trace_state != nullptr, 0)) {
        const abi::TraceState& state = *span.context.trace_state;
        if (room_here(span, wire::bytes_field_bytes(3, state.bytes))) {
            span.cursor = wire::put_bytes(span.cursor, 3, &state + 1, state.bytes);
        }
    }
}

// Where the lane's own small slots are taken: a slot of a further bank, else the heap.
[[gnu::noinline]] shm::SlotControl* place_elsewhere(abi::Span& span, Thread& thread, Lane* lane,
                                                    std::size_t& bytes) noexcept {
    Lane* owner = lane;
    if (shm::SlotControl* control = take_bank_slot(thread, owner, span.slot)) {
        span.owner = owner;
        bytes = owner->slots.bytes[0];
        return control;
    }
    shm::SlotControl* control = allocate(heap_bytes_first);
    if (control == nullptr) return nullptr;
    add(lane->writer.producer->heap_spans);
    if (Process* process = this_process()) process->count(shm::ProcessCounter::not_crash_visible);
    span.slot = heap_slot;
    bytes = heap_bytes_first;
    return control;
}

// Where the span is built. False: nowhere.
bool place(abi::Span& span, Thread& thread, Lane* lane) noexcept {
    span.owner = lane;
    std::size_t bytes = lane->slots.bytes[0];
    shm::SlotControl* control = lane->slots.take(0, span.slot);
    if (__builtin_expect(control == nullptr, 0)) {
        control = place_elsewhere(span, thread, lane, bytes);
        if (control == nullptr) return false;
    }
    shm::SlotSteps<>::open(*control);
    span.record = record_of(control);
    span.cursor = reinterpret_cast<std::uint8_t*>(span.record + 1);
    span.end = reinterpret_cast<std::uint8_t*>(control) + bytes;
    return true;
}

void free_place(abi::Span& span, const Thread& thread) noexcept {
    shm::SlotControl* control = control_of(span.record);
    auto* owner = static_cast<Lane*>(span.owner);
    if (span.slot == heap_slot) {
        std::free(control);
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

// The next span in this buffer has dropped nothing yet. Not before the slot is free, or the counts
// are in the body: recovery must find them in one place. Release: in that order.
void clear_dropped(shm::SlotControl& control) noexcept {
    for (std::uint32_t& count : control.dropped) __atomic_store_n(&count, 0, __ATOMIC_RELEASE);
}

// Counts that are not zero go behind the body.
[[gnu::noinline]] void put_dropped_counts(abi::Span& span) noexcept {
    using namespace detail;
    const std::pair<std::uint32_t, std::uint32_t> counts[] = {
        {10, span.dropped_attributes}, {12, span.dropped_events}, {14, span.dropped_links}};
    for (const auto& [field, count] : counts) {
        if (count == 0 || !room_here(span, 2 + wire::varint_bytes_max)) continue;
        span.cursor = wire::put_varint(wire::put_tag(span.cursor, field, wire::varint_type), count);
    }
    abi::publish(span);
    clear_dropped(*control_of(span.record));
}

std::uint64_t record_bytes(const abi::Span& span) noexcept {
    const std::uint64_t body =
        static_cast<std::uint64_t>(span.cursor - reinterpret_cast<std::uint8_t*>(span.record));
    const std::uint64_t description = span.description_bytes == 0 ? 0 : 4 + span.description_bytes;
    return (body + description + 7) & ~7ULL;
}

// Copies the span to its place in the lane. The header's last fields are written there, not in the
// slot: a wide load right behind a narrow store would wait for it.
void copy(const abi::Span& span, std::uint8_t* to, std::uint64_t bytes,
          std::uint64_t end_time) noexcept {
    std::memset(to + bytes - 8, 0, 8);
    const auto used =
        static_cast<std::size_t>(span.cursor - reinterpret_cast<std::uint8_t*>(span.record));
    std::memcpy(to, span.record, used);
    auto* record = reinterpret_cast<SpanRecord*>(to);
    record->prefix.length = static_cast<std::uint32_t>(bytes);
    record->body_bytes = static_cast<std::uint32_t>(used - sizeof(SpanRecord));
    record->end = end_time;
    if (__builtin_expect(span.description_bytes != 0, 0)) {
        record->prefix.flags |= detail::record_has_description;
        std::memcpy(to + used, &span.description_bytes, 4);
        std::memcpy(to + used + 4, span.end, span.description_bytes);
    }
}

[[gnu::noinline]] void end_in_handler(abi::Span& span, Thread& thread) noexcept {
    shm::SlotSteps<>::dropped(*control_of(span.record));
    __atomic_fetch_add(&thread.reentered_ends, 1, __ATOMIC_RELAXED);
    auto* owner = static_cast<Lane*>(span.owner);
    // The heap's locks may be held by what was interrupted: the buffer is not freed.
    if (span.slot == heap_slot) return;
    shm::SlotSteps<>::close(*control_of(span.record));
    clear_dropped(*control_of(span.record));
    owner->slots.give_back_from_elsewhere(span.slot);
}

}  // namespace

// Signals that arrive in here are kept out too, so the sums are taken before anything is added.
void Inside::count_reentries(Thread& thread) noexcept {
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
}

void start(abi::Span* span, const abi::Start* options) noexcept {
    Thread& thread = this_thread;
    auto& scope = *static_cast<Scope*>(const_cast<void*>(options->scope));
    const abi::Context& parent = options->parent != nullptr ? *options->parent : thread.current;
    if (__builtin_expect(thread.inside != 0, 0)) {
        __atomic_fetch_add(&thread.reentered, 1, __ATOMIC_RELAXED);
        return not_recorded(*span, parent);
    }
    Inside inside(thread);
    Lane* lane = thread.lane;
    // Acquire: pairs with the registration's release; index and provider are those of this process.
    if (__builtin_expect(lane == nullptr ||
                             lane->generation != scope.generation.load(std::memory_order_acquire) ||
                             lane->generation == 0,
                         0)) {
        lane = prepare(thread, scope, parent);
        if (lane == nullptr) return not_recorded(*span, parent);
    }
    const Provider& provider = *scope.active.load(std::memory_order_relaxed);
    Identity own = identify(parent, lane->random);
    if (!sampled(provider.sampler, parent, own)) {
        span->record = nullptr;
        put_context(span->context, own, parent);
        add(lane->writer.producer->unsampled);
        return;
    }
    own.flags |= 1U;
    put_context(span->context, own, parent);
    add(lane->writer.producer->begun);
    if (__builtin_expect(!place(*span, thread, lane), 0)) {
        span->record = nullptr;
        add_finished(dropped(*lane, shm::DropReason::no_memory));
        return;
    }
    span->generation = lane->generation;
    span->limits = &provider.limits;
    span->attributes = span->dropped_attributes = span->events = span->dropped_events = 0;
    span->links = span->dropped_links = span->description_bytes = span->reserved = 0;
    std::memset(span->key_filter, 0, sizeof span->key_filter);
    put_start(*span->record, *options, scope, parent, own);
    put_name(*span, *options);
    span->record->start = options->start_unix_ns != 0 ? options->start_unix_ns : now();
}

namespace {

// The larger buffers: the lane's medium and large slots, then the heap. `from` is where the span is
// now.
shm::SlotControl* take_larger(abi::Span& span, Thread& thread, std::size_t bytes,
                              std::uint32_t& slot, std::size_t& got) noexcept {
    auto* owner = static_cast<Lane*>(span.owner);
    // Another thread's slots are not ours to take.
    if (owner->owner.load(std::memory_order_relaxed) == &thread && span.slot != heap_slot) {
        for (std::uint32_t c = 1; c < shm::slot_classes; ++c) {
            if (owner->slots.bytes[c] < bytes) continue;
            if (shm::SlotControl* control = owner->slots.take(c, slot)) {
                got = owner->slots.bytes[c];
                return control;
            }
        }
    }
    if (bytes > shm::record_bytes_max) return nullptr;
    slot = heap_slot;
    got = heap_bytes_first;
    while (got < bytes) got *= 2;
    if (got > shm::record_bytes_max) got = shm::record_bytes_max;
    return allocate(got);
}

bool grow_here(abi::Span& span, Thread& thread, std::size_t more) noexcept {
    auto* old_record = span.record;
    shm::SlotControl* old_control = control_of(old_record);
    const auto used =
        static_cast<std::size_t>(span.cursor - reinterpret_cast<std::uint8_t*>(old_record));
    // Whatever comes later must still fit: dropped counts, a length in front of the description.
    const std::size_t needed = sizeof(shm::SlotControl) + used + more + span.description_bytes + 64;
    std::uint32_t slot = 0;
    std::size_t bytes = 0;
    shm::SlotControl* control =
        needed > shm::record_bytes_max ? nullptr : take_larger(span, thread, needed, slot, bytes);
    if (control != nullptr) {
        shm::SlotSteps<>::open(*control);
        std::memcpy(control->dropped, old_control->dropped, sizeof control->dropped);
        std::memcpy(record_of(control), old_record, used);
        auto* end = reinterpret_cast<std::uint8_t*>(control) + bytes - span.description_bytes;
        std::memcpy(end, span.end, span.description_bytes);
        abi::Span old = span;
        span.record = record_of(control);
        span.cursor = reinterpret_cast<std::uint8_t*>(span.record) + used;
        span.end = end;
        span.slot = slot;
        // Open in the new place before it is closed in the old one; recovery keeps the longer of
        // two.
        const std::uint32_t published = __atomic_load_n(&old_control->published, __ATOMIC_RELAXED);
        shm::SlotSteps<>::publish(*control, published);
        if (slot == heap_slot && old.slot != heap_slot) {
            if (Lane* lane = thread.lane; lane != nullptr && lane->generation != 0)
                add(lane->writer.producer->heap_spans);
            if (Process* process = this_process())
                process->count(shm::ProcessCounter::not_crash_visible);
        }
        if (old.slot == heap_slot) {
            std::free(old_control);
        } else {
            shm::SlotSteps<>::close(*old_control);
            clear_dropped(*old_control);
            free_place(old, thread);
        }
    }
    return control != nullptr;
}

}  // namespace

bool grow(abi::Span* span, std::size_t more) noexcept {
    Thread& thread = this_thread;
    // In a fork's child there is nothing to grow; in a signal handler the interrupted code may be
    // taking a slot.
    if (!abi::recording(*span) || thread.inside != 0) return false;
    Inside inside(thread);
    return grow_here(*span, thread, more);
}

void end(abi::Span* span, std::uint64_t end_unix_ns) noexcept {
    Thread& thread = this_thread;
    const std::uint64_t end_time = end_unix_ns != 0 ? end_unix_ns : now();
    auto* owner = static_cast<Lane*>(span->owner);
    if (__builtin_expect(owner->generation != span->generation,
                         0)) {  // A parent's span in a fork's child: inert.
        if (span->slot == heap_slot) std::free(control_of(span->record));
        span->record = nullptr;
        return;
    }
    if (__builtin_expect(thread.inside != 0, 0)) {
        end_in_handler(*span, thread);
        span->record = nullptr;
        return;
    }
    Inside inside(thread);
    Lane* lane = thread.lane;
    // Not the lane where it began: that one's generation is known, and its segment is looked at
    // below.
    if (__builtin_expect(lane != owner, 0) &&
        (lane == nullptr || lane->generation != span->generation || attention(*lane) != 0))
        lane = claim_for_end(thread);
    if (__builtin_expect(
            (span->dropped_attributes | span->dropped_events | span->dropped_links) != 0, 0))
        put_dropped_counts(*span);
    const std::uint64_t bytes = record_bytes(*span);
    if (__builtin_expect(attention(*owner) != 0, 0) && !heed_daemon(*owner)) {
        drop_orphan(*span, thread);
    } else if (__builtin_expect(lane == nullptr, 0)) {
        drop(*span, thread, nullptr, shm::DropReason::no_lane);
    } else {
        std::uint8_t* to = lane->writer.claim(bytes);
        if (__builtin_expect(to == nullptr, 0)) {
            to = make_room(thread, bytes);
            lane = thread.lane;  // It may have moved to a larger one.
        }
        if (__builtin_expect(to == nullptr, 0)) {
            drop(*span, thread, lane, why_no_room(thread, bytes));
        } else {
            copy(*span, to, bytes, end_time);
            shm::SlotSteps<>::ending(*control_of(span->record), lane->segment->index, lane->index,
                                     lane->writer.cursor + bytes);
            lane->writer.publish(bytes);
            add_finished(lane->writer.producer->ended);
            free_place(*span, thread);
        }
    }
    span->record = nullptr;
}

}  // namespace oteld::sdk
