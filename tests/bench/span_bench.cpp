// What a span costs the application: header path, C interface, unsampled, beside the floor in the
// same run.
//
// Usage: span_bench [--drain]   OTELD_DIR names an existing ring directory.
// The floor is what no design can avoid: two clock readings and the encoding of the same five
// attributes into a buffer on the stack. With --drain the program moves the daemon's cursors itself
// between the rounds, so that the writer never meets a full lane and no reader runs beside it;
// without, an oteld must be draining the directory.

#include "tests/bench/measure.hpp"
#include "tests/bench/spans.hpp"
#include "tests/bench/stand_in.hpp"

#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace {

using namespace oteld;
using bench::bench_tracer;
using bench::c_span;
using bench::header_span;

constexpr int rounds = 300;
constexpr int calls = 200;  // 47 KB of records: below the first mark of the smallest lane.

inline std::uint64_t clock_reading() {
#if defined(__x86_64__)
    return __rdtsc();
#else
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_nsec);
#endif
}

[[gnu::noinline]] void floor_span(int i, std::string_view customer) {
    using namespace oteld::detail;
    alignas(64) std::uint8_t buffer[512];
    const std::uint64_t start = clock_reading();
    std::memset(buffer, 0, 64);
    std::uint8_t* at = buffer + 64;
    const auto text = [&](std::string_view key, std::string_view value) {
        std::uint8_t* to =
            put_short_key(at, key, 2 + value.size(), wire::tag(1, wire::bytes_type), value.size());
        std::memcpy(to, value.data(), value.size());
        at = to + value.size();
    };
    text("order.id", "A-12345");
    const auto number = static_cast<std::uint64_t>(i);
    std::uint8_t* to = put_short_key(at, "lines", 1 + wire::varint_bytes(number),
                                     wire::tag(3, wire::varint_type), 0);
    at = wire::put_varint(to - 1, number);
    to = put_short_key(at, "total", 9, wire::tag(4, wire::fixed64_type), 0);
    at = wire::put_fixed64(to - 1, 0x4029000000000000ULL + number);
    at = put_short_key(at, "ok", 2, wire::tag(2, wire::varint_type), 1);
    text("customer", customer);
    const std::uint64_t end = clock_reading();
    std::memcpy(buffer, &start, sizeof start);
    std::memcpy(buffer + 8, &end, sizeof end);
    asm volatile("" : : "r"(buffer), "r"(at) : "memory");
}

// What only copies the record costs: its bytes, to ever new places.
[[gnu::noinline]] void copy_record(int i, std::string_view) {
    constexpr std::size_t bytes = 168;  // As long as header_span's record.
    static std::uint8_t record[bytes] = {1};
    static std::uint8_t lane[128 << 10];
    static std::size_t at = 0;
    record[0] = static_cast<std::uint8_t>(i);
    std::memcpy(lane + at, record, bytes);
    at = at + 2 * bytes > sizeof lane ? 0 : at + bytes;
    asm volatile("" : : "r"(lane) : "memory");
}

[[gnu::noinline]] void header_span_empty(int, std::string_view) {
    auto span = bench_tracer.span("checkout");
}

[[gnu::noinline]] void header_span_two(int i, std::string_view) {
    auto span = bench_tracer.span("checkout");
    span.set("order.id", "A-12345").set("lines", i);
}

[[gnu::noinline]] void header_span_ten(int i, std::string_view customer) {
    auto span = bench_tracer.span("checkout");
    span.set("order.id", "A-12345")
        .set("lines", i)
        .set("total", 12.5 + i)
        .set("ok", true)
        .set("customer", customer);
    span.set("region", "eu-west-1")
        .set("retries", i & 3)
        .set("ratio", 0.5 + i)
        .set("cached", false)
        .set("host", customer);
}

[[gnu::noinline]] void header_scope(int i, std::string_view customer) {
    auto span = bench_tracer.scope("checkout");
    span.set("order.id", "A-12345")
        .set("lines", i)
        .set("total", 12.5 + i)
        .set("ok", true)
        .set("customer", customer);
}

[[gnu::noinline]] void header_start(int i, std::string_view customer) {
    auto span = bench_tracer.span("checkout", {{"order.id", "A-12345"},
                                               {"lines", i},
                                               {"total", 12.5 + i},
                                               {"ok", true},
                                               {"customer", customer}});
}

// A context made current and taken away again, without a span.
[[gnu::noinline]] void attach_and_detach(int, std::string_view) {
    static const std::uint8_t trace_id[16] = {1};
    static const std::uint8_t span_id[8] = {1};
    static const SpanContext context(trace_id, span_id, 1, true);
    const auto scope = attach(context);
}

// A parent that is not sampled: its children are not either.
[[gnu::noinline]] void unsampled_span(int i, std::string_view customer) {
    static const std::uint8_t trace_id[16] = {1};
    static const std::uint8_t span_id[8] = {1};
    static const SpanContext parent_context(trace_id, span_id, 0, false);
    static const ParentOption not_sampled = parent(parent_context);
    auto span = bench_tracer.span("checkout", not_sampled);
    span.set("order.id", "A-12345")
        .set("lines", i)
        .set("total", 12.5 + i)
        .set("ok", true)
        .set("customer", customer);
}

// A round with --drain: cursors moved, then a few calls to warm up again. Without: 2 ms for the
// daemon.
void between(bool drain, void (*function)(int, std::string_view), std::string_view customer) {
    if (drain)
        oteld::bench::move_cursors();
    else
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    for (int i = 0; i < 20; ++i) function(i, customer);
}

}  // namespace

int main(int count, char** arguments) {
    const bool drain = count > 1 && std::strcmp(arguments[1], "--drain") == 0;
    if (std::getenv("OTELD_DIR") == nullptr) {
        std::fprintf(stderr, "span_bench: set OTELD_DIR to an existing ring directory\n");
        return 2;
    }
    if (!bench_tracer.span("probe").recording()) {
        std::fprintf(stderr, "span_bench: spans are not recorded; is OTELD_DIR writable?\n");
        return 1;
    }
    const std::string customer =
        count > 2 ? arguments[2] : "someone";  // Not known to the compiler.
    const std::pair<const char*, void (*)(int, std::string_view)> cases[] = {
        {"floor", floor_span},
        {"memcpy of the record", copy_record},
        {"header 5 attributes", header_span},
        {"c abi 5 attributes", c_span},
        {"header 0 attributes", header_span_empty},
        {"header 2 attributes", header_span_two},
        {"header 10 attributes", header_span_ten},
        {"header 5 attributes, current", header_scope},
        {"header 5 attributes, at the start", header_start},
        {"unsampled", unsampled_span},
        {"attach and detach", attach_and_detach},
    };
    for (const auto& one : cases) {
        oteld::bench::report(one.first, oteld::bench::measure(
                                            rounds, calls, [&](int i) { one.second(i, customer); },
                                            [&] { between(drain, one.second, customer); }));
    }
}
