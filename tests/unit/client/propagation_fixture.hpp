// Every rule of the formats in which a context travels is a row: headers in, what is understood;
// what there is, headers out.
#pragma once

#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <map>
#include <optional>
#include <stdexcept>
#include <unordered_map>

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"
#define PARENT "00-" TRACE "-" SPAN "-01"

namespace oteld::test {
using Headers = std::vector<std::pair<std::string, std::string>>;

inline std::string text_of(const Baggage& baggage) {
    std::string text;
    for (const Baggage::Entry entry : baggage) {
        if (!text.empty()) text += '|';
        text.append(entry.key).append("=").append(entry.value);
        if (!entry.metadata.empty()) text.append(";").append(entry.metadata);
    }
    return text;
}

// All that a context carries, on one line.
inline std::string text_of(const Context& context) {
    const SpanContext span = context.span();
    const std::uint8_t remote = context.raw().span.remote;
    std::string text;
    const bool ids = span.trace_id_hex().find_first_not_of('0') != std::string::npos;
    if (ids) text = span.trace_id_hex() + "-" + span.span_id_hex();
    if (ids || (remote & abi::remote_decided) != 0)
        text += (span.flags() & 2U) != 0 ? (span.sampled() ? " 3" : " 2")
                                         : (span.sampled() ? " 1" : " 0");
    if ((span.flags() & ~3U) != 0) text += " unknown flags";
    if ((remote & abi::remote_decided) != 0) text += " decided";
    if ((remote & abi::remote_deferred) != 0) text += " deferred";
    if (remote != 0 && !span.remote()) text += " not remote";
    if (detail::note_of(context, abi::debug_key).there) text += " debug";
    if (const auto note = detail::note_of(context, abi::lineage_key); note.there)
        text.append(" lineage ").append(note.text);
    if (!span.trace_state().empty()) text.append(" [").append(span.trace_state()).append("]");
    if (!context.baggage().empty()) text += " {" + text_of(context.baggage()) + "}";
    return text;
}

inline std::string text_of(const Headers& headers) {
    std::string text;
    for (const auto& [name, value] : headers) text.append(name).append(": ").append(value) += '\n';
    return text;
}

inline Headers headers_of(const Context& context, Propagators which) {
    Headers headers;
    which.inject(context, headers);
    return headers;
}

struct In {
    const char* rule;
    Headers headers;
    std::string expected;
};

inline void check(Propagators which, const std::vector<In>& rows) {
    for (const In& row : rows) {
        CAPTURE(row.rule);
        CAPTURE(text_of(row.headers));
        CHECK(text_of(which.extract(row.headers)) == row.expected);
        // Whatever comes in, a context that is there already survives it, or is replaced as a
        // whole.
        const SpanContext other({9}, {9}, 1, true);
        const Context before = Context().with_span(other);
        const std::string after = text_of(which.extract(row.headers, before));
        const bool span_found = row.expected.size() > 49 && row.expected[32] == '-' &&
                                row.expected.find("-0000000000000000") == row.expected.npos;
        if (span_found) {
            CHECK(after == row.expected);
        } else {
            CHECK(after.rfind(text_of(before), 0) == 0);
        }
        // What is written is understood as what it was.
        const Headers once = headers_of(which.extract(row.headers), which);
        CHECK(text_of(headers_of(which.extract(once), which)) == text_of(once));
    }
}

inline std::string repeated(char c, std::size_t count) { return std::string(count, c); }

inline std::string members(int first, int last) {
    std::string text;
    for (int i = first; i <= last; ++i)
        text += (i == first ? "k" : ",k") + std::to_string(i) + "=" + std::to_string(i);
    return text;
}

inline const std::string seen = TRACE "-" SPAN " 1";

}  // namespace oteld::test
