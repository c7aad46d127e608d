#include "oteld/readable_span.hpp"

#include "c_locale.hpp"
#include "clock.hpp"
#include "hooks.hpp"
#include "shm/span_view.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace oteld {
namespace {

std::string_view as_text(const void* bytes, std::size_t size) noexcept {
    return {static_cast<const char*>(bytes), size};
}

RecordedAttributes attributes_of(const shm::Repeated<shm::Attribute>& from, int depth = 0);

RecordedValue value_of(const shm::AnyValue& from, int depth) {
    using Kind = shm::AnyValue::Kind;
    if (depth > shm::nesting_max) return {};
    switch (from.kind()) {
        case Kind::none: return {};
        case Kind::string: return from.text();
        case Kind::boolean: return from.boolean();
        case Kind::integer: return from.integer();
        case Kind::floating: return from.floating();
        case Kind::bytes: return RecordedValue::Bytes(from.text().begin(), from.text().end());
        case Kind::map: return attributes_of(from.map(), depth + 1);
        case Kind::array: break;
    }
    RecordedValue::Array items;
    for (const shm::AnyValue& item : from.array()) items.push_back(value_of(item, depth + 1));
    return items;
}

// Of a key that is there twice the last value counts, as in the daemon.
RecordedAttributes attributes_of(const shm::Repeated<shm::Attribute>& from, int depth) {
    RecordedAttributes list;
    for (const shm::Attribute& attribute : from) {
        RecordedAttribute* known = nullptr;
        for (RecordedAttribute& earlier : list)
            if (earlier.key == attribute.key) known = &earlier;
        if (known == nullptr)
            known = &list.emplace_back(RecordedAttribute{std::string(attribute.key), {}});
        known->value = value_of(attribute.value, depth);
    }
    return list;
}

template <std::size_t size>
void take_id(std::string_view from, std::uint8_t (&to)[size]) noexcept {
    if (from.size() == size) std::memcpy(to, from.data(), size);
}

SpanContext context_of(const shm::Link& link) noexcept {
    std::uint8_t trace_id[16] = {};
    std::uint8_t span_id[8] = {};
    take_id(link.trace_id, trace_id);
    take_id(link.span_id, span_id);
    return {trace_id, span_id, static_cast<std::uint8_t>(link.flags), (link.flags & 0x200U) != 0,
            link.trace_state};
}

// What the open span has dropped so far; end() moves it into the body.
std::uint32_t dropped(const abi::Span& span, abi::Dropped what) noexcept {
    const auto* counts =
        reinterpret_cast<const std::uint32_t*>(abi::control(span) + abi::control_dropped_at);
    return __atomic_load_n(counts + static_cast<std::uint32_t>(what), __ATOMIC_RELAXED);
}

// One moment on all clocks.
struct Now {
    std::uint64_t ticks = sdk::ticks() & ~detail::time_is_ticks;
    std::uint64_t monotonic_ns = sdk::clock_ns(CLOCK_MONOTONIC);
    std::uint64_t realtime_ns = sdk::clock_ns(CLOCK_REALTIME);
};

// Between the provider's anchor and now, which are the two ends of its spans' lives: so the rate of
// the ticks need not be known, and a step of the clock bends no duration.
Time time_of(std::uint64_t recorded, const abi::Span& span, const Now& now) noexcept {
    if (recorded == 0) return {};
    if ((recorded & detail::time_is_ticks) != 0) {
        const sdk::Hooks& hooks = *sdk::binding_of(span).provider->hooks;
        const auto ticks_passed = static_cast<double>(now.ticks - hooks.anchor_ticks);
        const auto ns_passed = static_cast<double>(now.monotonic_ns - hooks.anchor_monotonic_ns);
        const auto ago = static_cast<double>(now.ticks - (recorded & ~detail::time_is_ticks));
        const double ns = ticks_passed > 0 ? ago * (ns_passed / ticks_passed) : 0;
        recorded = now.realtime_ns - static_cast<std::uint64_t>(ns);
    }
    return Time(std::chrono::duration_cast<Time::duration>(
        std::chrono::nanoseconds(static_cast<std::int64_t>(recorded))));
}

void put_quoted(std::string& out, std::string_view text) {
    out += '"';
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n')
            out += "\\n";
        else
            out += c;
    }
    out += '"';
}

void put_value(std::string& out, const RecordedValue& value, bool quoted) {
    char number[32];
    if (const auto* plain = std::get_if<bool>(&value.is)) {
        out += *plain ? "true" : "false";
    } else if (const auto* integer = std::get_if<std::int64_t>(&value.is)) {
        out += std::to_string(*integer);
    } else if (const auto* real = std::get_if<double>(&value.is)) {
        // The shortest form that reads back as the same.
        const sdk::CLocale points;
        for (int digits = 6; digits <= 17; ++digits) {
            std::snprintf(number, sizeof number, "%.*g", digits, *real);
            if (std::strtod(number, nullptr) == *real) break;
        }
        out += number;
    } else if (const auto* text = std::get_if<std::string>(&value.is)) {
        if (quoted)
            put_quoted(out, *text);
        else
            out += *text;
    } else if (const auto* raw = std::get_if<RecordedValue::Bytes>(&value.is)) {
        for (const std::uint8_t byte : *raw) {
            std::snprintf(number, sizeof number, "%02x", byte);
            out += number;
        }
    } else if (const auto* array = std::get_if<RecordedValue::Array>(&value.is)) {
        out += '[';
        for (const RecordedValue& item : *array) {
            if (&item != array->data()) out += ',';
            put_value(out, item, true);
        }
        out += ']';
    } else if (const auto* map = std::get_if<RecordedValue::Map>(&value.is)) {
        out += '{';
        for (const RecordedAttribute& item : *map) {
            if (&item != map->data()) out += ',';
            put_quoted(out, item.key);
            out += ':';
            put_value(out, item.value, true);
        }
        out += '}';
    }
}

}  // namespace

std::string RecordedValue::text() const {
    std::string out;
    put_value(out, *this, false);
    return out;
}

ReadableSpan::ReadableSpan(const abi::Span& span, const std::uint8_t* at,
                           std::uint64_t end_time) noexcept
    : span_(span.watched != 0 && abi::recording(span) ? &span : nullptr),
      at_(at),
      end_time_(end_time) {}

std::string_view ReadableSpan::body() const noexcept {
    if (span_ == nullptr) return {};
    const auto* from = reinterpret_cast<const std::uint8_t*>(span_->record + 1);
    const std::uint8_t* to = at_ != nullptr ? at_ : span_->cursor;
    return as_text(from, static_cast<std::size_t>(to - from));
}

std::string_view ReadableSpan::name() const noexcept { return shm::Span(body()).name; }

SpanContext ReadableSpan::context() const noexcept {
    return span_ == nullptr ? SpanContext() : SpanContext(span_->context);
}

SpanContext ReadableSpan::parent() const noexcept {
    if (span_ == nullptr) return {};
    return {span_->context.trace_id, span_->record->parent_id, 0,
            (span_->record->prefix.flags & detail::record_parent_remote) != 0};
}

Kind ReadableSpan::kind() const noexcept {
    return span_ == nullptr ? Kind::internal : static_cast<Kind>(span_->record->kind_status & 15U);
}

Time ReadableSpan::start() const noexcept {
    return span_ == nullptr ? Time{} : time_of(span_->record->start, *span_, {});
}

Time ReadableSpan::end() const noexcept {
    return span_ == nullptr ? Time{} : time_of(end_time_, *span_, {});
}

Status ReadableSpan::status() const noexcept {
    return span_ == nullptr ? Status::unset : static_cast<Status>(span_->record->kind_status >> 4);
}

std::string_view ReadableSpan::status_description() const noexcept {
    return span_ == nullptr ? std::string_view() : as_text(span_->end, span_->description_bytes);
}

std::string_view ReadableSpan::scope_name() const noexcept {
    if (span_ == nullptr) return {};
    return shm::Scope(sdk::binding_of(*span_).scope->message).name;
}

RecordedValue ReadableSpan::operator[](std::string_view key) const {
    return value_of(shm::Span(body()).attribute(key), 0);
}

RecordedAttributes ReadableSpan::attributes() const {
    return attributes_of(shm::Span(body()).attributes());
}

RecordedSpan ReadableSpan::copy() const {
    RecordedSpan to;
    if (span_ == nullptr) return to;
    const shm::Span span(body());
    to.name = span.name;
    to.context = context();
    to.parent = parent();
    to.kind = kind();
    const Now now;
    to.start = time_of(span_->record->start, *span_, now);
    to.end = time_of(end_time_, *span_, now);
    to.status = status();
    to.status_description = status_description();
    to.attributes = attributes_of(span.attributes());
    for (const shm::Event& event : span.events())
        to.events.push_back({std::string(event.name), time_of(event.time_unix_ns, *span_, now),
                             attributes_of(event.attributes()), event.dropped_attributes_count});
    for (const shm::Link& link : span.links())
        to.links.push_back(
            {context_of(link), attributes_of(link.attributes()), link.dropped_attributes_count});
    to.dropped_attributes = dropped(*span_, abi::Dropped::attributes);
    to.dropped_events = dropped(*span_, abi::Dropped::events);
    to.dropped_links = dropped(*span_, abi::Dropped::links);
    const sdk::ScopeBinding& binding = sdk::binding_of(*span_);
    const shm::Scope scope(binding.scope->message);
    to.scope = {std::string(scope.name), std::string(scope.version), binding.scope->schema_url,
                attributes_of(scope.attributes())};
    to.resource = attributes_of(shm::Resource(binding.provider->resource).attributes());
    return to;
}

}  // namespace oteld
