// A process whose operator new or malloc fails, at each place where the client allocates: nothing
// is thrown into the application, and afterwards it records as if nothing had been. It also tells
// when the client is in the middle of something, and whether it allocates at all.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>

namespace {

// How many allocations still succeed; below 0: all.
int allocations_left = -1;

// Called with the next large allocation.
void (*at_large_allocation)() = nullptr;
constexpr std::size_t large = 10000;

bool refused() noexcept {
    if (allocations_left < 0) return false;
    if (allocations_left == 0) return true;
    --allocations_left;
    return false;
}

// Of this program's code and what is linked into it (--wrap=malloc, --wrap=realloc), on any thread.
std::atomic<int> mallocs{0};
int mallocs_left = -1;  // As allocations_left.

bool malloc_refused() noexcept {
    mallocs.fetch_add(1, std::memory_order_relaxed);
    if (mallocs_left < 0) return false;
    if (mallocs_left == 0) return true;
    --mallocs_left;
    return false;
}

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names.
extern "C" {
void* __real_malloc(std::size_t bytes);
void* __real_realloc(void* memory, std::size_t bytes);
void* __wrap_malloc(std::size_t bytes) { return malloc_refused() ? nullptr : __real_malloc(bytes); }
void* __wrap_realloc(void* memory, std::size_t bytes) {
    return malloc_refused() ? nullptr : __real_realloc(memory, bytes);
}
}
// NOLINTEND(bugprone-reserved-identifier)

void* operator new(std::size_t bytes) {
    if (bytes > large && at_large_allocation != nullptr)
        std::exchange(at_large_allocation, nullptr)();
    void* memory = refused() ? nullptr : std::malloc(bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace oteld::test {

TEST_CASE(
    "out of memory at any of the client's allocations nothing is thrown, and later spans arrive") {
    constexpr int places = 60;  // More than a first span needs.
    int refusals = 0;
    for (int n = 0; n < places; ++n) {
        CAPTURE(n);
        const RingDirectory directory;
        const Child child =
            run_child(directory.path(),
                      [n] {
                          allocations_left = n;
                          {
                              const Tracer tracer_then = tracer("out of memory");
                              auto span = tracer_then.span("then");
                              span.set("a", 1);
                          }
                          const bool refused_one = allocations_left == 0;
                          allocations_left = -1;
                          EXPECT(tracer("test").span("later").recording());
                          if (refused_one) std::fputs("refused", stderr);
                      },
                      {{"OTEL_TRACES_SAMPLER", "traceidratio"},
                       {"OTEL_TRACES_SAMPLER_ARG", "1.0000000000000000000000000000000000"},
                       {"OTEL_RESOURCE_ATTRIBUTES",
                        "deployment.environment.name=a%20long%20value%20of%20a%20test"}});
        child.clean();
        refusals += child.said("refused") ? 1 : 0;
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.span("later").kind == 1);
        CHECK(rings.segments.size() == 1);
    }
    CHECK(refusals > 10);
    CHECK(refusals < places);
}

TEST_CASE("a flush that has no memory to find out what to wait for says no") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const TracerProvider provider(Settings{}.lanes(2));
        EXPECT(force_flush(std::chrono::seconds(0)));
        allocations_left = 0;
        const bool flushed = force_flush(std::chrono::seconds(0));
        allocations_left = -1;
        EXPECT(!flushed);
    }).clean();
}

TEST_CASE(
    "a provider that becomes the global one while a scope registers is the scope's from then on") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        static const TracerProvider on;
        ::setenv("OTEL_TRACES_SAMPLER", "always_off", 1);
        static const TracerProvider off;
        on.make_global();
        const Tracer fresh = tracer(std::string(large + 1, 's'));  // Copied when it registers.
        at_large_allocation = [] { off.make_global(); };
        (void)fresh.span("registers the scope");
        EXPECT(at_large_allocation == nullptr);
        EXPECT(!fresh.span("off").recording());
    }).clean();
}

namespace {

constexpr std::string_view parent_text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

std::string_view header_of_request(std::string_view name) {
    return name == "traceparent" ? parent_text : std::string_view();
}

// The mallocs of a function.
template <class Function>
int mallocs_of(Function function) {
    const int before = mallocs;
    function();
    return mallocs - before;
}

}  // namespace

TEST_CASE("a traceparent is read and written without allocating; a trace state costs one piece") {
    const Propagators w3c{Propagator::tracecontext};
    Context context;
    CHECK(mallocs_of([&] { context = default_propagators.extract(header_of_request); }) == 0);
    REQUIRE(context.span().valid());
    std::size_t written = 0;
    const auto count = [&](std::string_view, std::string_view value) { written += value.size(); };
    CHECK(mallocs_of([&] { default_propagators.inject(context, count); }) == 0);
    CHECK(written == parent_text.size());
    const auto with_state = [](std::string_view name) {
        return name == "tracestate" ? std::string_view("a=1,b=2") : header_of_request(name);
    };
    CHECK(mallocs_of([&] { context = w3c.extract(with_state); }) == 1);
    CHECK(context.span().trace_state() == "a=1,b=2");
    CHECK(mallocs_of([&] { w3c.inject(context, count); }) == 0);
    context = context.with_baggage(Baggage().set("k", "v"));
    written = 0;
    CHECK(mallocs_of([&] { default_propagators.inject(context, count); }) == 0);
    CHECK(written == parent_text.size() + 7 + 3);
    CHECK(mallocs_of([&] { Propagators{Propagator::b3}.inject(context, count); }) == 0);
    // What counts does count. Volatile: compilers know malloc(), and would leave it out.
    void* (*volatile allocate)(std::size_t) = std::malloc;
    CHECK(mallocs_of([&] { std::free(allocate(8)); }) == 1);
    CHECK(mallocs_of([] { (void)Baggage().set("k", "v"); }) == 1);
}

TEST_CASE("a context is attached and a span made current without allocating, values or not") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        static const ContextKey<int> key{"key"};
        const Tracer tracer = oteld::tracer("test");
        (void)tracer.span("first");
        const Context context = Context().with(key, 1);
        const int before = mallocs;
        {
            const auto scope = attach(context);
            const auto span = tracer.scope("s");
            EXPECT(*current().get(key) == 1);
        }
        EXPECT(mallocs == before);
    }).clean();
}

TEST_CASE("out of memory keeps the context that there was") {
    static const ContextKey<int> first{"first"}, second{"second"};
    const Context context =
        Context().with(first, 1).with(second, 2).with_baggage(Baggage().set("k", "v"));
    const auto unharmed = [&](const Context& other) {
        return *other.get(first) == 1 && *other.get(second) == 2 && other.baggage().get("k") == "v";
    };
    const auto refused_at = [](int n, auto function) {
        mallocs_left = n;
        auto result = function();
        mallocs_left = -1;
        return result;
    };
    // Of a value, its place in the list, and the two places in front of it that are made anew.
    for (int n = 0; n < 4; ++n) {
        CAPTURE(n);
        CHECK(unharmed(refused_at(n, [&] { return context.with(first, 9); })));
    }
    CHECK(*refused_at(4, [&] { return context.with(first, 9); }).get(first) == 9);
    for (int n = 0; n < 2; ++n)
        CHECK(unharmed(refused_at(n, [&] { return context.without(first); })));
    CHECK(refused_at(2, [&] { return context.without(first); }).get(first) == nullptr);
    CHECK(refused_at(0, [&] { return context.baggage().set("k", "w"); }).get("k") == "v");
    CHECK(refused_at(0, [&] { return context.baggage().remove("k"); }).get("k") == "v");
    const auto request = [](std::string_view name) -> std::string_view {
        if (name == "tracestate") return "a=1";
        if (name == "baggage") return "k=new";
        return header_of_request(name);
    };
    for (int n = 0; n < 4; ++n) {
        CAPTURE(n);
        const Context got =
            refused_at(n, [&] { return default_propagators.extract(request, context); });
        CHECK(got.span().valid());
        CHECK(got.span().trace_state() == (n == 0 ? "" : "a=1"));
        CHECK(unharmed(got));
    }
    const Context got = default_propagators.extract(request, context);
    CHECK(got.baggage().get("k") == "new");
}

}  // namespace oteld::test
