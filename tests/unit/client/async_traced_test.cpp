// traced() around what is awaited.
#include "async_tasks.hpp"

#include <coroutine>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace oteld::test {

TEST_CASE("traced() around a task: current inside, ends with it, records what it throws") {
    const Rings rings = in_child([] {
        Gate gate;
        auto task = [](Gate& g) -> Task<int> {
            auto span = test_tracer().scope("outer");
            const auto load = [](Gate& inner_gate, bool fails) -> Task<int> {
                (void)test_tracer().span(fails ? "before failing" : "loading");
                co_await inner_gate;
                if (fails) throw std::runtime_error("no such order");
                co_return 8;
            };
            EXPECT(co_await traced(test_tracer(), "load", load(g, false)) == 8);
            EXPECT(is_current(span));
            bool caught = false;
            try {
                co_await traced(test_tracer(), "load badly", load(g, true));
            } catch (const std::runtime_error&) {
                caught = true;
            }
            EXPECT(caught && is_current(span));
            co_await traced(test_tracer(), "wait", std::suspend_never{});
            co_return 0;
        }(gate);
        task.resume();
        EXPECT(nothing_current());
        std::thread([&] { gate.open(); }).join();
        gate.open();
        EXPECT(task.done() && task.result() == 0);
    });
    check_clean(rings);
    CHECK(rings.span("load").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("loading").parent_id == rings.span("load").span_id);
    CHECK(rings.span("load").status == 0);
    CHECK(rings.span("before failing").parent_id == rings.span("load badly").span_id);
    CHECK(rings.span("load badly").status == 2);
    CHECK(rings.span("load badly").description == "std::runtime_error: no such order");
    // As out of a traced() function.
    REQUIRE(rings.span("load badly").events.size() == 1);
    const ReadEvent& exception = rings.span("load badly").events[0];
    CHECK(exception.name == "exception");
    REQUIRE(exception.attributes.size() == 3);
    CHECK(exception.attributes[0].second == "\"std::runtime_error\"");
    CHECK(exception.attributes[1].second == "\"no such order\"");
    CHECK(exception.attributes[2].first == "exception.stacktrace");
    CHECK(rings.span("wait").parent_id == rings.span("outer").span_id);
}

TEST_CASE("what counts is where the result of traced() is awaited, not where it was made") {
    const Rings rings = in_child([] {
        auto task = []() -> Task<int> {
            auto made = traced("traced", std::suspend_never{});
            auto span = test_tracer().scope("awaits");
            co_await std::move(made);
            co_return 0;
        }();
        task.resume();
        EXPECT(task.done());
    });
    check_clean(rings);
    CHECK(rings.span("traced").parent_id == rings.span("awaits").span_id);
}

TEST_CASE("traced() without a tracer takes functions and what is awaited, each in its way") {
    const Rings rings = in_child([] {
        auto task = []() -> Task<int> {
            const auto load = []() -> Task<int> {
                (void)test_tracer().span("loading");
                co_return 8;
            };
            EXPECT(co_await traced("awaited", load()) == 8);
            EXPECT(traced(
                       "called", [](int n) { return n + 1; }, 1) == 2);
            // The function's span ends with the call: the task runs in its own alone.
            EXPECT(co_await traced("awaited too", traced("makes it", load)) == 8);
            bool caught = false;
            try {
                co_await traced("throws a text", []() -> Task<int> {
                    throw std::string("a text");
                    co_return 0;
                }());
            } catch (const std::string&) {
                caught = true;
            }
            EXPECT(caught && nothing_current());
            co_return 0;
        }();
        task.resume();
        EXPECT(task.done() && task.result() == 0);
    });
    check_clean(rings);
    for (const char* name : {"awaited", "called", "makes it", "awaited too"}) {
        CHECK(rings.span(name).parent_id.empty());
        CHECK(rings.span(name).status == 0);
        CHECK(rings.scope_of(rings.span(name)).name == "oteld.traced");
    }
    std::vector<std::string> parents;
    for (const ReadSpan& span : rings.spans)
        if (span.name == "loading") parents.push_back(span.parent_id);
    CHECK(parents == std::vector<std::string>{rings.span("awaited").span_id,
                                              rings.span("awaited too").span_id});
    CHECK(rings.span("throws a text").description.find(": a text") != std::string::npos);
}

}  // namespace oteld::test
