#include "clock.hpp"
#include "hooks.hpp"

#include "oteld/client.hpp"

#include <memory>

namespace oteld {
namespace {

// Every provider that was made in code, never freed: scopes and spans refer to it for as long as
// the process lives.
constinit std::atomic<const sdk::Provider*> made{nullptr};

void set_sampler(sdk::Provider& provider, const SamplerPointer& sampler,
                 std::unique_ptr<sdk::Hooks>& hooks) {
    if (sampler == nullptr) return;
    if (const Sampler::BuiltIn* known = sampler->built_in()) {
        provider.sampler.parent_based = known->parent_based;
        provider.sampler.root_threshold = known->root_threshold;
        return;
    }
    if (hooks == nullptr) hooks = std::make_unique<sdk::Hooks>();
    hooks->sampler = sampler;
}

void set_ids(sdk::Provider& provider, const IdGeneratorPointer& ids,
             std::unique_ptr<sdk::Hooks>& hooks) {
    if (ids == nullptr || ids == random_ids()) return;
    provider.xray_ids = ids == xray_ids();
    if (provider.xray_ids) return;
    if (hooks == nullptr) hooks = std::make_unique<sdk::Hooks>();
    hooks->ids = ids;
}

std::unique_ptr<sdk::Hooks> hooks_of(sdk::Provider& provider, const Settings& settings) {
    std::unique_ptr<sdk::Hooks> hooks;
    set_sampler(provider, settings.sampler(), hooks);
    set_ids(provider, settings.ids(), hooks);
    if (!settings.processors().empty()) {
        if (hooks == nullptr) hooks = std::make_unique<sdk::Hooks>();
        hooks->processors = settings.processors();
    }
    if (hooks == nullptr) return nullptr;
    // Chooses the clock, if nobody has yet.
    static_cast<void>(sdk::this_process());
    hooks->anchor_monotonic_ns = sdk::clock_ns(CLOCK_MONOTONIC);
    hooks->anchor_ticks = sdk::ticks() & ~detail::time_is_ticks;
    return hooks;
}

std::uint64_t deadline_in(std::chrono::nanoseconds timeout) noexcept {
    const std::uint64_t now = sdk::clock_ns(CLOCK_MONOTONIC);
    return timeout.count() < 0 ? now : now + static_cast<std::uint64_t>(timeout.count());
}

bool flush_until(std::uint64_t deadline) noexcept {
    const std::uint64_t now = sdk::clock_ns(CLOCK_MONOTONIC);
    return sdk::flush(deadline > now ? deadline - now : 0);
}

const sdk::Provider& provider_at(const void* handle) noexcept {
    return *static_cast<const sdk::Provider*>(handle);
}

}  // namespace

TracerProvider::TracerProvider(const Settings& settings) : TracerProvider(settings, false) {}

TracerProvider::TracerProvider(const Settings& settings, bool local) {
    std::unique_ptr<sdk::Provider> provider(sdk::make_provider(
        settings.service_name(), settings.service_version(), settings.resource_attributes()));
    provider->resource_schema_url = settings.schema_url();
    provider->local = local;
    for (const auto& [pattern, enabled] : settings.scopes())
        provider->rules.push_back({pattern, enabled});
    std::unique_ptr<sdk::Hooks> hooks = hooks_of(*provider, settings);
    if (settings.lanes() || settings.lane_size() || !settings.growth())
        sdk::set_up_rings(*provider, {settings.lanes(), settings.lane_size(), settings.growth()});
    provider->hooks = hooks.release();
    provider->made_before = made.load(std::memory_order_relaxed);
    while (!made.compare_exchange_weak(provider->made_before, provider.get(),
                                       std::memory_order_acq_rel)) {
    }
    provider_ = provider.release();
    sdk::publish_context(provider_at(provider_), sdk::Occasion::provider_made);
}

void TracerProvider::make_global() const noexcept {
    sdk::set_global_provider(&provider_at(provider_));
}

std::optional<TracerProvider> TracerProvider::global() noexcept {
    const sdk::Provider* known = sdk::known_global_provider();
    if (known == nullptr) return std::nullopt;
    return TracerProvider(static_cast<const void*>(known));
}

bool TracerProvider::force_flush(std::chrono::nanoseconds timeout) const noexcept {
    const sdk::Provider& provider = provider_at(provider_);
    const std::uint64_t deadline = deadline_in(timeout);
    const bool processed = provider.stopped.load(std::memory_order_acquire) ||
                           sdk::flush_processors(provider, deadline);
    return (provider.local || flush_until(deadline)) && processed;
}

bool TracerProvider::shutdown(std::chrono::nanoseconds timeout) const noexcept {
    auto& provider = const_cast<sdk::Provider&>(provider_at(provider_));
    // Before the scopes are sent the slow way: see put_generation().
    if (provider.stopped.exchange(true, std::memory_order_seq_cst)) return false;
    sdk::forget_scopes();
    sdk::tell_enabled_change();
    const std::uint64_t deadline = deadline_in(timeout);
    const bool processed = sdk::shut_down_processors(provider, deadline);
    return (provider.local || flush_until(deadline)) && processed;
}

bool force_flush(std::chrono::nanoseconds timeout) noexcept {
    return sdk::flush(timeout.count() < 0 ? 0 : static_cast<std::uint64_t>(timeout.count()));
}

std::uint64_t hook_failures() noexcept { return sdk::hook_failure_count(); }
std::uint64_t spans_dropped() noexcept { return sdk::dropped(); }
std::uint64_t spans_without_lane() noexcept { return sdk::dropped_without_lane(); }

}  // namespace oteld
