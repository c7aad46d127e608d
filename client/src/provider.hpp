// What a tracer provider decides for its spans: resource, sampler, limits. Immutable once made,
// never freed.
//
// Used by: start() on the span path (read only), process.cpp (registers its resource), client.hpp's
// TracerProvider. Threads: immutable.
#pragma once

#include "oteld/detail/abi.hpp"
#include "oteld/value.hpp"

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace oteld::sdk {

// Whether a sampler that is based on the parent asks it. B3, Jaeger and X-Ray may send ids without
// a decision, and a decision without ids.
[[nodiscard]] inline bool parent_decides(const abi::Context& parent, bool root) noexcept {
    return root ? (parent.remote & abi::remote_decided) != 0
                : (parent.remote & abi::remote_deferred) == 0;
}

struct Sampler {
    static constexpr std::uint64_t always = UINT64_MAX;
    bool disabled = false;  // OTEL_SDK_DISABLED: not even counted.
    bool parent_based = true;
    // A root is sampled when the low 64 bits of its trace id are below this; `always` means every
    // one.
    std::uint64_t root_threshold = always;

    // `id_bytes`: the last 8 bytes of the trace id, as they lie in memory.
    [[nodiscard, gnu::always_inline]] bool samples(const abi::Context& parent, bool root,
                                                   std::uint64_t id_bytes) const noexcept {
        if (parent_based && parent_decides(parent, root)) return (parent.flags & 1U) != 0;
        return root_threshold == always || __builtin_bswap64(id_bytes) < root_threshold;
    }
};

struct Hooks;
struct ScopeBinding;

// Instrumentation scopes by name: "noisy.lib" or, with a star at its end, all that begin so.
struct ScopeRule {
    std::string pattern;
    bool enabled;
};

struct Provider {
    Sampler sampler;
    abi::Limits limits;
    const Hooks* hooks = nullptr;  // The program's own code: hooks.hpp. Null for nearly all.
    bool xray_ids = false;
    bool local = false;                // Nothing goes into a ring.
    std::vector<ScopeRule> rules;      // The first one that matches counts.
    std::atomic<bool> stopped{false};  // Shut down. Before forget_scopes(); see put_generation().
    const Provider* made_before = nullptr;  // All of them, so that they are never lost.
    std::string
        resource;  // Encoded attributes of the OTLP Resource, without what differs by process.
    std::string resource_schema_url;
    bool instance_id_given = false;  // service.instance.id came from the user.

    // The Resource message of a process: adds process.pid and service.instance.id.
    [[nodiscard]] std::string resource_message(const std::uint8_t (&process_id)[16],
                                               std::int64_t pid) const;

    // Its scopes get no generation, so that each of their starts goes the slow way.
    [[nodiscard]] bool starts_slowly() const noexcept { return hooks != nullptr || xray_ids; }
};

// An interned instrumentation scope. Lives for ever; the API holds it as an opaque pointer.
struct Scope {
    std::string message;  // OTLP InstrumentationScope.
    std::string schema_url;
    const Provider* own = nullptr;  // Null: the global provider's, whichever that is.
    Scope* next = nullptr;

    // Written under the process mutex, `generation` last with release; start() reads it with
    // acquire.
    static constexpr std::uint64_t unregistered =
        ~0ULL;  // No lane's: those count from 1, or are 0.
    // Of the process that `index` and `active` belong to.
    std::atomic<std::uint64_t> generation{unregistered};
    std::atomic<std::uint32_t> index{0};
    std::atomic<const Provider*> active{nullptr};
    std::atomic<ScopeBinding*> bindings{nullptr};  // Under providers that start slowly.
};

// Spans of the scope are not recorded and not counted: a rule, a shutdown, OTEL_SDK_DISABLED.
[[nodiscard]] bool silent(const Provider& provider, const Scope& scope) noexcept;
// Behind whatever made scopes silent, or let them be heard again: calls those of
// on_enabled_change().
void tell_enabled_change() noexcept;

using StringPairs = std::vector<std::pair<std::string, std::string>>;

// From the standard OTEL_* variables. `service` and `attributes` given in code beat them.
[[nodiscard]] Provider* make_provider(std::string_view service_name,
                                      std::string_view service_version,
                                      const StringPairs& attributes);
[[nodiscard]] bool disabled_by_environment() noexcept;  // OTEL_SDK_DISABLED.
// Made from the environment at the first call, which may throw std::bad_alloc.
[[nodiscard]] const Provider* global_provider();
// Null: nobody has asked for one yet.
[[nodiscard]] const Provider* known_global_provider() noexcept;
[[nodiscard]] bool is_global(const Provider* provider) noexcept;
// Null: the one of the environment, made anew.
void set_global_provider(const Provider* provider) noexcept;
// Appends a KeyValue as that field.
void append_key_value(std::string& out, std::uint32_t field, std::string_view key,
                      const Value& value);
// The threshold of a ratio from 0 to 1.
[[nodiscard]] std::uint64_t ratio_threshold(double ratio) noexcept;

// The trace state of a remote parent says in OpenTelemetry's own member by which threshold the
// trace was sampled ("ot=th:8"), and spans are scaled up by it. Takes the threshold out where a
// built-in sampler has not followed the parent, or the trace's randomness says that the parent did
// not follow the threshold.
// https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
void check_threshold(abi::Context& context, bool parent_decided, bool sampled) noexcept;

// Sends the next start of every scope, on any thread, the slow way. Threads: any; no lock.
void forget_scopes() noexcept;
[[nodiscard]] Scope* intern_scope(const abi::ScopeInfo& info);

// `"name":` of this program, from /proc/self/comm or the loader.
[[nodiscard]] const std::string& executable_name();
// What the client has to complain about goes to standard error once, unless OTEL_LOG_LEVEL is none.
void warn(const char* format, ...) noexcept __attribute__((format(printf, 1, 2)));

}  // namespace oteld::sdk
