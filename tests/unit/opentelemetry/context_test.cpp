// opentelemetry-cpp's current context in ours: who is whose parent, and where it follows.
#include "bridge_fixture.hpp"

#include "oteld/bind.hpp"
#include "oteld/context_stack.hpp"
#include "oteld/opentelemetry_context.hpp"

#include <opentelemetry/baggage/baggage.h>
#include <opentelemetry/baggage/baggage_context.h>

#include <map>
#include <memory>
#include <string>
#include <thread>

namespace oteld::test {
namespace {

using otel::context::RuntimeContext;

Rings in_joined_child(const std::function<void()>& body) {
    return in_bridged_child([&] {
        RuntimeContext::SetRuntimeContextStorage(opentelemetry_context_storage());
        body();
    });
}

otrace::SpanContext their_current() { return otrace::Tracer::GetCurrentSpan()->GetContext(); }

}  // namespace

TEST_CASE("spans of either API are children of the other's, in any order") {
    const Rings rings = in_joined_child([] {
        const Tracer ours = tracer("ours");
        const auto theirs = their_tracer();
        EXPECT(!their_current().IsValid());
        {
            const SpanPointer a = theirs->StartSpan("a");
            const otrace::Scope scope_a(a);
            EXPECT(same(their_current(), current_span()));
            EXPECT(their_current() == a->GetContext());
            const auto b = ours.scope("b");
            EXPECT(same(their_current(), b.context()));
            {
                const SpanPointer c = theirs->StartSpan("c");
                const otrace::Scope scope_c(c);
                EXPECT(same(their_current(), current_span()));
                const auto d = ours.scope("d");
                theirs->StartSpan("e");
            }
            EXPECT(same(their_current(), b.context()));
            EXPECT(same(their_current(), current_span()));
            theirs->StartSpan("f");
        }
        EXPECT(!their_current().IsValid());
        EXPECT(!current_span().valid());
        theirs->StartSpan("root");
    });
    check_balance(rings);
    const char* const chain[] = {"a", "b", "c", "d", "e"};
    CHECK(rings.span("a").parent_id == "");
    for (int i = 1; i < 5; ++i)
        CHECK(rings.span(chain[i]).parent_id == rings.span(chain[i - 1]).span_id);
    CHECK(rings.span("f").parent_id == rings.span("b").span_id);
    CHECK(rings.span("root").parent_id == "");
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("the active span is the very object, and values of a context stay beneath our spans") {
    const Rings rings = in_joined_child([] {
        const SpanPointer span = their_tracer()->StartSpan("a");
        const otrace::Scope scope(span);
        EXPECT(otrace::Tracer::GetCurrentSpan().get() == span.get());
        otel::context::Context now = RuntimeContext::GetCurrent();
        EXPECT(now == RuntimeContext::GetCurrent());
        const auto token = RuntimeContext::Attach(now.SetValue("key", std::int64_t{7}));
        const auto seven = [] {
            const auto value = RuntimeContext::GetValue("key");
            const auto* number = nostd::get_if<std::int64_t>(&value);
            return number != nullptr && *number == 7;
        };
        EXPECT(seven());
        EXPECT(otrace::Tracer::GetCurrentSpan().get() == span.get());
        const auto ours = tracer("ours").scope("b");
        EXPECT(seven());
        EXPECT(same(their_current(), ours.context()));
    });
    check_balance(rings);
}

TEST_CASE("a context without a span, and a remote one of ours with its trace state") {
    const Rings rings = in_joined_child([] {
        const auto a = tracer("ours").scope("a");
        {
            const auto token = RuntimeContext::Attach(otel::context::Context());
            EXPECT(!current_span().valid());
            EXPECT(!their_current().IsValid());
            their_tracer()->StartSpan("root");
        }
        EXPECT(same(their_current(), a.context()));
        const auto attached = attach(SpanContext(some_trace, some_span, 1, true, "k=v"));
        EXPECT(their_current().IsRemote());
        EXPECT(their_current().trace_state()->ToHeader() == "k=v");
        their_tracer()->StartSpan("served");
    });
    check_balance(rings);
    CHECK(rings.span("root").parent_id == "");
    CHECK(rings.span("served").parent_id == "0405000000000000");
    CHECK(rings.span("served").trace_state == "k=v");
    CHECK(rings.span("served").flags == 0x301);
}

namespace {

using TheirBaggage = nostd::shared_ptr<otel::baggage::Baggage>;

TheirBaggage their_baggage() { return otel::baggage::GetBaggage(RuntimeContext::GetCurrent()); }
std::string theirs_of(const char* key) {
    std::string value;
    return their_baggage()->GetValue(key, value) ? value : "none";
}
std::string ours_of(const char* key) {
    const Baggage baggage = current().baggage();
    return std::string(baggage.get(key).value_or("none"));
}
nostd::unique_ptr<otel::context::Token> attach_theirs(const TheirBaggage& baggage) {
    otel::context::Context now = RuntimeContext::GetCurrent();
    return RuntimeContext::Attach(otel::baggage::SetBaggage(now, baggage));
}

}  // namespace

TEST_CASE("baggage that one API makes current is the other's, and is sent") {
    in_joined_child([] {
        EXPECT(theirs_of("a") == "none");
        {
            const auto token = attach_theirs(their_baggage()->Set("a", "x y"));
            EXPECT(ours_of("a") == "x y");
            std::map<std::string, std::string> headers;
            inject(headers);
            EXPECT(headers["baggage"] == "a=x%20y");
            const auto ours = attach(current().with_baggage(current().baggage().set("b", "2")));
            EXPECT(theirs_of("a") == "x y");
            EXPECT(theirs_of("b") == "2");
            EXPECT(their_baggage()->ToHeader() == "a=x+y,b=2");
            {
                const auto third = attach_theirs(their_baggage()->Set("c", "3"));
                EXPECT(current().baggage().size() == 3);
                EXPECT(ours_of("b") == "2");
            }
            EXPECT(ours_of("c") == "none");
            {
                const auto without = attach(current().with_baggage({}));
                EXPECT(theirs_of("a") == "none");
            }
            EXPECT(theirs_of("b") == "2");
        }
        EXPECT(current().baggage().empty());
        EXPECT(theirs_of("a") == "none");
        const auto served = attach(extract(std::map<std::string, std::string>{{"baggage", "k=v"}}));
        EXPECT(theirs_of("k") == "v");
    });
}

TEST_CASE("baggage stays beneath spans of either API, and goes where the context goes") {
    const Rings rings = in_joined_child([] {
        const auto token = attach_theirs(their_baggage()->Set("a", "1"));
        const TheirBaggage same = their_baggage();
        const Baggage converted = current().baggage();
        const auto b = tracer("ours").scope("b");
        EXPECT(their_baggage().get() == same.get());
        const otrace::Scope c(their_tracer()->StartSpan("c"));
        EXPECT(their_baggage().get() == same.get());
        EXPECT(current().baggage().raw() == converted.raw());
        std::thread(bind([] {
            EXPECT(theirs_of("a") == "1");
            EXPECT(ours_of("a") == "1");
        })).join();
    });
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("baggage of ours is the same one beneath a scope of theirs, semicolons and all") {
    in_joined_child([] {
        const auto ours = attach(
            current().with_baggage(Baggage().set("a", "1;2").set("b", "3", "p").set("c", "")));
        const Baggage before = current().baggage();
        const otrace::Scope scope(their_tracer()->StartSpan("s"));
        EXPECT(current().baggage().raw() == before.raw());
        EXPECT(theirs_of("b") == "3;p");
        for (const auto& [key, value] :
             {std::pair("a", "1"), std::pair("b", "3"), std::pair("d", "")}) {
            const auto other = attach_theirs(their_baggage()->Set(key, value));
            EXPECT(current().baggage().raw() != before.raw());
            EXPECT(ours_of(key) == value);
        }
        const auto fewer = attach_theirs(their_baggage()->Delete("c"));
        EXPECT(current().baggage().size() == 2);
    });
}

TEST_CASE("a context of theirs without baggage has none here either, as long as it is current") {
    in_joined_child([] {
        static const ContextKey<int> key{"key"};
        const auto ours = attach(current().with_baggage(Baggage().set("ours", "1")).with(key, 7));
        {
            const auto token = RuntimeContext::Attach(otel::context::Context());
            EXPECT(ours_of("ours") == "none");
            EXPECT(theirs_of("ours") == "none");
            EXPECT(current().get(key) != nullptr);
            const auto empty = attach_theirs(TheirBaggage());
            EXPECT(ours_of("ours") == "none");
        }
        EXPECT(ours_of("ours") == "1");
        EXPECT(theirs_of("ours") == "1");
    });
}

TEST_CASE("baggage is the same on either side, its metadata too") {
    const Baggage ours = Baggage().set("a", "1", "p;q=2").set("b", "").set("c", "\xC3\xA9");
    const TheirBaggage theirs = to_opentelemetry(ours);
    std::string value;
    CHECK(theirs->GetValue("a", value));
    CHECK(value == "1;p;q=2");
    CHECK(theirs->ToHeader() == "a=1;p;q=2,b=,c=%C3%A9");
    const Baggage back = from_opentelemetry(*theirs);
    REQUIRE(back.size() == 3);
    CHECK(back.entry("a")->value == "1");
    CHECK(back.entry("a")->metadata == "p;q=2");
    CHECK(back.get("b") == "");
    CHECK(back.get("c") == "\xC3\xA9");
    CHECK(from_opentelemetry(*to_opentelemetry(Baggage())).empty());
    const auto doubtful = std::map<std::string, std::string>{{"", "no key"}};
    CHECK(from_opentelemetry(otel::baggage::Baggage(doubtful)).empty());
}

TEST_CASE("a token is detached once, by hand or at its end") {
    const Rings rings = in_joined_child([] {
        const SpanPointer span = their_tracer()->StartSpan("a");
        auto token = RuntimeContext::Attach(otel::context::Context("active_span", span));
        EXPECT(their_current().IsValid());
        EXPECT(RuntimeContext::Detach(*token));
        EXPECT(!their_current().IsValid());
        EXPECT(!RuntimeContext::Detach(*token));
        const auto outer = tracer("ours").scope("outer");
        token.reset();
        EXPECT(same(their_current(), outer.context()));
    });
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("detached out of order: counted, and the rest goes with it; on another thread: nothing") {
    const Rings rings = in_joined_child([] {
        const auto outer = tracer("ours").scope("outer");
        auto first = std::make_unique<otrace::Scope>(their_tracer()->StartSpan("first"));
        auto second = std::make_unique<otrace::Scope>(their_tracer()->StartSpan("second"));
        first.reset();
        EXPECT(same(their_current(), outer.context()));
        second.reset();
        EXPECT(same(their_current(), outer.context()));
        auto third = std::make_unique<otrace::Scope>(their_tracer()->StartSpan("third"));
        std::thread([&] {
            const otrace::Scope mine(their_tracer()->StartSpan("mine"));
            third.reset();
            EXPECT(same(their_current(), current_span()));
            EXPECT(their_current().IsValid());
        }).join();
    });
    check_balance(rings);
    CHECK(rings.span("mine").parent_id == "");
    // The first one, and the outer one, which ends with the third above it.
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 2);
}

TEST_CASE("under a copy of a context on another thread nothing beneath it can be detached") {
    const Rings rings = in_joined_child([] {
        const auto in_context = [](const char* name) {
            return RuntimeContext::Attach(
                otel::context::Context("active_span", their_tracer()->StartSpan(name)));
        };
        auto first = in_context("first");
        auto second = in_context("second");
        std::thread(bind([&] { EXPECT(!RuntimeContext::Detach(*first)); })).join();
        second.reset();
        EXPECT(their_current().IsValid());
        first.reset();
        EXPECT(!their_current().IsValid());
    });
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("their context goes where ours goes: bound functions, and stacks that change threads") {
    const Rings rings = in_joined_child([] {
        const auto theirs = their_tracer();
        const SpanPointer span = theirs->StartSpan("a");
        std::unique_ptr<ContextStack> stack;
        {
            const otrace::Scope scope(span);
            std::thread(bind([&] {
                EXPECT(otrace::Tracer::GetCurrentSpan().get() == span.get());
                theirs->StartSpan("on a thread");
            })).join();
            std::thread([&] { theirs->StartSpan("not bound"); }).join();
            stack = std::make_unique<ContextStack>();
        }
        std::unique_ptr<otrace::Scope> kept;
        {
            const StackScope on(*stack);
            theirs->StartSpan("on a stack");
            kept = std::make_unique<otrace::Scope>(theirs->StartSpan("b"));
        }
        EXPECT(!their_current().IsValid());
        std::thread([&] {
            const StackScope on(*stack);
            theirs->StartSpan("elsewhere");
            kept.reset();
            EXPECT(otrace::Tracer::GetCurrentSpan().get() == span.get());
        }).join();
    });
    check_balance(rings);
    CHECK(rings.span("on a thread").parent_id == rings.span("a").span_id);
    CHECK(rings.span("not bound").parent_id == "");
    CHECK(rings.span("on a stack").parent_id == rings.span("a").span_id);
    CHECK(rings.span("elsewhere").parent_id == rings.span("b").span_id);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

}  // namespace oteld::test
