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

// The same for profilers, behind the change of what is current. A signal handler that has
// `interrupted` the client leaves the record as it is: what it makes current goes with it.
[[gnu::always_inline]] inline void show(Thread& thread, const abi::Context& now,
                                        bool interrupted) noexcept {
    if (__builtin_expect(interrupted, 0)) return;
    thread.shown.put(get(&now, trace_id_first), get(&now, trace_id_last), get(&now, span_id),
                     get(&now, flags));
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
                                        abi::FullContext& previous, bool interrupted) noexcept {
    abi::FullContext& now = thread.current;
    abi::retain(span.trace_state);
    const std::uint64_t before = get(&now, flags);
    const std::uint64_t depth = before >> depth_shift;
    copy(now.span, previous.span, (before & flags_mask) | place(thread, depth));
    copy(span, now.span, (get(&span, flags) & flags_mask) | place(thread, depth + 1));
    show(thread, span, interrupted);
}

void attach(const abi::Context* span, abi::FullContext* previous) noexcept;

// Before anything else, so that attach() remains a leaf.
[[gnu::noinline]] void attach_first(const abi::Context* span, abi::FullContext* previous) noexcept {
    announce(this_thread);
    attach(span, previous);
}

// The values stay: each of the two contexts has a reference to them.
void attach(const abi::Context* span, abi::FullContext* previous) noexcept {
    Thread& thread = this_thread;
    if (__builtin_expect(!thread.announced, 0)) return attach_first(span, previous);
    const std::uint32_t before = thread.inside;
    const Inside inside(thread, before);
    push(thread, *span, *previous, before != 0);
    const std::uint64_t kept = get(&thread.current, values);
    put(previous, values, kept);
    if (__builtin_expect(kept != 0, 0)) abi::retain(thread.current.values);
}

void attach_all(const abi::FullContext* context, abi::FullContext* previous) noexcept {
    Thread& thread = this_thread;
    if (__builtin_expect(!thread.announced, 0)) announce(thread);
    const std::uint32_t before = thread.inside;
    const Inside inside(thread, before);
    abi::retain(context->values);
    push(thread, context->span, *previous, before != 0);
    previous->values = thread.current.values;
    thread.current.values = context->values;
}

// What is seldom: a signal handler was kept out meanwhile, or there is something to let go of.
[[gnu::noinline]] void after_detach(Thread& thread, abi::TraceState* state,
                                    abi::Values* values) noexcept {
    if (reentries(thread) != 0 && thread.inside == 0) Inside::count_reentries(thread);
    abi::release(state);
    abi::release(values);
}

// Replaced first and let go of then: a signal handler must not find what is gone.
[[gnu::always_inline]] inline void restore(Thread& thread, abi::FullContext& previous) noexcept {
    abi::TraceState* unused_state = thread.current.span.trace_state;
    abi::Values* unused_values = thread.current.values;
    const std::uint32_t before = thread.inside;
    thread.inside = 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    copy(previous.span, thread.current.span, get(&previous, flags));
    put(&thread.current, values, get(&previous, values));
    show(thread, previous.span, before != 0);
    previous.span.trace_state = nullptr;
    previous.values = nullptr;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    thread.inside = before;
    if (__builtin_expect((reentries(thread) | reinterpret_cast<std::uintptr_t>(unused_state) |
                          reinterpret_cast<std::uintptr_t>(unused_values)) != 0,
                         0))
        after_detach(thread, unused_state, unused_values);
}

// Out of order: what was attached above goes too, and when its turn comes it is gone already. On
// another thread: that one's context is left alone.
[[gnu::noinline]] void detach_out_of_order(Thread& thread, abi::FullContext& previous,
                                           bool mine) noexcept {
    if (Process* process = this_process()) process->count(shm::ProcessCounter::misuses);
    if (mine) return restore(thread, previous);
    abi::release(std::exchange(previous.span.trace_state, nullptr));
    abi::release(std::exchange(previous.values, nullptr));
}

void detach(const abi::Context* attached, abi::FullContext* previous) noexcept {
    Thread& thread = this_thread;
    const std::uint64_t before = get(previous, flags);
    const std::uint64_t depth = get(&thread.current, flags) >> depth_shift;
    const std::uint64_t depth_before = before >> depth_shift;
    const bool mine = (before & ~flags_mask) == place(thread, depth_before) && depth > depth_before;
    const bool innermost = mine && depth == depth_before + 1 &&
                           get(&thread.current, span_id) == get(attached, span_id);
    if (__builtin_expect(!innermost, 0)) return detach_out_of_order(thread, *previous, mine);
    restore(thread, *previous);
}

bool exchange_stack(abi::Stack* stack) noexcept {
    Thread& thread = this_thread;
    const std::uint32_t running = own_stack(thread) + thread.stack;
    const bool leaving = stack->held != stack->own;
    if (__builtin_expect(!thread.announced, 0)) announce(thread);
    if (leaving && running != stack->own) {
        if (Process* process = this_process()) process->count(shm::ProcessCounter::misuses);
        return false;
    }
    const std::uint32_t before = thread.inside;
    const Inside inside(thread, before);
    thread.stack = stack->held - own_stack(thread);
    stack->held = leaving ? stack->own : running;
    std::swap(thread.current, stack->context);
    show(thread, thread.current.span, before != 0);
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
    tell_enabled_change();
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
