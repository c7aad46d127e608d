// The span path: start and end as they are for nearly every span. Both are leaves, so that nothing
// has to be saved; what they cannot do is left to slow_span.cpp, which begins anew.

#include "span_path.hpp"

namespace oteld::sdk {
namespace {

// As the last thing in the client: what a signal handler wanted meanwhile is counted.
[[gnu::always_inline]] inline std::uint8_t* leave(Thread& thread, std::uint8_t* result) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    thread.inside = 0;
    if (__builtin_expect(reentries(thread) != 0, 0)) return Inside::count_reentries(thread, result);
    return result;
}

// To its place in the lane, a span without a description: all but the last 8 bytes are copied as
// they lie in the slot.
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

}  // namespace

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

// Of a span that ends where it began and has dropped nothing, while its lane has room.
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
