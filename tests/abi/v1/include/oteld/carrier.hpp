// Carriers: what propagators read headers from and write them into.
//
// Used by: propagation.hpp; by people whose carrier is none of these:
//   - containers of pairs of strings: std::map, std::unordered_map, multimaps, a vector of pairs
//   - HTTP messages with set() and equal_range(), such as Boost.Beast's
//   - a function: (name) -> value for extract(), (name, value) for inject(). What the first returns
//     may be a string, a view, a pointer or an optional of them; nothing and "" mean that there is
//     no such header. One for carriers in which a header may stand more than once takes
//     (name, found) and calls found(value) for each.
//   - EnvironmentCarrier
//
// For others, specialise CarrierTraits.
//
// Example:
//     using Text = std::string_view;
//     const auto context = oteld::extract([&](Text name) { return message.header(name); });
//     oteld::inject(context, [&](Text name, Text value) { message.add_header(name, value); });
//
// Threads: the caller's. Names are asked for in lower case; carriers compare without case. What a
// carrier throws is caught: the header counts as absent, or is not set.
// https://opentelemetry.io/docs/specs/otel/context/api-propagators/#textmap-propagator
#pragma once

#include "oteld/detail/text.hpp"

#include <cstddef>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace oteld {

// Specialisations have, as far as they are needed:
//     template <class Found> static void each(const Carrier&, std::string_view name, Found found);
// calls found(value) for each value of a header, in order;
//     template <class Found> static void all(const Carrier&, Found found);
// calls found(name, value) for each header (for Jaeger's baggage alone);
//     static void set(Carrier&, std::string_view name, std::string_view value);
// replaces all values of a header.
template <class Carrier, class = void>
struct CarrierTraits;

// The process's environment: TRACEPARENT, TRACESTATE, BAGGAGE... set() changes it for programs that
// are started later, with setenv(3): no other thread may read the environment meanwhile.
// https://opentelemetry.io/docs/specs/otel/context/env-carriers/
struct EnvironmentCarrier {};

// The variable of a header: upper case, '_' for what a name may not have.
inline char environment_character(char c) noexcept {
    const char l = detail::lower(c);
    if (detail::is_lower(l)) return static_cast<char>(l - 'a' + 'A');
    return detail::is_digit(c) ? c : '_';
}
inline std::string environment_name(std::string_view header) {
    std::string name;
    for (const char c : header) name += environment_character(c);
    return name;
}

namespace detail {

// References to functions, so that the formats are compiled once and not for each carrier.
class ValueSink {
public:
    template <class Function>
    explicit ValueSink(Function* function) noexcept
        : to_(function),
          call_([](void* to, std::string_view value) { (*static_cast<Function*>(to))(value); }) {}
    void operator()(std::string_view value) const { call_(to_, value); }

private:
    void* to_;
    void (*call_)(void*, std::string_view);
};

class FieldSink {
public:
    template <class Function>
    explicit FieldSink(Function* function) noexcept
        : to_(function), call_([](void* to, std::string_view name, std::string_view value) {
              (*static_cast<Function*>(to))(name, value);
          }) {}
    void operator()(std::string_view name, std::string_view value) const {
        call_(to_, name, value);
    }

private:
    void* to_;
    void (*call_)(void*, std::string_view, std::string_view);
};

template <class Function>
void swallow_exceptions(Function function) noexcept {
#if defined(__cpp_exceptions)
    try {
        function();
    } catch (...) {  // As the header's comment says.
    }
#else
    function();
#endif
}

template <class Carrier, class = void>
struct HasAll : std::false_type {};
template <class Carrier>
struct HasAll<Carrier, std::void_t<decltype(CarrierTraits<Carrier>::all(
                           std::declval<const Carrier&>(), std::declval<FieldSink>()))>>
    : std::true_type {};

// A carrier to read from.
class Reader {
public:
    template <class Carrier>
    explicit Reader(const Carrier& carrier) noexcept : carrier_(&carrier) {
        each_ = [](const void* from, std::string_view name, ValueSink found) {
            swallow_exceptions([&] {
                CarrierTraits<Carrier>::each(*static_cast<const Carrier*>(from), name, found);
            });
        };
        if constexpr (HasAll<Carrier>::value) {
            all_ = [](const void* from, FieldSink found) {
                swallow_exceptions([&] {
                    CarrierTraits<Carrier>::all(*static_cast<const Carrier*>(from), found);
                });
            };
        }
    }
    template <class Function>
    void each(std::string_view name, Function function) const noexcept {
        each_(carrier_, name, ValueSink(&function));
    }
    template <class Function>
    void all(Function function) const noexcept {
        if (all_ != nullptr) all_(carrier_, FieldSink(&function));
    }
    // The first value only.
    template <class Function>
    void first(std::string_view name, Function function) const noexcept {
        bool seen = false;
        each(name, [&](std::string_view value) {
            if (!std::exchange(seen, true)) function(value);
        });
    }

private:
    const void* carrier_;
    void (*each_)(const void*, std::string_view, ValueSink);
    void (*all_)(const void*, FieldSink) = nullptr;
};

// A carrier to write into; a function may be constant.
class Writer {
public:
    template <class Carrier>
    explicit Writer(Carrier& carrier) noexcept
        : carrier_(const_cast<void*>(static_cast<const void*>(&carrier))) {
        using Plain = std::remove_const_t<Carrier>;
        static_assert(!std::is_const_v<Carrier> ||
                          std::is_invocable_v<Carrier&, std::string_view, std::string_view>,
                      "a constant carrier cannot take headers");
        set_ = [](void* to, std::string_view name, std::string_view value) {
            swallow_exceptions(
                [&] { CarrierTraits<Plain>::set(*static_cast<Plain*>(to), name, value); });
        };
    }
    void set(std::string_view name, std::string_view value) const noexcept {
        set_(carrier_, name, value);
    }

private:
    void* carrier_;
    void (*set_)(void*, std::string_view, std::string_view);
};

template <class Text>
std::string_view view_of(const Text& text) noexcept {
    if constexpr (std::is_convertible_v<const Text&, const char*>) {
        const char* pointer = text;
        return pointer == nullptr ? std::string_view() : std::string_view(pointer);
    } else if constexpr (std::is_convertible_v<const Text&, std::string_view>) {
        return text;
    } else {
        return {text.data(), text.size()};  // Another library's view.
    }
}

template <class Carrier>
using PairOf = decltype(*std::begin(std::declval<Carrier&>()));
template <class Carrier, class = void>
struct IsPairs : std::false_type {};
template <class Carrier>
struct IsPairs<Carrier, std::void_t<decltype(view_of(std::declval<PairOf<Carrier>>().first)),
                                    decltype(view_of(std::declval<PairOf<Carrier>>().second))>>
    : std::true_type {};

template <class Carrier, class = void>
struct IsMap : std::false_type {};
template <class Carrier>
struct IsMap<Carrier, std::void_t<typename Carrier::key_type, typename Carrier::mapped_type>>
    : std::true_type {};

template <class Carrier, class = void>
struct IsMessage : std::false_type {};
template <class Carrier>
struct IsMessage<Carrier,
                 std::void_t<decltype(std::declval<const Carrier&>()
                                          .equal_range({std::declval<const char*>(), std::size_t{}})
                                          .first->value()),
                             decltype(std::declval<const Carrier&>().begin()->name_string())>>
    : std::true_type {};

template <class Carrier>
using IsGetterOfAll = std::is_invocable<const Carrier&, std::string_view, ValueSink>;
template <class Carrier>
using IsGetter = std::is_invocable<const Carrier&, std::string_view>;
template <class Carrier>
using IsSetter = std::is_invocable<Carrier&, std::string_view, std::string_view>;

template <class Value, class Found>
void give(const Value& value, Found found) {
    if constexpr (std::is_constructible_v<bool, const Value&> &&
                  !std::is_convertible_v<const Value&, std::string_view>) {
        if (value) give(*value, found);  // An optional.
    } else if (const std::string_view text = view_of(value); !text.empty()) {
        found(text);
    }
}

}  // namespace detail

template <class Carrier>
struct CarrierTraits<Carrier, std::enable_if_t<detail::IsPairs<Carrier>::value>> {
    template <class Found>
    static void each(const Carrier& carrier, std::string_view name, Found found) {
        all(carrier, [&](std::string_view key, std::string_view value) {
            if (detail::same_name(key, name)) found(value);
        });
    }
    template <class Found>
    static void all(const Carrier& carrier, Found found) {
        for (const auto& pair : carrier)
            found(detail::view_of(pair.first), detail::view_of(pair.second));
    }
    // A name that is there keeps its case.
    static void set(Carrier& carrier, std::string_view name, std::string_view value) {
        using Pair = typename Carrier::value_type;
        using Key = std::remove_const_t<typename Pair::first_type>;
        using Text = typename Pair::second_type;
        static_assert(!std::is_trivially_copyable_v<Text>, "the carrier must own its values");
        bool found = false;
        for (auto at = carrier.begin(); at != carrier.end();) {
            if (!detail::same_name(detail::view_of(at->first), name)) {
                ++at;
            } else if (found) {
                at = carrier.erase(at);
            } else {
                at->second = Text(value);
                found = true;
                ++at;
            }
        }
        if (found) return;
        if constexpr (detail::IsMap<Carrier>::value) {
            carrier.emplace(Key(name), Text(value));
        } else {
            carrier.emplace_back(Key(name), Text(value));
        }
    }
};

template <class Carrier>
struct CarrierTraits<Carrier, std::enable_if_t<detail::IsMessage<Carrier>::value>> {
    template <class Found>
    static void each(const Carrier& carrier, std::string_view name, Found found) {
        const auto range = carrier.equal_range({name.data(), name.size()});
        for (auto at = range.first; at != range.second; ++at) found(detail::view_of(at->value()));
    }
    template <class Found>
    static void all(const Carrier& carrier, Found found) {
        for (const auto& field : carrier)
            found(detail::view_of(field.name_string()), detail::view_of(field.value()));
    }
    static void set(Carrier& carrier, std::string_view name, std::string_view value) {
        carrier.set({name.data(), name.size()}, {value.data(), value.size()});
    }
};

template <class Carrier>
struct CarrierTraits<
    Carrier,
    std::enable_if_t<std::disjunction_v<detail::IsGetterOfAll<Carrier>, detail::IsGetter<Carrier>,
                                        detail::IsSetter<Carrier>>>> {
    template <class Found>
    static void each(const Carrier& get, std::string_view name, Found found) {
        if constexpr (detail::IsGetterOfAll<Carrier>::value) {
            get(name, found);
        } else {
            detail::give(get(name), found);
        }
    }
    static void set(Carrier& set, std::string_view name, std::string_view value) {
        set(name, value);
    }
};

template <>
struct CarrierTraits<EnvironmentCarrier> {
    template <class Found>
    static void each(const EnvironmentCarrier&, std::string_view name, Found found) {
        char variable[64];
        if (name.size() >= sizeof variable) return;
        char* at = variable;
        for (const char c : name) *at++ = environment_character(c);
        *at = 0;
        detail::give(static_cast<const char*>(std::getenv(variable)), found);
    }
    static void set(EnvironmentCarrier&, std::string_view name, std::string_view value) {
        ::setenv(environment_name(name).c_str(), std::string(value).c_str(), 1);
    }
};

}  // namespace oteld
