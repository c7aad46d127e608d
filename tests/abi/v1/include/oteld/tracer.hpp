// A tracer names the library that records (the instrumentation scope) and starts spans.
//
// Example:
//     const auto shop = oteld::tracer("shop.orders", "1.4.0");
//     auto request = shop.scope("POST /orders", {{"order.id", order.id}}, oteld::server);
//     auto later = shop.span("send invoice", oteld::root, oteld::link_to(request.context()));
//
// Used by: everybody. Threads: any; a Tracer is a cheap, copyable value that may be static.
// A tracer() call interns its scope and may allocate and lock: call it once per library, not per
// span. https://opentelemetry.io/docs/specs/otel/trace/api/#tracer
#pragma once

#include "oteld/span.hpp"

#include <vector>

namespace oteld {

struct ParentOption {
    SpanContext context;
};
struct RootOption {};
struct StartTime {
    Time time;
};
struct LinkOption {
    SpanContext context;
    Attributes attributes;
};

inline ParentOption parent(SpanContext context) noexcept { return {std::move(context)}; }
// Its span; baggage and values are not made current by that: attach(context) does it.
inline ParentOption parent(const Context& context) noexcept { return {context.span()}; }
inline constexpr RootOption root{};  // No parent, whatever is current.
inline StartTime start_time(Time time) noexcept { return {time}; }
inline LinkOption link_to(SpanContext context, Attributes attributes = {}) noexcept {
    return {std::move(context), attributes};
}

class Tracer {
public:
    Tracer() noexcept = default;  // Records nothing.
    explicit Tracer(const void* scope) noexcept : scope_(scope) {}

    // Options in any order: a Kind, parent(context), root, start_time(t), link_to(context, {...});
    // attributes last or first, as a braced list.
    template <class... Options>
    [[nodiscard]] Span span(std::string_view name, const Options&... options) const noexcept {
        return start(name, nullptr, 0, options...);
    }
    template <class... Options>
    [[nodiscard]] Span span(std::string_view name, Attributes attributes,
                            const Options&... options) const noexcept {
        return start(name, attributes.begin(), attributes.size(), options...);
    }
    template <class Option, class = std::enable_if_t<!std::is_same_v<Option, Attributes>>>
    [[nodiscard]] Span span(std::string_view name, const Option& option,
                            Attributes attributes) const noexcept {
        return start(name, attributes.begin(), attributes.size(), option);
    }

    template <class... Options>
    [[nodiscard]] ScopedSpan scope(std::string_view name,
                                   const Options&... options) const noexcept {
        return scoped(name, nullptr, 0, options...);
    }
    template <class... Options>
    [[nodiscard]] ScopedSpan scope(std::string_view name, Attributes attributes,
                                   const Options&... options) const noexcept {
        return scoped(name, attributes.begin(), attributes.size(), options...);
    }
    template <class Option, class = std::enable_if_t<!std::is_same_v<Option, Attributes>>>
    [[nodiscard]] ScopedSpan scope(std::string_view name, const Option& option,
                                   Attributes attributes) const noexcept {
        return scoped(name, attributes.begin(), attributes.size(), option);
    }

    // Calls f(args...) in a span: traced.hpp.
    template <class Function, class... Arguments>
    decltype(auto) traced(std::string_view name, Function&& f, Arguments&&... arguments) const;

    // The general form, for wrappers. Options may also be a `const abi::Context*`, the parent, null
    // for the current one; and a function of (abi::Span&, std::uint8_t* at) that writes more of
    // what the span starts with behind `at` and returns where that ends.
    template <class... Options>
    [[gnu::always_inline]] Span start(std::string_view name, const Attribute* first,
                                      std::size_t count, const Options&... options) const noexcept {
        Span span{Span::Unset{}};
        start_in(span, name, first, count, options...);
        return span;
    }

private:
    template <class... Options>
    [[gnu::always_inline]] ScopedSpan scoped(std::string_view name, const Attribute* first,
                                             std::size_t count,
                                             const Options&... options) const noexcept {
        ScopedSpan span{Span::Unset{}};
        start_in(span, name, first, count, options...);
        span.make_current();
        return span;
    }

    // Into a span in which nothing is set yet.
    template <class... Options>
    [[gnu::always_inline]] void start_in(Span& span, std::string_view name, const Attribute* first,
                                         std::size_t count,
                                         const Options&... options) const noexcept {
        abi::Span& raw = span.raw();
        if (scope_ == nullptr) {
            raw.record = nullptr;
            raw.context = {};
            return;
        }
        How how;
        (apply(how, options), ...);
        std::uint8_t* at =
            abi::present_client()->start(&raw, scope_, how.parent, how.start_unix_ns, how.kind);
        if (at == nullptr) return;
        at = detail::put_name(raw, at, name);
        if (count != 0) at = detail::set_list(raw, at, first, count);
        ((at = add(raw, at, options)), ...);
        if (__builtin_expect(raw.watched != 0, 0)) return abi::started(raw, at);
        // Crash recovery sees the span from here on, with all that it was started with.
        abi::publish(raw, at);
    }

    struct How {
        const abi::Context* parent = nullptr;
        std::uint64_t start_unix_ns = 0;
        std::uint32_t kind = 0;
    };
    template <class Option>
    static constexpr bool is_content =
        std::is_invocable_r_v<std::uint8_t*, const Option&, abi::Span&, std::uint8_t*>;
    static inline constexpr abi::Context no_parent{};
    static void apply(How& how, Kind kind) noexcept { how.kind = static_cast<std::uint32_t>(kind); }
    static void apply(How& how, const ParentOption& option) noexcept {
        how.parent = &option.context.raw();
    }
    static void apply(How& how, RootOption) noexcept { how.parent = &no_parent; }
    static void apply(How& how, StartTime option) noexcept {
        how.start_unix_ns = option.time == Time{} ? 0 : detail::unix_ns(option.time);
    }
    static void apply(How&, const LinkOption&) noexcept {}
    static void apply(How& how, const abi::Context* parent) noexcept { how.parent = parent; }
    template <class Option, class = std::enable_if_t<is_content<Option>>>
    static void apply(How&, const Option&) noexcept {}
    template <class Option>
    static std::uint8_t* add(abi::Span& span, std::uint8_t* at, const Option& option) noexcept {
        if constexpr (is_content<Option>) {
            return option(span, at);
        } else if constexpr (std::is_same_v<Option, LinkOption>) {
            if (option.context.valid() || option.attributes.size() != 0 ||
                !option.context.trace_state().empty())
                return detail::add_link(span, at, option.context,
                                        {option.attributes.begin(), option.attributes.size(),
                                         span.limits->link_attributes});
        }
        return at;
    }

    const void* scope_ = nullptr;
};

namespace detail {
// `attributes`: encoded, as ScopeInfo has them. A provider of null: the global one.
inline Tracer tracer_of(std::string_view name, std::string_view version,
                        std::string_view schema_url, std::string_view attributes,
                        const void* provider) noexcept {
    const abi::Table* table = abi::client();
    if (table == nullptr) return {};
    const abi::ScopeInfo info{name.data(),       name.size(),       version.data(),
                              version.size(),    schema_url.data(), schema_url.size(),
                              attributes.data(), attributes.size(), provider};
    return Tracer(table->scope(&info));
}
}  // namespace detail

// The tracer of the global provider for this instrumentation scope.
inline Tracer tracer(std::string_view name, std::string_view version = {},
                     std::string_view schema_url = {}, Attributes attributes = {},
                     const void* provider = nullptr) {
    if (abi::client() == nullptr) return {};
    std::vector<std::uint8_t> encoded;
    for (const Attribute& attribute : attributes) {
        const std::size_t bytes =
            detail::key_value_field_bytes(3, attribute.key, attribute.value, UINT32_MAX);
        encoded.resize(encoded.size() + bytes);
        detail::put_key_value(encoded.data() + encoded.size() - bytes, 3, attribute.key,
                              attribute.value, UINT32_MAX);
    }
    return detail::tracer_of(name, version, schema_url,
                             {reinterpret_cast<const char*>(encoded.data()), encoded.size()},
                             provider);
}

}  // namespace oteld
