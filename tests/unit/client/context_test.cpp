// The current context, parents, moving and ending spans, threads.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <atomic>
#include <map>
#include <memory>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }
const std::uint8_t some_trace[16] = {1, 2, 3};
const std::uint8_t some_span[8] = {4, 5};

bool same(const SpanContext& a, const SpanContext& b) {
    return a.span_id_hex() == b.span_id_hex() && a.trace_id_hex() == b.trace_id_hex();
}

}  // namespace

TEST_CASE("scopes nest, and leaving one makes its parent current again") {
    const Rings rings = in_child([] {
        const Tracer tracer = test_tracer();
        EXPECT(!current().valid());
        {
            auto outer = tracer.scope("outer");
            EXPECT(same(current(), outer.context()));
            {
                auto inner = tracer.scope("inner");
                EXPECT(same(current(), inner.context()));
                (void)tracer.span("leaf");
            }
            EXPECT(same(current(), outer.context()));
            (void)tracer.span("sibling");
        }
        EXPECT(!current().valid());
    });
    check_balance(rings);
    CHECK(rings.span("outer").parent_id == "");
    CHECK(rings.span("inner").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("leaf").parent_id == rings.span("inner").span_id);
    CHECK(rings.span("sibling").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("leaf").trace_id == rings.span("outer").trace_id);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("a scope that is ended early restores its parent, once") {
    const Rings rings = in_child([] {
        auto outer = test_tracer().scope("outer");
        auto inner = test_tracer().scope("inner");
        inner.end();
        EXPECT(same(current(), outer.context()));
        inner.end();
        EXPECT(same(current(), outer.context()));
        auto moved = test_tracer().scope("moved");
        ScopedSpan target = std::move(moved);
        EXPECT(same(current(), target.context()));
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 3);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("an attached remote context is the parent, and its trace state comes with it") {
    const Rings rings = in_child([] {
        const SpanContext remote(some_trace, some_span, 1, true, "k=v");
        {
            const ContextScope scope = attach(remote);
            EXPECT(current().remote());
            EXPECT(current().trace_state() == "k=v");
            (void)test_tracer().span("served");
        }
        EXPECT(!current().valid());
    });
    check_balance(rings);
    CHECK(rings.span("served").trace_state == "k=v");
    CHECK(rings.span("served").parent_id == "0405000000000000");
}

TEST_CASE("scopes detached out of order are counted and leave no ended span current") {
    const Rings rings = in_child([] {
        auto outer = test_tracer().scope("outer");
        {
            auto first = std::make_unique<ScopedSpan>(test_tracer().scope("first"));
            auto second = std::make_unique<ScopedSpan>(test_tracer().scope("second"));
            first.reset();
            second.reset();
        }
        EXPECT(same(current(), outer.context()));
        (void)test_tracer().span("after");
    });
    check_balance(rings);
    CHECK(rings.span("after").parent_id == rings.span("outer").span_id);
    CHECK(rings.counted(shm::ProcessCounter::misuses) > 0);
}

TEST_CASE("a scope detached on another thread is counted and leaves that thread's context alone") {
    const Rings rings = in_child([] {
        auto elsewhere = std::make_unique<ScopedSpan>(test_tracer().scope("elsewhere"));
        std::thread([&] {
            auto mine = test_tracer().scope("mine", root);
            elsewhere.reset();
            EXPECT(same(current(), mine.context()));
        }).join();
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
    CHECK(rings.counted(shm::ProcessCounter::misuses) > 0);
}

TEST_CASE("a span that is moved ends once, and ends twice as once") {
    const Rings rings = in_child([] {
        auto first = test_tracer().span("moved", {{"a", 1}});
        Span second = std::move(first);
        // What is left behind is an empty span, which this is about.
        EXPECT(!first.recording());  // NOLINT(*-move,*.Move)
        first.set("lost", 1).event("lost").end();
        EXPECT(second.recording());
        second.set("b", 2);
        Span third;
        EXPECT(!third.recording());
        third = std::move(second);
        third.end();
        EXPECT(!third.recording());
        EXPECT(third.context().valid());
        third.set("late", 1).error("late").name("late").link(third.context()).exception("a", "b");
        third.end();
        third = test_tracer().span("next");
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
    CHECK(rings.span("moved").attributes == Pairs{{"a", "1"}, {"b", "2"}});
    CHECK(rings.span("next").attributes.empty());
}

TEST_CASE("a span ends on another thread, in that thread's lane, and its slot comes back") {
    const Rings rings = in_child([] {
        for (int i = 0; i < 200; ++i) {
            auto span = test_tracer().span("handed over", {{"i", i}});
            std::thread([moved = std::move(span)]() mutable {
                moved.set("there", true);
                moved.end();
            }).join();
        }
        auto grown = test_tracer().span("grown elsewhere");
        std::thread([&] {
            grown.set("text", std::string(3000, 'x'));
            grown.end();
        }).join();
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 201);
    CHECK(rings.segments.size() == 1);  // Slots and lanes were used again.
    for (const ReadSpan& span : rings.spans) {
        if (span.name == "handed over") CHECK(span.at("there") == "true");
    }
    CHECK(rings.span("grown elsewhere").at("text").size() == 3002);
}

TEST_CASE("an unsampled span has a valid context that says so, and its children follow") {
    const Rings rings = in_child(
        [] {
            auto parent = test_tracer().scope("unsampled");
            EXPECT(!parent.recording());
            EXPECT(parent.context().valid());
            EXPECT(!parent.context().sampled());
            EXPECT(parent.context().flags() == 2);
            auto child = test_tracer().span("child");
            EXPECT(!child.recording());
            EXPECT(child.context().trace_id_hex() == parent.context().trace_id_hex());
            EXPECT(child.context().span_id_hex() != parent.context().span_id_hex());
            const SpanContext remote(some_trace, some_span, 1, true);
            (void)test_tracer().span("sampled by its parent", oteld::parent(remote));
        },
        {{"OTEL_TRACES_SAMPLER", "parentbased_always_off"}});
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.unsampled == 2);
}

TEST_CASE("threads record into lanes of their own") {
    constexpr int threads = 9;
    constexpr int spans_each = 200;
    const Rings rings = in_child([] {
        std::vector<std::thread> all;
        all.reserve(threads);
        std::atomic<int> waiting{0};
        for (int t = 0; t < threads; ++t) {
            all.emplace_back([&, t] {
                for (int i = 0; i < spans_each; ++i) {
                    (void)test_tracer().span("s", {{"thread", t}, {"i", i}});
                    if (i == 0) {
                        ++waiting;
                        while (waiting < threads) std::this_thread::yield();
                    }
                }
            });
        }
        for (std::thread& thread : all) thread.join();
    });
    check_balance(rings);
    CHECK(rings.spans.size() == threads * spans_each);
    std::map<std::string, std::pair<std::string, std::uint32_t>> lane_of;
    std::map<std::string, int> next;
    for (const ReadSpan& span : rings.spans) {
        const auto lane = std::make_pair(span.file, span.lane);
        const auto [known, fresh] = lane_of.emplace(span.at("thread"), lane);
        CHECK(known->second == lane);
        CHECK(span.at("i") == std::to_string(next[span.at("thread")]++));
    }
    CHECK(lane_of.size() == threads);
    CHECK(rings.segments.size() > 1);
}

}  // namespace oteld::test
