// The context across co_await, in a task type and a generator such as users write: resumed
// elsewhere, nested, in parallel, destroyed while suspended.
#include "async_tasks.hpp"

#include <ucontext.h>

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

namespace oteld::test {

TEST_CASE("a scope alive across a suspension is current in the coroutine, and only there") {
    const Rings rings = in_child([] {
        Gate gate;
        auto task = [](Gate& g) -> Task<int> {
            auto span = test_tracer().scope("kept");
            const auto values = attach(current().with(number_key, 1));
            co_await g;
            EXPECT(is_current(span) && number() == 1);
            (void)test_tracer().span("child");
            co_await g;
            EXPECT(is_current(span));
            co_return 5;
        }(gate);
        task.resume();
        EXPECT(nothing_current());
        {
            auto other = test_tracer().scope("other");
            gate.open();
            EXPECT(is_current(other));
        }
        gate.open();
        EXPECT(nothing_current());
        EXPECT(task.done() && task.result() == 5);
    });
    check_clean(rings);
    CHECK(rings.span("child").parent_id == rings.span("kept").span_id);
    CHECK(rings.span("kept").parent_id.empty());
}

TEST_CASE("a coroutine takes its scopes to whichever thread resumes it") {
    const Rings rings = in_child([] {
        Threads threads;
        std::atomic<bool> done{false};
        auto task = [](Threads& all, std::atomic<bool>& d) -> Task<int> {
            auto span = test_tracer().scope("hopping");
            const auto values = attach(current().with(number_key, 2));
            for (int i = 0; i < 100; ++i) {
                auto step = test_tracer().scope("step");
                co_await NewThread{all};
                EXPECT(is_current(step) && number() == 2);
                (void)test_tracer().span("leaf");
            }
            EXPECT(is_current(span));
            d.store(true, std::memory_order_release);
            co_return 0;
        }(threads, done);
        task.resume();
        wait_until([&] { return done.load(std::memory_order_acquire); });
        threads.join();
        EXPECT(nothing_current());
        EXPECT(task.done());
    });
    check_clean(rings);
    for (const ReadSpan& span : rings.spans) {
        if (span.name == "step") CHECK(span.parent_id == rings.span("hopping").span_id);
        if (span.name == "leaf") CHECK(span.trace_id == rings.span("hopping").trace_id);
        if (span.name == "thread's own") CHECK(span.parent_id.empty());
    }
}

TEST_CASE("nested tasks are children, see values, and give the caller's context back") {
    const Rings rings = in_child([] {
        Gate gate;
        const auto inner = [](Gate& g) -> Task<int> {
            auto span = test_tracer().scope("inner");
            co_await g;
            EXPECT(is_current(span));
            co_return number();
        };
        auto outer = [](auto make, Gate& g) -> Task<int> {
            auto task = make(g);  // Before the span: what counts is where it is awaited.
            auto span = test_tracer().scope("outer");
            const auto values = attach(current().with(number_key, 3));
            const int result = co_await std::move(task);
            EXPECT(is_current(span) && number() == 3);
            co_return result;
        }(inner, gate);
        outer.resume();
        EXPECT(nothing_current());
        std::thread([&] { gate.open(); }).join();
        EXPECT(outer.done() && outer.result() == 3);
    });
    check_clean(rings);
    CHECK(rings.span("inner").parent_id == rings.span("outer").span_id);
}

TEST_CASE("a coroutine begins with the context of its call when nobody awaits it") {
    const Rings rings = in_child([] {
        auto parent = std::make_unique<ScopedSpan>(test_tracer().scope("parent"));
        auto task = []() -> Task<int> {
            auto span = test_tracer().scope("detached");
            co_return 0;
        }();
        parent.reset();
        std::thread([&] { task.resume(); }).join();  // It outlives its parent.
    });
    check_clean(rings);
    CHECK(rings.span("detached").parent_id == rings.span("parent").span_id);
}

TEST_CASE("coroutines that take turns on one thread do not see each other's scopes") {
    const Rings rings = in_child([] {
        Gate gates[3];
        const auto branch = [](Gate& gate, int i) -> Task<int> {
            auto span = test_tracer().scope("branch", {{"i", i}});
            for (int n = 0; n < 4; ++n) {
                auto step = test_tracer().scope("step", {{"of", i}});
                co_await gate;
                EXPECT(is_current(step));
            }
            EXPECT(is_current(span));
            co_return i;
        };
        auto parent = test_tracer().scope("parent");
        std::vector<Task<int>> tasks;
        for (int i = 0; i < 3; ++i) tasks.push_back(branch(gates[i], i));
        for (Task<int>& task : tasks) task.resume();
        for (int n = 0; n < 4; ++n) {
            for (const int i : {1, 0, 2}) {
                gates[i].open();
                EXPECT(is_current(parent));
            }
        }
        for (Task<int>& task : tasks) EXPECT(task.done());
    });
    check_clean(rings);
    std::string of[3];
    for (const ReadSpan& span : rings.spans) {
        if (span.name != "branch") continue;
        CHECK(span.parent_id == rings.span("parent").span_id);
        of[std::stoi(span.at("i"))] = span.span_id;
    }
    for (const ReadSpan& span : rings.spans) {
        if (span.name == "step") CHECK(span.parent_id == of[std::stoi(span.at("of"))]);
    }
}

TEST_CASE("destroyed while suspended: its scopes end in its own context, on any thread") {
    for (const bool elsewhere : {false, true}) {
        const Rings rings = in_child([elsewhere] {
            Gate gate;
            struct Cleanup {
                ~Cleanup() {
                    EXPECT(number() == 4);
                    (void)test_tracer().span("cleaned up");
                }
            };
            const auto inner = [](Gate& g) -> Task<int> {
                auto span = test_tracer().scope("cancelled");
                const auto values = attach(current().with(number_key, 4));
                const Cleanup cleanup;
                co_await g;
                EXPECT(false);
                co_return 0;
            };
            std::optional<Task<int>> task([](auto make, Gate& g) -> Task<int> {
                auto span = test_tracer().scope("outer");
                co_return co_await make(g);
            }(inner, gate));
            task->resume();
            const auto destroy = [&] {
                auto mine = test_tracer().scope("mine", root);
                task.reset();
                EXPECT(is_current(mine) && number() == -1);
            };
            if (elsewhere)
                std::thread(destroy).join();
            else
                destroy();
            EXPECT(nothing_current());
        });
        check_clean(rings);
        CHECK(rings.span("cleaned up").parent_id == rings.span("cancelled").span_id);
        CHECK(rings.span("cancelled").parent_id == rings.span("outer").span_id);
        CHECK(rings.span("mine").parent_id.empty());
    }
}

TEST_CASE("a generator's scopes do not leak into who consumes it, also when it is left early") {
    const Rings rings = in_child([] {
        const auto count = []() -> Generator {
            auto span = test_tracer().scope("generator");
            for (int i = 0;; ++i) {
                EXPECT(is_current(span));
                co_yield i;
            }
        };
        auto consumer = test_tracer().scope("consumer");
        Generator generator = count();
        for (int i = 0; i < 3; ++i) {
            generator.handle.resume();
            EXPECT(is_current(consumer));
        }
        generator.handle.destroy();
        EXPECT(is_current(consumer));
    });
    check_clean(rings);
    CHECK(rings.span("generator").parent_id == rings.span("consumer").span_id);
}

TEST_CASE("an exception goes through nested tasks, and leaves each context behind") {
    const Rings rings = in_child([] {
        Threads threads;
        std::atomic<bool> done{false};
        auto outer = [](Threads& all, std::atomic<bool>& d) -> Task<int> {
            auto span = test_tracer().scope("outer");
            const auto inner = [](Threads& a) -> Task<int> {
                auto failing = test_tracer().scope("inner");
                co_await NewThread{a};
                throw std::runtime_error("gone");
            };
            bool caught = false;
            try {
                co_await inner(all);
            } catch (const std::runtime_error&) {
                caught = is_current(span);
            }
            EXPECT(caught);
            d.store(true, std::memory_order_release);
            co_return 0;
        }(threads, done);
        outer.resume();
        EXPECT(nothing_current());
        wait_until([&] { return done.load(std::memory_order_acquire); });
        threads.join();
    });
    check_clean(rings);
    CHECK(rings.span("inner").status == 2);
    CHECK(rings.span("outer").status == 0);
}

TEST_CASE("awaiters that do not suspend, throw, or look at the context see the coroutine's") {
    const Rings rings = in_child([] {
        struct Changes {
            int how;
            [[nodiscard]] bool await_ready() const { return how == 0; }
            [[nodiscard]] bool await_suspend(std::coroutine_handle<>) const {
                EXPECT(number() == 6);
                if (how == 2) throw std::runtime_error("not today");
                return false;
            }
            void await_resume() const { EXPECT(number() == 6); }
        };
        auto task = []() -> Task<int> {
            const auto values = attach(Context().with(number_key, 6));
            for (const int how : {0, 1, 2}) {
                try {
                    co_await Changes{how};
                    EXPECT(how != 2);
                } catch (const std::runtime_error&) {
                    EXPECT(how == 2);
                }
                EXPECT(number() == 6);
            }
            co_return 0;
        }();
        task.resume();
        EXPECT(task.done() && nothing_current());
    });
    check_clean(rings);
}

TEST_CASE("a stack begins anew before it is entered, and not while it is") {
    const Rings rings = in_child([] {
        auto mine = test_tracer().scope("mine");
        ContextStack stack{Context().with(number_key, 1)};
        stack.restart(Context().with(number_key, 2));
        stack.enter();
        stack.restart(Context().with(number_key, 3));
        EXPECT(number() == 2);
        stack.leave();
        EXPECT(is_current(mine) && number() == -1);
    });
    check_clean(rings);
}

TEST_CASE("values that stacks hold go with them, once each, also those that others took over") {
    struct Counted {
        explicit Counted(int& alive) : count(&alive) { ++*count; }
        Counted(const Counted& other) : count(other.count) { ++*count; }
        Counted(Counted&& other) noexcept : count(other.count) { ++*count; }
        ~Counted() { --*count; }
        int* count;
    };
    static const ContextKey<Counted> key{"counted"};
    const Rings rings = in_child([] {
        int alive = 0;
        {
            ContextStack stack{Context().with(key, Counted(alive))};
            stack.enter();
            ContextStack inner;
            const auto scope = attach(current().with(number_key, 1));
            const ContextStack last;
            stack.leave();
            EXPECT(alive > 0);
            stack.enter();
        }
        EXPECT(alive == 0);
        EXPECT(nothing_current());
    });
    check_clean(rings);
}

TEST_CASE("each stack counts its scopes from the first: chains may be as long as they like") {
    const Rings rings = in_child([] {
        Context context;
        for (int i = 0; i < 70000; ++i) {  // Places in a stack have 16 bits.
            ContextStack stack{context};
            const StackScope entered(stack);
            const auto scope = attach(current().with(number_key, i));
            context = current();
        }
        EXPECT(nothing_current());
    });
    check_clean(rings);
}

TEST_CASE("a stack left on a thread that it is not on is counted, and changes nothing there") {
    const Rings rings = in_child([] {
        auto mine = test_tracer().scope("mine");
        ContextStack stack{Context()};
        std::thread([&] { stack.enter(); }).join();  // The mistake: no leave() there.
        stack.leave();
        EXPECT(is_current(mine));
    });
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) > 0);
}

namespace {
ucontext_t fiber_context;
ucontext_t loop_context;
ContextStack* fiber_stack = nullptr;
void switch_away() {
    fiber_stack->leave();
    ::swapcontext(&fiber_context, &loop_context);
    fiber_stack->enter();
}
void fiber() {
    fiber_stack->enter();
    {
        auto span = test_tracer().scope("fiber");
        switch_away();
        EXPECT(is_current(span));
        (void)test_tracer().span("in the fiber");
    }
    fiber_stack->leave();
}
}  // namespace

TEST_CASE("a fiber with a ContextStack has scopes of its own") {
    const Rings rings = in_child([] {
        std::vector<char> memory(256 << 10);
        auto parent = test_tracer().scope("parent");
        ContextStack stack;
        fiber_stack = &stack;
        ::getcontext(&fiber_context);
        fiber_context.uc_stack.ss_sp = memory.data();
        fiber_context.uc_stack.ss_size = memory.size();
        fiber_context.uc_link = &loop_context;
        ::makecontext(&fiber_context, fiber, 0);
        for (int i = 0; i < 2; ++i) {
            ::swapcontext(&loop_context, &fiber_context);
            EXPECT(is_current(parent));
        }
    });
    check_clean(rings);
    CHECK(rings.span("fiber").parent_id == rings.span("parent").span_id);
    CHECK(rings.span("in the fiber").parent_id == rings.span("fiber").span_id);
}

}  // namespace oteld::test
