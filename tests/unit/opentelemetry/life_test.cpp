// How long spans, tracers and providers live, who may use them, and who decides about them.
#include "bridge_fixture.hpp"

#include "oteld/testing.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <map>
#include <string>
#include <thread>

namespace oteld::test {
namespace {

using namespace std::chrono_literals;

#if OPENTELEMETRY_ABI_VERSION_NO >= 2
const nostd::string_view texts[] = {"a", "", "b"};
#endif

}  // namespace

TEST_CASE("a span ends once: at its end, or when the last one lets go of it") {
    const Rings rings = in_bridged_child([] {
        SpanPointer first = their_tracer()->StartSpan("released");
        SpanPointer second = first;
        const auto context = first->GetContext();
        first = SpanPointer();
        EXPECT(second->IsRecording());
        second->SetAttribute("a", 1);
        second = SpanPointer();
        const SpanPointer ended = their_tracer()->StartSpan("ended");
        EXPECT(ended->GetContext().IsValid());
        EXPECT(ended->GetContext().trace_id() != context.trace_id());
        const auto before = ended->GetContext();
        ended->End();
        EXPECT(!ended->IsRecording());
        EXPECT(ended->GetContext() == before);
        ended->SetAttribute("late", 1);
        ended->AddEvent("late");
        ended->UpdateName("late");
        ended->SetStatus(otrace::StatusCode::kError, "late");
        ended->End();
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
    CHECK(rings.span("released").at("a") == "1");
    CHECK(rings.span("ended").attributes.empty());
    CHECK(rings.span("ended").status == 0);
}

TEST_CASE("spans and tracers outlive the provider") {
    const Rings rings = in_child([] {
        auto provider = opentelemetry_provider();
        const TracerPointer tracer = provider->GetTracer("t");
        const SpanPointer span = tracer->StartSpan("begun before");
        provider = nostd::shared_ptr<otrace::TracerProvider>();
        tracer->StartSpan("after");
        span->End();
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
}

TEST_CASE("several threads use one span at once") {
    constexpr int threads = 4;
    constexpr int each = 20;
    constexpr int dropped = 20000;  // A count that is lost shows that two were in it at once.
    const Rings rings = in_bridged_child([] {
        SpanPointer span = their_tracer()->StartSpan("shared");
        std::atomic<int> ready{0};
        std::vector<std::thread> all;
        for (int t = 0; t < threads; ++t) {
            all.emplace_back([&, t, mine = span]() mutable {
                ++ready;
                while (ready < threads) std::this_thread::yield();
                for (int i = 0; i < each; ++i) {
                    mine->SetAttribute("k" + std::to_string(t * each + i), std::string(100, 'x'));
                    mine->AddEvent("e", {{"i", i}});
                    EXPECT(mine->IsRecording());
                    EXPECT(mine->GetContext().IsValid());
                    their_tracer()->StartSpan("own");
                }
                for (int i = 0; i < dropped; ++i) mine->SetAttribute("", i);
                mine = SpanPointer();
            });
        }
        for (std::thread& thread : all) thread.join();
        for (int t = 0; t < threads; ++t) {
            all[static_cast<std::size_t>(t)] = std::thread([&] { span->End(); });
        }
        for (std::thread& thread : all) thread.join();
    });
    check_balance(rings);
    CHECK(rings.spans.size() == threads * each + 1);
    CHECK(rings.span("shared").attributes.size() == threads * each);
    CHECK(rings.span("shared").events.size() == threads * each);
    CHECK(rings.span("shared").dropped_attributes == threads * dropped);
}

TEST_CASE("one tracer for each scope, which is asked for as often as one likes") {
    const Rings rings = in_bridged_child([] {
        const auto provider = otrace::Provider::GetTracerProvider();
        const TracerPointer first = provider->GetTracer("a", "1", "https://schema");
        EXPECT(first.get() == provider->GetTracer("a", "1", "https://schema").get());
        EXPECT(first.get() ==
               opentelemetry_provider()->GetTracer("a", "1", "https://schema").get());
        EXPECT(first.get() != provider->GetTracer("a", "2", "https://schema").get());
        EXPECT(first.get() != provider->GetTracer("a", "1").get());
        EXPECT(first.get() != provider->GetTracer("b", "1", "https://schema").get());
        first->StartSpan("s");
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
        const TracerPointer with = provider->GetTracer("a", "1", "", {{"k", 1}, {"l", texts}});
        EXPECT(with.get() == provider->GetTracer("a", "1", "", {{"k", 1}, {"l", texts}}).get());
        EXPECT(with.get() != provider->GetTracer("a", "1", "", {{"k", 2}, {"l", texts}}).get());
        EXPECT(with.get() != provider->GetTracer("a", "1").get());
        EXPECT(with->Enabled());
        with->StartSpan("with");
#endif
    });
    check_balance(rings);
    const ReadScope& scope = rings.scope_of(rings.span("s"));
    CHECK(scope.name == "a");
    CHECK(scope.version == "1");
    CHECK(scope.schema_url == "https://schema");
    CHECK(scope.attributes.empty());
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
    CHECK(rings.scope_of(rings.span("with")).attributes ==
          Pairs{{"k", "1"}, {"l", "[\"a\",\"\",\"b\"]"}});
#endif
}

TEST_CASE("a provider of one's own: its resource, its sampler; the global one when it changes") {
    const Rings rings = in_bridged_child([] {
        const TracerPointer global = their_tracer();
        const TracerProvider own(Settings{}.service("own"));
        const TracerProvider off(Settings{}.sampler(always_off()));
        opentelemetry_provider(own)->GetTracer("library", "1")->StartSpan("of its own");
        const SpanPointer unsampled =
            opentelemetry_provider(off)->GetTracer("library", "1")->StartSpan("off");
        EXPECT(!unsampled->IsRecording());
        global->StartSpan("before");
        own.make_global();
        global->StartSpan("after");
    });
    check_balance(rings);
    CHECK(rings.resource_of(rings.span("of its own")).at("service.name") == "\"own\"");
    CHECK(rings.resource_of(rings.span("before")).at("service.name") != "\"own\"");
    CHECK(rings.resource_of(rings.span("after")).at("service.name") == "\"own\"");
    CHECK(rings.spans.size() == 3);
    CHECK(rings.unsampled == 1);
}

#if OPENTELEMETRY_ABI_VERSION_NO >= 2
TEST_CASE("a tracer is enabled unless a rule, a shutdown or the environment silences it") {
    const Rings rings = in_bridged_child([] {
        const TracerPointer global = their_tracer("noisy.lib");
        const TracerPointer quiet = their_tracer("quiet");
        EXPECT(global->Enabled());
        const TracerProvider rules{Settings{}.scope("noisy.*", false).sampler(always_off())};
        const auto own = opentelemetry_provider(rules);
        EXPECT(!own->GetTracer("noisy.other")->Enabled());
        const TracerPointer of_its_own = own->GetTracer("quiet");
        EXPECT(of_its_own->Enabled());  // A sampler decides for each span.
        rules.make_global();
        EXPECT(!global->Enabled());
        EXPECT(quiet->Enabled());
        EXPECT(!their_tracer("noisy.later")->Enabled());
        rules.shutdown(0ns);
        EXPECT(!quiet->Enabled());
        EXPECT(!of_its_own->Enabled());
        {
            const testing::Recorder recorder;
            EXPECT(global->Enabled());
            EXPECT(!of_its_own->Enabled());
        }
        EXPECT(!global->Enabled());
        const TracerProvider next;
        next.make_global();
        EXPECT(global->Enabled());
        EXPECT(quiet->StartSpan("s")->IsRecording());
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.unsampled == 0);
}

TEST_CASE("threads that change the provider at once leave a tracer right about it") {
    in_bridged_child([] {
        const TracerProvider off{Settings{}.scope("*", false)};
        const TracerProvider on;
        const TracerPointer tracer = their_tracer();
        for (int i = 0; i < 200; ++i) {
            std::thread other([&] { off.make_global(); });
            on.make_global();
            other.join();
            EXPECT(tracer->Enabled() == tracer->StartSpan("s")->IsRecording());
        }
    });
}
#endif

TEST_CASE("without a provider the environment says whether a tracer is enabled") {
    for (const bool disabled : {false, true}) {
        const Rings rings = in_bridged_child(
            [disabled] {
                const TracerPointer tracer = their_tracer();
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
                EXPECT(tracer->Enabled() == !disabled);
#endif
                EXPECT(tracer->StartSpan("s")->IsRecording() == !disabled);
#if OPENTELEMETRY_ABI_VERSION_NO >= 2
                EXPECT(tracer->Enabled() == !disabled);
#endif
            },
            {{"OTEL_SDK_DISABLED", disabled ? "true" : "false"}});
        CHECK(rings.spans.size() == (disabled ? 0 : 1));
    }
}

TEST_CASE("a span that is not sampled has a context that says so, and so do its children") {
    const Rings rings = in_bridged_child(
        [] {
            const auto tracer = their_tracer();
            SpanPointer parent = tracer->StartSpan("unsampled", {{"a", 1}});
            EXPECT(!parent->IsRecording());
            EXPECT(parent->GetContext().IsValid());
            EXPECT(!parent->GetContext().IsSampled());
            parent->SetAttribute("b", 1);
            const auto scope = otrace::Tracer::WithActiveSpan(parent);
            const SpanPointer child = tracer->StartSpan("child");
            EXPECT(!child->IsRecording());
            EXPECT(child->GetContext().trace_id() == parent->GetContext().trace_id());
            otrace::StartSpanOptions options;
            options.parent = remote_parent(1);
            EXPECT(tracer->StartSpan("sampled by its parent", options)->IsRecording());
        },
        {{"OTEL_TRACES_SAMPLER", "parentbased_always_off"}});
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
    CHECK(rings.unsampled == 2);
}

namespace {

class AsksForALink : public Sampler {
public:
    SamplingResult should_sample(const ReadableSpan& start, const SpanContext&) override {
        const RecordedSpan copy = start.copy();
        seen = copy.attributes.size() + 10 * copy.links.size();
        return {seen == 11 ? Decision::record_and_sample : Decision::drop, {}, "by=sampler"};
    }
    std::size_t seen = 0;
};

}  // namespace

TEST_CASE("a sampler of one's own sees what the span starts with; a Recorder gets the spans") {
    const Rings rings = in_bridged_child([] {
        const auto sampler = std::make_shared<AsksForALink>();
        const testing::Recorder recorder{Settings{}.sampler(sampler)};
        const std::vector<std::pair<otrace::SpanContext, std::map<std::string, std::string>>> links{
            {remote_parent(), {}}};
        {
            const SpanPointer span =
                their_tracer()->StartSpan("seen", std::map<std::string, int>{{"a", 1}}, links);
            EXPECT(sampler->seen == 11);
            EXPECT(span->IsRecording());
            EXPECT(span->GetContext().trace_state()->ToHeader() == "by=sampler");
            EXPECT(!their_tracer()->StartSpan("other")->IsRecording());
        }
        EXPECT(recorder.spans().size() == 1);
        EXPECT(recorder.tree() == "seen  a=1\n");
    });
    CHECK(rings.spans.empty());
}

TEST_CASE("a flush without a daemon says so in time, and is no end") {
#if OPENTELEMETRY_ABI_VERSION_NO == 1
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        tracer->StartSpan("before");
        tracer->ForceFlush(1us);
        tracer->Close(0us);
        const TracerProvider own;
        opentelemetry_provider(own)->GetTracer("t")->ForceFlush(1us);
        tracer->StartSpan("after");
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
#else
    MESSAGE("not run: ABI 2 has no flush in its API");
#endif
}

#if OPENTELEMETRY_ABI_VERSION_NO == 1
namespace {

class Flushes : public SpanProcessor {
public:
    bool force_flush(std::chrono::nanoseconds) override { return ++flushes > 0; }
    int flushes = 0;
};

}  // namespace

TEST_CASE("a flush and a close reach the processors, of one's own provider and the global one") {
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        tracer->ForceFlush(0us);  // Before there is a provider.
        const auto processor = std::make_shared<Flushes>();
        const TracerProvider own{Settings{}.processor(processor)};
        opentelemetry_provider(own)->GetTracer("t")->ForceFlush(0us);
        EXPECT(processor->flushes == 1);
        tracer->ForceFlush(0us);
        EXPECT(processor->flushes == 1);
        own.make_global();
        tracer->ForceFlush(0us);
        EXPECT(processor->flushes == 2);
        tracer->Close(0us);
        EXPECT(processor->flushes == 3);
    });
    CHECK(rings.spans.empty());
}
#endif

TEST_CASE("an inherited span is inert in a fork's child, and the parent of the child's spans") {
    const Rings rings = in_bridged_child([] {
        const SpanPointer span = their_tracer()->StartSpan("before");
        const otrace::Scope scope(span);
        const pid_t child = ::fork();
        if (child == 0) {
            EXPECT(!span->IsRecording());
            span->SetAttribute("child", true);
            their_tracer()->StartSpan("in the child");
            span->End();
            ::_exit(0);
        }
        int status = 0;
        EXPECT(::waitpid(child, &status, 0) == child);
        EXPECT(status == 0);
        span->SetAttribute("parent", true);
    });
    check_balance(rings);
    CHECK(rings.span("before").attributes == Pairs{{"parent", "true"}});
    CHECK(rings.span("in the child").parent_id == rings.span("before").span_id);
    CHECK(rings.span("in the child").process != rings.span("before").process);
}

}  // namespace oteld::test
