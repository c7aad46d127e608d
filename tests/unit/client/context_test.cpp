// Contexts and baggage as values, the current context, parents, moving and ending spans, threads.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <sys/wait.h>
#include <unistd.h>

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
        EXPECT(!current_span().valid());
        {
            auto outer = tracer.scope("outer");
            EXPECT(same(current_span(), outer.context()));
            {
                auto inner = tracer.scope("inner");
                EXPECT(same(current_span(), inner.context()));
                (void)tracer.span("leaf");
            }
            EXPECT(same(current_span(), outer.context()));
            (void)tracer.span("sibling");
        }
        EXPECT(!current_span().valid());
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
        EXPECT(same(current_span(), outer.context()));
        inner.end();
        EXPECT(same(current_span(), outer.context()));
        auto moved = test_tracer().scope("moved");
        ScopedSpan target = std::move(moved);
        EXPECT(same(current_span(), target.context()));
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
            EXPECT(current_span().remote());
            EXPECT(current_span().trace_state() == "k=v");
            (void)test_tracer().span("served");
        }
        EXPECT(!current_span().valid());
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
        EXPECT(same(current_span(), outer.context()));
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
            EXPECT(same(current_span(), mine.context()));
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

namespace {

struct Tenant {
    std::string name;
};
// Counts those that live: what a context holds is destroyed once.
struct Counted {
    static inline int alive = 0;
    int number = 0;
    explicit Counted(int n) noexcept : number(n) { ++alive; }
    Counted(const Counted& other) noexcept : number(other.number) { ++alive; }
    Counted(Counted&& other) noexcept : number(other.number) { ++alive; }
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --alive; }
};

const ContextKey<Tenant> tenant_key{"tenant"};
const ContextKey<int> number_key{"number"};
const ContextKey<int> other_number_key{"number"};
const ContextKey<Counted> counted_key{"counted"};

int number_in(const Context& context) {
    const int* number = context.get(number_key);
    return number == nullptr ? -1 : *number;
}

}  // namespace

TEST_CASE("a context is a value: span, values of keys, baggage, each changed for itself") {
    const Context empty;
    CHECK(!empty.span().valid());
    CHECK(empty.get(number_key) == nullptr);
    CHECK(empty.baggage().empty());
    const Context one = empty.with(number_key, 1).with(tenant_key, {"a"});
    CHECK(number_in(one) == 1);
    CHECK(one.get(other_number_key) == nullptr);  // The object counts, not its name.
    CHECK(one.get(tenant_key)->name == "a");
    const Context two = one.with(number_key, 2);
    CHECK(number_in(one) == 1);
    CHECK(number_in(two) == 2);
    CHECK(two.get(tenant_key)->name == "a");
    CHECK(number_in(two.without(number_key)) == -1);
    CHECK(two.without(number_key).get(tenant_key)->name == "a");
    CHECK(number_in(two.without(tenant_key)) == 2);
    CHECK(number_in(two.without(other_number_key)) == 2);
    const SpanContext span(some_trace, some_span, 1, true, "k=v");
    const Context whole = two.with_span(span).with_baggage(Baggage().set("k", "v"));
    CHECK(same(whole.span(), span));
    CHECK(whole.span().trace_state() == "k=v");
    CHECK(number_in(whole) == 2);
    CHECK(whole.baggage().get("k") == "v");
    CHECK(whole.with_baggage(Baggage()).baggage().empty());
    CHECK(number_in(whole.with_baggage(Baggage())) == 2);
    CHECK(!whole.with_span(SpanContext()).span().valid());
    CHECK(number_in(empty) == -1);
}

TEST_CASE("what a context holds is destroyed once, with the last context that holds it") {
    {
        Context context;
        for (int i = 0; i < 1000; ++i) context = context.with(counted_key, Counted(i));
        CHECK(Counted::alive == 1);
        CHECK(context.get(counted_key)->number == 999);
        const Context copy = context.with(number_key, 1);  // NOLINT(performance-*)
        Context moved = std::move(context);
        context = moved.without(counted_key);
        CHECK(context.get(counted_key) == nullptr);
        CHECK(Counted::alive == 1);
        moved = Context();
        CHECK(Counted::alive == 1);
        CHECK(copy.get(counted_key)->number == 999);
        // A key in the middle of the list, with others on both sides.
        const Context changed = copy.with(tenant_key, {"a"}).with(counted_key, Counted(7));
        CHECK(Counted::alive == 2);
        CHECK(number_in(changed) == 1);
        CHECK(changed.get(tenant_key)->name == "a");
        CHECK(changed.get(counted_key)->number == 7);
        CHECK(copy.get(counted_key)->number == 999);
    }
    CHECK(Counted::alive == 0);
}

TEST_CASE("baggage: get, set, remove, iterate, metadata") {
    const Baggage empty;
    CHECK(empty.empty());
    CHECK(empty.size() == 0);
    CHECK(empty.begin() == empty.end());
    CHECK(!empty.get("a"));
    CHECK(empty.remove("a").empty());
    const Baggage two = empty.set("a", "1", "p").set("b", "");
    CHECK(two.size() == 2);
    CHECK(two.get("a") == "1");
    CHECK(two.get("b") == "");
    CHECK(two.entry("a")->metadata == "p");
    CHECK(two.entry("b")->metadata == "");
    CHECK(!two.get("c"));
    CHECK(!two.get(""));
    const Baggage changed = two.set("a", "22");
    CHECK(two.get("a") == "1");
    CHECK(changed.get("a") == "22");
    CHECK(changed.entry("a")->metadata == "");
    CHECK(changed.size() == 2);
    CHECK((*changed.begin()).key == "b");
    CHECK(two.set("", "x").size() == 2);
    CHECK(two.remove("b").size() == 1);
    CHECK(two.remove("c").size() == 2);
    CHECK(two.remove("a").remove("b").empty());
    Baggage assigned = two;
    assigned = assigned.set("c", std::string("\0\n", 2)).set("any key", "3");
    CHECK(assigned.get("c") == std::string("\0\n", 2));
    CHECK(assigned.get("any key") == "3");
    assigned = std::move(assigned);  // NOLINT
    CHECK(assigned.size() == 4);
}

TEST_CASE("an attached context brings its values; a span made current keeps those that are") {
    const Rings rings = in_child([] {
        EXPECT(number_in(current()) == -1);
        const SpanContext remote(some_trace, some_span, 1, true, "k=v");
        const Context context =
            Context().with_span(remote).with(number_key, 1).with_baggage(Baggage().set("k", "v"));
        {
            const ContextScope scope = attach(context);
            EXPECT(same(current_span(), remote));
            EXPECT(number_in(current()) == 1);
            {
                const auto span = test_tracer().scope("served");
                EXPECT(same(current().span(), span.context()));
                EXPECT(number_in(current()) == 1);
                EXPECT(current().baggage().get("k") == "v");
                {
                    const ContextScope inner = attach(current().with(number_key, 2));
                    EXPECT(number_in(current()) == 2);
                    EXPECT(same(current_span(), span.context()));
                    const ContextScope other = attach(SpanContext(some_trace, {8}, 1, true));
                    EXPECT(number_in(current()) == 2);
                    {
                        const ContextScope nothing = attach(Context());
                        EXPECT(!current_span().valid());
                        EXPECT(number_in(current()) == -1);
                        EXPECT(current().baggage().empty());
                    }
                    EXPECT(number_in(current()) == 2);
                }
                EXPECT(number_in(current()) == 1);
            }
            EXPECT(same(current_span(), remote));
            EXPECT(number_in(current()) == 1);
        }
        EXPECT(!current_span().valid());
        EXPECT(number_in(current()) == -1);
    });
    check_balance(rings);
    CHECK(rings.span("served").trace_state == "k=v");
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("whatever the order and thread of detaching, values are released once and none is left") {
    enum class How { in_order, out_of_order, elsewhere, twice_elsewhere };
    for (const How how : {How::in_order, How::out_of_order, How::elsewhere, How::twice_elsewhere}) {
        CAPTURE(static_cast<int>(how));
        const Rings rings = in_child([how] {
            {
                auto context = std::make_unique<Context>(Context().with(counted_key, Counted(1)));
                auto first = std::make_unique<ContextScope>(attach(*context));
                context.reset();
                auto span = std::make_unique<ScopedSpan>(test_tracer().scope("s"));
                auto second =
                    std::make_unique<ContextScope>(attach(current().with(counted_key, Counted(2))));
                EXPECT(current().get(counted_key)->number == 2);
                if (how == How::out_of_order) {
                    first.reset();
                    EXPECT(current().get(counted_key) == nullptr);
                    EXPECT(!current_span().valid());
                    span.reset();
                    second.reset();
                } else if (how == How::elsewhere) {
                    std::thread([&] { second.reset(); }).join();
                    EXPECT(current().get(counted_key)->number == 2);
                    span.reset();
                    EXPECT(current().get(counted_key)->number == 1);
                    first.reset();
                } else if (how == How::twice_elsewhere) {
                    std::thread([&] {
                        const auto mine = attach(Context().with(number_key, 3));
                        second.reset();
                        span.reset();
                        EXPECT(number_in(current()) == 3);
                    }).join();
                    first.reset();
                } else {
                    second.reset();
                    span.reset();
                    first.reset();
                }
                EXPECT(current().get(counted_key) == nullptr);
            }
            EXPECT(Counted::alive == 0);
            (void)test_tracer().span("after");
        });
        check_balance(rings);
        CHECK(rings.span("after").parent_id == "");
        CHECK((rings.counted(shm::ProcessCounter::misuses) == 0) == (how == How::in_order));
    }
}

TEST_CASE("contexts go from thread to thread, and the last one to let go destroys") {
    const Rings rings = in_child([] {
        for (int round = 0; round < 50; ++round) {
            const Context context =
                Context().with(tenant_key, {"a name of more than a few characters"});
            std::vector<std::thread> threads;
            for (int i = 0; i < 4; ++i) {
                threads.emplace_back([context, i] {
                    const auto scope = attach(context.with(number_key, i));
                    for (int n = 0; n < 20; ++n) {
                        const auto span = test_tracer().scope("s");
                        EXPECT(number_in(current()) == i);
                        EXPECT(current().get(tenant_key)->name.size() == 36);
                    }
                });
            }
            for (std::thread& thread : threads) thread.join();
        }
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 50 * 4 * 20);
}

TEST_CASE("a fork's child has the context that was current, values and all") {
    const Rings rings = in_child([] {
        const auto scope = attach(Context().with(number_key, 5));
        const auto span = test_tracer().scope("parent");
        const pid_t child = ::fork();
        if (child == 0) {
            EXPECT(number_in(current()) == 5);
            EXPECT(same(current_span(), span.context()));
            ::_exit(0);
        }
        int status = 1;
        EXPECT(::waitpid(child, &status, 0) == child && status == 0);
    });
    check_balance(rings);
}

}  // namespace oteld::test
