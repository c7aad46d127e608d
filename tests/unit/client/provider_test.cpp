// Scope rules, flush and shutdown of providers; the Recorder and the console exporter.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"
#include "oteld/testing.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <thread>

namespace {
// That this thread of the program, with what is linked into it, asked for (--wrap=nanosleep).
thread_local std::chrono::nanoseconds longest_pause{0};
}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names.
extern "C" {
int __real_nanosleep(const timespec* pause, timespec* left);
int __wrap_nanosleep(const timespec* pause, timespec* left) {
    longest_pause = std::max(longest_pause, std::chrono::seconds(pause->tv_sec) +
                                                std::chrono::nanoseconds(pause->tv_nsec));
    return __real_nanosleep(pause, left);
}
}
// NOLINTEND(bugprone-reserved-identifier)

namespace oteld::test {
namespace {

using namespace std::chrono_literals;
using testing::Recorder;

class Flushes : public SpanProcessor {
public:
    void on_start(Span&, const SpanContext&) override { ++starts; }
    void on_end(const ReadableSpan&) override { ++ends; }
    bool force_flush(std::chrono::nanoseconds timeout) override {
        ++flushes;
        left = timeout;
        std::this_thread::sleep_for(takes);
        return answer;
    }
    bool shutdown(std::chrono::nanoseconds timeout) override {
        ++shutdowns;
        left = timeout;
        return answer;
    }
    std::atomic<int> starts{0}, ends{0}, flushes{0}, shutdowns{0};
    std::chrono::nanoseconds left{-1}, takes{0};
    bool answer = true;
};

template <class Function>
std::chrono::nanoseconds duration(Function function) {
    const auto before = std::chrono::steady_clock::now();
    function();
    return std::chrono::steady_clock::now() - before;
}

void shop() {
    static const Tracer tracer = oteld::tracer("shop", "3");
    auto checkout = tracer.scope("checkout", {{"order.id", "A-1"}, {"lines", 2}});
    { auto first = tracer.scope("charge", client); }
    auto second = tracer.scope("ship");
    second.error("no \"van\"");
}

}  // namespace

TEST_CASE("a scope that is off records nothing, counts nothing and passes its parent on") {
    const Rings rings = in_child([] {
        const TracerProvider provider{
            Settings{}.scope("noisy.but.wanted", true).scope("noisy.*", false).scope("off", false)};
        provider.make_global();
        const Tracer on = oteld::tracer("on");
        const Tracer off = oteld::tracer("noisy.lib");
        for (int i = 0; i < 3; ++i) {
            auto outer = on.scope("outer");
            auto between = off.scope("between");
            EXPECT(!between.recording());
            EXPECT(between.context().span_id_hex() == outer.context().span_id_hex());
            auto inner = on.span("inner", {{"parent", outer.context().span_id_hex()}});
        }
        EXPECT(!oteld::tracer("off").span("s").recording());
        EXPECT(!provider.tracer("noisy.").span("s").recording());
        EXPECT(oteld::tracer("off too").span("s").recording());
        EXPECT(oteld::tracer("noisy").span("s").recording());
        EXPECT(oteld::tracer("noisy.but.wanted").span("s").recording());
        const TracerProvider nothing{Settings{}.scope("one", true).scope("*", false)};
        EXPECT(nothing.tracer("one").span("s").recording());
        EXPECT(!nothing.tracer("").span("s").recording());
    });
    check_balance(rings);
    CHECK(rings.begun == 10);
    CHECK(rings.unsampled == 0);
    for (const ReadSpan& span : rings.spans)
        if (span.name == "inner") CHECK(span.at("parent") == "\"" + span.parent_id + "\"");
}

namespace {
std::atomic<int> changes{0};
void count_change() noexcept { ++changes; }
}  // namespace

TEST_CASE("a wrapper is told when another tracer is enabled than before") {
    in_child([] {
        on_enabled_change(count_change);
        on_enabled_change(count_change);
        EXPECT(enabled("noisy"));
        const TracerProvider rules{Settings{}.scope("noisy", false)};
        EXPECT(changes == 0);
        EXPECT(!enabled("noisy", rules.raw()));
        EXPECT(enabled("quiet", rules.raw()));
        EXPECT(enabled("noisy"));
        rules.make_global();
        EXPECT(changes == 1);
        EXPECT(!enabled("noisy"));
        EXPECT(enabled("quiet"));
        rules.shutdown(0ns);
        EXPECT(changes == 2);
        EXPECT(!enabled("quiet"));
        rules.shutdown(0ns);
        EXPECT(changes == 2);
    });
}

TEST_CASE("the global provider is the environment's, the one made so, or what a Recorder hides") {
    const Rings rings = in_child([] {
        EXPECT(!TracerProvider::global());
        oteld::tracer("t").span("s").end();
        EXPECT(TracerProvider::global().has_value());
        const TracerProvider own;
        EXPECT(TracerProvider::global()->raw() != own.raw());
        own.make_global();
        EXPECT(TracerProvider::global()->raw() == own.raw());
        {
            const Recorder recorder;
            TracerProvider::global()->tracer("t").span("recorded").end();
            EXPECT(recorder.spans().size() == 1);
        }
        EXPECT(TracerProvider::global()->raw() == own.raw());
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
}

TEST_CASE("before there is a provider the environment says what is enabled") {
    in_child([] { EXPECT(!enabled("any")); }, {{"OTEL_SDK_DISABLED", "true"}});
}

TEST_CASE("scope rules hold with processors too") {
    run_child("/nonexistent/rings", [] {
        auto memory = std::make_shared<InMemoryExporter>();
        const TracerProvider provider{Settings{}.scope("off", false).processor(memory)};
        EXPECT(!provider.tracer("off").span("s").recording());
        provider.tracer("on").span("s").end();
        EXPECT(memory->spans().size() == 1);
    }).clean();
}

TEST_CASE("a flush asks the processors and waits for the daemon, no longer than it may") {
    const Rings rings = in_child([] {
        auto processor = std::make_shared<Flushes>();
        const TracerProvider provider{Settings{}.processor(processor)};
        EXPECT(provider.force_flush(1h));  // Nothing has been recorded.
        EXPECT(processor->flushes == 1);
        EXPECT(processor->left > 59min && processor->left <= 1h);
        provider.tracer("test").span("s").end();
        // No daemon is there: it waits for as long as it may, and not for less.
        bool flushed = true;
        EXPECT(duration([&] { flushed = provider.force_flush(30ms); }) >= 30ms);
        EXPECT(!flushed);
        EXPECT(!provider.force_flush(0ns));
        EXPECT(!provider.force_flush(-1ns));
        EXPECT(processor->left == 0ns);
        // The processor took it all: nothing is left to wait with.
        processor->takes = 20ms;
        EXPECT(!provider.force_flush(10ms));
        EXPECT(processor->flushes == 5);
    });
    check_balance(rings);
}

TEST_CASE("a short timeout is not rounded up to the pause between two looks") {
    in_child([] {
        const TracerProvider provider;
        provider.tracer("test").span("s").end();
        for (const auto timeout : {std::chrono::nanoseconds(20us), std::chrono::nanoseconds(2ms)}) {
            std::chrono::nanoseconds paused{0};
            // The time may be over before its first look.
            wait_until([&] {
                longest_pause = 0ns;
                EXPECT(duration([&] { EXPECT(!provider.force_flush(timeout)); }) >= timeout);
                paused = longest_pause;
                EXPECT(paused <= timeout);
                return paused > 0ns;
            });
        }
    });
}

TEST_CASE("a flush says what the processors say") {
    run_child("/nonexistent/rings", [] {
        auto good = std::make_shared<Flushes>();
        auto bad = std::make_shared<Flushes>();
        bad->answer = false;
        const TracerProvider provider{Settings{}.processor(bad).processor(good)};
        EXPECT(!provider.force_flush(1s));
        EXPECT(good->flushes == 1);
        EXPECT(!provider.shutdown(1s));
        EXPECT(good->shutdowns == 1);
    }).clean();
}

TEST_CASE("after a shutdown nothing is recorded under the provider, and open spans still arrive") {
    const Rings rings = in_child([] {
        auto processor = std::make_shared<Flushes>();
        const TracerProvider hooked{Settings{}.processor(processor)};
        const TracerProvider plain;
        plain.make_global();
        const Tracer own = hooked.tracer("own");
        const Tracer global = oteld::tracer("global");
        auto open = own.span("open with hooks");
        auto also = global.span("open");
        EXPECT(hooked.shutdown(0ns));  // Nothing has ended: there is nothing to wait for.
        EXPECT(processor->shutdowns == 1);
        plain.shutdown(0ns);
        EXPECT(!own.span("s").recording());
        EXPECT(!hooked.tracer("new").span("s").recording());
        auto outer = global.scope("s", parent(open.context()));
        EXPECT(!outer.recording());
        EXPECT(outer.context().span_id_hex() == open.context().span_id_hex());
        open.set("late", 1).end();
        also.end();
        EXPECT(processor->starts == 1);
        EXPECT(processor->ends == 0);
        EXPECT(!hooked.shutdown(1h));  // Only the first counts; it neither waits nor asks.
        EXPECT(processor->shutdowns == 1);
        EXPECT(!hooked.force_flush(0ns));
        EXPECT(processor->flushes == 0);
        const TracerProvider next;
        next.make_global();
        EXPECT(global.span("under the next").recording());
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 3);
    CHECK(rings.span("open with hooks").at("late") == "1");
}

TEST_CASE("a shutdown in the middle of other threads' spans loses none of them") {
    const Rings rings = in_child([] {
        const TracerProvider provider;
        std::atomic<bool> stop{false};
        std::atomic<int> recorded[4] = {};
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; ++t)
            threads.emplace_back([&, t] {
                const Tracer tracer = provider.tracer("scope " + std::to_string(t));
                for (; !stop; ++recorded[t]) tracer.span("s").end();
            });
        wait_until([&] {
            return std::all_of(recorded, recorded + 4, [](const auto& n) { return n > 100; });
        });
        provider.shutdown(0ns);
        for (int t = 0; t < 4; ++t)
            EXPECT(!provider.tracer("scope " + std::to_string(t)).span("s").recording());
        stop = true;
        for (std::thread& thread : threads) thread.join();
    });
    CHECK(rings.begun == rings.ended + rings.dropped());
}

TEST_CASE("a recorder collects what is recorded while it lives, without a ring directory") {
    run_child("/nonexistent/rings", [] {
        std::string unknown;
        {
            Recorder recorder;
            shop();
            EXPECT(recorder.spans().size() == 3);
            EXPECT(recorder.spans()[0].name == "charge");
            EXPECT(recorder.spans()[2].name == "checkout");
            EXPECT(recorder.find("charge").kind == Kind::client);
            EXPECT(recorder.find("checkout")["order.id"] == "A-1");
            EXPECT(recorder.find("checkout").scope.name == "shop");
            try {
                static_cast<void>(recorder.find("pay"));
            } catch (const std::out_of_range& e) {
                unknown = e.what();
            }
            EXPECT(recorder.tree() ==
                   "checkout  order.id=\"A-1\"  lines=2\n"
                   "  charge\n"
                   "  ship  ERROR \"no \\\"van\\\"\"\n");
            recorder.clear();
            EXPECT(recorder.spans().empty());
            EXPECT(recorder.tree().empty());
        }
        EXPECT(unknown == "no span \"pay\" was recorded; there are: charge, ship, checkout");
        const Recorder again;  // Tracers that are older than it record into it.
        shop();
        EXPECT(again.spans().size() == 3);
    }).clean();
}

TEST_CASE("a recorder gives back what was global, and puts nothing into rings") {
    const Rings rings = in_child([] {
        const Tracer tracer = oteld::tracer("test");
        tracer.span("before").end();
        {
            const Recorder outer;
            auto open = tracer.span("open at the end");
            {
                Recorder inner(Settings{}.service("inner").scope("off", false));
                tracer.span("inner").end();
                EXPECT(!oteld::tracer("off").span("s").recording());
                EXPECT(inner.find("inner").resource.size() > 1);
                EXPECT(detail::find_value(inner.find("inner").resource, "service.name") == "inner");
            }
            tracer.span("outer").end();
            EXPECT(outer.spans().size() == 1);
            EXPECT(outer.spans()[0].name == "outer");
        }
        tracer.span("after").end();
        EXPECT(spans_dropped() == 0);
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
    CHECK(rings.begun == 2);
    CHECK(rings.unsampled == 0);
    CHECK(rings.segments.at(0).resources.size() == 1);
    CHECK(rings.span("after").status == 0);
}

TEST_CASE("a recorder before anything else leaves the environment's provider in place") {
    const Rings rings = in_child([] {
        { const Recorder recorder; }
        oteld::tracer("test").span("after").end();
    });
    check_balance(rings);
    CHECK(rings.span("after").status == 0);
}

TEST_CASE("the console exporter prints a block for each sampled span") {
    std::FILE* file = std::tmpfile();
    REQUIRE(file != nullptr);
    run_child("/nonexistent/rings", [&] {
        const TracerProvider provider{
            Settings{}.service("orders").processor(std::make_shared<ConsoleExporter>(file))};
        const Tracer tracer = provider.tracer("shop", "1.4");
        auto span = tracer.span("checkout", {{"order.id", "A-1"}, {"list", {1, 2}}}, server,
                                start_time(Time(1s)));
        span.event("paid", {{"by", "card"}}, Time(2s)).link(span.context()).error("late");
        span.end(Time(3500ms));
        EXPECT(provider.force_flush(1s));
    }).clean();
    std::rewind(file);
    char text[4096];
    const std::string printed(text, std::fread(text, 1, sizeof text, file));
    std::fclose(file);
    CAPTURE(printed);
    for (const char* part :
         {"span \"checkout\"\n", "  kind        server\n",
          "  start       1970-01-01T00:00:01.000000000Z\n", "  duration    2500.000 ms\n",
          "  status      error: late\n", "  scope       shop 1.4\n", "  service     orders\n",
          "    order.id = A-1\n", "    list = [1,2]\n",
          "  event       1970-01-01T00:00:02.000000000Z paid\n    by = card\n", "  link        "})
        CHECK(printed.find(part) != printed.npos);
    CHECK(printed.find("parent") == printed.npos);
}

}  // namespace oteld::test
