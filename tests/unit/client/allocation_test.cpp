// A process whose operator new fails, at each place where the client allocates: nothing is thrown
// into the application, and afterwards it records as if nothing had been. It also tells when the
// client is in the middle of something.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

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

}  // namespace

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

}  // namespace oteld::test
