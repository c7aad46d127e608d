// Processors of a program's own, and what spans are that hooks see.
#include "hooks_fixture.hpp"

#include <sys/stat.h>

#include <filesystem>

namespace oteld::test {

TEST_CASE("processors see spans start, about to end, and ended, in their order") {
    const Rings rings = in_child([] {
        auto first = std::make_shared<Notes>();
        auto second = std::make_shared<Notes>();
        const TracerProvider provider{Settings{}.processor(first).processor(second)};
        {
            auto outer = provider.tracer("test", "1").scope("a");
            auto inner = provider.tracer("test", "1").span("b");
        }
        const std::string id = first->spans.at(1).context.span_id_hex();
        const std::vector<std::string> expected = {"start a",  "start b below " + id,
                                                   "ending b", "end renamed renamed b",
                                                   "ending a", "end renamed renamed a"};
        EXPECT(first->calls == expected);
        EXPECT(second->calls.at(2) == "ending renamed b");
        EXPECT(second->spans.size() == 2);
    });
    check_balance(rings);
    CHECK(rings.span("renamed renamed b").parent_id == rings.span("renamed renamed a").span_id);
}

TEST_CASE("what a processor reads is what the span holds") {
    const Rings rings = in_child([] {
        auto memory = std::make_shared<InMemoryExporter>();
        const TracerProvider provider{
            Settings{}.service("shop", "2").resource("k", "v").processor(memory)};
        const auto before = std::chrono::system_clock::now();
        {
            auto span = provider.tracer("lib", "1.2", "https://example.org/s", {{"of.scope", 5}})
                            .span("all", {{"bool", true}, {"list", {1, 2}}}, client,
                                  parent(remote(3, "s=1")), link_to(remote(1), {{"l", 1}}));
            span.set("int", 1).set("int", -7).set("real", 0.5).set("text", "words");
            span.set("raw", bytes{"\x01\xff", 2}).set("map", {{"in", {{"deep", "x"}}}});
            span.event("early", {{"e", 1.5}}, Time(10s)).event("now").set("", 1);
            span.status(Status::error, "why");
        }
        const auto after = std::chrono::system_clock::now();
        EXPECT(memory->spans().size() == 1);
        const RecordedSpan span = memory->spans()[0];
        EXPECT(span.name == "all");
        EXPECT(span.context.trace_id_hex() == remote(1).trace_id_hex());
        EXPECT(span.context.trace_state() == "s=1");
        EXPECT(span.context.flags() == 3);
        EXPECT(span.parent.span_id_hex() == remote(1).span_id_hex());
        EXPECT(span.parent.remote());
        EXPECT(span.kind == Kind::client);
        // The clocks of the two are read one after the other.
        EXPECT(span.start > before - 1ms && span.start <= span.end && span.end < after + 1ms);
        EXPECT(span.status == Status::error && span.status_description == "why");
        EXPECT(span["bool"] == true);
        EXPECT((span["list"] == RecordedValue::Array{1, 2}));
        EXPECT(span["int"] == -7);
        EXPECT(span.attributes.size() == 7);
        EXPECT(span["real"] == 0.5);
        EXPECT(span["text"] == "words");
        EXPECT((span["raw"] == RecordedValue::Bytes{1, 255}));
        EXPECT(span["map"].text() == R"({"in":{"deep":"x"}})");
        EXPECT(span["none"].none());
        EXPECT(span.dropped_attributes == 1);
        EXPECT(span.events.size() == 2);
        EXPECT(span.events[0].name == "early" && span.events[0].time == Time(10s));
        EXPECT(span.events[0]["e"] == 1.5);
        EXPECT(span.events[1].time >= span.start && span.events[1].time <= span.end);
        EXPECT(span.links.size() == 1);
        EXPECT(span.links[0].context.span_id_hex() == remote(1).span_id_hex());
        EXPECT(span.links[0].attributes[0].value == 1);
        EXPECT(span.scope.name == "lib" && span.scope.version == "1.2");
        EXPECT(span.scope.schema_url == "https://example.org/s");
        EXPECT(span.scope.attributes[0].key == "of.scope");
        EXPECT(detail::find_value(span.resource, "service.name") == "shop");
        EXPECT(detail::find_value(span.resource, "k") == "v");
    });
    check_balance(rings);
    CHECK(rings.span("all").at("int") == "-7");
    CHECK(rings.span("all").dropped_attributes == 1);
}

TEST_CASE("what hooks throw is counted and goes no further") {
    const RingDirectory directory;
    const Child child = run_child(directory.path(), [] {
        const TracerProvider provider{Settings{}
                                          .sampler(std::make_shared<OwnSampler>())
                                          .processor(std::make_shared<Throwing>())};
        errno = 5;
        {
            auto span = provider.tracer("test").span("fine");
            EXPECT(span.recording());
        }
        EXPECT(errno == 5);
        EXPECT(hook_failures() == 3);
        EXPECT(!provider.tracer("test").span("throws").recording());
        EXPECT(!provider.force_flush(0ns));
        EXPECT(hook_failures() == 5);
    });
    child.clean();
    CHECK(child.said("on_start() failed: start"));
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.span("fine").status == 0);
    CHECK(rings.unsampled == 1);
    CHECK(rings.counted(shm::ProcessCounter::hook_failures) == 5);
}

TEST_CASE("a processor that records is not called for its own spans") {
    const Rings rings = in_child([] {
        auto processor = std::make_shared<Recording>();
        auto memory = std::make_shared<InMemoryExporter>();
        const TracerProvider provider{Settings{}.processor(processor).processor(memory)};
        const TracerProvider other{Settings{}.processor(memory)};
        processor->own = provider.tracer("own");
        processor->other = other.tracer("other");
        provider.tracer("test").span("work").end();
        EXPECT(processor->calls == 2);
        EXPECT(memory->spans().size() == 3);  // "beside" twice, "work".
    });
    check_balance(rings);
    CHECK(rings.begun == 5);
    CHECK(has(rings, "in on_start"));
    CHECK(has(rings, "in on_end"));
    CHECK(has(rings, "work"));
}

TEST_CASE("hooks see spans without a ring directory, and nothing is lost by that") {
    run_child("/nonexistent/rings", [] {
        auto sampler = std::make_shared<OwnSampler>();
        auto memory = std::make_shared<InMemoryExporter>();
        const TracerProvider provider{Settings{}.sampler(sampler).processor(memory)};
        const Tracer tracer = provider.tracer("test");
        {
            auto outer = tracer.scope("outer");
            EXPECT(outer.recording());
            EXPECT(outer.context().sampled());
            auto inner = tracer.span("inner", {{"a", 1}});
            for (int i = 0; i < 100; ++i)
                inner.set("key " + std::to_string(i), std::string(1000, 'x'));
            auto moved = std::move(inner);
            EXPECT(!tracer.span("dropped", {{"decide", "drop"}}).recording());
        }
        const std::vector<RecordedSpan> spans = memory->spans();
        EXPECT(spans.size() == 2);
        EXPECT(spans[0].name == "inner" && spans[0].attributes.size() == 103);
        EXPECT(spans[0].parent.span_id_hex() == spans[1].context.span_id_hex());
        EXPECT(spans_dropped() == 0);
        EXPECT(provider.force_flush(0ns));
        // Beside it, spans of a provider without hooks are as before.
        EXPECT(!oteld::tracer("global").span("nowhere").recording());
    }).clean();
}

TEST_CASE("a span with hooks that starts before there is a ring reaches its processors alone") {
    const RingDirectory outer;
    const std::string path = outer.path() + "/later";
    run_child(path, [&] {
        auto memory = std::make_shared<InMemoryExporter>();
        const TracerProvider provider{Settings{}.processor(memory)};
        const Tracer tracer = provider.tracer("test");
        auto early = tracer.span("early");
        EXPECT(::mkdir(path.c_str(), 0700) == 0);
        // Looked for once a second, by the start of a span. The one that finds it is in it.
        std::size_t probes = 0;
        wait_until([&] {
            tracer.span("probe").end();
            ++probes;
            return !std::filesystem::is_empty(path);
        });
        early.end();
        tracer.span("late").end();
        EXPECT(memory->spans().size() == probes + 2);
        EXPECT(spans_dropped() == 0);
    }).clean();
    const Rings rings = read_rings(path);
    check_balance(rings);
    CHECK(rings.begun == 2);
    CHECK(has(rings, "probe"));
    CHECK(has(rings, "late"));
}

TEST_CASE("a provider with hooks costs its own spans only, and providers change places") {
    const Rings rings = in_child([] {
        const Tracer tracer = oteld::tracer("test");
        tracer.span("before").end();
        auto notes = std::make_shared<Notes>();
        const TracerProvider hooked{Settings{}.service("hooked").processor(notes)};
        const TracerProvider plain{Settings{}.service("plain")};
        hooked.make_global();
        auto across = tracer.span("across");
        plain.make_global();
        tracer.span("plain").end();
        across.end();  // To the processor that saw it start.
        EXPECT(notes->calls.size() == 3);
        hooked.make_global();
        tracer.span("again").end();
        EXPECT(notes->calls.size() == 6);
        EXPECT(detail::find_value(notes->spans[1].resource, "service.name") == "hooked");
    });
    check_balance(rings);
    CHECK(rings.resource_of(rings.span("plain")).at("service.name") == "\"plain\"");
    CHECK(rings.resource_of(rings.span("renamed across")).at("service.name") == "\"hooked\"");
    CHECK(rings.resource_of(rings.span("renamed again")).at("service.name") == "\"hooked\"");
    CHECK(rings.resource_of(rings.span("before")).at("service.name").find("unknown") !=
          std::string::npos);
}

TEST_CASE("hooks see spans of the C interface, and spans that end on another thread") {
    const Rings rings = in_child([] {
        auto notes = std::make_shared<Notes>();
        const TracerProvider provider{
            Settings{}.sampler(std::make_shared<OwnSampler>()).processor(notes)};
        provider.make_global();
        const oteld_tracer c = oteld_get_tracer(OTELD_STR("c"), OTELD_STR(""), OTELD_STR(""));
        const oteld_attribute drop = {OTELD_STR("decide"), {OTELD_STRING, {}}};
        oteld_attribute attributes[] = {drop};
        attributes[0].value.as.string = OTELD_STR("drop");
        oteld_start options{};
        options.attributes = attributes, options.attribute_count = 1;
        oteld_span dropped{}, span{};
        oteld_span_start(&dropped, c, OTELD_STR("dropped"), &options);
        EXPECT(!oteld_span_recording(&dropped));
        oteld_span_end(&dropped, 0);
        oteld_span_start(&span, c, OTELD_STR("c span"), nullptr);
        EXPECT(oteld_span_recording(&span));
        EXPECT((oteld_span_context(&span).flags & 1) == 1);
        oteld_span_end(&span, 0);
        auto wandering = oteld::tracer("test").span("wandering");
        std::thread([&] { wandering.set("there", 1).end(); }).join();
        EXPECT(notes->spans.size() == 2);
        EXPECT(notes->spans[1]["there"] == 1);
    });
    check_balance(rings);
    CHECK(rings.span("renamed c span").status == 0);
    CHECK(rings.span("renamed wandering").at("there") == "1");
    CHECK(rings.unsampled == 1);
}

TEST_CASE("a sampled span that finds no lane is seen by its processors, and counted as dropped") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        auto memory = std::make_shared<InMemoryExporter>();
        const TracerProvider provider{Settings{}
                                          .lanes(1)
                                          .growth(false)
                                          .sampler(std::make_shared<OwnSampler>())
                                          .processor(memory)};
        const Tracer tracer = provider.tracer("test");
        tracer.span("here").end();
        std::thread([&] {
            tracer.span("there").end();
            EXPECT(!tracer.span("dropped", {{"decide", "drop"}}).recording());
            EXPECT(tracer.span("only", {{"decide", "only"}}).recording());
        }).join();
        EXPECT(memory->spans().size() == 2);
        EXPECT(spans_without_lane() == 1);
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.begun == 2);
}

TEST_CASE("a library of before there were hooks publishes its start itself") {
    const Rings rings = in_child([] {
        auto notes = std::make_shared<Notes>();
        const TracerProvider provider{
            Settings{}.sampler(std::make_shared<OwnSampler>()).processor(notes)};
        const abi::Table& table = *abi::client();
        const abi::ScopeInfo info{"old", 3, "", 0, "", 0, nullptr, 0, nullptr};
        provider.make_global();
        const void* scope = table.scope(&info);
        for (const char* decide : {"keep", "drop"}) {
            abi::Span span;
            std::uint8_t* at = table.start(&span, scope, nullptr, 0, 0);
            abi::publish(span, detail::put_name(span, at, "old"));
            detail::set_one(span, "decide", decide);
            table.end(&span, 0);
            EXPECT(span.record == nullptr);
        }
        EXPECT(notes->spans.size() == 1);
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.unsampled == 1);
}

TEST_CASE("a span with hooks that a handler ends inside the client is dropped and counted") {
    const Rings rings = in_child([] {
        static Span held[2048];
        static std::atomic<int> next{0};
        const TracerProvider provider{Settings{}.sampler(std::make_shared<OwnSampler>())};
        const Tracer hooked = provider.tracer("hooked");
        for (int i = 0; i < 2048; ++i)
            held[i] = hooked.span("held", {{"decide", i % 2 == 0 ? "only" : "keep"}});
        struct sigaction action {};
        action.sa_handler = [](int) {
            const int i = next.fetch_add(1);
            if (i < 2048) held[i].end();
        };
        EXPECT(sigaction(SIGALRM, &action, nullptr) == 0);
        const itimerval storm{{0, 20}, {0, 20}};
        EXPECT(setitimer(ITIMER_REAL, &storm, nullptr) == 0);
        const Tracer plain = oteld::tracer("plain");
        while (next < 2048) (void)plain.span("s");
        const itimerval calm{};
        EXPECT(setitimer(ITIMER_REAL, &calm, nullptr) == 0);
        (void)plain.span("after");
    });
    CHECK(rings.malformed == 0);
    CHECK(rings.unsampled == 1024);
    CHECK(rings.open.empty());
    CHECK(rings.begun == rings.ended + rings.dropped());
}

TEST_CASE("a hook may end the span that starts, and fork") {
    class Ending : public SpanProcessor {
    public:
        void on_start(Span& span, const SpanContext&) override {
            if (ReadableSpan(span).name() == "over") span.end();
        }
        void on_end(const ReadableSpan& span) override { ends += span.name() == "over" ? 10 : 1; }
        int ends = 0;
    };
    const Rings rings = in_child([] {
        auto ending = std::make_shared<Ending>();
        const TracerProvider provider{Settings{}.processor(ending)};
        auto over = provider.tracer("test").span("over");
        EXPECT(!over.recording());
        auto inherited = provider.tracer("test").span("inherited");
        const pid_t pid = ::fork();
        if (pid == 0) {
            EXPECT(!inherited.recording());
            inherited.end();
            provider.tracer("test").span("of the child").end();
            ::_exit(ending->ends == 1 ? 0 : 1);
        }
        int status = 0;
        EXPECT(::waitpid(pid, &status, 0) == pid && status == 0);
        inherited.end();
        EXPECT(ending->ends == 1);
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 3);
    CHECK(has(rings, "over"));
    CHECK(has(rings, "of the child"));
}

TEST_CASE("many threads under one provider with hooks, counted to the span") {
    constexpr int threads = 8;
    constexpr int each = 500;
    const Rings rings = in_child([] {
        auto memory = std::make_shared<InMemoryExporter>();
        const TracerProvider provider{
            Settings{}.sampler(std::make_shared<OwnSampler>()).processor(memory)};
        const Tracer tracer = provider.tracer("test");
        std::vector<std::thread> running;
        for (int t = 0; t < threads; ++t)
            running.emplace_back([&] {
                for (int i = 0; i < each; ++i) {
                    const char* decide = i % 3 == 0 ? "drop" : i % 3 == 1 ? "only" : "keep";
                    auto span = tracer.scope("s", {{"decide", decide}});
                }
            });
        for (std::thread& one : running) one.join();
        EXPECT(memory->spans().size() == std::size_t{threads} * (each / 3));
    });
    check_balance(rings);
    CHECK(rings.begun == threads * (each / 3));
    CHECK(rings.unsampled == threads * (each - each / 3));
    CHECK(rings.heap_spans == 0);
}

}  // namespace oteld::test
