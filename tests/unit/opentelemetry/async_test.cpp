// opentelemetry-cpp's current context across asynchronous code of ours: scopes of its own API that
// are alive while a coroutine waits, and what Boost.Asio runs.
#include "bridge_fixture.hpp"

#include "oteld/asio.hpp"
#include "oteld/opentelemetry_context.hpp"
#include "tests/unit/client/async_fixture.hpp"
#if defined(__cpp_impl_coroutine)
#include "tests/unit/client/async_tasks.hpp"
#endif

#include <opentelemetry/baggage/baggage.h>
#include <opentelemetry/baggage/baggage_context.h>
#include <opentelemetry/trace/tracer.h>

#include <boost/asio.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>

namespace oteld::test {
namespace {

namespace net = boost::asio;
using otel::context::RuntimeContext;
using namespace std::chrono_literals;

Rings in_joined_child(const std::function<void()>& body) {
    const Rings rings = in_bridged_child([&] {
        RuntimeContext::SetRuntimeContextStorage(opentelemetry_context_storage());
        body();
    });
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
    return rings;
}

bool is_theirs(const SpanPointer& span) {
    return otrace::Tracer::GetCurrentSpan().get() == span.get();
}
bool nothing_of_either() {
    return nothing_current() && !otrace::Tracer::GetCurrentSpan()->GetContext().IsValid();
}

}  // namespace

TEST_CASE("what Asio runs through an executor with a context, or bound, has theirs") {
    in_joined_child([] {
        net::io_context io;
        const SpanPointer span = their_tracer()->StartSpan("a");
        std::atomic<int> runs{0};
        const auto run = [&](auto...) {
            EXPECT(is_theirs(span));
            const SpanPointer inner = their_tracer()->StartSpan("b");
            const otrace::Scope scope(inner);
            EXPECT(is_theirs(inner));
            ++runs;
        };
        net::steady_timer timer(io, 1us);
        {
            const otrace::Scope scope(span);
            const auto executor = asio::with_context(io);
            net::post(executor, run);
            net::post(net::make_strand(executor), run);
            net::post(io, asio::bind(run));
            timer.async_wait(net::bind_executor(executor, run));
        }
        net::post(io, [] { EXPECT(nothing_of_either()); });
        std::thread([&] {
            const SpanPointer own = their_tracer()->StartSpan("thread's own");
            const otrace::Scope scope(own);
            io.run_one();
            EXPECT(is_theirs(own));
        }).join();
        io.run();
        EXPECT(runs == 4);
        EXPECT(nothing_of_either());
    });
}

#if defined(__cpp_impl_coroutine)
TEST_CASE("a scope of theirs follows a coroutine onto other threads, and leaves each as it was") {
    const Rings rings = in_joined_child([] {
        Threads threads;
        std::atomic<bool> done{false};
        const auto inner = [](Threads& all, SpanPointer outer) -> Task<int> {
            EXPECT(is_theirs(outer));
            const SpanPointer span = their_tracer()->StartSpan("inner");
            const otrace::Scope scope(span);
            co_await NewThread{all};
            EXPECT(is_theirs(span));
            co_return 7;
        };
        auto task = [](auto callee, Threads& all, std::atomic<bool>& d) -> Task<int> {
            const SpanPointer span = their_tracer()->StartSpan("outer");
            const otrace::Scope scope(span);
            for (int i = 0; i < 20; ++i) {
                const SpanPointer step = their_tracer()->StartSpan("step");
                const otrace::Scope inside(step);
                co_await NewThread{all};
                EXPECT(is_theirs(step));
                (void)test_tracer().span("leaf");
                EXPECT(co_await callee(all, step) == 7);
                EXPECT(is_theirs(step));
            }
            EXPECT(is_theirs(span));
            d.store(true, std::memory_order_release);
            co_return 0;
        }(inner, threads, done);
        {
            const SpanPointer caller = their_tracer()->StartSpan("caller");
            const otrace::Scope scope(caller);
            task.resume();
            EXPECT(is_theirs(caller));
        }
        EXPECT(nothing_of_either());
        wait_until([&] { return done.load(std::memory_order_acquire); });
        threads.join();
        EXPECT(nothing_of_either());
    });
    for (const ReadSpan& span : rings.spans) {
        if (span.name == "step") CHECK(span.parent_id == rings.span("outer").span_id);
        if (span.name == "leaf") CHECK(span.trace_id == rings.span("outer").trace_id);
        if (span.name == "thread's own") CHECK(span.parent_id.empty());
    }
}

TEST_CASE("a coroutine that is destroyed while it waits ends scopes of theirs in its own context") {
    const Rings rings = in_joined_child([] {
        Gate gate;
        const SpanPointer span = their_tracer()->StartSpan("destroyed");
        auto task = std::make_unique<Task<int>>([](Gate& g, SpanPointer mine) -> Task<int> {
            const otrace::Scope scope(mine);
            co_await g;
            co_return 0;
        }(gate, span));
        task->resume();
        EXPECT(nothing_of_either());
        std::thread([&] {
            const SpanPointer own = their_tracer()->StartSpan("own");
            const otrace::Scope scope(own);
            task.reset();
            EXPECT(is_theirs(own));
        }).join();
        EXPECT(nothing_of_either());
    });
    CHECK(rings.spans.size() == 2);
}

TEST_CASE("scopes and baggage of theirs follow an awaitable, on many threads, among others") {
    const Rings rings = in_joined_child([] {
        net::thread_pool pool(4);
        const auto session = [](int i) -> net::awaitable<void> {
            const SpanPointer span = their_tracer()->StartSpan("session");
            const otrace::Scope scope(span);
            otel::context::Context now = RuntimeContext::GetCurrent();
            const auto token = RuntimeContext::Attach(otel::baggage::SetBaggage(
                now, otel::baggage::Baggage::GetDefault()->Set("i", std::to_string(i))));
            for (int n = 0; n < 20; ++n) {
                const SpanPointer step = their_tracer()->StartSpan("step");
                const otrace::Scope inside(step);
                net::steady_timer timer(co_await net::this_coro::executor, 100us);
                co_await timer.async_wait(net::use_awaitable);
                EXPECT(is_theirs(step));
                EXPECT(current().baggage().get("i") == std::to_string(i));
                co_await net::post(co_await net::this_coro::executor, net::use_awaitable);
                EXPECT(is_theirs(step));
            }
            EXPECT(is_theirs(span));
        };
        for (int i = 0; i < 20; ++i) {
            net::co_spawn(asio::with_context(pool), session(i), [](const std::exception_ptr& e) {
                if (e) std::rethrow_exception(e);
            });
            net::post(pool, [] { EXPECT(nothing_of_either()); });
        }
        pool.join();
    });
    CHECK(rings.spans.size() == 20 + 400);
}
#endif

}  // namespace oteld::test
