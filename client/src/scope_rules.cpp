#include "provider.hpp"
#include "shm/span_view.hpp"

namespace oteld::sdk {

static bool matches(std::string_view pattern, std::string_view name) noexcept {
    if (pattern.empty() || pattern.back() != '*') return pattern == name;
    pattern.remove_suffix(1);
    return name.substr(0, pattern.size()) == pattern;
}

bool silent(const Provider& provider, const Scope& scope) noexcept {
    if (provider.sampler.disabled || provider.stopped.load(std::memory_order_acquire)) return true;
    if (provider.rules.empty()) return false;
    const std::string_view name = shm::Scope(scope.message).name;
    for (const ScopeRule& rule : provider.rules)
        if (matches(rule.pattern, name)) return !rule.enabled;
    return false;
}

}  // namespace oteld::sdk
