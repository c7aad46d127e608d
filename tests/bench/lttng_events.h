// The event of lttng_bench.cpp. LTTng's headers include this file again and again, so it has their
// guards instead of #pragma once.
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER oteld_bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "tests/bench/lttng_events.h"

#if !defined(OTELD_TESTS_BENCH_LTTNG_EVENTS_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define OTELD_TESTS_BENCH_LTTNG_EVENTS_H

#include <lttng/tracepoint.h>

#include <stdint.h>

// clang-format off
LTTNG_UST_TRACEPOINT_EVENT(oteld_bench, span,
    LTTNG_UST_TP_ARGS(
        const uint64_t*, trace_id,
        uint64_t, span_id,
        uint64_t, parent_id,
        int64_t, start,
        const char*, name,
        const char*, order_id,
        int, lines,
        double, total,
        int, ok,
        const char*, customer),
    LTTNG_UST_TP_FIELDS(
        lttng_ust_field_array(uint64_t, trace_id, trace_id, 2)
        lttng_ust_field_integer(uint64_t, span_id, span_id)
        lttng_ust_field_integer(uint64_t, parent_id, parent_id)
        lttng_ust_field_integer(int64_t, start, start)
        lttng_ust_field_string(name, name)
        lttng_ust_field_string(order_id, order_id)
        lttng_ust_field_integer(int, lines, lines)
        lttng_ust_field_float(double, total, total)
        lttng_ust_field_integer(int, ok, ok)
        lttng_ust_field_string(customer, customer)))
// clang-format on

#endif

#include <lttng/tracepoint-event.h>
