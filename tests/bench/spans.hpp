// The span that the benchmarks measure: five attributes, through the headers and through C.
#pragma once

#include "oteld/api.hpp"
#include "oteld/oteld.h"

namespace oteld::bench {

inline const Tracer bench_tracer = oteld::tracer("bench", "1");

[[gnu::noinline]] inline void header_span(int i, std::string_view customer) {
    auto span = bench_tracer.span("checkout");
    span.set("order.id", "A-12345")
        .set("lines", i)
        .set("total", 12.5 + i)
        .set("ok", true)
        .set("customer", customer);
}

inline const oteld_tracer c_tracer =
    oteld_get_tracer(OTELD_STR("bench"), OTELD_STR("1"), OTELD_STR(""));

[[gnu::noinline]] inline void c_span(int i, std::string_view customer) {
    oteld_span span;
    oteld_span_start(&span, c_tracer, OTELD_STR("checkout"), nullptr);
    oteld_span_set_string(&span, OTELD_STR("order.id"), OTELD_STR("A-12345"));
    oteld_span_set_int(&span, OTELD_STR("lines"), i);
    oteld_span_set_double(&span, OTELD_STR("total"), 12.5 + i);
    oteld_span_set_bool(&span, OTELD_STR("ok"), true);
    oteld_span_set_string(&span, OTELD_STR("customer"),
                          oteld_str{customer.data(), customer.size()});
    oteld_span_end(&span, 0);
}

}  // namespace oteld::bench
