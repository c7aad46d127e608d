// What an instrumented library costs a program without a client.

#include "tests/bench/measure.hpp"

#include "oteld/api.hpp"

namespace {

const oteld::Tracer tracer = oteld::tracer("bench", "1");

[[gnu::noinline]] void span(int i) {
    auto span = tracer.span("checkout");
    span.set("order.id", "A-12345")
        .set("lines", i)
        .set("total", 12.5 + i)
        .set("ok", true)
        .set("customer", "someone");
    asm volatile("" : : "r"(&span) : "memory");
}

}  // namespace

int main() {
    oteld::bench::report("no-op 5 attributes", oteld::bench::measure(300, 2000, span, [] {}));
}
