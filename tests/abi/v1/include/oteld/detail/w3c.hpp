// The W3C's headers: traceparent, tracestate, baggage.
//
// Used by: propagation.hpp. Threads: any; no state. Never throws. Allocates only what is kept: a
// trace state, baggage.
// https://www.w3.org/TR/trace-context-2/ https://www.w3.org/TR/baggage/
#pragma once

#include "oteld/carrier.hpp"
#include "oteld/context.hpp"

#include <cstring>

namespace oteld::detail {

// ---- traceparent, tracestate: 00-<trace id>-<span id>-<flags> ----

inline constexpr std::size_t traceparent_bytes = 55;
inline constexpr std::uint8_t known_flags = 3;  // Sampled, random trace id.

// A later version is read as far as this one goes, and goes on as this one.
[[gnu::noinline]] inline bool parse_traceparent(std::string_view text, abi::Context& to) noexcept {
    text = trimmed(text);
    std::uint8_t version = 0;
    if (text.size() < traceparent_bytes || text[2] != '-' || text[35] != '-' || text[52] != '-' ||
        !parse_hex(text.substr(0, 2), &version, 1) || version == 0xFF)
        return false;
    if (text.size() > traceparent_bytes && (version == 0 || text[traceparent_bytes] != '-'))
        return false;
    to = {};
    if (!parse_hex(text.substr(3, 32), to.trace_id, 16) ||
        !parse_hex(text.substr(36, 16), to.span_id, 8) ||
        !parse_hex(text.substr(53, 2), &to.flags, 1))
        return false;
    to.flags &= known_flags;
    to.remote = abi::remote_yes;
    return !all_zero(to.trace_id, 16) && !all_zero(to.span_id, 8);
}

// `found` gives its reference to a trace state up.
inline void take_span(Context& context, abi::Context& found) noexcept {
    context = context.with_span(SpanContext(found));
    abi::release(std::exchange(found.trace_state, nullptr));
}

[[gnu::noinline]] inline void extract_trace_context(const Reader& from, Context& context) noexcept {
    abi::Context found{};
    std::size_t headers = 0;
    bool good = false;
    from.each("traceparent", [&](std::string_view value) {
        // Two of them: nobody knows which is meant.
        good = ++headers == 1 && parse_traceparent(value, found);
    });
    if (!good) return;
    TraceStateBuilder state;
    from.each("tracestate", [&](std::string_view value) { state.add_header(value); });
    found.trace_state = state.take();
    take_span(context, found);
}

// What was put into a SpanContext as a trace state may be anything; a header must not end early.
inline bool may_stand_in_header(std::string_view text) noexcept {
    for (const char c : text) {
        if (c < 0x20 || c > 0x7E) return false;
    }
    return true;
}

[[gnu::noinline]] inline void inject_trace_context(const Context& context,
                                                   const Writer& to) noexcept {
    const abi::Context& span = context.raw().span;
    if (all_zero(span.trace_id, 16) || all_zero(span.span_id, 8)) return;
    char text[traceparent_bytes] = {'0', '0', '-'};
    char* at = put_hex(text + 3, span.trace_id, 16);
    *at++ = '-';
    at = put_hex(at, span.span_id, 8);
    *at++ = '-';
    const std::uint8_t flags = span.flags & known_flags;
    put_hex(at, &flags, 1);
    to.set("traceparent", {text, sizeof text});
    const std::string_view state = text_of(span.trace_state);
    if (!state.empty() && may_stand_in_header(state)) to.set("tracestate", state);
}

// ---- baggage: key=value;property,... ----

// The specification asks for 64 and 8192 at least. What is beyond is left out, whole members.
inline constexpr std::size_t baggage_members_max = 180;
inline constexpr std::size_t baggage_bytes_max = 8192;

inline bool is_token(std::string_view text) noexcept {
    for (const char c : text) {
        const char l = lower(c);
        if (!is_lower(l) && !is_digit(c) &&
            (c == 0 || std::strchr("!#$%&'*+-.^_`|~", c) == nullptr))
            return false;
    }
    return !text.empty();
}

constexpr bool is_baggage_octet(char c) noexcept {
    return c > 0x20 && c < 0x7F && c != '"' && c != ',' && c != ';' && c != '\\';
}

inline bool is_metadata(std::string_view text) noexcept {
    return may_stand_in_header(text) && text.find(',') == std::string_view::npos;
}

// How many bytes the UTF-8 sequence at the beginning has; 0: there is none.
inline std::size_t utf8_bytes(const std::uint8_t* at, std::size_t available) noexcept {
    const std::uint8_t first = at[0];
    if (first < 0x80) return 1;
    const std::size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || available < bytes) return 0;
    for (std::size_t i = 1; i < bytes; ++i) {
        if ((at[i] & 0xC0) != 0x80) return 0;
    }
    const bool bad = (first == 0xE0 && at[1] < 0xA0) || (first == 0xED && at[1] > 0x9F) ||
                     (first == 0xF0 && at[1] < 0x90) || (first == 0xF4 && at[1] > 0x8F);
    return bad ? 0 : bytes;
}

// One byte of percent-encoded text, which becomes shorter by it. A '%' without two digits behind it
// stands for itself.
inline std::uint8_t decode_byte(std::string_view& text) noexcept {
    if (text[0] == '%' && text.size() >= 3) {
        const int high = hex_digit(text[1], HexCase::any);
        const int low = hex_digit(text[2], HexCase::any);
        if (high >= 0 && low >= 0) {
            text.remove_prefix(3);
            return static_cast<std::uint8_t>(high << 4 | low);
        }
    }
    const char c = text[0];
    text.remove_prefix(1);
    return static_cast<std::uint8_t>(c);
}

// Percent-encoded ASCII, decoded: never longer than it was. What is not UTF-8 then becomes U+FFFD.
[[gnu::noinline]] inline std::size_t percent_decode(std::string_view text, char* to) noexcept {
    char* at = to;
    while (!text.empty()) {
        std::uint8_t bytes[4];
        std::size_t count = 0;
        std::string_view ahead = text;
        std::string_view behind_first;
        for (; count < sizeof bytes && !ahead.empty(); ++count) {
            bytes[count] = decode_byte(ahead);
            if (count == 0) behind_first = ahead;
        }
        const std::size_t valid = utf8_bytes(bytes, count);
        if (valid == 0) {
            at += std::string_view("\xEF\xBF\xBD").copy(at, 3);
            text = behind_first;
            continue;
        }
        for (std::size_t i = 0; i < valid; ++i) *at++ = static_cast<char>(decode_byte(text));
    }
    return static_cast<std::size_t>(at - to);
}

// Null: it does not fit before `end`.
[[gnu::noinline]] inline char* percent_encode(char* at, const char* end,
                                              std::string_view text) noexcept {
    constexpr char digits[] = "0123456789ABCDEF";
    for (const char c : text) {
        const bool plain = is_baggage_octet(c) && c != '%';
        if (end - at < (plain ? 1 : 3)) return nullptr;
        if (plain) {
            *at++ = c;
        } else {
            *at++ = '%';
            *at++ = digits[static_cast<std::uint8_t>(c) >> 4];
            *at++ = digits[static_cast<std::uint8_t>(c) & 15];
        }
    }
    return at;
}

// Adds what headers say to the baggage that there is.
class BaggageReader {
public:
    explicit BaggageReader(const Context& context) noexcept {
        const abi::Shared* there = context.reserved(abi::baggage_key);
        if (there == nullptr) return;
        if (builder_.reserve(there->bytes)) {
            builder_.copy(there);
        } else {
            left_ = 0;  // Out of memory: what there is stays as it is.
        }
    }
    void add_header(std::string_view text) noexcept {
        while (!text.empty()) add_member(next_part(text, ','));
    }
    // `value` is percent-encoded. A key or value that is not well-formed, or beyond the limits, is
    // left out.
    [[gnu::noinline]] void add(std::string_view key, std::string_view value,
                               std::string_view metadata) noexcept {
        const std::size_t bytes =
            key.size() + value.size() + 2 + (metadata.empty() ? 0 : metadata.size() + 1);
        if (!is_token(key) || !is_metadata(metadata) || members_ == baggage_members_max ||
            bytes > left_ || value.size() > sizeof decoded_)
            return;
        for (const char c : value) {
            if (!is_baggage_octet(c)) return;
        }
        if (!builder_.reserve(sizeof(BaggageLengths) + bytes)) return;
        builder_.add({key, {decoded_, percent_decode(value, decoded_)}, metadata});
        ++members_;
        left_ -= bytes;
    }
    void finish(Context& context) noexcept {
        if (members_ == 0) return;
        context = context.with_baggage(oteld::Baggage(builder_.take()));
    }

private:
    void add_member(std::string_view member) noexcept {
        const std::size_t semicolon = member.find(';');
        const std::string_view metadata =
            semicolon == std::string_view::npos ? "" : trimmed(member.substr(semicolon + 1));
        std::string_view key, value;
        if (split_member(member.substr(0, semicolon), key, value))
            add(trimmed(key), trimmed(value), metadata);
    }

    BaggageBuilder builder_;
    std::size_t members_ = 0;
    std::size_t left_ = baggage_bytes_max + 1;  // The last one has no comma.
    char decoded_[baggage_bytes_max];
};

[[gnu::noinline]] inline void extract_baggage(const Reader& from, Context& context) noexcept {
    bool any = false;
    from.each("baggage", [&](std::string_view value) { any |= !value.empty(); });
    if (!any) return;
    BaggageReader reader(context);
    from.each("baggage", [&](std::string_view value) { reader.add_header(value); });
    reader.finish(context);
}

// Where the member ends that was put at `at`; null: it does not fit.
inline char* put_baggage_member(char* at, const char* end, const BaggageEntry& entry) noexcept {
    if (static_cast<std::size_t>(end - at) < entry.key.size() + 1) return nullptr;
    std::memcpy(at, entry.key.data(), entry.key.size());
    at += entry.key.size();
    *at++ = '=';
    at = percent_encode(at, end, entry.value);
    if (at == nullptr || !is_metadata(entry.metadata) || entry.metadata.empty()) return at;
    if (static_cast<std::size_t>(end - at) < entry.metadata.size() + 1) return nullptr;
    *at++ = ';';
    std::memcpy(at, entry.metadata.data(), entry.metadata.size());
    return at + entry.metadata.size();
}

[[gnu::noinline]] inline void write_baggage(const oteld::Baggage& baggage,
                                            const Writer& to) noexcept {
    char text[baggage_bytes_max];
    char* end_of_members = text;
    std::size_t members = 0;
    for (const BaggageEntry entry : baggage) {
        if (members == baggage_members_max) break;
        if (!is_token(entry.key)) continue;
        char* at = end_of_members;
        if (members != 0) {
            if (at == text + sizeof text) break;
            *at++ = ',';
        }
        at = put_baggage_member(at, text + sizeof text, entry);
        if (at == nullptr) continue;
        end_of_members = at;
        ++members;
    }
    if (members != 0) to.set("baggage", {text, static_cast<std::size_t>(end_of_members - text)});
}

inline void inject_baggage(const Context& context, const Writer& to) noexcept {
    const oteld::Baggage baggage = context.baggage();
    if (!baggage.empty()) write_baggage(baggage, to);
}

}  // namespace oteld::detail
