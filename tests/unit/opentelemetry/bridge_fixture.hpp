// A child process whose opentelemetry-cpp records through this client.
//
// Used by: tests/unit/opentelemetry. The test process itself never records: see ring_fixture.hpp.
#pragma once

#include "tests/unit/client/ring_fixture.hpp"

#include "oteld/opentelemetry.hpp"

#include <opentelemetry/trace/provider.h>
#include <opentelemetry/trace/scope.h>

#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace oteld::test {

namespace otel = ::opentelemetry;
namespace nostd = ::opentelemetry::nostd;
namespace otrace = ::opentelemetry::trace;

using SpanPointer = nostd::shared_ptr<otrace::Span>;
using TracerPointer = nostd::shared_ptr<otrace::Tracer>;

// As an instrumented library gets it.
inline TracerPointer their_tracer(const char* name = "library", const char* version = "1") {
    return otrace::Provider::GetTracerProvider()->GetTracer(name, version);
}

inline Rings in_bridged_child(const std::function<void()>& body,
                              const Environment& environment = {}) {
    return in_child(
        [&] {
            otrace::Provider::SetTracerProvider(opentelemetry_provider());
            body();
        },
        environment);
}

inline bool same(const otrace::SpanContext& theirs, const SpanContext& ours) {
    return theirs == to_opentelemetry(ours);
}

inline const std::uint8_t some_trace[16] = {1, 2, 3};
inline const std::uint8_t some_span[8] = {4, 5};

// A span of another process.
inline otrace::SpanContext remote_parent(std::uint8_t flags = 1, const char* trace_state = "") {
    return {otrace::TraceId(some_trace), otrace::SpanId(some_span), otrace::TraceFlags(flags), true,
            otrace::TraceState::FromHeader(trace_state)};
}

}  // namespace oteld::test
