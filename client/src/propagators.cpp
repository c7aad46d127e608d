// The process's propagators: OTEL_PROPAGATORS, until the program sets others.

#include "provider.hpp"

#include "oteld/propagation.hpp"

#include <atomic>
#include <cstdlib>

namespace oteld::sdk {

std::uint64_t propagators() noexcept;
void set_propagators(std::uint64_t packed) noexcept;

namespace {

// Relaxed everywhere: one word, which says all there is to say. 0: not known yet.
constinit std::atomic<std::uint64_t> chosen{0};

Propagators from_environment(bool say) noexcept {
    const char* list = std::getenv("OTEL_PROPAGATORS");
    return Propagators::parse(list == nullptr ? "" : list, [&](std::string_view name) {
        if (!say) return;
        warn(
            "OTEL_PROPAGATORS: '%.*s' is not known and left out (known: tracecontext, baggage, b3, "
            "b3multi, jaeger, xray, xray-root, none)",
            static_cast<int>(name.size()), name.data());
    });
}

}  // namespace

std::uint64_t propagators() noexcept {
    std::uint64_t packed = chosen.load(std::memory_order_relaxed);
    if (packed == 0) {
        const std::uint64_t read = from_environment(false).packed() | detail::propagators_set;
        // Said by the thread that comes first, once.
        if (chosen.compare_exchange_strong(packed, read, std::memory_order_relaxed)) {
            (void)from_environment(true);
            packed = read;
        }
    }
    return packed & ~detail::propagators_set;
}

void set_propagators(std::uint64_t packed) noexcept {
    chosen.store(packed | detail::propagators_set, std::memory_order_relaxed);
}

}  // namespace oteld::sdk
