// A library that uses oteld::api alone, as test_abi.py builds it: with today's headers and with
// those of v1, shared, static and hidden. Records two spans; NAME is its function and its scope.
#include <oteld/api.hpp>

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

extern "C" __attribute__((visibility("default"))) int NAME();

// How many of its spans are recorded, 0 or 2; 100: half of it, or the context did not follow.
extern "C" int NAME() {
    static const oteld::Tracer tracer = oteld::tracer(TEXT(NAME), "1.0");
    auto outer = tracer.scope("outer", {{"n", 1}, {"text", "words"}});
    outer.set("pi", 3.25).event("event", {{"in", "event"}}).error("no");
    const oteld::ContextScope scope =
        oteld::attach(oteld::current().with_baggage(oteld::Baggage().set("key", "value")));
    auto inner = tracer.span("inner", oteld::client);
    inner.set("baggage", oteld::current().baggage().get("key").value_or("none"));
    const bool together =
        !outer.recording() || oteld::current_span().span_id_hex() == outer.context().span_id_hex();
    if (outer.recording() != inner.recording() || !together) return 100;
    return outer.recording() ? 2 : 0;
}
