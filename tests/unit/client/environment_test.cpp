// The standard OTEL_* variables, settings in code, resources, providers, samplers.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <clocale>
#include <cstdlib>
#include <set>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

const std::uint8_t some_span[8] = {2};

ReadResource resource_with(const Environment& environment) {
    return in_child([] { (void)test_tracer().span("s"); }, environment).resource();
}

// Roots started and sampled out of 2000, and whether a sampled and an unsampled remote parent
// decide.
struct Decisions {
    std::size_t roots = 0;
    bool after_sampled = false, after_unsampled = false;
    bool warned = false;
};

Decisions decisions(const Environment& environment) {
    const RingDirectory directory;
    const Child child = run_child(
        directory.path(),
        [] {
            for (int i = 0; i < 2000; ++i) (void)test_tracer().span("root");
            // The trace id decides for the ratio: all ones never, all zero (but for the first byte)
            // always.
            const std::uint8_t high[16] = {255, 255, 255, 255, 255, 255, 255, 255,
                                           255, 255, 255, 255, 255, 255, 255, 255};
            const std::uint8_t low[16] = {1};
            (void)test_tracer().span("after sampled",
                                     parent(SpanContext(high, some_span, 1, true)));
            (void)test_tracer().span("after unsampled",
                                     parent(SpanContext(low, some_span, 0, true)));
        },
        environment);
    child.clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.begun + rings.unsampled == 2002);
    Decisions result;
    result.warned = child.said("OTEL_TRACES_SAMPLER");
    for (const ReadSpan& span : rings.spans) {
        result.roots += span.name == "root" ? 1 : 0;
        result.after_sampled |= span.name == "after sampled";
        result.after_unsampled |= span.name == "after unsampled";
    }
    return result;
}

}  // namespace

TEST_CASE("each of the six samplers decides for roots and for children") {
    struct Case {
        const char* sampler;
        std::size_t roots_min, roots_max;
        bool after_sampled, after_unsampled;
    };
    const Case cases[] = {
        {"always_on", 2000, 2000, true, true},
        {"always_off", 0, 0, false, false},
        {"traceidratio", 350, 650, false, true},
        {"parentbased_always_on", 2000, 2000, true, false},
        {"parentbased_always_off", 0, 0, true, false},
        {"parentbased_traceidratio", 350, 650, true, false},
        {"PARENTBASED_Always_Off", 0, 0, true, false},
        {"", 2000, 2000, true, false},
    };
    for (const Case& one : cases) {
        CAPTURE(one.sampler);
        const Decisions got =
            decisions({{"OTEL_TRACES_SAMPLER", one.sampler}, {"OTEL_TRACES_SAMPLER_ARG", "0.25"}});
        CHECK(got.roots >= one.roots_min);
        CHECK(got.roots <= one.roots_max);
        CHECK(got.after_sampled == one.after_sampled);
        CHECK(got.after_unsampled == one.after_unsampled);
        CHECK_FALSE(got.warned);
    }
}

TEST_CASE(
    "a ratio of 0 samples nothing, of 1 everything, and of nonsense everything with a warning") {
    const auto ratio = [](const char* argument) {
        return decisions(
            {{"OTEL_TRACES_SAMPLER", "traceidratio"}, {"OTEL_TRACES_SAMPLER_ARG", argument}});
    };
    CHECK(ratio("0").roots == 0);
    CHECK(ratio("0.0").roots == 0);
    CHECK(ratio("1").roots == 2000);
    CHECK(ratio("0.9999999999999999").roots == 2000);
    CHECK_FALSE(ratio("1e-30").warned);
    CHECK(ratio("").roots == 2000);
    for (const char* nonsense : {"1.5", "-0.1", "nan", "inf", "half", "0.5x"}) {
        CAPTURE(nonsense);
        const Decisions got = ratio(nonsense);
        CHECK(got.roots == 2000);
        CHECK(got.warned);
    }
}

TEST_CASE("numbers have points in a program whose locale has commas, too") {
    const RingDirectory locales;
    const std::string make =
        "localedef -i de_DE -f UTF-8 " + locales.path() + "/de_DE.UTF-8 >/dev/null 2>&1";
    if (std::system(make.c_str()) != 0) {
        MESSAGE("not run: localedef makes no German locale");
        return;
    }
    const RingDirectory directory;
    const Child child = run_child(directory.path(),
                                  [] {
                                      EXPECT(std::setlocale(LC_ALL, "de_DE.UTF-8") != nullptr);
                                      EXPECT(!test_tracer().span("s").recording());
                                      EXPECT(RecordedValue(1.5).text() == "1.5");
                                      EXPECT(*std::localeconv()->decimal_point == ',');
                                  },
                                  {{"LOCPATH", locales.path()},
                                   {"OTEL_TRACES_SAMPLER", "traceidratio"},
                                   {"OTEL_TRACES_SAMPLER_ARG", "0.0"}});
    child.clean();
    CHECK(child.text.empty());
}

TEST_CASE("an unknown sampler is named, and the default stands in") {
    for (const char* name : {"sometimes", "parentbased_sometimes", "parentbased_"}) {
        CAPTURE(name);
        const Decisions got = decisions({{"OTEL_TRACES_SAMPLER", name}});
        CHECK(got.roots == 2000);
        CHECK(got.after_sampled);
        CHECK_FALSE(got.after_unsampled);
        CHECK(got.warned);
    }
    CHECK_FALSE(
        decisions({{"OTEL_TRACES_SAMPLER", "sometimes"}, {"OTEL_LOG_LEVEL", "none"}}).warned);
}

TEST_CASE("OTEL_SDK_DISABLED leaves not even a file") {
    for (const char* value : {"true", "TRUE", " true "}) {
        const RingDirectory directory;
        run_child(directory.path(),
                  [] {
                      auto scope = test_tracer().scope("s");
                      EXPECT(!scope.recording());
                      EXPECT(!scope.context().valid());
                      EXPECT(spans_dropped() == 0);
                  },
                  {{"OTEL_SDK_DISABLED", value}})
            .clean();
        CHECK(directory.files() == 0);
    }
    for (const std::string value : {"false", "False", "1", ""}) {
        CAPTURE(value);
        const RingDirectory directory;
        const Child child = run_child(directory.path(), [] { (void)test_tracer().span("s"); },
                                      {{"OTEL_SDK_DISABLED", value}});
        child.clean();
        CHECK(read_rings(directory.path()).spans.size() == 1);
        CHECK(child.said("OTEL_SDK_DISABLED") == (value == "1"));
    }
}

TEST_CASE("a resource says who records") {
    const ReadResource resource = resource_with({});
    CHECK(resource.at("service.name") == "\"unknown_service:unit_client\"");
    CHECK(resource.at("telemetry.sdk.name") == "\"oteld\"");
    CHECK(resource.at("telemetry.sdk.language") == "\"cpp\"");
    CHECK(resource.at("telemetry.sdk.version") != "(none)");
    CHECK(resource.at("process.executable.name") == "\"unit_client\"");
    CHECK(resource.at("service.instance.id").size() == 38);
    CHECK(std::stoi(resource.at("process.pid")) > 0);
}

TEST_CASE("OTEL_SERVICE_NAME beats OTEL_RESOURCE_ATTRIBUTES, which are percent-decoded") {
    const ReadResource resource =
        resource_with({{"OTEL_SERVICE_NAME", "orders"},
                       {"OTEL_RESOURCE_ATTRIBUTES",
                        "service.name=other, a = b%20c%2C%3d "
                        ",,empty=,twice=1,twice=2,service.instance.id=mine"}});
    CHECK(resource.at("service.name") == "\"orders\"");
    CHECK(resource.at("a") == "\"b c,=\"");
    CHECK(resource.at("empty") == "\"\"");
    CHECK(resource.at("service.instance.id") == "\"mine\"");
    std::set<std::string> keys;
    for (const auto& attribute : resource.attributes)
        CHECK_MESSAGE(keys.insert(attribute.first).second, attribute.first);
    CHECK(resource.at("twice") == "\"2\"");
    CHECK(resource_with({{"OTEL_RESOURCE_ATTRIBUTES", "service.name=from%20attributes"}})
              .at("service.name") == "\"from attributes\"");
}

TEST_CASE("one malformed resource attribute discards them all, with a warning") {
    for (const char* value :
         {"good=1,bad", "good=1,=x", "good=1,bad=%4", "good=1,bad=%zz", "good=1,bad=%"}) {
        CAPTURE(value);
        const RingDirectory directory;
        const Child child = run_child(directory.path(), [] { (void)test_tracer().span("s"); },
                                      {{"OTEL_RESOURCE_ATTRIBUTES", value}});
        child.clean();
        CHECK(child.said("OTEL_RESOURCE_ATTRIBUTES is ignored"));
        const Rings rings = read_rings(directory.path());
        CHECK(rings.resource().at("good") == "(none)");
        CHECK(rings.resource().at("service.name") == "\"unknown_service:unit_client\"");
    }
}

TEST_CASE("what is said in code beats the environment") {
    const Rings rings = in_child(
        [] {
            const TracerProvider provider{Settings{}
                                              .service("coded", "2.1")
                                              .resource("a", "code")
                                              .resource("b", "1")
                                              .resource_schema_url("https://example.org/r")};
            provider.make_global();
            (void)test_tracer().span("s");
        },
        {{"OTEL_SERVICE_NAME", "environment"}, {"OTEL_RESOURCE_ATTRIBUTES", "a=environment,c=3"}});
    check_balance(rings);
    const ReadResource& resource = rings.resource_of(rings.span("s"));
    CHECK(resource.at("service.name") == "\"coded\"");
    CHECK(resource.at("service.version") == "\"2.1\"");
    CHECK(resource.at("a") == "\"code\"");
    CHECK(resource.at("b") == "\"1\"");
    CHECK(resource.at("c") == "\"3\"");
    CHECK(resource.schema_url == "https://example.org/r");
}

TEST_CASE("several providers record side by side, each under its own resource") {
    const Rings rings = in_child([] {
        const TracerProvider one{Settings{}.service("one")};
        const TracerProvider two{Settings{}.service("two")};
        const Tracer global = tracer("lib");
        (void)global.span("before");
        (void)one.tracer("lib").span("of one");
        (void)two.tracer("lib").span("of two");
        two.make_global();
        (void)global.span("after");
    });
    check_balance(rings);
    CHECK(rings.resource_of(rings.span("before")).at("service.name") ==
          "\"unknown_service:unit_client\"");
    CHECK(rings.resource_of(rings.span("of one")).at("service.name") == "\"one\"");
    CHECK(rings.resource_of(rings.span("of two")).at("service.name") == "\"two\"");
    CHECK(rings.resource_of(rings.span("after")).at("service.name") == "\"two\"");
}

TEST_CASE("a fork's child is a service instance of its own") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        (void)test_tracer().span("parent");
        const pid_t pid = fork();
        if (pid == 0) {
            (void)test_tracer().span("child");
            _exit(0);
        }
        int status = 0;
        EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    REQUIRE(rings.segments.size() == 2);
    const ReadResource& parent = rings.resource_of(rings.span("parent"));
    const ReadResource& child = rings.resource_of(rings.span("child"));
    CHECK(parent.at("service.instance.id") != child.at("service.instance.id"));
    CHECK(parent.at("process.pid") != child.at("process.pid"));
    CHECK(rings.segments[0].process != rings.segments[1].process);
}

TEST_CASE("a resource larger than a table's usual room is carried whole") {
    std::string attributes;
    for (int i = 0; i < 400; ++i)
        attributes += "key." + std::to_string(i) + "=" + std::string(100, 'v') + ",";
    const ReadResource resource = resource_with({{"OTEL_RESOURCE_ATTRIBUTES", attributes}});
    CHECK(resource.at("key.399") == '"' + std::string(100, 'v') + '"');
}

TEST_CASE("more scopes than a table holds are counted and stand under index 65535") {
    const Rings rings = in_child([] {
        for (int i = 0; i < 1000; ++i) {
            (void)tracer("a library with a rather long name " + std::to_string(i), "1.0")
                .span(std::to_string(i));
        }
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 1000);
    std::size_t overflowed = 0;
    for (const ReadSpan& span : rings.spans) {
        if (span.scope == 0xFFFF) {
            ++overflowed;
            continue;
        }
        CHECK(rings.scope_of(span).name == "a library with a rather long name " + span.name);
    }
    CHECK(overflowed > 0);
    CHECK(rings.counted(shm::ProcessCounter::scopes_overflowed) == overflowed);
}

TEST_CASE("more resources than a table holds fall back to the first and are counted") {
    const Rings rings = in_child([] {
        std::vector<TracerProvider> providers;
        for (int i = 0; i < 30; ++i) {
            providers.emplace_back(Settings{}
                                       .service("service " + std::to_string(i))
                                       .resource("pad", std::string(700, 'p')));
            (void)providers.back().tracer("lib").span(std::to_string(i));
        }
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 30);
    std::size_t fallen = 0;
    for (const ReadSpan& span : rings.spans) {
        if (span.scope == 0xFFFF) {  // In the end the table had no room for a scope either.
            ++fallen;
            continue;
        }
        const std::string name = rings.resource_of(span).at("service.name");
        if (name == "\"service 0\"" && span.name != "0")
            ++fallen;
        else
            CHECK(name == "\"service " + span.name + '"');
    }
    CHECK(fallen > 0);
    CHECK(rings.counted(shm::ProcessCounter::resources_overflowed) == fallen);
}

}  // namespace oteld::test
