// ABI v1: the one symbol by which the API finds the client, and what is behind it.

#include "clock.hpp"
#include "process.hpp"

#include "oteld/detail/wire.hpp"

#include <cstring>
#include <new>

namespace oteld::sdk {

void start(abi::Span* span, const abi::Start* options) noexcept;
bool grow(abi::Span* span, std::size_t more) noexcept;
void end(abi::Span* span, std::uint64_t end_unix_ns) noexcept;

namespace {

constinit std::atomic<Scope*> scopes{nullptr};
constinit std::atomic<const Provider*> global{nullptr};
// For a process out of memory: a scope that is never registered records nothing.
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
    std::string message(wire::bytes_field_bytes(1, info.name_bytes) + wire::bytes_field_bytes(2, info.version_bytes) + info.attributes_bytes, '\0');
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

void attach(const abi::Context* context, abi::Context* previous) noexcept {
    *previous = this_thread.current;
    this_thread.current = *context;
    abi::retain(this_thread.current.trace_state);
}

void detach(const abi::Context* attached, abi::Context* previous) noexcept {
    abi::Context& now = this_thread.current;
    if (std::memcmp(now.span_id, attached->span_id, sizeof now.span_id) != 0) {
        if (Process* process = this_process()) process->count(shm::ProcessCounter::misuses);
    }
    abi::release(now.trace_state);
    now = *previous;
    previous->trace_state = nullptr;
}

std::uint64_t table_now() noexcept { return now(); }

constexpr abi::Table table{sizeof(abi::Table), 1, scope, start, grow, end, table_now, current, attach, detach, flush};

}  // namespace

Scope* intern_scope(const abi::ScopeInfo& info) {
    const std::string message = scope_message(info);
    // A lock-free list that only grows: two threads may intern the same scope at once, which costs an entry.
    for (Scope* known = scopes.load(std::memory_order_acquire); known != nullptr; known = known->next) {
        if (same(*known, info, message)) return known;
    }
    auto* fresh = new Scope;
    fresh->message = message;
    fresh->schema_url.assign(info.schema_url == nullptr ? "" : info.schema_url, info.schema_url_bytes);
    fresh->own = static_cast<const Provider*>(info.provider);
    fresh->next = scopes.load(std::memory_order_relaxed);
    while (!scopes.compare_exchange_weak(fresh->next, fresh, std::memory_order_acq_rel)) {
    }
    return fresh;
}

const Provider* global_provider() noexcept {
    const Provider* provider = global.load(std::memory_order_acquire);
    if (provider != nullptr) return provider;
    Provider* fresh = make_provider({}, {}, {});
    if (global.compare_exchange_strong(provider, fresh, std::memory_order_acq_rel)) return fresh;
    delete fresh;
    return provider;
}

void set_global_provider(const Provider* provider) noexcept {
    global.store(provider, std::memory_order_release);
    // Scopes of the global provider register anew at their next span.
    for (Scope* known = scopes.load(std::memory_order_acquire); known != nullptr; known = known->next) {
        if (known->own == nullptr) known->generation.store(0, std::memory_order_release);
    }
}

}  // namespace oteld::sdk

extern "C" __attribute__((visibility("default"))) const oteld::abi::Table* oteld_client_v1(void) {
    return &oteld::sdk::table;
}
