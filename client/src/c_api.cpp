// The C interface, on top of the same inline encoder as the C++ one.

#include "c_api.hpp"

#include "oteld/api.hpp"

#include <cstring>
#include <new>
#include <vector>

namespace {

using oteld::Attribute;
using oteld::Value;
using oteld::c::RawScope;
using oteld::c::view;

static_assert(sizeof(oteld_span) >= sizeof(oteld::abi::Span));

oteld::abi::Span* raw(oteld_span* span) noexcept {
    return reinterpret_cast<oteld::abi::Span*>(span);
}
const oteld::abi::Span* raw(const oteld_span* span) noexcept {
    return reinterpret_cast<const oteld::abi::Span*>(span);
}

// Null unless the span records.
oteld::abi::Span* recording(oteld_span* span) noexcept {
    return span != nullptr && oteld::abi::recording(*raw(span)) ? raw(span) : nullptr;
}

// As a number: a C caller may have written any into it, which C++ does not allow an enum to hold.
int type_of(const oteld_value& value) noexcept {
    static_assert(sizeof value.type == sizeof(int));
    int type = 0;
    std::memcpy(&type, &value.type, sizeof type);
    return type;
}

// Attribute and value trees in the shape that the encoder takes. `depth` bounds a hostile or cyclic
// tree.
struct Tree {
    std::vector<std::vector<Value>> arrays;
    std::vector<std::vector<Attribute>> maps;

    Value value(const oteld_value& from, int depth = 0) {
        switch (depth > 64 ? OTELD_STRING : type_of(from)) {
            case OTELD_BOOL: return from.as.boolean;
            case OTELD_INT: return from.as.integer;
            case OTELD_DOUBLE: return from.as.real;
            case OTELD_STRING: return depth > 64 ? std::string_view() : view(from.as.string);
            case OTELD_BYTES:
                return oteld::bytes{from.as.string.data,
                                    from.as.string.data == nullptr ? 0 : from.as.string.size};
            case OTELD_ARRAY: {
                std::vector<Value> items;
                const std::size_t count = from.as.array.items == nullptr ? 0 : from.as.array.count;
                items.reserve(count);
                for (std::size_t i = 0; i < count; ++i)
                    items.push_back(value(from.as.array.items[i], depth + 1));
                arrays.push_back(std::move(items));
                return {arrays.back().data(), arrays.back().size()};
            }
            case OTELD_MAP: {
                std::vector<Attribute> items =
                    list(from.as.map.items, from.as.map.count, depth + 1);
                maps.push_back(std::move(items));
                return {maps.back().data(), maps.back().size()};
            }
        }
        return std::string_view();
    }
    std::vector<Attribute> list(const oteld_attribute* items, std::size_t count, int depth = 0) {
        std::vector<Attribute> result;
        if (items == nullptr) return result;
        result.reserve(count);
        for (std::size_t i = 0; i < count; ++i)
            result.emplace_back(view(items[i].key), value(items[i].value, depth));
        return result;
    }
};

oteld::SpanContext context_of(const oteld_context& from) noexcept {
    return {from.trace_id, from.span_id, from.flags, from.remote != 0};
}

oteld_context to_c(const oteld::abi::Context& from) noexcept {
    oteld_context to{};
    std::memcpy(to.trace_id, from.trace_id, sizeof to.trace_id);
    std::memcpy(to.span_id, from.span_id, sizeof to.span_id);
    to.flags = from.flags;
    to.remote = from.remote & oteld::abi::remote_yes;
    return to;
}

// Scalars need no tree; only arrays and maps allocate. Returns where the content ends then.
std::uint8_t* set_value(oteld::abi::Span& span, std::uint8_t* at, std::string_view key,
                        const oteld_value& value) noexcept {
    try {
        Tree tree;
        return oteld::detail::set_any(span, at, key, tree.value(value));
    } catch (const std::bad_alloc&) {
        oteld::abi::count_dropped(span, oteld::abi::Dropped::attributes);
        return at;
    }
}

template <class T>
[[gnu::always_inline]] inline void set_plain(oteld_span* span, std::string_view key,
                                             T value) noexcept {
    if (oteld::abi::Span* to = recording(span)) oteld::detail::set_plain(*to, key, value);
}

// Calls function(list) with the attributes in the encoder's shape, or with none when memory is
// short.
template <class Function>
void with_list(const oteld_attribute* attributes, std::size_t count, Function function) noexcept {
    try {
        Tree tree;
        const std::vector<Attribute> list = tree.list(attributes, count);
        function(list.data(), list.size());
    } catch (const std::bad_alloc&) {
        function(static_cast<const Attribute*>(nullptr), std::size_t{0});
    }
}

}  // namespace

OTELD_EXPORT oteld_tracer oteld_get_tracer(oteld_str name, oteld_str version,
                                           oteld_str schema_url) {
    const oteld::abi::ScopeInfo info{
        name.data,       view(name).size(),       version.data, view(version).size(),
        schema_url.data, view(schema_url).size(), nullptr,      0,
        nullptr};
    return {oteld::abi::client()->scope(&info)};
}

OTELD_EXPORT void oteld_span_start(oteld_span* span, oteld_tracer tracer, oteld_str name,
                                   const oteld_start* options) {
    if (span == nullptr) return;
    if (tracer.scope == nullptr) {
        raw(span)->record = nullptr;
        raw(span)->context = {};
        return;
    }
    static constexpr oteld_start defaults{};
    if (options == nullptr) options = &defaults;
    oteld::abi::Context parent{};
    const bool explicit_parent = options->root || options->parent != nullptr;
    if (options->parent != nullptr && !options->root) parent = context_of(*options->parent).raw();
    std::uint8_t* at =
        oteld::abi::client()->start(raw(span), tracer.scope, explicit_parent ? &parent : nullptr,
                                    options->start_time, static_cast<std::uint32_t>(options->kind));
    if (at == nullptr) return;
    at = oteld::detail::put_name(*raw(span), at, view(name));
    const std::size_t attributes = options->attributes == nullptr ? 0 : options->attribute_count;
    for (std::size_t i = 0; i < attributes; ++i) {
        at = set_value(*raw(span), at, view(options->attributes[i].key),
                       options->attributes[i].value);
    }
    if (raw(span)->watched != 0) return oteld::abi::started(*raw(span), at);
    oteld::abi::publish(*raw(span), at);
}

OTELD_EXPORT bool oteld_span_recording(const oteld_span* span) {
    return span != nullptr && oteld::abi::recording(*raw(span));
}

OTELD_EXPORT oteld_context oteld_span_context(const oteld_span* span) {
    return span == nullptr ? oteld_context{} : to_c(raw(span)->context);
}

OTELD_EXPORT void oteld_span_set(oteld_span* span, oteld_str key, oteld_value value) {
    if (auto* to = recording(span))
        oteld::abi::publish(*to, set_value(*to, to->cursor, view(key), value));
}

OTELD_EXPORT void oteld_span_set_bool(oteld_span* span, oteld_str key, bool value) {
    set_plain(span, view(key), value);
}

OTELD_EXPORT void oteld_span_set_int(oteld_span* span, oteld_str key, int64_t value) {
    set_plain(span, view(key), value);
}

OTELD_EXPORT void oteld_span_set_double(oteld_span* span, oteld_str key, double value) {
    set_plain(span, view(key), value);
}

OTELD_EXPORT void oteld_span_set_string(oteld_span* span, oteld_str key, oteld_str value) {
    set_plain(span, view(key), view(value));
}

OTELD_EXPORT void oteld_span_set_bytes(oteld_span* span, oteld_str key, const void* data,
                                       size_t size) {
    if (auto* to = recording(span))
        oteld::detail::set_slowly(*to, view(key), oteld::bytes{data, data == nullptr ? 0 : size});
}

OTELD_EXPORT void oteld_span_event(oteld_span* span, oteld_str name,
                                   const oteld_attribute* attributes, size_t count, uint64_t time) {
    auto* to = recording(span);
    if (to == nullptr) return;
    with_list(attributes, count, [&](const Attribute* first, std::size_t size) {
        oteld::abi::publish(
            *to, oteld::detail::add_event(
                     *to, to->cursor, view(name), {first, size, to->limits->event_attributes},
                     time != 0 ? time : oteld::abi::client()->now(), to->limits->value_length));
    });
}

OTELD_EXPORT void oteld_span_link(oteld_span* span, const oteld_context* other,
                                  const oteld_attribute* attributes, size_t count) {
    auto* to = recording(span);
    if (to == nullptr || other == nullptr) return;
    const oteld::SpanContext context = context_of(*other);
    if (!context.valid() && count == 0) return;
    with_list(attributes, count, [&](const Attribute* first, std::size_t size) {
        oteld::abi::publish(*to,
                            oteld::detail::add_link(*to, to->cursor, context,
                                                    {first, size, to->limits->link_attributes}));
    });
}

namespace {

// Lends the handle to the C++ class, which knows the rules of status and name.
template <class Function>
void as_span(oteld_span* span, Function function) noexcept {
    if (recording(span) == nullptr) return;
    oteld::Span lent;
    std::memcpy(static_cast<void*>(&lent.raw()), raw(span), sizeof(oteld::abi::Span));
    function(lent);
    std::memcpy(static_cast<void*>(raw(span)), &lent.raw(), sizeof(oteld::abi::Span));
    lent.raw().record = nullptr;
    lent.raw().context = {};
}

}  // namespace

OTELD_EXPORT void oteld_span_status(oteld_span* span, int code, oteld_str description) {
    if (code < OTELD_UNSET || code > OTELD_ERROR) return;
    as_span(span, [&](oteld::Span& lent) {
        lent.status(static_cast<oteld::Status>(code), view(description));
    });
}

OTELD_EXPORT void oteld_span_name(oteld_span* span, oteld_str name) {
    as_span(span, [&](oteld::Span& lent) { lent.name(view(name)); });
}

OTELD_EXPORT void oteld_span_end(oteld_span* span, uint64_t end_time) {
    if (span == nullptr) return;
    if (raw(span)->record != nullptr) oteld::abi::client()->end(raw(span), end_time);
    oteld::abi::release(std::exchange(raw(span)->context.trace_state, nullptr));
}

OTELD_EXPORT oteld_scope oteld_attach(const oteld_span* span) {
    oteld_scope scope{};
    if (span == nullptr) return scope;
    auto* to = reinterpret_cast<RawScope*>(&scope);
    to->attached = raw(span)->context;
    oteld::abi::client()->attach(&to->attached, &to->previous);
    to->active = 1;
    return scope;
}

OTELD_EXPORT void oteld_detach(oteld_scope* scope) {
    auto* from = reinterpret_cast<RawScope*>(scope);
    if (scope == nullptr || std::exchange(from->active, 0) == 0) return;
    oteld::abi::client()->detach(&from->attached, &from->previous);
}

OTELD_EXPORT oteld_context oteld_current(void) {
    return to_c(oteld::abi::client()->current()->span);
}

namespace {
template <std::size_t bytes>
const char* copied(const oteld::HexText<bytes>& id, char* text) noexcept {
    return text == nullptr ? ""
                           : static_cast<const char*>(std::memcpy(text, id.c_str(), 2 * bytes + 1));
}
}  // namespace

OTELD_EXPORT const char* oteld_trace_id_text(oteld_context context, char text[33]) {
    return copied(context_of(context).trace_id_text(), text);
}

OTELD_EXPORT const char* oteld_span_id_text(oteld_context context, char text[17]) {
    return copied(context_of(context).span_id_text(), text);
}

OTELD_EXPORT bool oteld_flush(uint64_t timeout_ns) {
    return oteld::abi::client()->flush(timeout_ns);
}
