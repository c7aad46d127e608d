// Samplers and id generators, built-in ones and a program's own.
#include "hooks_fixture.hpp"

namespace oteld::test {

TEST_CASE("an own sampler drops, records only, or samples, by what the span starts with") {
    const Rings rings = in_child([] {
        auto sampler = std::make_shared<OwnSampler>();
        auto notes = std::make_shared<Notes>();
        const TracerProvider provider{Settings{}.sampler(sampler).processor(notes)};
        const Tracer tracer = provider.tracer("test");
        {
            auto dropped = tracer.span("dropped", {{"decide", "drop"}});
            EXPECT(!dropped.recording());
            EXPECT(dropped.context().valid());
            EXPECT(!dropped.context().sampled());
            auto only = tracer.span("only", {{"decide", "only"}});
            EXPECT(only.recording());
            EXPECT(!only.context().sampled());
            only.set("more", std::string(2000, 'x')).event("e").error("described");
            auto kept = tracer.span("kept", {{"a", 1}}, server, parent(only.context()));
            EXPECT(kept.recording());
            EXPECT(kept.context().sampled());
        }
        EXPECT(sampler->calls == 3);
        EXPECT(notes->spans.size() == 2);
        EXPECT(notes->spans[0].name == "renamed kept");
        EXPECT(notes->spans[0]["sampler.kind"] == 2);
        EXPECT(notes->spans[0]["a"] == 1);
        EXPECT(notes->spans[0]["sampler.parent"] == notes->spans[1].context.span_id_hex());
        EXPECT(notes->spans[1].name == "renamed only");
        EXPECT(notes->spans[1]["more"].text().size() == 2000);
        EXPECT(notes->spans[1].events.size() == 1);
        EXPECT(notes->spans[1].status_description == "described");
        EXPECT(!notes->spans[1].sampled());
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.begun == 1);
    CHECK(rings.ended == 1);
    CHECK(rings.unsampled == 2);
    CHECK(rings.open.empty());
    const ReadSpan& kept = rings.span("renamed kept");
    CHECK((kept.flags & 1) == 1);
    CHECK(kept.at("a") == "1");
    CHECK(kept.at("sampler.kind") == "2");
    CHECK(kept.at("on_start") == "true");
    CHECK(kept.at("on_ending") == "1");
}

TEST_CASE("a span that is recorded but not sampled is not seen after a crash, a sampled one is") {
    const RingDirectory directory;
    LivingChild child(directory.path(), [] {
        const TracerProvider provider{Settings{}.sampler(std::make_shared<OwnSampler>())};
        auto* only = new Span(provider.tracer("test").span("only", {{"decide", "only"}}));
        auto* kept = new Span(provider.tracer("test").span("kept"));
        only->set("a", 1), kept->set("a", 1);
    });
    child.kill();
    const Rings rings = read_rings(directory.path());
    REQUIRE(rings.open.size() == 1);
    CHECK(rings.open[0].name == "kept");
    CHECK(rings.open[0].at("sampler.parent") == "\"none\"");
    CHECK(rings.begun == 1);
}

TEST_CASE("an own sampler replaces the trace state, or leaves the parent's") {
    const Rings rings = in_child([] {
        const TracerProvider provider{Settings{}.sampler(std::make_shared<OwnSampler>())};
        const Tracer tracer = provider.tracer("test");
        const SpanContext above = remote(1, "theirs=2");
        auto kept = tracer.span("kept", parent(above));
        auto own = tracer.span("state", parent(above));
        auto none = tracer.span("no state", parent(above));
        EXPECT(own.context().trace_state() == "own=1");
        EXPECT(none.context().trace_state().empty());
        auto below = tracer.span("below", parent(own.context()));
    });
    check_balance(rings);
    CHECK(rings.span("kept").trace_state == "theirs=2");
    CHECK(rings.span("kept").at("sampler.parent") == "\"0200000000000000\"");
    CHECK((rings.span("kept").flags & 0x300) == 0x300);
    CHECK(rings.span("state").trace_state == "own=1");
    CHECK(rings.span("no state").trace_state == "");
    CHECK(rings.span("below").trace_state == "own=1");
}

TEST_CASE("the built-in samplers decide as their names say, alone and for others") {
    const Rings rings = in_child([] {
        const auto records = [](SamplerPointer sampler, const SpanContext& above) {
            static int number = 0;
            const TracerProvider provider{Settings{}.sampler(std::move(sampler))};
            auto span =
                provider.tracer("scope " + std::to_string(number++)).span("s", parent(above));
            EXPECT(span.recording() == span.context().sampled());
            return span.recording();
        };
        const SpanContext no_parent;
        const SpanContext yes = remote(1);
        const SpanContext no = remote(0);
        EXPECT(records(always_on(), no));
        EXPECT(!records(always_off(), yes));
        EXPECT(records(parent_based(always_off()), yes));
        EXPECT(!records(parent_based(always_off()), no_parent));
        EXPECT(records(parent_based(nullptr), no_parent));
        EXPECT(!records(parent_based(always_on()), no));
        EXPECT(records(parent_based(always_off(), {nullptr, always_on()}), no));
        EXPECT(!records(parent_based(always_on(), {always_off()}), yes));
        EXPECT(!records(parent_based(always_off(), {always_on()}), no_parent));
        EXPECT(records(trace_id_ratio(1), no));
        EXPECT(!records(trace_id_ratio(0), yes));
        // By the id, not by chance: all zero in its low half is below each ratio, and so is not
        // all one.
        EXPECT(records(trace_id_ratio(0.01), yes));
        std::uint8_t high[16];
        std::memset(high, 0xff, sizeof high);
        EXPECT(!records(trace_id_ratio(0.99), SpanContext(high, some_span, 1, true)));
        EXPECT(!records(parent_based(trace_id_ratio(0.99), {trace_id_ratio(0.99)}),
                        SpanContext(high, some_span, 1, true)));
        EXPECT(records(parent_based(always_off(), {trace_id_ratio(0.01)}), yes));
    });
    check_balance(rings);
    CHECK(rings.begun == 7);
    CHECK(rings.unsampled == 8);
}

TEST_CASE("a threshold in the trace state goes on while it says how a span was sampled") {
    // some_trace ends in zeros: its randomness is 0, below every threshold but that of 100 %.
    const std::string rv = "ot=rv:80000000000000";
    struct {
        SamplerPointer sampler;
        std::uint8_t flags;
        std::string before, after;
    } const rows[] = {
        {parent_based(nullptr), 1, rv + ";th:8,a=1", rv + ";th:8,a=1"},
        {parent_based(nullptr), 1, "a=1," + rv + ";th:80000000000001", rv + ",a=1"},
        {parent_based(nullptr), 1, "ot=th:80000000000001;rv:80000000000000;x:y", rv + ";x:y"},
        {parent_based(nullptr), 1, "a=1,ot=th:0", "a=1,ot=th:0"},
        {parent_based(nullptr), 1, "a=1,ot=th:00000000000001", "a=1"},
        {parent_based(nullptr), 1, "ot=th:8", ""},
        {parent_based(nullptr), 0, "ot=th:8", "ot=th:8"},
        {parent_based(nullptr), 1, rv + ";th:F", rv},
        {parent_based(nullptr), 1, rv + ";th:", rv},
        {parent_based(nullptr), 1, rv + ";th:000000000000000", rv},
        {parent_based(nullptr), 1, "ot=rv:8;th:0;rv:x", "ot=rv:8;th:0;rv:x"},
        {parent_based(nullptr), 1, "ot=rv:8000000000000x;th:8", "ot=rv:8000000000000x"},
        {parent_based(nullptr), 1, "ot=xth:8;th", "ot=xth:8;th"},
        {parent_based(nullptr), 1, "tot=th:8", "tot=th:8"},
        {always_on(), 1, rv + ";th:8", rv},
        {always_off(), 1, rv + ";th:8", rv},
        {trace_id_ratio(1), 0, rv + ";th:0;", rv},
        {trace_id_ratio(0), 1, "ot=th:0", ""},
        // Their trace state is their own.
        {std::make_shared<OwnSampler>(), 1, "ot=th:8", "ot=th:8"},
        {parent_based(always_on(), {always_on()}), 1, "ot=th:8", "ot=th:8"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.before);
        for (const bool watched : {false, true}) {
            const Rings rings = in_child([&] {
                Settings settings = Settings{}.sampler(row.sampler);
                if (watched) settings.processor(std::make_shared<Notes>());
                const TracerProvider provider{settings};
                const SpanContext above = remote(row.flags, row.before);
                auto span = provider.tracer("test").span("s", parent(above));
                EXPECT(span.context().trace_state() == row.after);
                // Not remote: what is decided stays.
                const std::string_view local = "ot=th:fff";
                const SpanContext own(some_trace, some_span, 1, false, local);
                auto below = provider.tracer("test").span("below", parent(own));
                EXPECT(below.context().trace_state() == local);
            });
            check_balance(rings);
            for (const ReadSpan& span : rings.spans)
                if (span.name == "s") CHECK(span.trace_state == row.after);
        }
    }
}

TEST_CASE("own and X-Ray ids") {
    const Rings rings = in_child([] {
        const TracerProvider own{Settings{}.ids(std::make_shared<Numbers>())};
        auto outer = own.tracer("own").span("outer");
        auto inner = own.tracer("own").span("inner", parent(outer.context()));
        EXPECT(outer.context().trace_id_hex() == "aa000000000000000000000000000001");
        EXPECT(outer.context().flags() == 1);
        EXPECT(inner.context().span_id_hex() == "bb00000000000002");
        const auto before = static_cast<std::uint32_t>(std::time(nullptr));
        const TracerProvider xray{Settings{}.ids(xray_ids())};
        auto root = xray.tracer("xray").span("root");
        auto child = xray.tracer("xray").span("child", parent(root.context()));
        const auto seconds = static_cast<std::uint32_t>(
            std::stoul(root.context().trace_id_hex().substr(0, 8), nullptr, 16));
        EXPECT(seconds >= before && seconds <= before + 60);
        EXPECT(root.context().flags() == 3);
        EXPECT(child.context().trace_id_hex() == root.context().trace_id_hex());
        EXPECT(child.context().span_id_hex() != root.context().span_id_hex());
        auto next = xray.tracer("xray").span("next");
        EXPECT(next.context().trace_id_hex().substr(8) != root.context().trace_id_hex().substr(8));
        EXPECT(hook_failures() == 0);
    });
    check_balance(rings);
    CHECK(rings.span("inner").trace_id == "aa000000000000000000000000000001");
    CHECK(rings.span("inner").parent_id == "bb00000000000001");
    CHECK(rings.span("child").parent_id == rings.span("root").span_id);
    CHECK(rings.begun == 5);
}

TEST_CASE("OTEL_SDK_DISABLED turns hooks off, the environment's sampler and limits hold") {
    run_child("/nonexistent/rings",
              [] {
                  auto memory = std::make_shared<InMemoryExporter>();
                  const TracerProvider provider{Settings{}.processor(memory)};
                  EXPECT(!provider.tracer("test").span("s").recording());
                  EXPECT(memory->spans().empty());
              },
              {{"OTEL_SDK_DISABLED", "true"}})
        .clean();
    run_child(
        "/nonexistent/rings",
        [] {
            auto memory = std::make_shared<InMemoryExporter>();
            const TracerProvider provider{Settings{}.processor(memory)};
            EXPECT(!provider.tracer("test").span("root").recording());
            provider.tracer("test").span("s", {{"a", 1}, {"b", 2}}, parent(remote(1))).end();
            EXPECT(memory->spans().size() == 1);
            EXPECT(memory->spans()[0].attributes.size() == 1);
            EXPECT(memory->spans()[0].dropped_attributes == 1);
        },
        {{"OTEL_TRACES_SAMPLER", "parentbased_always_off"}, {"OTEL_ATTRIBUTE_COUNT_LIMIT", "1"}})
        .clean();
}

TEST_CASE("a decision without ids, and ids without one, count under samplers beside hooks too") {
    const auto recorded = [](const char* b3, const SamplerPointer& sampler) {
        const Rings rings = in_child([&] {
            const TracerProvider provider{
                Settings{}.sampler(sampler).processor(std::make_shared<Notes>())};
            const auto scope = attach(Propagators{Propagator::b3}.extract(
                std::map<std::string, std::string>{{"b3", b3}}));
            (void)provider.tracer("test").span("s");
        });
        check_balance(rings);
        CHECK(rings.spans.size() + rings.unsampled == 1);
        return rings.spans.size() == 1;
    };
    const std::string ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
    // Once by the client itself, once by a sampler that asks others.
    const ParentSamplers remote_is_off{nullptr, always_off()};
    CHECK_FALSE(recorded("0", parent_based(always_on())));
    CHECK_FALSE(recorded("0", parent_based(always_on(), remote_is_off)));
    CHECK(recorded("1", parent_based(always_off())));
    CHECK(recorded("1", parent_based(always_off(), remote_is_off)));
    CHECK(recorded(ids.c_str(), parent_based(always_on())));
    CHECK(recorded(ids.c_str(), parent_based(always_on(), remote_is_off)));
    CHECK_FALSE(recorded(ids.c_str(), parent_based(always_off())));
    CHECK_FALSE(recorded((ids + "-0").c_str(), parent_based(always_on())));
}

}  // namespace oteld::test
