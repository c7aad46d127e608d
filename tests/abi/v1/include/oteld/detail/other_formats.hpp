// B3, Jaeger and X-Ray: what other systems send instead of the W3C's headers.
//
// Used by: propagation.hpp. Threads: any; no state. Never throws.
// Beyond ids and the sampled flag they have a debug flag (B3, Jaeger) and a lineage (X-Ray) that go
// on with the trace: a note in the context, which says for which.
// https://github.com/openzipkin/b3-propagation
// https://www.jaegertracing.io/sdk-migration/#propagation-format
// https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
#pragma once

#include "oteld/detail/w3c.hpp"

namespace oteld::detail {

// ---- What they share ----

// What has been read so far.
struct Found {
    abi::Context span{};
    bool debug = false;

    void decide(bool sampled) noexcept { span.flags = sampled ? 1 : 0; }
    [[nodiscard]] bool parse_ids(std::string_view trace_id, std::string_view span_id,
                                 HexCase allowed = HexCase::lower) noexcept {
        return parse_hex(trace_id, span.trace_id, 16, allowed) &&
               parse_hex(span_id, span.span_id, 8, allowed) && !all_zero(span.trace_id, 16) &&
               !all_zero(span.span_id, 8);
    }
};

// A note: the trace id, then text.
inline abi::Shared* make_note(const abi::Context& span, std::string_view text) noexcept {
    const std::size_t bytes = sizeof span.trace_id + text.size();
    void* memory = std::malloc(sizeof(abi::Shared) + bytes);
    if (memory == nullptr) return nullptr;
    auto* note = new (memory) abi::Shared{{1}, static_cast<std::uint32_t>(bytes), nullptr};
    std::memcpy(bytes_of(note), span.trace_id, sizeof span.trace_id);
    if (!text.empty()) std::memcpy(bytes_of(note) + sizeof span.trace_id, text.data(), text.size());
    return note;
}

// Its text, if it belongs to the context's trace. One that came without ids belongs to any.
struct Note {
    bool there = false;
    std::string_view text;
};
inline Note note_of(const Context& context, abi::ValueKey key) noexcept {
    const abi::Shared* note = context.reserved(key);
    if (note == nullptr) return {};
    const auto* trace_id = reinterpret_cast<const std::uint8_t*>(bytes_of(note));
    if (!all_zero(trace_id, 16) && std::memcmp(trace_id, context.raw().span.trace_id, 16) != 0)
        return {};
    return {true, {bytes_of(note) + 16, note->bytes - 16}};
}

inline void take_found(Context& context, Found& found) noexcept {
    found.span.remote |= abi::remote_yes;
    take_span(context, found.span);
    context =
        context.with_reserved(abi::debug_key, found.debug ? make_note(found.span, {}) : nullptr);
}

// ---- B3 ----

// False: it is none of the known ones.
inline bool parse_b3_sampled(std::string_view text, Found& found) noexcept {
    found.debug = text == "d";
    found.decide(found.debug || text == "1" || same_name(text, "true"));
    return (found.span.flags & 1U) != 0 || text == "0" || same_name(text, "false");
}

inline bool is_b3_trace_id(std::string_view text) noexcept {
    return text.size() == 32 || text.size() == 16;
}

// {trace id}-{span id}[-{sampled}[-{parent span id}]], or {sampled} alone.
[[gnu::noinline]] inline bool parse_b3_single(std::string_view text, Found& found) noexcept {
    text = trimmed(text);
    if (text.find('-') == std::string_view::npos) {
        found.span.remote = abi::remote_decided;
        return parse_b3_sampled(text, found);
    }
    const std::string_view trace_id = next_part(text, '-');
    const bool more = text.find('-') != std::string_view::npos;
    const std::string_view span_id = next_part(text, '-');
    if (!is_b3_trace_id(trace_id) || span_id.size() != 16 || !found.parse_ids(trace_id, span_id))
        return false;
    if (!more) {
        found.span.remote = abi::remote_deferred;
        return true;
    }
    const bool parent = text.find('-') != std::string_view::npos;
    if (!parse_b3_sampled(next_part(text, '-'), found)) return false;
    std::uint8_t parent_id[8];
    return !parent || (text.size() == 16 && parse_hex(text, parent_id, 8));
}

[[gnu::noinline]] inline bool parse_b3_multi(const Reader& from, Found& found) noexcept {
    bool decided = false;
    bool good = true;
    from.first("x-b3-sampled", [&](std::string_view value) {
        decided = true;
        good = parse_b3_sampled(trimmed(value), found);
    });
    from.first("x-b3-flags", [&](std::string_view value) {
        if (trimmed(value) != "1") return;  // Other bits mean nothing.
        decided = good = found.debug = true;
        found.decide(true);
    });
    // The texts live as long as their callbacks: read where they are.
    std::uint8_t ids = 0;
    from.first("x-b3-traceid", [&](std::string_view value) {
        value = trimmed(value);
        ids |= 1;
        good = good && is_b3_trace_id(value) && parse_hex(value, found.span.trace_id, 16) &&
               !all_zero(found.span.trace_id, 16);
    });
    from.first("x-b3-spanid", [&](std::string_view value) {
        value = trimmed(value);
        ids |= 2;
        good = good && value.size() == 16 && parse_hex(value, found.span.span_id, 8) &&
               !all_zero(found.span.span_id, 8);
    });
    if (ids == 0) {
        found.span.remote = abi::remote_decided;
        return good && decided;
    }
    if (!decided) found.span.remote = abi::remote_deferred;
    return good && ids == 3;
}

// Either form, whichever is configured: the single header counts before the others.
[[gnu::noinline]] inline void extract_b3(const Reader& from, Context& context) noexcept {
    Found found;
    bool good = false;
    from.first("b3", [&](std::string_view value) { good = parse_b3_single(value, found); });
    if (!good) {
        found = {};
        good = parse_b3_multi(from, found);
    }
    // A decision alone does not take the place of a span.
    if (!good || (!has_ids(found.span) && has_ids(context.raw().span))) return;
    take_found(context, found);
}

// "1", "0", "d", or nothing: it was left to the receiver.
inline std::string_view b3_sampled(const Context& context) noexcept {
    const abi::Context& span = context.raw().span;
    if ((span.remote & abi::remote_deferred) != 0) return "";
    if (!has_ids(span) && (span.remote & abi::remote_decided) == 0) return "";
    if ((span.flags & 1U) == 0) return "0";
    return note_of(context, abi::debug_key).there ? "d" : "1";
}

[[gnu::noinline]] inline void inject_b3(const Context& context, const Writer& to) noexcept {
    const abi::Context& span = context.raw().span;
    const std::string_view sampled = b3_sampled(context);
    char text[32 + 1 + 16 + 2];
    char* at = text;
    if (has_ids(span)) {
        at = put_hex(at, span.trace_id, 16);
        *at++ = '-';
        at = put_hex(at, span.span_id, 8);
        if (!sampled.empty()) *at++ = '-';
    }
    if (!sampled.empty()) *at++ = sampled[0];
    if (at != text) to.set("b3", {text, static_cast<std::size_t>(at - text)});
}

[[gnu::noinline]] inline void inject_b3_multi(const Context& context, const Writer& to) noexcept {
    const abi::Context& span = context.raw().span;
    const std::string_view sampled = b3_sampled(context);
    char text[32];
    if (has_ids(span)) {
        put_hex(text, span.trace_id, 16);
        to.set("X-B3-TraceId", {text, 32});
        put_hex(text, span.span_id, 8);
        to.set("X-B3-SpanId", {text, 16});
    }
    if (sampled == "d") {
        to.set("X-B3-Flags", "1");
    } else if (!sampled.empty()) {
        to.set("X-B3-Sampled", sampled);
    }
}

// ---- Jaeger: {trace id}:{span id}:{parent span id}:{flags}; baggage in uberctx-{key} ----
// Two headers are for people, and are not passed on as such: jaeger-debug-id has a request traced
// that has no ids, jaeger-baggage is baggage in one header.

inline constexpr std::uint8_t jaeger_sampled = 1;
inline constexpr std::uint8_t jaeger_debug = 2;
inline constexpr std::string_view jaeger_baggage_prefix = "uberctx-";

[[gnu::noinline]] inline bool parse_jaeger(std::string_view header, Found& found) noexcept {
    header = trimmed(header);
    char decoded[3 * 64];  // Every character might be percent-encoded.
    if (header.size() > sizeof decoded) return false;
    for (const char c : header) {
        if (c < 0x20 || c > 0x7E) return false;
    }
    std::string_view text{decoded, percent_decode(header, decoded)};
    const std::string_view trace_id = next_part(text, ':');
    const std::string_view span_id = next_part(text, ':');
    const std::string_view parent_id = next_part(text, ':');
    std::uint8_t parent[8];
    std::uint8_t flags = 0;
    if (!found.parse_ids(trace_id, span_id, HexCase::any) ||
        !parse_hex(parent_id, parent, 8, HexCase::any) || !parse_hex(text, &flags, 1, HexCase::any))
        return false;
    found.debug = (flags & jaeger_debug) != 0;
    found.decide(found.debug || (flags & jaeger_sampled) != 0);
    return true;
}

[[gnu::noinline]] inline void extract_jaeger_baggage(const Reader& from,
                                                     Context& context) noexcept {
    bool any = false;
    const auto key_of = [](std::string_view name) {
        const std::size_t bytes = jaeger_baggage_prefix.size();
        return same_name(name.substr(0, bytes), jaeger_baggage_prefix) ? name.substr(bytes)
                                                                       : std::string_view();
    };
    from.each("jaeger-baggage", [&](std::string_view value) { any |= !value.empty(); });
    from.all([&](std::string_view name, std::string_view) { any |= !key_of(name).empty(); });
    if (!any) return;
    BaggageReader reader(context);
    from.each("jaeger-baggage", [&](std::string_view value) { reader.add_header(value); });
    from.all([&](std::string_view name, std::string_view value) {
        if (const std::string_view key = key_of(name); !key.empty())
            reader.add(key, trimmed(value), {});
    });
    reader.finish(context);
}

inline void extract_jaeger(const Reader& from, Context& context) noexcept {
    Found found;
    bool good = false;
    from.first("uber-trace-id", [&](std::string_view value) { good = parse_jaeger(value, found); });
    // A decision alone does not take the place of a span.
    if (!good && !has_ids(context.raw().span)) {
        from.first("jaeger-debug-id",
                   [&](std::string_view value) { good = !trimmed(value).empty(); });
        found = {};
        found.debug = true;
        found.decide(true);
        found.span.remote = abi::remote_decided;
    }
    if (good) take_found(context, found);
    extract_jaeger_baggage(from, context);
}

[[gnu::noinline]] inline void write_jaeger_baggage(const oteld::Baggage& baggage,
                                                   const Writer& to) noexcept {
    char name[256];
    char value[baggage_bytes_max];
    std::memcpy(name, jaeger_baggage_prefix.data(), jaeger_baggage_prefix.size());
    const std::size_t room = sizeof name - jaeger_baggage_prefix.size();
    std::size_t members = 0;
    std::size_t left = baggage_bytes_max;
    for (auto at = baggage.begin(); at != baggage.end();) {
        const BaggageEntry entry = *at++;
        if (!is_token(entry.key) || entry.key.size() > room) continue;
        // Names of headers have no case, keys do: of two that differ in nothing else the last goes.
        bool again = false;
        for (auto later = at; later != baggage.end() && !again; ++later)
            again = same_name((*later).key, entry.key);
        if (again) continue;
        const char* end = percent_encode(value, value + left, entry.value);
        if (end == nullptr) continue;
        if (++members > baggage_members_max) break;
        left -= static_cast<std::size_t>(end - value);
        std::memcpy(name + jaeger_baggage_prefix.size(), entry.key.data(), entry.key.size());
        to.set({name, jaeger_baggage_prefix.size() + entry.key.size()},
               {value, static_cast<std::size_t>(end - value)});
    }
}

[[gnu::noinline]] inline void inject_jaeger(const Context& context, const Writer& to) noexcept {
    const abi::Context& span = context.raw().span;
    if (has_ids(span)) {
        char text[32 + 1 + 16 + 3 + 2];
        char* at = put_hex(text, span.trace_id, 16);
        *at++ = ':';
        at = put_hex(at, span.span_id, 8);
        std::memcpy(at, ":0:", 3);
        std::uint8_t flags = span.flags & 1U;
        if (flags != 0 && note_of(context, abi::debug_key).there) flags |= jaeger_debug;
        put_hex(at + 3, &flags, 1);
        to.set("uber-trace-id", {text, sizeof text});
    }
    const oteld::Baggage baggage = context.baggage();
    if (!baggage.empty()) write_jaeger_baggage(baggage, to);
}

// ---- X-Ray: Root=1-{8 hex}-{24 hex};Parent={16 hex};Sampled={0|1|?};... ----

inline constexpr std::size_t xray_lineage_bytes_max = 256;

inline bool parse_xray_root(std::string_view text, std::uint8_t (&trace_id)[16]) noexcept {
    return text.size() == 35 && text.substr(0, 2) == "1-" && text[10] == '-' &&
           parse_hex(text.substr(2, 8), trace_id, 4) &&
           parse_hex(text.substr(11), trace_id + 4, 12) && !all_zero(trace_id, 16);
}

inline bool is_lineage(std::string_view text) noexcept {
    for (const char c : text) {
        if (hex_digit(c, HexCase::lower) < 0 && c != ':' && c != '|') return false;
    }
    return !text.empty() && text.size() <= xray_lineage_bytes_max;
}

struct FoundXRay : Found {
    bool root = false;
    bool parent = false;
    bool bad = false;
    std::string_view lineage;

    void take(std::string_view key, std::string_view value) noexcept {
        if (key == "Root") {
            root = parse_xray_root(value, span.trace_id);
            bad |= !root;
        } else if (key == "Parent") {
            parent = value.size() == 16 && parse_hex(value, span.span_id, 8) &&
                     !all_zero(span.span_id, 8);
            bad |= !parent;
        } else if (key == "Sampled") {
            bad |= value != "0" && value != "1" && value != "?";
            decide(value == "1");
            // With '?' the caller asks; both that and nothing leave it to us.
            span.remote = value == "?" ? abi::remote_deferred : 0;
        } else if (key == "Lineage" && is_lineage(value)) {
            lineage = value;
        }
    }
};

// More lenient than others: pairs in any order, empty and unknown ones, `?`. `root_alone`: a header
// without a parent, as a load balancer sends it, gives its trace id to the next root.
[[gnu::noinline]] inline void extract_xray(const Reader& from, Context& context,
                                           bool root_alone) noexcept {
    from.first("x-amzn-trace-id", [&](std::string_view text) {
        FoundXRay found;
        found.span.remote = abi::remote_deferred;
        while (!text.empty()) {
            std::string_view key, value;
            if (split_member(trimmed(next_part(text, ';')), key, value)) found.take(key, value);
        }
        if (found.bad || !found.root || !(found.parent || root_alone)) return;
        if (!found.parent && has_ids(context.raw().span)) return;
        take_found(context, found);
        context = context.with_reserved(
            abi::lineage_key,
            found.lineage.empty() ? nullptr : make_note(context.raw().span, found.lineage));
    });
}

[[gnu::noinline]] inline void inject_xray(const Context& context, const Writer& to) noexcept {
    const abi::Context& span = context.raw().span;
    if (!has_ids(span)) return;
    char text[sizeof "Root=1-12345678-123456789012345678901234;Parent=1234567890123456;"
                     "Sampled=1;Lineage=" +
              xray_lineage_bytes_max];
    char* at = text;
    const auto put = [&](std::string_view more) {
        std::memcpy(at, more.data(), more.size());
        at += more.size();
    };
    put("Root=1-");
    at = put_hex(at, span.trace_id, 4);
    put("-");
    at = put_hex(at, span.trace_id + 4, 12);
    put(";Parent=");
    at = put_hex(at, span.span_id, 8);
    if ((span.remote & abi::remote_deferred) == 0)
        put((span.flags & 1U) != 0 ? ";Sampled=1" : ";Sampled=0");
    if (const Note lineage = note_of(context, abi::lineage_key); lineage.there) {
        put(";Lineage=");
        put(lineage.text);
    }
    to.set("X-Amzn-Trace-Id", {text, static_cast<std::size_t>(at - text)});
}

}  // namespace oteld::detail
