// What a span's short way (span.cpp) and its long one (slow_span.cpp) have in common: how a span
// gets its identity, how its record begins and ends, how it is counted.
//
// Used by: these two. Threads: the one that has the span; a lane's words by its owner only.
#pragma once

#include "clock.hpp"
#include "hooks.hpp"

#include "oteld/detail/encode.hpp"

#include <cstddef>
#include <cstring>

namespace oteld::sdk {

using detail::SpanRecord;

inline constexpr std::uint32_t heap_slot = 0xFFFFFFFFU;
// Of a watched span that is not in the ledger: hooks.hpp.
inline constexpr std::uint32_t private_slot = 0xFFFFFFFEU;
inline constexpr bool on_heap(std::uint32_t slot) noexcept { return slot >= private_slot; }
static_assert(sizeof(shm::SlotControl) == abi::control_bytes);
static_assert(offsetof(shm::SlotControl, dropped) == abi::control_dropped_at);
static_assert(offsetof(Lane, generation) == 0);  // abi::recording()

inline shm::SlotControl* control_of(SpanRecord* record) noexcept {
    return reinterpret_cast<shm::SlotControl*>(reinterpret_cast<std::uint8_t*>(record) -
                                               abi::control_bytes);
}

inline SpanRecord* record_of(shm::SlotControl* control) noexcept {
    return reinterpret_cast<SpanRecord*>(control + 1);
}

// Only the lane's owner writes these words: a plain add, which the daemon reads without tearing.
inline void add(std::uint64_t& counter, std::uint64_t by = 1) noexcept {
    __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + by, __ATOMIC_RELAXED);
}

// `ended` and `dropped`, which follow the span's `begun`. Release: pairs with the daemon's acquire,
// behind which it looks at `begun`.
inline void add_finished(std::uint64_t& counter, std::uint64_t by = 1) noexcept {
    __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + by, __ATOMIC_RELEASE);
}

inline std::uint64_t& dropped(Lane& lane, shm::DropReason reason) noexcept {
    return lane.writer.producer->dropped[static_cast<std::uint32_t>(reason)];
}

// Several fields in one access, the first in the lowest bits.
inline std::uint64_t word(const std::uint8_t* at) noexcept {
    std::uint64_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}
inline void put_word(void* at, std::uint64_t value) noexcept {
    std::memcpy(at, &value, sizeof value);
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

// Zero means "none" for an id; one in 2^64 becomes 1 instead.
inline std::uint64_t nonzero(std::uint64_t value) noexcept { return value + (value == 0 ? 1 : 0); }

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

// The next span in this buffer has dropped nothing yet. Not before the slot is free, or the counts
// are in the body: recovery must find them in one place. Release: in that order.
inline void clear_dropped(shm::SlotControl& control) noexcept {
    for (std::uint32_t& count : control.dropped) __atomic_store_n(&count, 0, __ATOMIC_RELEASE);
}

inline bool any_dropped(const shm::SlotControl& control) noexcept {
    return (control.dropped[0] | control.dropped[1] | control.dropped[2]) != 0;
}

// Both in one load, which finds 0 nearly always.
inline std::uint64_t described_or_watched(const abi::Span& span) noexcept {
    return word(reinterpret_cast<const std::uint8_t*>(&span.description_bytes));
}

// Header and body.
inline std::size_t content_bytes(const abi::Span& span) noexcept {
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

// slow_span.cpp: as start() and end() (table.cpp), for every span. An end of 0 means now.
std::uint8_t* start_slowly(abi::Span* span, const void* scope_handle,
                           const abi::Context* given_parent, std::uint64_t start_unix_ns,
                           std::uint32_t kind) noexcept;
void end_slowly(abi::Span* span, std::uint64_t end_time) noexcept;

}  // namespace oteld::sdk
