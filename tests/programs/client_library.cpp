// A library that records with the API's headers alone: linked to no client. Loaded by client_host
// and client_plugin_host; see tests/unit/client/api_split_test.cpp.
#include <oteld/api.hpp>

// 1: its span is recorded.
extern "C" __attribute__((visibility("default"))) int use_library() {
    static const oteld::Tracer tracer = oteld::tracer("library", "3.1");
    auto span = tracer.scope("of the library", {{"n", 1}});
    span.set("text", "words").event("e").error("no");
    auto inner = tracer.span("inner");
    return span.recording() && inner.recording() ? 1 : 0;
}
