// What a program adds to a provider: a sampler, an id generator, processors. Their spans are
// "watched": each start goes the slow way and each end too, so that other providers' spans pay
// nothing for it.
//
// Used by: slow_span.cpp (a start or end of a watched span), hooks.cpp (calls into the program's
// code), client_api.cpp (makes them). Threads: Hooks are immutable; the rest any.
//
//   start_slowly()  builds the span, not counted yet  -> watched
//   hooked_start()  ids, sampler, count, on_start()   -> watched | started
//   hooked_end()    on_ending(), on_end()             -> ... | ending; then the lane
//
// A watched span without a lane (no ring directory, a Recorder), and one that is recorded but not
// sampled, is in private memory: it is neither counted nor seen by crash recovery.
#pragma once

#include "process.hpp"

#include "oteld/id_generator.hpp"
#include "oteld/processor.hpp"
#include "oteld/sampler.hpp"

#include <memory>
#include <vector>

namespace oteld::sdk {

struct Hooks {
    SamplerPointer sampler;  // Null: the provider's built-in one.
    IdGeneratorPointer ids;  // Null: the client's.
    std::vector<ProcessorPointer> processors;
    // Times are ticks in the record; a reader interpolates between this and its own now.
    std::uint64_t anchor_ticks = 0;
    std::uint64_t anchor_monotonic_ns = 0;
};

// abi::Span::watched
enum Watched : std::uint32_t {
    watched = 1,
    watched_started = 2,
    watched_ending = 4,  // Its hooks run: a further end() is theirs, and is ignored.
    watched_parent_sampled = 8,
    watched_root = 16,
    watched_parent_decides = 32,  // parent_decides()
};

// A scope under a provider whose starts are slow. Never freed; abi::Span::limits points here.
struct ScopeBinding {
    abi::Limits limits;  // First.
    const Provider* provider;
    const Scope* scope;
    ScopeBinding* next;
    // Of the process in whose tables the scope stands as `index`. Release after the index.
    std::atomic<std::uint64_t> generation{Scope::unregistered};
    std::atomic<std::uint32_t> index{0xFFFF};
};

// Of a watched span.
inline const ScopeBinding& binding_of(const abi::Span& span) noexcept {
    return *reinterpret_cast<const ScopeBinding*>(span.limits);
}

// Null: out of memory.
[[nodiscard]] ScopeBinding* bind(Scope& scope, const Provider& provider) noexcept;

// Hooks of one provider that are running on a thread, innermost first.
struct HookFrame {
    const Provider* provider;
    const HookFrame* outer;
};
[[nodiscard]] bool in_hook_of(const Thread& thread, const Provider& provider) noexcept;

// With what the start wrote, up to `at`. Publishes it, or the span records nothing after all.
void hooked_start(abi::Span* span, std::uint8_t* at) noexcept;
// False: there is nothing left to be done, or a hook called this.
[[nodiscard]] bool hooked_end(abi::Span& span, std::uint64_t end_time) noexcept;
// Of the provider's processors, until `deadline_ns` (CLOCK_MONOTONIC). False: one did not.
bool flush_processors(const Provider& provider, std::uint64_t deadline_ns) noexcept;
bool shut_down_processors(const Provider& provider, std::uint64_t deadline_ns) noexcept;
[[nodiscard]] std::uint64_t hook_failure_count() noexcept;

// slow_span.cpp: what only the span path knows.
// The context's, behind `at`. Inside the client.
[[nodiscard]] std::uint8_t* put_trace_state(abi::Span& span, std::uint8_t* at) noexcept;
// Not delivered: the buffer is given back, the span records nothing any more.
void discard(abi::Span& span) noexcept;
// Out of its slot, into private memory. Null: out of memory, and nothing has changed.
[[nodiscard]] std::uint8_t* make_private(abi::Span& span, std::uint8_t* at) noexcept;
// As begun, or as not sampled.
void count_started(const abi::Span& span, bool sampled) noexcept;

// lanes.cpp: the owner of spans in private memory that have no lane. Null: out of memory.
[[nodiscard]] Lane* no_lane() noexcept;
// Like prepare(), for such a scope. Null: no lane, which is counted for a span that is not
// `watched`; or recording is turned off, which is said in `off`.
[[nodiscard]] Lane* prepare_bound(Thread& thread, Scope& scope, ScopeBinding& binding,
                                  const abi::Context& parent, bool watched, bool& off) noexcept;

}  // namespace oteld::sdk
