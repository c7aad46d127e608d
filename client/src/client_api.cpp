#include "process.hpp"

#include "oteld/client.hpp"

namespace oteld {

TracerProvider::TracerProvider(const Settings& settings) {
    sdk::Provider* provider = sdk::make_provider(
        settings.service_name(), settings.service_version(), settings.resource_attributes());
    provider->resource_schema_url = settings.schema_url();
    if (settings.lanes() || settings.lane_size() || !settings.growth())
        sdk::set_up_rings(*provider, {settings.lanes(), settings.lane_size(), settings.growth()});
    provider_ =
        provider;  // Never freed: scopes and spans refer to it for as long as the process lives.
}

void TracerProvider::make_global() const noexcept {
    sdk::set_global_provider(static_cast<const sdk::Provider*>(provider_));
}

bool force_flush(std::chrono::nanoseconds timeout) noexcept {
    return sdk::flush(timeout.count() < 0 ? 0 : static_cast<std::uint64_t>(timeout.count()));
}

std::uint64_t spans_dropped() noexcept { return sdk::dropped(); }
std::uint64_t spans_without_lane() noexcept { return sdk::dropped_without_lane(); }

}  // namespace oteld
