// Spans that are open: in slots, in banks of slots, on the heap; what a crash leaves readable.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <sys/wait.h>

#include <csignal>
#include <set>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

}  // namespace

TEST_CASE("a killed process leaves its open spans with what they had, and its finished ones") {
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [] {
        auto outer = test_tracer().scope("outer", {{"a", 1}}, server);
        (void)test_tracer().span("done");
        auto inner = test_tracer().span("inner");
        inner.set("text", std::string(100, 't')).event("e", {{"k", "v"}}).error("not yet");
        inner.set("last", true);
        auto medium = test_tracer().span("medium");
        medium.set("text", std::string(3000, 'm'));
        auto large = test_tracer().span("large");
        large.set("text", std::string(10000, 'l'));
        raise(SIGKILL);
    });
    CHECK(WIFSIGNALED(child.status));
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    REQUIRE(rings.open.size() == 4);
    for (const ReadSpan& span : rings.open) {
        if (span.name == "outer") {
            CHECK(span.kind == 2);
            CHECK(span.at("a") == "1");
        } else if (span.name == "inner") {
            CHECK(span.at("last") == "true");
            CHECK(span.events.size() == 1);
            CHECK(span.status == 2);
        } else {
            CHECK(span.at("text").size() == (span.name == "medium" ? 3002 : 10002));
        }
    }
    CHECK_FALSE(rings.segments.at(0).alive);
}

TEST_CASE(
    "what an open span has dropped is known after a crash, and the next in its slot starts anew") {
    const RingDirectory directory;
    const Child child =
        run_child(directory.path(),
                  [] {
                      const auto drop = [](Span& span) {
                          for (int i = 0; i < 5; ++i) span.set("key " + std::to_string(i), i);
                          for (int i = 0; i < 3; ++i) span.event("e").link(span.context());
                      };
                      auto kept = test_tracer().span("kept");
                      drop(kept);
                      auto moved = test_tracer().span("moved");
                      drop(moved);
                      moved.name(std::string(3000, 'm'));  // To a medium slot.
                      drop(moved);
                      // Slots that such spans have left: at their end, for a larger one, on another
                      // thread.
                      {
                          auto ended = test_tracer().span("ended");
                          drop(ended);
                          auto grown = test_tracer().span("grown");
                          drop(grown);
                          grown.name(std::string(3000, 'g'));
                          auto elsewhere = test_tracer().span("elsewhere");
                          drop(elsewhere);
                          std::thread([&] { elsewhere.end(); }).join();
                      }
                      static std::vector<Span> clean;
                      clean.reserve(60);
                      for (int i = 0; i < 60; ++i) clean.push_back(test_tracer().span("clean"));
                      for (int i = 0; i < 2; ++i)
                          clean[static_cast<std::size_t>(i)].name(std::string(3000, 'c'));
                      raise(SIGKILL);
                  },
                  {{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2"},
                   {"OTEL_SPAN_EVENT_COUNT_LIMIT", "1"},
                   {"OTEL_SPAN_LINK_COUNT_LIMIT", "1"}});
    CHECK(WIFSIGNALED(child.status));
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 3);
    for (const ReadSpan& span : rings.spans) {
        CHECK(span.dropped_attributes == 3);
        CHECK(span.dropped_events == 2);
        CHECK(span.dropped_links == 2);
    }
    CHECK(rings.open.size() == 62);
    for (const ReadSpan& span : rings.open) {
        const bool moved = span.name[0] == 'm';
        const std::uint32_t times = moved ? 2 : span.name == "kept" ? 1 : 0;
        CAPTURE(span.name);
        CHECK(span.dropped_attributes == 3 * times);
        CHECK(span.dropped_events == 2 * times + (moved ? 1 : 0));
        CHECK(span.dropped_links == 2 * times + (moved ? 1 : 0));
    }
}

TEST_CASE("5000 open spans are all visible after a crash") {
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [] {
        std::vector<Span> spans;
        spans.reserve(5000);
        for (int i = 0; i < 5000; ++i) spans.push_back(test_tracer().span("open", {{"i", i}}));
        for (int i = 0; i < 5000; i += 2) spans[static_cast<std::size_t>(i)].set("even", true);
        raise(SIGKILL);
    });
    CHECK(WIFSIGNALED(child.status));
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.open.size() == 5000);
    CHECK(rings.heap_spans == 0);
    std::set<std::string> seen;
    for (const ReadSpan& span : rings.open) {
        seen.insert(span.at("i"));
        CHECK(span.at("even") == (std::stoi(span.at("i")) % 2 == 0 ? "true" : "(none)"));
    }
    CHECK(seen.size() == 5000);
}

TEST_CASE("slots are used again, also when other threads give them back") {
    const Rings rings = in_child([] {
        for (int round = 0; round < 20; ++round) {
            std::vector<Span> spans;
            spans.reserve(500);
            for (int i = 0; i < 500; ++i) spans.push_back(test_tracer().span("s"));
            if (round % 2 == 0) {
                std::thread([&] { spans.clear(); }).join();
            }
        }
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 10000);
    CHECK(rings.heap_spans == 0);
    // One segment of lanes, one of banks, larger lanes for the burst; never one a round.
    CHECK(rings.segments.size() <= 6);
}

TEST_CASE("a thread may end before its spans do") {
    const Rings rings = in_child([] {
        std::vector<Span> spans;
        for (int round = 0; round < 100; ++round) {
            std::thread([&] {
                for (int i = 0; i < 3; ++i)
                    spans.push_back(test_tracer().span("orphan", {{"round", round}}));
            }).join();
            if (round % 10 == 9) {
                for (Span& span : spans) span.set("late", true);
                spans.clear();
            }
        }
        spans.push_back(test_tracer().span("left open"));
        for (Span& span : spans) new Span(std::move(span));
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 300);
    CHECK(rings.open.size() == 1);
    CHECK(rings.segments.size() <= 2);
    for (const ReadSpan& span : rings.spans) CHECK(span.at("late") == "true");
}

TEST_CASE("spans that end in thread-local destructors are recorded and leave no lane behind") {
    const Rings rings = in_child([] {
        struct Late {
            Span span;
            ~Late() { (void)test_tracer().span("in destructor"); }
        };
        for (int i = 0; i < 50; ++i) {
            std::thread([] {
                static thread_local Late
                    late;  // Made before the client's own, so destroyed after it.
                late.span = test_tracer().span("kept");
            }).join();
        }
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 100);
    CHECK(rings.open.empty());
    CHECK(rings.segments.size() <= 2);
}

TEST_CASE(
    "without room for banks, spans live on the heap, and the file system is not asked each time") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        (void)test_tracer().span("first");
        EXPECT(rename(directory.path().c_str(), (directory.path() + ".away").c_str()) == 0);
        {
            std::vector<Span> spans;
            spans.reserve(300);
            for (int i = 0; i < 300; ++i) spans.push_back(test_tracer().span("s", {{"i", i}}));
            for (Span& span : spans) span.set("more", 1);
        }
        EXPECT(rename((directory.path() + ".away").c_str(), directory.path().c_str()) == 0);
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 301);
    CHECK(rings.heap_spans == 300 - 32);
    CHECK(rings.counted(shm::ProcessCounter::not_crash_visible) == rings.heap_spans);
    CHECK(rings.counted(shm::ProcessCounter::heap_closed) == rings.heap_spans);
    CHECK(rings.counted(shm::ProcessCounter::growth_refused) >= 1);
    CHECK(rings.counted(shm::ProcessCounter::growth_refused) <= 3);  // At most about once a second.
}

}  // namespace oteld::test
