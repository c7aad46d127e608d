// ABI v1: the one symbol by which the API finds the client, and what is behind it.

#include "clock.hpp"
#include "hooks.hpp"
#include "process.hpp"

#include "oteld/detail/wire.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace oteld::sdk {

std::uint8_t* start(abi::Span* span, const void* scope, const abi::Context* parent,
                    std::uint64_t start_unix_ns, std::uint32_t kind) noexcept;
std::uint8_t* grow(abi::Span* span, std::uint8_t* at, std::size_t bytes) noexcept;
void end(abi::Span* span, std::uint64_t end_unix_ns) noexcept;
std::uint64_t propagators() noexcept;
void set_propagators(std::uint64_t packed) noexcept;
std::size_t stack_trace(char* text, std::size_t bytes) noexcept;

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

const abi::FullContext* current() noexcept { return &this_thread.current; }

// A context word by word: it was written in words a moment ago, and a wider load behind them would
// wait until they are in the cache. As atomics, since the compiler makes wide copies of plain
// words.
enum ContextWord : std::size_t {
    trace_id_first,
    trace_id_last,
    span_id,
    flags,
    trace_state,
    values
};
static_assert(sizeof(abi::Context) == values * sizeof(std::uint64_t));
static_assert(offsetof(abi::FullContext, values) == values * sizeof(std::uint64_t));

using Word [[gnu::may_alias]] = std::uint64_t;
std::uint64_t get(const void* context, ContextWord word) noexcept {
    return __atomic_load_n(static_cast<const Word*>(context) + word, __ATOMIC_RELAXED);
}
void put(void* context, ContextWord word, std::uint64_t value) noexcept {
    __atomic_store_n(static_cast<Word*>(context) + word, value, __ATOMIC_RELAXED);
}
[[gnu::always_inline]] inline void copy(const abi::Context& from, abi::Context& to,
                                        std::uint64_t new_flags) noexcept {
    put(&to, trace_id_first, get(&from, trace_id_first));
    put(&to, trace_id_last, get(&from, trace_id_last));
    put(&to, span_id, get(&from, span_id));
    put(&to, flags, new_flags);
    put(&to, trace_state, get(&from, trace_state));
}

// What attach() writes into the reserved bytes of a context, behind flags and remote: its place in
// the stack of contexts. 32 bits that say which stack, then 16 bits of depth. A thread's own stack
// is the address of its Thread; a coroutine's is one of its own, whichever thread it runs on.
constexpr std::uint64_t flags_mask = 0xFFFF;
constexpr unsigned stack_shift = 16;
constexpr unsigned depth_shift = 48;

std::uint32_t own_stack(const Thread& thread) noexcept {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(&thread) >> 4);
}
std::uint64_t place(const Thread& thread, std::uint64_t depth) noexcept {
    const std::uint32_t stack = own_stack(thread) + thread.stack;
    return std::uint64_t{stack} << stack_shift | depth << depth_shift;
}

[[gnu::always_inline]] inline void push(Thread& thread, const abi::Context& span,
                                        abi::FullContext& previous) noexcept {
    abi::FullContext& now = thread.current;
    abi::retain(span.trace_state);
    const std::uint64_t before = get(&now, flags);
    const std::uint64_t depth = before >> depth_shift;
    copy(now.span, previous.span, (before & flags_mask) | place(thread, depth));
    copy(span, now.span, (get(&span, flags) & flags_mask) | place(thread, depth + 1));
}

// The values stay: each of the two contexts has a reference to them.
void attach(const abi::Context* span, abi::FullContext* previous) noexcept {
    Thread& thread = this_thread;
    const Inside inside(thread, thread.inside);
    push(thread, *span, *previous);
    const std::uint64_t kept = get(&thread.current, values);
    put(previous, values, kept);
    if (__builtin_expect(kept != 0, 0)) abi::retain(thread.current.values);
}

void attach_all(const abi::FullContext* context, abi::FullContext* previous) noexcept {
    Thread& thread = this_thread;
    const Inside inside(thread, thread.inside);
    abi::retain(context->values);
    push(thread, context->span, *previous);
    previous->values = thread.current.values;
    thread.current.values = context->values;
}

// Out of order: what was attached above goes too, and when its turn comes it is gone already. On
// another thread: that one's context is left alone.
void detach(const abi::Context* attached, abi::FullContext* previous) noexcept {
    Thread& thread = this_thread;
    const std::uint64_t before = get(previous, flags);
    const std::uint64_t depth = get(&thread.current, flags) >> depth_shift;
    const std::uint64_t depth_before = before >> depth_shift;
    const bool mine = (before & ~flags_mask) == place(thread, depth_before) && depth > depth_before;
    const bool innermost = mine && depth == depth_before + 1 &&
                           get(&thread.current, span_id) == get(attached, span_id);
    if (!innermost) {
        if (Process* process = this_process()) process->count(shm::ProcessCounter::misuses);
    }
    // Replaced first and let go of then: a signal handler must not find what is gone.
    abi::FullContext& unused = mine ? thread.current : *previous;
    abi::TraceState* unused_state = unused.span.trace_state;
    abi::Values* unused_values = unused.values;
    if (mine) {
        const Inside inside(thread, thread.inside);
        copy(previous->span, thread.current.span, before);
        put(&thread.current, values, get(previous, values));
    }
    previous->span.trace_state = nullptr;
    previous->values = nullptr;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    abi::release(unused_state);
    abi::release(unused_values);
}

bool exchange_stack(abi::Stack* stack) noexcept {
    Thread& thread = this_thread;
    const std::uint32_t running = own_stack(thread) + thread.stack;
    const bool leaving = stack->held != stack->own;
    if (leaving && running != stack->own) {
        if (Process* process = this_process()) process->count(shm::ProcessCounter::misuses);
        return false;
    }
    const Inside inside(thread, thread.inside);
    thread.stack = stack->held - own_stack(thread);
    stack->held = leaving ? stack->own : running;
    std::swap(thread.current, stack->context);
    return true;
}

std::uint64_t table_now() noexcept { return now(); }

constexpr abi::Table table{sizeof(abi::Table),
                           1,
                           scope,
                           start,
                           grow,
                           end,
                           table_now,
                           current,
                           attach,
                           detach,
                           flush,
                           attach_all,
                           propagators,
                           set_propagators,
                           stack_trace,
                           hooked_start,
                           exchange_stack};

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
    if (!global.compare_exchange_strong(provider, fresh, std::memory_order_acq_rel)) {
        delete fresh;
        return provider;
    }
    publish_context(*fresh, Occasion::global_changed);
    return fresh;
}

const Provider* known_global_provider() noexcept { return global.load(std::memory_order_acquire); }

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
        if (known->own == nullptr)
            known->generation.store(Scope::unregistered, std::memory_order_seq_cst);
    }
    if (provider != nullptr) publish_context(*provider, Occasion::global_changed);
}

void forget_scopes() noexcept {
    for (Scope* known = scopes.load(std::memory_order_acquire); known != nullptr;
         known = known->next) {
        // Behind whatever else made them invalid, as in set_global_provider().
        known->generation.store(Scope::unregistered, std::memory_order_seq_cst);
    }
}

}  // namespace oteld::sdk

extern "C" __attribute__((visibility("default"))) const oteld::abi::Table* oteld_client_v1(void) {
    return &oteld::sdk::table;
}
