// The span path: start, grow, end. What is not needed for every span is in lanes.cpp.

#include "clock.hpp"
#include "hooks.hpp"

#include "oteld/detail/encode.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace oteld::sdk {
namespace {

using detail::SpanRecord;

constexpr std::uint32_t heap_slot = 0xFFFFFFFFU;
// Of a watched span that is not in the ledger: hooks.hpp.
constexpr std::uint32_t private_slot = 0xFFFFFFFEU;
constexpr bool on_heap(std::uint32_t slot) noexcept { return slot >= private_slot; }
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

// Several fields in one access, the first in the lowest bits.
std::uint64_t word(const std::uint8_t* at) noexcept {
    std::uint64_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}
void put_word(void* at, std::uint64_t value) noexcept { std::memcpy(at, &value, sizeof value); }
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

// Zero means "none" for an id; one in 2^64 becomes 1 instead.
std::uint64_t nonzero(std::uint64_t value) noexcept { return value + (value == 0 ? 1 : 0); }

// The identity of a span under way, in registers: writing it to memory and reading it back in other
// widths stalls.
struct Identity {
    std::uint64_t trace_first;
    std::uint64_t trace_last;
    std::uint64_t span;
    std::uint64_t parent;
    std::uint64_t flags;
    std::uint64_t record_flags;
    abi::TraceState* trace_state;  // The parent's, without a reference of its own.
    bool root;
};

[[gnu::always_inline]] inline Identity identify(const abi::Context& parent,
                                                Random& lane_random) noexcept {
    Identity own;
    Random random = lane_random;
    own.trace_first = word(parent.trace_id);
    own.trace_last = word(parent.trace_id + 8);
    own.root = (own.trace_first | own.trace_last) == 0;
    if (own.root) {
        own.trace_first = nonzero(random.next());
        own.trace_last = random.next();
        own.parent = 0;
        own.flags = 2;  // Random trace id (W3C level 2).
        own.record_flags = detail::record_parent_known;
        own.trace_state = nullptr;
    } else {
        own.parent = word(parent.span_id);
        own.flags = parent.flags & ~1U;
        own.record_flags = detail::record_parent_known;
        if (parent.remote != 0) own.record_flags |= detail::record_parent_remote;
        own.trace_state = parent.trace_state;
    }
    own.span = nonzero(random.next());
    lane_random = random;
    return own;
}

[[gnu::always_inline]] inline void put_context(abi::Context& context,
                                               const Identity& own) noexcept {
    put_word(context.trace_id, own.trace_first);
    put_word(context.trace_id + 8, own.trace_last);
    put_word(context.span_id, own.span);
    put_word(&context.flags, own.flags);  // And remote and reserved: zero.
    context.trace_state = own.trace_state;
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

// Where a span's scope index and limits come from, asked for when they are written: the short way
// has no register to keep them in. A scope as it is registered ...
struct Registered {
    const Scope& scope;
    [[nodiscard]] std::uint64_t index() const noexcept {
        return scope.index.load(std::memory_order_relaxed) & 0xFFFFU;
    }
    [[nodiscard]] const abi::Limits& limits() const noexcept {
        return scope.active.load(std::memory_order_relaxed)->limits;
    }
};
// ... or what start_slowly() knows.
struct Known {
    std::uint32_t index_;
    const abi::Limits& limits_;
    [[nodiscard]] std::uint64_t index() const noexcept { return index_ & 0xFFFFU; }
    [[nodiscard]] const abi::Limits& limits() const noexcept { return limits_; }
};

// Fills the span and the record's header, its start excepted. What is known in registers first:
// they are few.
template <class Under>
[[gnu::always_inline]] inline void put_start(abi::Span& span, Lane* lane, std::uint32_t slot,
                                             shm::SlotControl* control, std::size_t bytes,
                                             const Under& under, const Identity& own,
                                             std::uint32_t kind) noexcept {
    SpanRecord* record = record_of(control);
    put_word(record->trace_id, own.trace_first);
    put_word(record->trace_id + 8, own.trace_last);
    put_word(record->span_id, own.span);
    put_context(span.context, own);
    put_word(record->parent_id, own.parent);
    put_word(&record->prefix, static_cast<std::uint64_t>(detail::RecordType::span) << 32 |
                                  own.record_flags << 40 | sizeof(SpanRecord) << 48);
    const std::uint64_t known_kind = kind - 1U < 5U ? kind : 1U;  // Others are refused.
    const std::uint64_t index = under.index();
    put_word(&record->kind_status, known_kind | own.flags << 8 | index << 16);
    record->end = 0;
    shm::SlotSteps<>::open(*control);

    const abi::Limits& limits = under.limits();
    span.record = record;
    span.cursor = reinterpret_cast<std::uint8_t*>(record + 1);
    span.end = reinterpret_cast<std::uint8_t*>(control) + bytes;
    auto* limit = span.cursor + std::size_t{limits.attributes} * detail::attribute_bytes_least;
    span.room_end = limit < span.end ? limit : span.end;
    span.owner = lane;
    span.generation = lane->generation;
    span.limits = &limits;
    span.slot = slot;
    span.events = span.description_bytes = span.watched = span.links = span.repeated_keys = 0;
    std::memset(span.key_filter, 0, sizeof span.key_filter);
}

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

// The next span in this buffer has dropped nothing yet. Not before the slot is free, or the counts
// are in the body: recovery must find them in one place. Release: in that order.
void clear_dropped(shm::SlotControl& control) noexcept {
    for (std::uint32_t& count : control.dropped) __atomic_store_n(&count, 0, __ATOMIC_RELEASE);
}

bool any_dropped(const shm::SlotControl& control) noexcept {
    return (control.dropped[0] | control.dropped[1] | control.dropped[2]) != 0;
}

// Both in one load, which finds 0 nearly always.
std::uint64_t described_or_watched(const abi::Span& span) noexcept {
    return word(reinterpret_cast<const std::uint8_t*>(&span.description_bytes));
}

std::uint8_t* grow_here(abi::Span& span, Thread& thread, std::uint8_t* at,
                        std::size_t more) noexcept;

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

// Header and body.
std::size_t content_bytes(const abi::Span& span) noexcept {
    return static_cast<std::size_t>(span.cursor - reinterpret_cast<std::uint8_t*>(span.record));
}

// The header's fields that end() knows are written in the lane, not in the slot: a wide load right
// behind a narrow store would wait for it.
[[gnu::always_inline]] inline void put_end(std::uint8_t* to, std::size_t used, std::uint64_t bytes,
                                           std::uint64_t end_time) noexcept {
    auto* record = reinterpret_cast<SpanRecord*>(to);
    record->prefix.length = static_cast<std::uint32_t>(bytes);
    record->body_bytes = static_cast<std::uint32_t>(used - sizeof(SpanRecord));
    record->end = end_time;
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

// The same for a span without a description, of which all but the last 8 bytes are copied as they
// lie in the slot.
[[gnu::always_inline]] inline void copy_short(const SpanRecord* record, std::uint8_t* to,
                                              std::size_t used, std::uint64_t bytes,
                                              std::uint64_t end_time) noexcept {
    const auto* from = reinterpret_cast<const std::uint8_t*>(record);
    const std::size_t tail = bytes - 8;
    for (std::size_t i = 0; i < tail; i += 16) std::memcpy(to + i, from + i, 16);
    std::uint64_t last;
    std::memcpy(&last, from + tail, sizeof last);
    last &= ~0ULL >> (bytes - used) * 8;
    std::memcpy(to + tail, &last, sizeof last);
    put_end(to, used, bytes, end_time);
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

}  // namespace

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

namespace {

// As the last thing in the client: what a signal handler wanted meanwhile is counted.
[[gnu::always_inline]] inline std::uint8_t* leave(Thread& thread, std::uint8_t* result) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    thread.inside = 0;
    if (__builtin_expect(reentries(thread) != 0, 0)) return Inside::count_reentries(thread, result);
    return result;
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

std::uint8_t* put_trace_state(abi::Span& span, Thread& thread, std::uint8_t* at) noexcept {
    const abi::TraceState* state = span.context.trace_state;
    if (state == nullptr) return at;
    const std::size_t bytes = detail::wire::bytes_field_bytes(3, state->bytes);
    std::uint8_t* to = span.end - at >= static_cast<std::ptrdiff_t>(bytes)
                           ? at
                           : grow_here(span, thread, at, bytes);
    return to == nullptr ? at : detail::wire::put_bytes(to, 3, state + 1, state->bytes);
}

[[gnu::noinline]] std::uint8_t* start_slowly(abi::Span* span, const void* scope_handle,
                                             const abi::Context* given_parent,
                                             std::uint64_t start_unix_ns,
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
        at = put_trace_state(*span, thread, at);
    span->record->start = start_unix_ns != 0 ? start_unix_ns : now();
    return at;
}

}  // namespace

// The short way, for nearly every span: a leaf, so that nothing has to be saved. What it cannot do
// is left to start_slowly(), which begins anew.
std::uint8_t* start(abi::Span* span, const void* scope_handle, const abi::Context* given_parent,
                    std::uint64_t start_unix_ns, std::uint32_t kind) noexcept {
    Thread& thread = this_thread;
    const auto& scope = *static_cast<const Scope*>(scope_handle);
    if (__builtin_expect(thread.inside != 0, 0))
        return start_slowly(span, scope_handle, given_parent, start_unix_ns, kind);
    thread.inside = 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const abi::Context& parent = given_parent != nullptr ? *given_parent : thread.current.span;
    Lane* lane = thread.lane;
    // Acquire: pairs with the registration's release; index and provider are those of this process.
    if (__builtin_expect(lane == nullptr ||
                             lane->generation != scope.generation.load(std::memory_order_acquire) ||
                             parent.trace_state != nullptr || !lane->slots.any_free(0) ||
                             !clock_is_quick(),
                         0)) {
        std::atomic_signal_fence(std::memory_order_seq_cst);
        thread.inside = 0;
        return start_slowly(span, scope_handle, given_parent, start_unix_ns, kind);
    }
    Identity own = identify(parent, lane->random);
    const Sampler& sampler = scope.active.load(std::memory_order_relaxed)->sampler;
    if (!sampler.samples(parent, own.root, own.trace_last)) {
        span->record = nullptr;
        put_context(span->context, own);
        add(lane->writer.producer->unsampled);
        return leave(thread, nullptr);
    }
    own.flags |= 1U;
    add(lane->writer.producer->begun);
    std::uint32_t slot;
    shm::SlotControl* control = lane->slots.take_free(0, slot);
    put_start(*span, lane, slot, control, lane->slots.bytes[0], Registered{scope}, own, kind);
    SpanRecord* record = record_of(control);
    record->start = start_unix_ns != 0 ? start_unix_ns : quick_now();
    return leave(thread, reinterpret_cast<std::uint8_t*>(record + 1));
}

namespace {

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

// Moves the span, whose content ends at `at`, to where `more` bytes fit behind it. Returns the end
// of the content there.
std::uint8_t* grow_here(abi::Span& span, Thread& thread, std::uint8_t* at,
                        std::size_t more) noexcept {
    auto* old_record = span.record;
    shm::SlotControl* old_control = control_of(old_record);
    const auto used = static_cast<std::size_t>(at - reinterpret_cast<std::uint8_t*>(old_record));
    // Whatever comes later must still fit: dropped counts, a length in front of the description.
    const std::size_t needed = sizeof(shm::SlotControl) + used + more + span.description_bytes + 64;
    if (more > shm::record_bytes_max || needed > shm::record_bytes_max) return nullptr;
    std::uint32_t slot = 0;
    std::size_t bytes = 0;
    shm::SlotControl* control = take_larger(span, thread, needed, slot, bytes);
    if (control == nullptr) return nullptr;
    shm::SlotSteps<>::open(*control);
    std::memcpy(control->dropped, old_control->dropped, sizeof control->dropped);
    std::memcpy(record_of(control), old_record, used);
    auto* end = reinterpret_cast<std::uint8_t*>(control) + bytes - span.description_bytes;
    std::memcpy(end, span.end, span.description_bytes);
    abi::Span old = span;
    span.record = record_of(control);
    at = reinterpret_cast<std::uint8_t*>(span.record) + used;
    span.end = end;
    span.cursor = reinterpret_cast<std::uint8_t*>(span.record) +
                  (old.cursor - reinterpret_cast<std::uint8_t*>(old_record));
    span.room_end = at;  // How many attributes there are is for them to say, at the next one.
    span.slot = slot;
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

}  // namespace

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
    std::memcpy(control->dropped, control_of(span.record)->dropped, sizeof control->dropped);
    std::memcpy(record_of(control), span.record, used);
    clear_dropped(*control_of(span.record));
    free_place(span, thread);
    span.record = record_of(control);
    span.cursor = at = reinterpret_cast<std::uint8_t*>(span.record) + used;
    span.end = reinterpret_cast<std::uint8_t*>(control) + bytes;
    span.room_end = at;  // As in grow_here().
    span.slot = private_slot;
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

namespace {

[[gnu::noinline]] void end_slowly(abi::Span* span, std::uint64_t end_time) noexcept {
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

}  // namespace

// The short way again: the span ends where it began, has dropped nothing, and its lane has room.
void end(abi::Span* span, std::uint64_t end_unix_ns) noexcept {
    Thread& thread = this_thread;
    auto* lane = static_cast<Lane*>(span->owner);
    if (__builtin_expect(
            lane->generation != span->generation || thread.inside != 0 || !clock_is_quick(), 0))
        return end_slowly(span, end_unix_ns);
    const std::uint64_t end_time = end_unix_ns != 0 ? end_unix_ns : quick_now();
    thread.inside = 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    shm::SlotControl* control = control_of(span->record);
    const std::size_t used = content_bytes(*span);
    const std::uint64_t bytes = (used + 7) & ~7ULL;
    std::uint8_t* to = nullptr;
    if (__builtin_expect(lane != thread.lane || (to = lane->writer.claim(bytes)) == nullptr ||
                             span->slot == heap_slot || described_or_watched(*span) != 0 ||
                             any_dropped(*control) || attention(*lane) != 0,
                         0)) {
        std::atomic_signal_fence(std::memory_order_seq_cst);
        thread.inside = 0;
        return end_slowly(span, end_time);
    }
    copy_short(span->record, to, used, bytes, end_time);
    shm::SlotSteps<>::ending(*control, lane->segment->index, lane->index,
                             lane->writer.cursor + bytes);
    lane->writer.publish(bytes);
    add_finished(lane->writer.producer->ended);
    shm::SlotSteps<>::close(*control);
    lane->slots.give_back(span->slot);
    span->record = nullptr;
    leave(thread, nullptr);
}

}  // namespace oteld::sdk
