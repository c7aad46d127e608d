// The boundary between the API (headers, in any library) and the client (once in a process): ABI
// v1.
//
// Used by: the API's inline functions and the client's table (client/src/table.cpp). Users do not
// include it. Threads: any; a Span is used by one thread at a time, which need not be the one that
// started it. A library that was built against an older minor version keeps working: entries and
// fields are only ever appended, and `size` says how many there are. Without a client every call is
// a no-op.
#pragma once

#include "oteld/detail/record.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace oteld::abi {

// A W3C tracestate header value, immutable and shared by reference count; malloc'ed as one piece.
struct TraceState {
    std::atomic<std::uint32_t> references;
    std::uint32_t bytes;
    // The text follows.
};

inline void retain(TraceState* state) noexcept {
    if (state != nullptr) state->references.fetch_add(1, std::memory_order_relaxed);
}

inline void release(TraceState* state) noexcept {
    // Acquire and release: the last one to let go sees what all others did before they let go.
    if (state != nullptr && state->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
        std::free(state);
}

// What identifies a span to its children. All zero: no span.
struct Context {
    std::uint8_t trace_id[16];
    std::uint8_t span_id[8];
    std::uint8_t flags;        // W3C trace flags: 1 sampled, 2 random trace id.
    std::uint8_t remote;       // Remote, below.
    std::uint8_t reserved[6];  // The client's, while current: its place in the thread's stack.
    TraceState* trace_state;   // Owned reference; null: none.
};
static_assert(sizeof(Context) == 40);

// The bits of Context::remote. The last two are for formats other than the W3C's, which may send
// ids without a sampling decision, or a decision without ids.
enum Remote : std::uint8_t {
    remote_yes = 1,  // Came in over the wire.
    remote_deferred =
        2,              // With ids: whether to sample is for the receiver to decide, as for a root.
    remote_decided = 4  // Without ids: `flags` say whether the next root is sampled.
};

// Immutable bytes or a value, shared by reference count; malloc'ed as one piece, what it holds
// behind this header.
struct Shared {
    std::atomic<std::uint32_t> references;
    std::uint32_t bytes;
    void (*destroy)(Shared*) noexcept;  // Ends what is held, not its memory. Null: nothing to do.
};
static_assert(sizeof(Shared) == 16);

inline void retain(Shared* shared) noexcept {
    if (shared != nullptr) shared->references.fetch_add(1, std::memory_order_relaxed);
}

inline void release(Shared* shared) noexcept {
    // Acquire and release: as for a trace state.
    if (shared == nullptr || shared->references.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    if (shared->destroy != nullptr) shared->destroy(shared);
    std::free(shared);
}

// What a context carries beside its span: an immutable list of keys and values, none of which
// depends on anybody's standard library. No key stands in it twice.
struct Values {
    std::atomic<std::uint32_t> references;
    std::uint32_t reserved;
    const void* key;  // The address of a ContextKey, or one of the numbers below.
    Shared* value;    // Owned reference.
    Values* next;     // Owned reference; null: the last one.
};
static_assert(sizeof(Values) == 32);

// Keys of our own. As numbers: an object would have another address in each library.
enum ValueKey : std::uintptr_t {
    baggage_key = 1,  // oteld/baggage.hpp has the form.
    debug_key = 2,    // B3, Jaeger: the trace's id. Its debug flag goes on with it.
    lineage_key = 3   // X-Ray: the trace's id, then the text of `Lineage`.
};

inline void retain(Values* values) noexcept {
    if (values != nullptr) values->references.fetch_add(1, std::memory_order_relaxed);
}

// A loop, not a recursion: the list may be long.
[[gnu::noinline]] inline void release_list(Values* values) noexcept {
    while (values != nullptr && values->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        Values* next = values->next;
        release(values->value);
        std::free(values);
        values = next;
    }
}
inline void release(Values* values) noexcept {
    if (__builtin_expect(values != nullptr, 0)) release_list(values);
}

// A whole context: what is current on a thread. Apart from Context, because a span has only that
// part, and a pointer that is always null would cost every start a store.
struct FullContext {
    Context span;
    Values* values;  // Owned reference; null nearly always.
};
static_assert(sizeof(FullContext) == 48);

// A stack of contexts apart from the threads' own: that of a coroutine, with which it goes from
// thread to thread. The scopes on it hold what is below the innermost context, as on a thread.
struct Stack {
    FullContext context;  // Its innermost; while it is on a thread, what was current there before.
    std::uint32_t own;    // Its number; not 0.
    std::uint32_t held;   // The number of the stack whose context is held: `own`, or the one below.
};
static_assert(sizeof(Stack) == 56);

struct Limits {  // Per provider; constant while a span lives.
    std::uint32_t attributes = 128;
    std::uint32_t value_length = UINT32_MAX;  // Characters of a string, bytes of a byte string.
    std::uint32_t events = 128;
    std::uint32_t links = 128;
    std::uint32_t event_attributes = 128;
    std::uint32_t link_attributes = 128;
};

// A span under construction. Plain data, moved with memcpy. `record` is null when nothing is
// recorded; then only `context` means anything. Bytes are written behind `cursor` and count once
// published.
struct Span {
    detail::SpanRecord* record;
    std::uint8_t* cursor;
    std::uint8_t* room_end;  // Up to here nothing needs to be asked; never behind `end`.
    std::uint8_t* end;       // The buffer's, or where a status description begins.
    void* owner;  // The client's: the lane whose slot this is. Begins with its generation.
    std::uint64_t generation;  // Of `owner` at the start; there it reads 0 in a fork's child.
    const Limits* limits;
    std::uint32_t slot;  // The client's.
    std::uint32_t events;
    // The next two are read in one load, which finds 0 nearly always.
    std::uint32_t description_bytes;  // Status description: the bytes from `end` on.
    std::uint32_t watched;  // The client's. Not 0: started() instead of the first publish().
    std::uint32_t links;
    std::uint32_t repeated_keys;  // Attributes in the body whose key stands there again.
    std::uint64_t key_filter[8];  // A bit for each key met so far, by 9 bits of its hash.
    Context context;
    std::uint64_t reserved;  // For a later version. Neither set nor read, but moved.
};
static_assert(sizeof(Span) == 192);
static_assert(offsetof(Span, description_bytes) % 8 == 0 &&
              offsetof(Span, watched) == offsetof(Span, description_bytes) + 4);

struct ScopeInfo {
    const char* name;
    std::size_t name_bytes;
    const char* version;
    std::size_t version_bytes;
    const char* schema_url;
    std::size_t schema_url_bytes;
    const void*
        attributes;  // Encoded KeyValue fields with tag 3 (InstrumentationScope.attributes).
    std::size_t attributes_bytes;
    const void* provider;  // Null: the global one.
};

// Entries are only appended, and each keeps its meaning. Headers may call those of 1.0 wherever
// there is a client, and ask for a later one: `if (has(*table, &Table::later))`, with what they did
// before it was there as the other way. A client calls nothing in the headers.
struct Table {
    std::uint32_t size;  // In bytes: up to where there are entries.
    std::uint32_t version;
    // Interns a scope for the life of the process. Never null. May allocate and lock: call it once,
    // not per span.
    const void* (*scope)(const ScopeInfo*) noexcept;
    // Fills *span and returns where its content is to be written: the name first, then the rest,
    // then publish(), from when on crash recovery sees it. Null: nothing is recorded. A parent of
    // null is the current context of this thread, one that is all zero makes a root. A start of 0
    // means now; kind is OTLP's number, 0 means internal.
    std::uint8_t* (*start)(Span* span, const void* scope, const Context* parent,
                           std::uint64_t start_unix_ns, std::uint32_t kind) noexcept;
    // Makes room for `bytes` more behind `at`, the end of what has been written, and returns where
    // that is then. Null: no room is to be had; drop what did not fit and count it.
    std::uint8_t* (*grow)(Span* span, std::uint8_t* at, std::size_t bytes) noexcept;
    // Hands the span over; clears `record`. 0: now.
    void (*end)(Span* span, std::uint64_t end_unix_ns) noexcept;
    std::uint64_t (*now)() noexcept;  // As it goes into a record: ticks with time_is_ticks, or Unix
                                      // nanoseconds.
    // The context of this thread, valid until it is next changed by this thread. Never null.
    const FullContext* (*current)() noexcept;
    // Makes a span current (taking a reference), beside the values that are, and moves what was
    // current into *previous.
    void (*attach)(const Context* span, FullContext* previous) noexcept;
    // Restores *previous (consumed). `attached` is the span that had been made current: a mismatch
    // is counted as misuse.
    void (*detach)(const Context* attached, FullContext* previous) noexcept;
    // Waits until everything that ended before is safe in the daemon's spool. False: timeout or no
    // daemon.
    bool (*flush)(std::uint64_t timeout_ns) noexcept;
    // As attach(), but the values are replaced as well.
    void (*attach_all)(const FullContext* context, FullContext* previous) noexcept;
    // The process's propagators, as oteld::Propagators::packed(): those of OTEL_PROPAGATORS until
    // others are set.
    std::uint64_t (*propagators)() noexcept;
    void (*set_propagators)(std::uint64_t packed) noexcept;
    // Writes how the program came to the caller, a line for each frame. Returns the length.
    std::size_t (*stack_trace)(char* text, std::size_t bytes) noexcept;
    // Instead of the first publish() of a span that start() marked as watched, with its content up
    // to `at`: sampler and processors of the program's own see it. It may record nothing then.
    void (*started)(Span* span, std::uint8_t* at) noexcept;
    // Puts a stack on this thread, or takes it off again. False: it is to be taken off, and is not
    // what is on this thread; counted as misuse, and nothing changes.
    bool (*exchange_stack)(Stack* stack) noexcept;
};

inline constexpr std::uint32_t table_bytes_of_1_0 = 128;
static_assert(offsetof(Table, exchange_stack) + sizeof(Table::exchange_stack) ==
              table_bytes_of_1_0);

// `entry` is a member of Table, or of what a test derives from it.
template <class AnyTable, class Entry>
bool has(const Table& table, Entry AnyTable::*entry) noexcept {
    const auto& whole = static_cast<const AnyTable&>(table);
    const auto offset = reinterpret_cast<const std::uint8_t*>(&(whole.*entry)) -
                        reinterpret_cast<const std::uint8_t*>(&table);
    return table.size >= static_cast<std::size_t>(offset) + sizeof(Entry);
}

}  // namespace oteld::abi

// The one symbol: strong in the client, weak everywhere else.
#if defined(OTELD_CLIENT_IMPLEMENTATION)
extern "C" const oteld::abi::Table* oteld_client_v1(void);
#else
extern "C" const oteld::abi::Table* oteld_client_v1(void) __attribute__((weak));
#endif

namespace oteld::abi {

inline std::atomic<const Table*> table_cache{nullptr};
inline constexpr Table no_client{};

inline const Table* find_client() noexcept {
    using Entry = const Table* (*)();
    Entry entry = &oteld_client_v1;
    // A -no-pie program under LD_PRELOAD has a null weak reference, as a plugin of a program with a
    // static client may.
    if (entry == nullptr) entry = reinterpret_cast<Entry>(dlsym(RTLD_DEFAULT, "oteld_client_v1"));
    const Table* found = entry != nullptr ? entry() : &no_client;
    if (found->size < table_bytes_of_1_0) found = &no_client;  // Of before 1.0.
    table_cache.store(found, std::memory_order_release);
    return found;
}

inline const Table* found_client() noexcept {
    const Table* table = table_cache.load(std::memory_order_acquire);
    return __builtin_expect(table == nullptr, 0) ? find_client() : table;
}

// Null: there is no client in this process.
inline const Table* client() noexcept {
    const Table* table = found_client();
    return table == &no_client ? nullptr : table;
}

// For who holds something that only a client can have given: a scope, a span that records.
inline const Table* present_client() noexcept {
    const Table* table = found_client();
#ifdef __clang_analyzer__  // It cannot know that, and would follow null pointers of `no_client`.
    if (table == &no_client) __builtin_unreachable();
#endif
    return table;
}

// False also for a span that a fork's child inherited: its buffer is not mapped there.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
    "-Wmaybe-uninitialized"  // A span without a record has no owner either.
#endif
inline bool recording(const Span& span) noexcept {
    return span.record != nullptr &&
           *static_cast<const std::uint64_t*>(span.owner) == span.generation;
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

// In front of each record under construction, in a slot or on the heap: how many of its bytes are
// valid.
inline constexpr std::size_t control_bytes = 64;

// The control counts what the open span has dropped, for crash recovery; 0 when its buffer is free.
inline constexpr std::size_t control_dropped_at = 24;
enum class Dropped : std::uint32_t { attributes = 0, events = 1, links = 2 };

inline std::uint8_t* control(const Span& span) noexcept {
    return reinterpret_cast<std::uint8_t*>(span.record) - control_bytes;
}

[[gnu::noinline]] inline void count_dropped(Span& span, Dropped what) noexcept {
    auto* counts = reinterpret_cast<std::uint32_t*>(control(span) + control_dropped_at);
    std::uint32_t& count = counts[static_cast<std::uint32_t>(what)];
    __atomic_store_n(&count, __atomic_load_n(&count, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

// Makes everything up to `at` part of the span, and of what survives a crash. Release: pairs with
// the recovery's acquire.
[[gnu::always_inline]] inline void publish(Span& span, std::uint8_t* at) noexcept {
    span.cursor = at;
    const auto bytes =
        static_cast<std::uint32_t>(at - reinterpret_cast<std::uint8_t*>(span.record));
    __atomic_store_n(reinterpret_cast<std::uint32_t*>(control(span)), bytes, __ATOMIC_RELEASE);
}

[[gnu::noinline, gnu::cold]] inline void started(Span& span, std::uint8_t* at) noexcept {
    present_client()->started(&span, at);
}

[[gnu::always_inline]] inline bool fits(const Span& span, const std::uint8_t* at,
                                        std::size_t bytes) noexcept {
    return span.room_end - at >= static_cast<std::ptrdiff_t>(bytes);
}

[[gnu::noinline]] inline std::uint8_t* room_elsewhere(Span& span, std::uint8_t* at,
                                                      std::size_t bytes) noexcept {
    if (span.end - at >= static_cast<std::ptrdiff_t>(bytes)) return at;
    return present_client()->grow(&span, at, bytes);
}

// Where `bytes` more can be written, `at` if possible; null: nowhere.
[[gnu::always_inline]] inline std::uint8_t* room(Span& span, std::uint8_t* at,
                                                 std::size_t bytes) noexcept {
    if (__builtin_expect(fits(span, at, bytes), 1)) return at;
    return room_elsewhere(span, at, bytes);
}

}  // namespace oteld::abi
