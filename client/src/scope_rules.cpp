#include "provider.hpp"
#include "shm/span_view.hpp"

#include "oteld/client.hpp"

namespace oteld {
namespace sdk {
namespace {

struct Listener {
    void (*changed)() noexcept;
    Listener* next;
};
constinit std::atomic<Listener*> listeners{nullptr};  // Never freed.

bool matches(std::string_view pattern, std::string_view name) noexcept {
    if (pattern.empty() || pattern.back() != '*') return pattern == name;
    pattern.remove_suffix(1);
    return name.substr(0, pattern.size()) == pattern;
}

bool all_silent(const Provider& provider) noexcept {
    return provider.sampler.disabled || provider.stopped.load(std::memory_order_acquire);
}

bool ruled_out(const Provider& provider, std::string_view name) noexcept {
    for (const ScopeRule& rule : provider.rules)
        if (matches(rule.pattern, name)) return !rule.enabled;
    return false;
}

}  // namespace

bool silent(const Provider& provider, const Scope& scope) noexcept {
    if (provider.rules.empty()) return all_silent(provider);
    return all_silent(provider) || ruled_out(provider, shm::Scope(scope.message).name);
}

void tell_enabled_change() noexcept {
    for (const Listener* one = listeners.load(std::memory_order_acquire); one != nullptr;
         one = one->next)
        one->changed();
}

}  // namespace sdk

bool enabled(std::string_view tracer_name, const void* provider) noexcept {
    const auto* asked = provider != nullptr ? static_cast<const sdk::Provider*>(provider)
                                            : sdk::known_global_provider();
    // The environment's, which has no rules, need not be made for that.
    if (asked == nullptr) return !sdk::disabled_by_environment();
    return !sdk::all_silent(*asked) && !sdk::ruled_out(*asked, tracer_name);
}

void on_enabled_change(void (*changed)() noexcept) {
    sdk::Listener* first = sdk::listeners.load(std::memory_order_acquire);
    for (const sdk::Listener* known = first; known != nullptr; known = known->next)
        if (known->changed == changed) return;
    auto* fresh = new sdk::Listener{changed, first};
    while (!sdk::listeners.compare_exchange_weak(fresh->next, fresh, std::memory_order_acq_rel)) {
    }
}

}  // namespace oteld
