// ABI v1: the one symbol by which the API finds the client, and what is behind it.

#include "clock.hpp"
#include "process.hpp"

#include "oteld/detail/wire.hpp"

#include <cstring>
#include <memory>
#include <new>

namespace oteld::sdk {

void start(abi::Span* span, const abi::Start* options) noexcept;
bool grow(abi::Span* span, std::size_t more) noexcept;
void end(abi::Span* span, std::uint64_t end_unix_ns) noexcept;

namespace {

constinit std::atomic<Scope*> scopes{nullptr};
constinit std::atomic<const Provider*> global{nullptr};
// For tracers that were made while the process was out of memory: their spans are recorded under a
// scope without a name.
Scope& nameless() noexcept {
    static Scope scope;
    return scope;
}

bool same(const Scope& scope, const abi::ScopeInfo& info, std::string_view message) noexcept {
    return scope.own == info.provider && scope.message == message &&
           scope.schema_url == std::string_view(info.schema_url, info.schema_url_bytes);
}

std::string scope_message(const abi::ScopeInfo& info) {
    namespace wire = detail::wire;
    std::string message(wire::bytes_field_bytes(1, info.name_bytes) +
                            wire::bytes_field_bytes(2, info.version_bytes) + info.attributes_bytes,
                        '\0');
    auto* begin = reinterpret_cast<std::uint8_t*>(message.data());
    auto* at = begin;
    if (info.name_bytes != 0) at = wire::put_bytes(at, 1, info.name, info.name_bytes);
    if (info.version_bytes != 0) at = wire::put_bytes(at, 2, info.version, info.version_bytes);
    at = wire::put_raw(at, info.attributes, info.attributes_bytes);
    message.resize(static_cast<std::size_t>(at - begin));
    return message;
}

const void* scope(const abi::ScopeInfo* info) noexcept {
    try {
        return intern_scope(*info);
    } catch (const std::bad_alloc&) {
        return &nameless();
    }
}

const abi::Context* current() noexcept { return &this_thread.current; }

// What attach() writes into the reserved bytes of a context: its place in its thread's stack of
// contexts.
struct Place {
    std::uint32_t thread;  // Part of the address of its Thread.
    std::uint16_t depth;
};

Place place_of(const abi::Context& context) noexcept {
    Place place{};
    std::memcpy(&place.thread, context.reserved, sizeof place.thread);
    std::memcpy(&place.depth, context.reserved + sizeof place.thread, sizeof place.depth);
    return place;
}

void set_place(abi::Context& context, Place place) noexcept {
    std::memcpy(context.reserved, &place.thread, sizeof place.thread);
    std::memcpy(context.reserved + sizeof place.thread, &place.depth, sizeof place.depth);
}

std::uint32_t tag_of(const Thread& thread) noexcept {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(&thread) >> 4);
}

void attach(const abi::Context* context, abi::Context* previous) noexcept {
    Thread& thread = this_thread;
    abi::Context next = *context;
    abi::retain(next.trace_state);
    const auto depth = place_of(thread.current).depth;
    *previous = thread.current;
    set_place(*previous, {tag_of(thread), depth});
    set_place(next, {tag_of(thread), static_cast<std::uint16_t>(depth + 1)});
    thread.current = next;
}

// Out of order: what was attached above goes too, and when its turn comes it is gone already. On
// another thread: that one's context is left alone.
void detach(const abi::Context* attached, abi::Context* previous) noexcept {
    Thread& thread = this_thread;
    const Place before = place_of(*previous);
    const std::uint32_t depth = place_of(thread.current).depth;
    const bool mine = before.thread == tag_of(thread) && depth > before.depth;
    const bool innermost =
        mine && depth == before.depth + 1U &&
        std::memcmp(thread.current.span_id, attached->span_id, sizeof attached->span_id) == 0;
    if (!innermost) {
        if (Process* process = this_process()) process->count(shm::ProcessCounter::misuses);
    }
    // Replaced first and let go of then: a signal handler must not find a trace state that is gone.
    abi::TraceState* unused = mine ? thread.current.trace_state : previous->trace_state;
    if (mine) thread.current = *previous;
    previous->trace_state = nullptr;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    abi::release(unused);
}

std::uint64_t table_now() noexcept { return now(); }

constexpr abi::Table table{sizeof(abi::Table), 1,       scope,  start,  grow, end,
                           table_now,          current, attach, detach, flush};

}  // namespace

Scope* intern_scope(const abi::ScopeInfo& info) {
    const std::string message = scope_message(info);
    // A lock-free list that only grows: two threads may intern the same scope at once, which costs
    // an entry.
    for (Scope* known = scopes.load(std::memory_order_acquire); known != nullptr;
         known = known->next) {
        if (same(*known, info, message)) return known;
    }
    auto fresh = std::make_unique<Scope>();
    fresh->message = message;
    fresh->schema_url.assign(info.schema_url == nullptr ? "" : info.schema_url,
                             info.schema_url_bytes);
    fresh->own = static_cast<const Provider*>(info.provider);
    fresh->next = scopes.load(std::memory_order_relaxed);
    while (!scopes.compare_exchange_weak(fresh->next, fresh.get(), std::memory_order_acq_rel)) {
    }
    return fresh.release();  // Never freed.
}

const Provider* global_provider() {
    const Provider* provider = global.load(std::memory_order_acquire);
    if (provider != nullptr) return provider;
    Provider* fresh = make_provider({}, {}, {});
    if (global.compare_exchange_strong(provider, fresh, std::memory_order_acq_rel)) return fresh;
    delete fresh;
    return provider;
}

bool is_global(const Provider* provider) noexcept {
    return global.load(std::memory_order_seq_cst) == provider;
}

void set_global_provider(const Provider* provider) noexcept {
    // Sequentially consistent, here and in register_scope(): it stores a generation and then looks
    // at the provider, this does both the other way round, and one of the two sees the other.
    global.store(provider, std::memory_order_seq_cst);
    // Scopes of the global provider register anew at their next span.
    for (Scope* known = scopes.load(std::memory_order_acquire); known != nullptr;
         known = known->next) {
        if (known->own == nullptr) known->generation.store(0, std::memory_order_seq_cst);
    }
}

void forget_scopes() noexcept {
    for (Scope* known = scopes.load(std::memory_order_acquire); known != nullptr;
         known = known->next) {
        known->generation.store(0, std::memory_order_release);
    }
}

}  // namespace oteld::sdk

extern "C" __attribute__((visibility("default"))) const oteld::abi::Table* oteld_client_v1(void) {
    return &oteld::sdk::table;
}
