// opentelemetry-cpp's values as ours: attributes, span contexts.
//
// Used by: oteld/opentelemetry.hpp and opentelemetry_context.hpp. Users do not include it.
// Threads: any. Never throws; a long list of attributes and a trace state allocate.
#pragma once

#include "oteld/tracer.hpp"

#include <opentelemetry/common/attribute_value.h>
#include <opentelemetry/common/key_value_iterable.h>
#include <opentelemetry/nostd/variant.h>
#include <opentelemetry/trace/span_context.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

// A program may have parts that were built for either version of opentelemetry-cpp's interface.
#define OTELD_OPENTELEMETRY_VERSION \
    OPENTELEMETRY_CONCAT(opentelemetry_v, OPENTELEMETRY_ABI_VERSION_NO)

namespace oteld::detail {
inline namespace OTELD_OPENTELEMETRY_VERSION {
namespace otel = ::opentelemetry;

inline std::string_view view(otel::nostd::string_view text) noexcept {
    return {text.data(), text.size()};
}

// An array of strings. Its elements are std::string_view, whatever they were.
struct Texts {
    class Iterator {
    public:
        using value_type = std::string_view;
        using difference_type = std::ptrdiff_t;
        using reference = std::string_view;
        using pointer = void;
        using iterator_category = std::input_iterator_tag;

        explicit Iterator(const otel::nostd::string_view* at) noexcept : at_(at) {}
        std::string_view operator*() const noexcept { return view(*at_); }
        Iterator& operator++() noexcept {
            ++at_;
            return *this;
        }
        bool operator!=(const Iterator& other) const noexcept { return at_ != other.at_; }

    private:
        const otel::nostd::string_view* at_;
    };
    [[nodiscard]] Iterator begin() const noexcept { return Iterator(first); }
    [[nodiscard]] Iterator end() const noexcept { return Iterator(first + count); }

    const otel::nostd::string_view* first = nullptr;
    std::size_t count = 0;
};

// Refers to `from`, and to `texts` if it is an array of strings: both must live as long as it.
// The whole attribute, which is made where it stays: a copy of the value alone would read in one
// piece what was written in several a moment ago, and wait for that.
inline Attribute to_attribute(otel::nostd::string_view key,
                              const otel::common::AttributeValue& from, Texts& texts) noexcept {
    using otel::nostd::span;
    return otel::nostd::visit(
        [&](const auto& value) -> Attribute {
            using T = std::decay_t<decltype(value)>;
            if constexpr (std::is_same_v<T, otel::nostd::string_view>) {
                return {view(key), view(value)};
            } else if constexpr (std::is_same_v<T, span<const std::uint8_t>>) {
                return {view(key), bytes{value.data(), value.size()}};
            } else if constexpr (std::is_same_v<T, span<const otel::nostd::string_view>>) {
                texts = {value.data(), value.size()};
                return {view(key), texts};
            } else {
                return {view(key), value};
            }
        },
        from);
}

// The attributes of an event (field 3), a link (4) or a scope (3), encoded as they come, since
// their keys and texts may be gone after each. For add_event() and add_link(). Of a key that is
// there twice the last one counts. Those beyond `limit` are dropped, out of memory others are
// too. Up to a kilobyte takes no allocation.
class EncodedAttributes {
public:
    EncodedAttributes(const otel::common::KeyValueIterable& from, std::uint32_t field,
                      std::uint32_t limit, std::uint32_t text_limit) noexcept {
        from.ForEachKeyValue(
            [&](otel::nostd::string_view key, const otel::common::AttributeValue& value) noexcept {
                Texts texts;
                const Attribute attribute = to_attribute(key, value, texts);
                add(attribute.key, attribute.value, field, limit, text_limit);
                return true;
            });
    }
    EncodedAttributes(const EncodedAttributes&) = delete;
    EncodedAttributes& operator=(const EncodedAttributes&) = delete;
    ~EncodedAttributes() { std::free(more_); }

    [[nodiscard]] std::string_view text() const noexcept {
        return {reinterpret_cast<const char*>(data_), used_};
    }
    std::size_t bytes(std::uint32_t, std::uint32_t, std::uint32_t& dropped) const noexcept {
        dropped = dropped_;
        return used_;
    }
    std::uint8_t* put(std::uint8_t* at, std::uint32_t, std::uint32_t) const noexcept {
        return wire::put_raw(at, data_, used_);
    }

private:
    void add(std::string_view key, const Value& value, std::uint32_t field, std::uint32_t limit,
             std::uint32_t text_limit) noexcept {
        if (!key.empty()) remove(key);
        const std::size_t bytes = key_value_field_bytes(field, key, value, text_limit);
        if (key.empty() || count_ == limit || !reserve(bytes)) {
            ++dropped_;
            return;
        }
        put_key_value(data_ + used_, field, key, value, text_limit);
        used_ += bytes;
        ++count_;
    }
    void remove(std::string_view key) noexcept {
        std::size_t at = 0;
        while (at < used_) {
            // A tag of one byte, then both lengths, as they were written.
            std::size_t inside = at + 1;
            const std::size_t bytes = varint(inside);
            std::size_t text = inside + 1;
            const std::size_t key_bytes = varint(text);
            const std::size_t next = inside + bytes;
            if (key_bytes == key.size() && std::memcmp(data_ + text, key.data(), key_bytes) == 0) {
                std::memmove(data_ + at, data_ + next, used_ - next);
                used_ -= next - at;
                --count_;
                return;
            }
            at = next;
        }
    }
    std::size_t varint(std::size_t& at) const noexcept {
        std::size_t value = 0;
        for (unsigned shift = 0;; shift += 7) {
            const std::size_t byte = data_[at++];
            value |= (byte & 0x7FU) << shift;
            if (byte < 0x80) return value;
        }
    }
    bool reserve(std::size_t bytes) noexcept {
        if (bytes <= capacity_ - used_) return true;
        if (bytes > SIZE_MAX / 4) return false;
        std::size_t larger = 2 * capacity_;
        while (larger - used_ < bytes) larger *= 2;
        void* memory = std::realloc(more_, larger);
        if (memory == nullptr) return false;
        if (more_ == nullptr) std::memcpy(memory, local_, used_);
        more_ = memory;
        data_ = static_cast<std::uint8_t*>(memory);
        capacity_ = larger;
        return true;
    }

    std::uint8_t local_[1024];
    std::uint8_t* data_ = local_;
    void* more_ = nullptr;
    std::size_t used_ = 0;
    std::size_t capacity_ = sizeof local_;
    std::uint32_t count_ = 0;
    std::uint32_t dropped_ = 0;
};

inline otel::nostd::shared_ptr<otel::trace::TraceState> to_trace_state(
    const abi::TraceState* state) noexcept {
    if (state == nullptr) return otel::trace::TraceState::GetDefault();
    const std::string_view text = text_of(state);
    return otel::trace::TraceState::FromHeader({text.data(), text.size()});
}

inline otel::trace::SpanContext to_span_context(
    const abi::Context& from, otel::nostd::shared_ptr<otel::trace::TraceState> state) noexcept {
    using namespace otel::trace;
    return {TraceId(from.trace_id), SpanId(from.span_id), TraceFlags(from.flags),
            (from.remote & abi::remote_yes) != 0, std::move(state)};
}
}  // namespace OTELD_OPENTELEMETRY_VERSION
}  // namespace oteld::detail

namespace oteld {
inline namespace OTELD_OPENTELEMETRY_VERSION {
// The identity of a span, both ways, with its trace state and whether it came from elsewhere.
inline SpanContext from_opentelemetry(const opentelemetry::trace::SpanContext& from) noexcept {
    std::uint8_t trace_id[16];
    std::uint8_t span_id[8];
    std::memcpy(trace_id, from.trace_id().Id().data(), sizeof trace_id);
    std::memcpy(span_id, from.span_id().Id().data(), sizeof span_id);
    const auto& state = from.trace_state();
    const bool stateless = state == nullptr || state->Empty();
    return {trace_id, span_id, from.trace_flags().flags(), from.IsRemote(),
            stateless ? std::string() : state->ToHeader()};
}
inline opentelemetry::trace::SpanContext to_opentelemetry(const SpanContext& from) noexcept {
    return detail::to_span_context(from.raw(), detail::to_trace_state(from.raw().trace_state));
}
}  // namespace OTELD_OPENTELEMETRY_VERSION
}  // namespace oteld
