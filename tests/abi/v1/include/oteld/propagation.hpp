// Passing a context on to another process: into the headers of a request, and out of them again.
//
// Example:
//     oteld::inject(headers);                                     // What is current.
//     auto scope = oteld::attach(oteld::extract(request));        // In the server: span, baggage.
//     auto span = tracer.scope("GET /orders", oteld::server);
//
// Used by: what sends and receives requests. Carriers: carrier.hpp.
// Formats: those of OTEL_PROPAGATORS (tracecontext,baggage), or what set_propagators() says. They
// work without a client, too: what was extracted is injected again. Others may be named at each
// place: oteld::Propagators{oteld::Propagator::b3}.inject(context, headers).
// Threads: any. Never throws. A header that is malformed changes nothing. W3C's traceparent is read
// and written without allocating; a trace state and baggage are allocated when they are read.
// https://opentelemetry.io/docs/specs/otel/context/api-propagators/
#pragma once

#include "oteld/detail/other_formats.hpp"

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <vector>

namespace oteld {

enum class Propagator : std::uint8_t {
    tracecontext = 1,  // W3C: traceparent, tracestate.
    baggage = 2,       // W3C: baggage.
    b3 = 3,            // b3; reads the other form, too.
    b3multi = 4,       // X-B3-TraceId and others; reads the other form, too.
    jaeger = 5,        // uber-trace-id, uberctx-{key}; reads jaeger-debug-id and jaeger-baggage,
                       // too. Deprecated by OpenTelemetry.
    xray = 6,          // X-Amzn-Trace-Id.
    xray_root = 7  // The same; also continues the trace id of a header without a parent, as load
                   // balancers send it.
};

// Which formats, in which order. On extract, a later one that finds a span counts before an earlier
// one.
class Propagators {
public:
    constexpr Propagators() noexcept = default;  // None.
    constexpr Propagators(std::initializer_list<Propagator> list) noexcept {
        for (const Propagator one : list) add(one);
    }
    // A list as in OTEL_PROPAGATORS. "none" makes it empty. Calls unknown(name) for what is not
    // known, which is left out; if nothing else is there, the default is.
    template <class Unknown>
    static Propagators parse(std::string_view list, Unknown unknown) noexcept;

    // Each once: one that is there already stays where it is.
    constexpr void add(Propagator one) noexcept {
        unsigned shift = 0;
        for (; at(shift) != 0; shift += bits) {
            if (at(shift) == static_cast<std::uint64_t>(one)) return;
        }
        packed_ |= static_cast<std::uint64_t>(one) << shift;
    }
    [[nodiscard]] constexpr bool empty() const noexcept { return packed_ == 0; }
    friend constexpr bool operator==(Propagators a, Propagators b) noexcept {
        return a.packed_ == b.packed_;
    }
    friend constexpr bool operator!=(Propagators a, Propagators b) noexcept { return !(a == b); }

    template <class Carrier>
    void inject(const Context& context, Carrier&& carrier) const noexcept {
        if constexpr (std::is_function_v<std::remove_reference_t<Carrier>>) {
            auto* const pointer = &carrier;
            inject_into(context, detail::Writer(pointer));
        } else {
            inject_into(context, detail::Writer(carrier));
        }
    }
    template <class Carrier>
    [[nodiscard]] Context extract(const Carrier& carrier,
                                  const Context& context = {}) const noexcept {
        if constexpr (std::is_function_v<Carrier>) {
            auto* const pointer = &carrier;
            return extract_from(detail::Reader(pointer), context);
        } else {
            return extract_from(detail::Reader(carrier), context);
        }
    }
    // The headers that inject() may set, for carriers that are used again. Jaeger's baggage is not
    // among them: its names depend on the keys. May throw std::bad_alloc.
    [[nodiscard]] std::vector<std::string_view> fields() const;

    // For the client: a byte for each, the first in the lowest.
    static constexpr Propagators unpacked(std::uint64_t packed) noexcept {
        Propagators result;
        result.packed_ = packed;
        return result;
    }
    [[nodiscard]] constexpr std::uint64_t packed() const noexcept { return packed_; }

private:
    static constexpr unsigned bits = 8;
    [[nodiscard]] constexpr std::uint64_t at(unsigned shift) const noexcept {
        return packed_ >> shift & 0xFF;
    }
    template <class Function>
    constexpr void each(Function function) const {
        for (unsigned shift = 0; at(shift) != 0; shift += bits)
            function(static_cast<Propagator>(at(shift)));
    }
    void inject_into(const Context& context, const detail::Writer& to) const noexcept;
    [[nodiscard]] Context extract_from(const detail::Reader& from,
                                       const Context& context) const noexcept;

    std::uint64_t packed_ = 0;
};

inline constexpr Propagators default_propagators{Propagator::tracecontext, Propagator::baggage};

namespace detail {

struct PropagatorName {
    std::string_view name;
    Propagator propagator;
};
inline constexpr PropagatorName propagator_names[] = {{"tracecontext", Propagator::tracecontext},
                                                      {"baggage", Propagator::baggage},
                                                      {"b3", Propagator::b3},
                                                      {"b3multi", Propagator::b3multi},
                                                      {"jaeger", Propagator::jaeger},
                                                      {"xray", Propagator::xray},
                                                      {"xray-root", Propagator::xray_root}};

// Of a process without a client; 0: not set yet.
inline std::atomic<std::uint64_t> own_propagators{0};
inline constexpr std::uint64_t propagators_set = 1ULL << 63;

}  // namespace detail

template <class Unknown>
Propagators Propagators::parse(std::string_view list, Unknown unknown) noexcept {
    Propagators result;
    while (!list.empty()) {
        const std::string_view name = detail::trimmed(detail::next_part(list, ','));
        if (detail::same_name(name, "none")) return {};
        bool known = name.empty();
        for (const auto& one : detail::propagator_names) {
            if (!detail::same_name(name, one.name)) continue;
            result.add(one.propagator);
            known = true;
        }
        if (!known) unknown(name);
    }
    return result.empty() ? default_propagators : result;
}

[[gnu::noinline]] inline void Propagators::inject_into(const Context& context,
                                                       const detail::Writer& to) const noexcept {
    each([&](Propagator one) {
        switch (one) {
            case Propagator::tracecontext: return detail::inject_trace_context(context, to);
            case Propagator::baggage: return detail::inject_baggage(context, to);
            case Propagator::b3: return detail::inject_b3(context, to);
            case Propagator::b3multi: return detail::inject_b3_multi(context, to);
            case Propagator::jaeger: return detail::inject_jaeger(context, to);
            case Propagator::xray:
            case Propagator::xray_root: return detail::inject_xray(context, to);
        }
    });
}

[[gnu::noinline]] inline Context Propagators::extract_from(const detail::Reader& from,
                                                           const Context& given) const noexcept {
    Context context = given;
    each([&](Propagator one) {
        switch (one) {
            case Propagator::tracecontext: return detail::extract_trace_context(from, context);
            case Propagator::baggage: return detail::extract_baggage(from, context);
            case Propagator::b3:
            case Propagator::b3multi: return detail::extract_b3(from, context);
            case Propagator::jaeger: return detail::extract_jaeger(from, context);
            case Propagator::xray: return detail::extract_xray(from, context, false);
            case Propagator::xray_root: return detail::extract_xray(from, context, true);
        }
    });
    return context;
}

inline std::vector<std::string_view> Propagators::fields() const {
    std::vector<std::string_view> names;
    each([&](Propagator one) {
        const auto add = [&](std::initializer_list<std::string_view> more) {
            names.insert(names.end(), more);
        };
        switch (one) {
            case Propagator::tracecontext: return add({"traceparent", "tracestate"});
            case Propagator::baggage: return add({"baggage"});
            case Propagator::b3: return add({"b3"});
            case Propagator::b3multi:
                return add({"X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled", "X-B3-Flags"});
            case Propagator::jaeger: return add({"uber-trace-id"});
            case Propagator::xray:
            case Propagator::xray_root: return add({"X-Amzn-Trace-Id"});
        }
    });
    return names;
}

// Those of the process: what was set, else what OTEL_PROPAGATORS said at the first call. A name in
// it that is not known is said on standard error by the client, once; without one nobody says it.
inline Propagators propagators() noexcept {
    if (const abi::Table* table = abi::client()) return Propagators::unpacked(table->propagators());
    std::uint64_t packed = detail::own_propagators.load(std::memory_order_relaxed);
    if (packed == 0) {
        const char* list = std::getenv("OTEL_PROPAGATORS");
        const Propagators parsed =
            Propagators::parse(list == nullptr ? "" : list, [](std::string_view) {});
        // Not over what another thread sets meanwhile.
        if (detail::own_propagators.compare_exchange_strong(
                packed, parsed.packed() | detail::propagators_set, std::memory_order_relaxed))
            return parsed;
    }
    return Propagators::unpacked(packed & ~detail::propagators_set);
}
inline void set_propagators(Propagators which) noexcept {
    if (const abi::Table* table = abi::client()) return table->set_propagators(which.packed());
    detail::own_propagators.store(which.packed() | detail::propagators_set,
                                  std::memory_order_relaxed);
}

template <class Carrier>
void inject(const Context& context, Carrier&& carrier) noexcept {
    propagators().inject(context, carrier);
}
template <class Carrier>
void inject(const SpanContext& span, Carrier&& carrier) noexcept {
    propagators().inject(Context().with_span(span), carrier);
}
template <class Carrier>
void inject(Carrier&& carrier) noexcept {  // What is current.
    propagators().inject(current(), carrier);
}

// The context with what the carrier has. It starts from an empty one: what is current here has
// nothing to do with a request that comes in.
template <class Carrier>
[[nodiscard]] Context extract(const Carrier& carrier, const Context& context = {}) noexcept {
    return propagators().extract(carrier, context);
}

}  // namespace oteld
