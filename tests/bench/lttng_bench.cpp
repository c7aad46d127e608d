// The same span as one LTTng-UST event: both times, ids, name and five fields, in its own ring
// buffer.
//
// Usage: lttng_bench   A session that has enabled oteld_bench:span must be recording; run.py sees
// to it. LTTng records finished events only: it has no open spans, no key filter and no encoding
// for export.

#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "tests/bench/lttng_events.h"

#include "tests/bench/measure.hpp"

#include <cstring>
#include <string_view>

namespace {

struct Ids {
    std::uint64_t trace[2];
    std::uint64_t span;
    std::uint64_t parent;
};

[[gnu::noinline]] void span(int i, const char* customer) {
    static Ids ids{{1, 2}, 3, 4};
    const auto start = std::chrono::steady_clock::now().time_since_epoch().count();
    ++ids.span;
    // LTTng reads the clock itself for the end.
    lttng_ust_tracepoint(oteld_bench, span, ids.trace, ids.span, ids.parent, start, "checkout",
                         "A-12345", i, 12.5 + i, 1, customer);
}

}  // namespace

int main(int count, char** arguments) {
    const char* customer = count > 1 ? arguments[1] : "someone";
    oteld::bench::report(
        "LTTng-UST event, 5 fields",
        oteld::bench::measure(
            300, 200, [&](int i) { span(i, customer); }, [&] { span(0, customer); }));
}
