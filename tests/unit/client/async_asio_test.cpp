// The context in Boost.Asio: executors, strands, timers, handlers, awaitables.
#include "async_fixture.hpp"
#include "ring_fixture.hpp"

#include "oteld/api.hpp"
#include "oteld/asio.hpp"

#include <boost/asio.hpp>
#include <boost/version.hpp>
#if BOOST_VERSION >= 107700
#include <boost/asio/experimental/awaitable_operators.hpp>
#endif

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>

namespace oteld::test {
namespace {

namespace net = boost::asio;
using namespace std::chrono_literals;

Context numbered(int n) { return Context().with(number_key, n); }
void rethrow(const std::exception_ptr& e) {
    if (e) std::rethrow_exception(e);
}
net::awaitable<void> pause() {
    net::steady_timer timer(co_await net::this_coro::executor, 100us);
    co_await timer.async_wait(net::use_awaitable);
}

void check_clean(const Rings& rings) {
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

}  // namespace

TEST_CASE("an executor with a context is one of Asio's, and takes it through every way to run") {
    using Executor = asio::ContextExecutor<net::io_context::executor_type>;
    static_assert(net::execution::is_executor<Executor>::value);
    static_assert(std::is_convertible_v<Executor, net::any_io_executor>);
    const Rings rings = in_child([] {
        net::io_context io;
        const auto executor = asio::with_context(io, numbered(1));
        EXPECT(executor == Executor(executor));
        EXPECT(executor != asio::with_context(io.get_executor(), numbered(1)));
        EXPECT(&net::query(executor, net::execution::context) == &io);
        const auto never = net::require(executor, net::execution::blocking.never);
        EXPECT(net::query(never, net::execution::blocking) == net::execution::blocking.never);
        const net::any_io_executor any = executor;
        const auto strand = net::make_strand(executor);
        const auto outside = asio::with_context(net::make_strand(io), numbered(1));
        int runs = 0;
        const auto run = [&runs] {
            EXPECT(number() == 1);
            (void)test_tracer().scope("balanced");
            ++runs;
        };
        net::post(executor, run);
        net::dispatch(executor, run);
        net::defer(executor, run);
        net::post(any, run);
        net::post(strand, run);
        net::post(outside, run);
        net::post(io, net::bind_executor(executor, run));
        net::steady_timer timer(executor, 1us);
        timer.async_wait([&](auto) { run(); });
        net::steady_timer other(io, 1us);
        other.async_wait(net::bind_executor(strand, [&](auto) { run(); }));
        // Inline, from within and from elsewhere.
        net::post(executor, [&] { net::dispatch(executor, run); });
        net::post(io, [&] {
            EXPECT(nothing_current());
            net::dispatch(executor, run);
            EXPECT(nothing_current());
        });
        io.run();
        EXPECT(runs == 11);
        EXPECT(nothing_current());
    });
    check_clean(rings);
}

TEST_CASE("a bound handler has its context, keeps its executor, and leaves before others run") {
    const Rings rings = in_child([] {
        net::io_context io;
        net::thread_pool pool(1);
        const auto handler = net::bind_executor(pool.get_executor(), [](auto...) {});
        const auto bound = asio::bind(handler);
        EXPECT(net::get_associated_executor(bound, io.get_executor()) == pool.get_executor());
        EXPECT(net::get_associated_executor(asio::bind([] {}), io.get_executor()) ==
               io.get_executor());
        bool ran = false;
        net::steady_timer timer(io, 1us);
        {
            const auto scope = attach(numbered(2));
            timer.async_wait(asio::bind([&ran, owned = std::make_unique<int>(2)](auto) {
                EXPECT(number() == *owned);
                ran = true;
            }));
        }
        timer.async_wait([](auto) { EXPECT(nothing_current()); });
        net::post(io, [] { EXPECT(nothing_current()); });
        io.run();
        EXPECT(ran);
        pool.join();
    });
    check_clean(rings);
}

TEST_CASE("an executor that is gone after its turn is not looked at again") {
    const Rings rings = in_child([] {
        net::io_context io;
        const auto executor = asio::with_context(io, numbered(1));
        int runs = 0;
        net::post(executor, [&] {
            net::dispatch(asio::with_context(io, numbered(2)), [&] {
                EXPECT(number() == 2);
                ++runs;
            });
            // The address sanitizer says it where another chain is still thought to be the
            // innermost.
            net::dispatch(executor, [&] {
                EXPECT(number() == 1);
                ++runs;
            });
            EXPECT(number() == 1);
        });
        io.run();
        EXPECT(runs == 2 && nothing_current());
    });
    check_clean(rings);
}

namespace {

template <class T>
struct Counting {
    using value_type = T;
    explicit Counting(int& counted) noexcept : count(&counted) {}
    template <class Other>
    Counting(const Counting<Other>& other) noexcept : count(other.count) {}
    T* allocate(std::size_t n) {
        ++*count;
        return std::allocator<T>().allocate(n);
    }
    void deallocate(T* memory, std::size_t n) { std::allocator<T>().deallocate(memory, n); }
    friend bool operator==(const Counting& a, const Counting& b) { return a.count == b.count; }
    int* count;
};

struct WithAllocator {
    using allocator_type = Counting<char>;
    [[nodiscard]] allocator_type get_allocator() const noexcept { return allocator_type(*count); }
    void operator()() const { EXPECT(number() == 5); }
    int* count;
};

}  // namespace

TEST_CASE("a bound handler keeps its allocator") {
    const Rings rings = in_child([] {
        int allocations = 0;
        const auto bound = asio::bind(numbered(5), WithAllocator{&allocations});
        EXPECT(net::get_associated_allocator(bound).count == &allocations);
        net::io_context io;
        net::post(io, bound);
        EXPECT(allocations > 0);
        io.run();
        // One without an allocator has the one that is offered.
        int others = 0;
        EXPECT(net::get_associated_allocator(asio::bind([] {}), Counting<char>(others)).count ==
               &others);
    });
    check_clean(rings);
}

TEST_CASE("an awaitable's scopes follow it across co_await, on many threads, among others") {
    const Rings rings = in_child([] {
        net::thread_pool pool(4);
        for (int i = 0; i < 20; ++i) {
            net::co_spawn(
                asio::with_context(pool, numbered(i)),
                [i]() -> net::awaitable<void> {
                    auto span = test_tracer().scope("session");
                    for (int n = 0; n < 20; ++n) {
                        auto step = test_tracer().scope("step");
                        co_await pause();
                        EXPECT(is_current(step) && number() == i);
                        co_await net::post(co_await net::this_coro::executor, net::use_awaitable);
                        EXPECT(is_current(step));
                    }
                    EXPECT(is_current(span));
                },
                rethrow);
            net::post(pool, [] { EXPECT(nothing_current()); });
        }
        pool.join();
    });
    check_clean(rings);
    CHECK(rings.spans.size() == 20 + 400);
}

TEST_CASE("traced() around an awaitable: current inside, ends with it, records what it throws") {
    for (const bool follows : {true, false}) {
        CAPTURE(follows);
        const Rings rings = in_child([follows] {
            net::io_context io(1);
            const auto load = [](bool fails) -> net::awaitable<int> {
                auto inner = test_tracer().scope("inner");
                co_await pause();
                EXPECT(is_current(inner));
                if (fails) throw std::runtime_error("no such order");
                co_return 8;
            };
            const auto body = [load, follows]() -> net::awaitable<void> {
                // Spawned without with_context(), it must not have one across co_await.
                std::optional<ScopedSpan> span;
                if (follows) span.emplace(test_tracer().scope("outer"));
                const auto mine = [&] { return follows ? is_current(*span) : nothing_current(); };
                EXPECT(co_await traced(test_tracer(), "load", load(false)) == 8);
                EXPECT(mine());
                bool caught = false;
                try {
                    co_await traced(test_tracer(), "load badly", load(true));
                } catch (const std::runtime_error&) {
                    caught = mine();
                }
                EXPECT(caught);
                co_await traced("wait", pause());  // Under default_tracer().
                EXPECT(mine());
            };
            if (follows)
                net::co_spawn(asio::with_context(io), body, rethrow);
            else
                net::co_spawn(io, body, rethrow);
            io.run();
            EXPECT(nothing_current());
        });
        check_clean(rings);
        const std::string outer = follows ? rings.span("outer").span_id : "";
        CHECK(rings.span("load").parent_id == outer);
        CHECK(rings.span("load badly").parent_id == outer);
        CHECK(rings.span("load badly").status == 2);
        CHECK(rings.span("load badly").description == "std::runtime_error: no such order");
        REQUIRE(rings.span("load badly").events.size() == 1);
        CHECK(rings.span("load badly").events[0].name == "exception");
        CHECK(rings.span("wait").parent_id == outer);
        CHECK(rings.scope_of(rings.span("wait")).name == "oteld.traced");
        for (const ReadSpan& span : rings.spans) {
            if (span.name != "inner") continue;
            CHECK((span.parent_id == rings.span("load").span_id ||
                   span.parent_id == rings.span("load badly").span_id));
        }
    }
}

#if BOOST_VERSION >= 107700
TEST_CASE("both sides of && through traced() have scopes of their own, on several threads") {
    const Rings rings = in_child([] {
        using namespace net::experimental::awaitable_operators;
        net::thread_pool pool(4);
        const auto side = [](std::string_view name) -> net::awaitable<void> {
            auto span = test_tracer().scope(name);
            for (int i = 0; i < 50; ++i) {
                co_await pause();
                EXPECT(is_current(span));
            }
        };
        net::co_spawn(
            asio::with_context(pool),
            [side]() -> net::awaitable<void> {
                auto span = test_tracer().scope("both");
                co_await (traced(test_tracer(), "left", side("in left")) &&
                          traced(test_tracer(), "right", side("in right")));
                EXPECT(is_current(span));
            },
            rethrow);
        pool.join();
    });
    check_clean(rings);
    CHECK(rings.span("left").parent_id == rings.span("both").span_id);
    CHECK(rings.span("right").parent_id == rings.span("both").span_id);
    CHECK(rings.span("in left").parent_id == rings.span("left").span_id);
    CHECK(rings.span("in right").parent_id == rings.span("right").span_id);
}

TEST_CASE("a cancelled awaitable ends its scopes in its own context") {
    const Rings rings = in_child([] {
        using namespace net::experimental::awaitable_operators;
        net::io_context io(1);
        const auto wait = []() -> net::awaitable<void> {
            auto span = test_tracer().scope("cancelled");
            net::steady_timer timer(co_await net::this_coro::executor, 1h);
            co_await timer.async_wait(net::use_awaitable);
        };
        net::co_spawn(
            asio::with_context(io),
            [wait]() -> net::awaitable<void> {
                auto span = test_tracer().scope("outer");
                co_await (traced(test_tracer(), "long", wait()) || pause());
                EXPECT(is_current(span));
            },
            rethrow);
        io.run();
        EXPECT(nothing_current());
    });
    check_clean(rings);
    CHECK(rings.span("cancelled").parent_id == rings.span("long").span_id);
    CHECK(rings.span("cancelled").status == 2);
}
#endif

TEST_CASE("scopes that overlap on one thread, without with_context(), are counted and end there") {
    const Rings rings = in_child([] {
        net::io_context io(1);
        const auto turns = [](int count) -> net::awaitable<void> {
            auto span = test_tracer().scope("misused");
            for (int i = 0; i < count; ++i)
                co_await net::post(co_await net::this_coro::executor, net::use_awaitable);
        };
        net::co_spawn(io, turns(1), rethrow);
        net::co_spawn(io, turns(5), rethrow);
        io.run();
        EXPECT(nothing_current());
    });
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) > 0);
}

TEST_CASE("an awaitable that goes with its io_context while suspended harms nobody") {
    const Rings rings = in_child([] {
        auto mine = test_tracer().scope("mine");
        {
            net::io_context io(1);
            net::co_spawn(
                asio::with_context(io),
                []() -> net::awaitable<void> {
                    auto span = test_tracer().scope("suspended");
                    net::steady_timer timer(co_await net::this_coro::executor, 1h);
                    co_await timer.async_wait(net::use_awaitable);
                },
                net::detached);
            io.poll();
            EXPECT(is_current(mine));
        }
        EXPECT(is_current(mine));
    });
    check_balance(rings);
    CHECK(rings.span("suspended").parent_id == rings.span("mine").span_id);
}

}  // namespace oteld::test
