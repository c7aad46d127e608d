// A library that records with the API's headers alone: linked to no client. Loaded by client_host,
// client_plugin_host and client_unload_host; see tests/unit/client/programs_test.cpp.
#include <oteld/api.hpp>

#include <new>

namespace {
// Ended by the library's destructors: when it is unloaded, or when the process exits.
oteld::Span ends_with_library;
}  // namespace

// 1: its span is recorded.
extern "C" __attribute__((visibility("default"))) int use_library() {
    static const oteld::Tracer tracer = oteld::tracer("library", "3.1");
    auto span = tracer.scope("of the library", {{"n", 1}});
    span.set("text", "words").event("e").error("no");
    auto inner = tracer.span("inner");
    return span.recording() && inner.recording() ? 1 : 0;
}

// Leaves a span open in `storage`, which outlives the library, and one that does not. 1: they are
// recorded.
extern "C" __attribute__((visibility("default"))) int hold_spans(void* storage, size_t bytes) {
    if (bytes < sizeof(oteld::Span)) return 2;
    const oteld::Tracer tracer = oteld::tracer("library", "3.1");
    ends_with_library = tracer.span("ends with its library");
    auto* span = new (storage) oteld::Span(tracer.span("outlives its library", {{"n", 1}}));
    return span->recording() && ends_with_library.recording() ? 1 : 0;
}
