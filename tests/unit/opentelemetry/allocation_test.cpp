// What the bridge allocates, and what it does when it cannot.
#include "bridge_fixture.hpp"

#include "oteld/opentelemetry_context.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int> allocations{0};
std::atomic<bool> refused{false};

}  // namespace

[[gnu::noinline]] void* operator new(std::size_t bytes) {
    ++allocations;
    void* memory = refused ? nullptr : std::malloc(bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names. Of the client and the headers;
// operator new above is counted twice.
extern "C" {
void* __real_malloc(std::size_t bytes);
void* __real_realloc(void* memory, std::size_t bytes);
void* __wrap_malloc(std::size_t bytes) {
    ++allocations;
    return __real_malloc(bytes);
}
void* __wrap_realloc(void* memory, std::size_t bytes) {
    ++allocations;
    return __real_realloc(memory, bytes);
}
}
// NOLINTEND(bugprone-reserved-identifier)

namespace oteld::test {

TEST_CASE("a span costs one allocation, a tracer that is known and events cost none") {
    in_bridged_child([] {
        const auto span_like_any = [] {
            const SpanPointer span =
                their_tracer()->StartSpan("s", {{"a", 1}, {"b", "two"}, {"c", 3.0}, {"d", true}});
            span->SetAttribute("e", std::int64_t{5});
            span->AddEvent("event", {{"a", 1}});
            span->SetStatus(otrace::StatusCode::kError, "no");
            span->UpdateName("t");
            EXPECT(span->GetContext().IsValid());
            otrace::StartSpanOptions options;
            options.parent = span->GetContext();
            span->End();
        };
        span_like_any();  // The first one of a thread is dearer.
        const int before = allocations;
        span_like_any();
        EXPECT(allocations - before == 2);  // Counted twice, see above.
    });
}

TEST_CASE("with one context for both, baggage that is there costs a scope no allocation") {
    in_bridged_child([] {
        using otel::context::RuntimeContext;
        RuntimeContext::SetRuntimeContextStorage(opentelemetry_context_storage());
        const SpanPointer span = their_tracer()->StartSpan("s");
        const auto cost_of_a_scope = [&] {
            const int before = allocations;
            const otrace::Scope scope(span);
            EXPECT(otrace::Tracer::GetCurrentSpan().get() == span.get());
            return allocations - before;
        };
        cost_of_a_scope();
        const int without = cost_of_a_scope();
        otel::context::Context now = RuntimeContext::GetCurrent();
        const auto token = RuntimeContext::Attach(
            otel::baggage::SetBaggage(now, otel::baggage::Baggage::GetDefault()->Set(
                                               "tenant", "too long to fit into a std::string")));
        EXPECT(cost_of_a_scope() == without);
    });
}

TEST_CASE("out of memory a span is not recorded and a tracer has no name; later ones arrive") {
    const Rings rings = in_bridged_child([] {
        const auto provider = otrace::Provider::GetTracerProvider();
        const TracerPointer tracer = provider->GetTracer("t");
        tracer->StartSpan("before");
        refused = true;
        const SpanPointer none = tracer->StartSpan("lost");
        const TracerPointer nameless =
            provider->GetTracer("a tracer that nobody has asked for yet");
        refused = false;
        EXPECT(!none->IsRecording());
        none->SetAttribute("a", 1);
        none->End();
        nameless->StartSpan("nameless");
        tracer->StartSpan("after");
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 3);
    CHECK(rings.scope_of(rings.span("nameless")).name == "");
    CHECK(rings.scope_of(rings.span("after")).name == "t");
}

}  // namespace oteld::test
