// The propagators: what comes in over the wire is read without harm, and what is written for it is
// understood as what it was.
//
// The input is eight formats (a byte each, beyond the known ones: none), then header lines,
// "name: value". Headers of one name stay apart.
#include "oteld/api.hpp"
#include "tests/fuzz/input.hpp"

#include <vector>

namespace oteld::fuzz {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

Propagators formats_of(Input& input) {
    Propagators formats;
    for (int i = 0; i < 8; ++i) {
        const auto one = input.number<std::uint8_t>();
        if (one >= 1 && one <= 7) formats.add(static_cast<Propagator>(one));
    }
    return formats;
}

bool several(Propagators formats) { return formats.packed() > 0xFF; }

Headers headers_of(std::string_view lines) {
    Headers headers;
    while (!lines.empty()) {
        const std::string_view line = detail::next_part(lines, '\n');
        const std::size_t colon = line.find(": ");
        if (colon == line.npos) continue;
        headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    }
    return headers;
}

Headers injected(const Context& context, Propagators formats) {
    Headers headers;
    formats.inject(context, headers);
    for (const auto& [name, value] : headers) {
        OTELD_EXPECT(detail::is_token(name));
        OTELD_EXPECT(detail::may_stand_in_header(value));
        OTELD_EXPECT(value.size() <= detail::baggage_bytes_max);
        OTELD_EXPECT(name != "traceparent" || value.size() == detail::traceparent_bytes);
        OTELD_EXPECT(name != "tracestate" || value.size() <= detail::trace_state_bytes_max);
    }
    return headers;
}

bool same(const Context& a, const Context& b) {
    const abi::Context &left = a.raw().span, &right = b.raw().span;
    return std::memcmp(&left, &right, offsetof(abi::Context, trace_state)) == 0 &&
           a.span().trace_state() == b.span().trace_state();
}

// Reads everything, so that the address sanitizer sees it.
void expect_sound(const Context& context) {
    std::size_t members = 0;
    for (const Baggage::Entry entry : context.baggage()) {
        OTELD_EXPECT(detail::is_token(entry.key));
        OTELD_EXPECT(context.baggage().get(entry.key) == entry.value);
        members += 1 + entry.value.size() + entry.metadata.size();
    }
    OTELD_EXPECT((members == 0) == context.baggage().empty());
    const SpanContext span = context.span();
    OTELD_EXPECT((span.flags() & ~detail::known_flags) == 0);
    OTELD_EXPECT(span.trace_state().empty() || span.valid());
    const SpanContext changed = span.with_trace_state("fuzz", "1");
    OTELD_EXPECT(changed.trace_state("fuzz") == "1");
    OTELD_EXPECT(changed.without_trace_state("fuzz").trace_state("fuzz").empty());
}

}  // namespace
}  // namespace oteld::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
    using namespace oteld;
    using namespace oteld::fuzz;
    Input input(bytes, count);
    const Propagators formats = formats_of(input);
    const Headers headers = headers_of(input.rest());
    const Context context = formats.extract(headers);
    expect_sound(context);
    const Headers once = injected(context, formats);
    const Context again = formats.extract(once);
    expect_sound(again);
    const Headers twice = injected(again, formats);
    // With several formats the last one that is read counts, and may say less than another: that a
    // decision is ours, say. After that nothing changes any more.
    OTELD_EXPECT(twice == once || several(formats));
    OTELD_EXPECT(injected(formats.extract(twice), formats) == twice);

    const Context before = Context().with_span(SpanContext({1}, {2}, 1, false, "a=1"));
    const Context after = formats.extract(headers, before);
    expect_sound(after);
    OTELD_EXPECT(after.span().valid());
    OTELD_EXPECT(same(after, context.span().valid() ? context : before));
    return 0;
}
