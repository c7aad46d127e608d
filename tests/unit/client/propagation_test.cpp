// Which formats are used, over which carriers, and what becomes of a context that came in.
#include "propagation_fixture.hpp"

namespace oteld::test {

TEST_CASE("a composite runs in its order, and a later format counts before an earlier one") {
    const Headers both{
        {"traceparent", PARENT},
        {"baggage", "a=1"},
        {"X-Amzn-Trace-Id", "Root=1-11111111-111111111111111111111111;Parent=" SPAN ";Sampled=1"}};
    const auto trace_of = [&](Propagators which) {
        return which.extract(both).span().trace_id_hex();
    };
    CHECK(trace_of({Propagator::baggage, Propagator::xray, Propagator::tracecontext}) == TRACE);
    CHECK(trace_of({Propagator::tracecontext, Propagator::xray}) == repeated('1', 32));
    CHECK(trace_of({Propagator::tracecontext, Propagator::b3}) == TRACE);
    CHECK(trace_of({}) == repeated('0', 32));
    const Propagators all{Propagator::tracecontext, Propagator::baggage, Propagator::b3,
                          Propagator::b3multi,      Propagator::jaeger,  Propagator::xray,
                          Propagator::xray_root,    Propagator::b3};
    CHECK(Propagators::unpacked(all.packed()) == all);
    CHECK(all.fields() ==
          std::vector<std::string_view>{"traceparent", "tracestate", "baggage", "b3",
                                        "X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled", "X-B3-Flags",
                                        "uber-trace-id", "X-Amzn-Trace-Id", "X-Amzn-Trace-Id"});
    CHECK(headers_of(all.extract(both), all).size() == 9);
    CHECK(headers_of(all.extract(both), {}).empty());
}

TEST_CASE("OTEL_PROPAGATORS: names, duplicates, none, mistakes") {
    struct Row {
        const char* text;
        Propagators expected;
        const char* unknown;
    };
    const Row rows[] = {
        {"", default_propagators, ""},
        {"tracecontext", {Propagator::tracecontext}, ""},
        {"b3,tracecontext", {Propagator::b3, Propagator::tracecontext}, ""},
        {" B3Multi\t, jaeger,,xray",
         {Propagator::b3multi, Propagator::jaeger, Propagator::xray},
         ""},
        {"b3,baggage,b3", {Propagator::b3, Propagator::baggage}, ""},
        {"xray-root", {Propagator::xray_root}, ""},
        {"none", {}, ""},
        {"None", {}, ""},
        {"b3,none", {}, ""},
        {"ottrace,b3", {Propagator::b3}, "ottrace"},
        {"ottrace", default_propagators, "ottrace"},
        {",", default_propagators, ""},
    };
    for (const Row& row : rows) {
        CAPTURE(row.text);
        std::string unknown;
        const Propagators parsed =
            Propagators::parse(row.text, [&](std::string_view name) { unknown.append(name); });
        CHECK(parsed == row.expected);
        CHECK(unknown == row.unknown);
        const RingDirectory directory;
        const Child child = run_child(directory.path(),
                                      [&] {
                                          EXPECT(propagators() == row.expected);
                                          EXPECT(propagators() == row.expected);
                                      },
                                      {{"OTEL_PROPAGATORS", row.text}});
        child.clean();
        CHECK(child.said("OTEL_PROPAGATORS") == (*row.unknown != 0));
        CHECK(child.text.find("OTEL_PROPAGATORS") == child.text.rfind("OTEL_PROPAGATORS"));
    }
    const RingDirectory directory;
    const Child quiet = run_child(directory.path(), [] { (void)propagators(); },
                                  {{"OTEL_PROPAGATORS", "b4"}, {"OTEL_LOG_LEVEL", "none"}});
    CHECK(quiet.text.empty());
    run_child(directory.path(), [] {
        EXPECT(propagators() == default_propagators);
        set_propagators({Propagator::b3});
        EXPECT(propagators() == Propagators{Propagator::b3});
        Headers headers;
        inject(SpanContext({1}, {1}, 1, false), headers);
        EXPECT(headers.size() == 1 && headers[0].first == "b3");
        set_propagators({});
        EXPECT(propagators().empty());
        EXPECT(!extract(headers).span().valid());
    }).clean();
}

namespace {

// What an HTTP library's message looks like, with a view of its own.
struct Message {
    struct View {
        View(const char* at, std::size_t bytes) : text(at, bytes) {}
        [[nodiscard]] const char* data() const { return text.data(); }
        [[nodiscard]] std::size_t size() const { return text.size(); }
        std::string text;
    };
    struct Field {
        std::string name, text;
        [[nodiscard]] View name_string() const { return {name.data(), name.size()}; }
        [[nodiscard]] View value() const { return {text.data(), text.size()}; }
    };
    struct ByName {
        bool operator()(const std::string& a, const std::string& b) const {
            return ::strcasecmp(a.c_str(), b.c_str()) < 0;
        }
    };
    std::vector<Field> fields;

    [[nodiscard]] auto begin() const { return fields.begin(); }
    [[nodiscard]] auto end() const { return fields.end(); }
    [[nodiscard]] auto equal_range(const View& name) const {  // Fields of a name are neighbours.
        auto first = fields.begin();
        while (first != fields.end() && ::strcasecmp(first->name.c_str(), name.text.c_str()) != 0)
            ++first;
        auto last = first;
        while (last != fields.end() && ::strcasecmp(last->name.c_str(), name.text.c_str()) == 0)
            ++last;
        return std::make_pair(first, last);
    }
    void set(const View& name, const View& value) { fields.push_back({name.text, value.text}); }
};

struct Own {
    std::map<std::string, std::string> fields;
};

}  // namespace
}  // namespace oteld::test

template <>
struct oteld::CarrierTraits<oteld::test::Own> {
    template <class Found>
    static void each(const oteld::test::Own& own, std::string_view name, Found found) {
        if (const auto at = own.fields.find(std::string(name)); at != own.fields.end())
            found(at->second);
    }
    static void set(oteld::test::Own& own, std::string_view name, std::string_view value) {
        own.fields[std::string(name)] = value;
    }
};

namespace oteld::test {

TEST_CASE("any carrier will do") {
    const Propagators all{Propagator::tracecontext, Propagator::baggage, Propagator::jaeger};
    const Context context =
        all.extract(Headers{{"traceparent", PARENT}, {"tracestate", "a=1"}, {"baggage", "b=2"}});
    const std::string expected = seen + " [a=1] {b=2}";
    REQUIRE(text_of(context) == expected);
    const Propagators w3c = default_propagators;
    const auto through = [&](auto carrier) {
        w3c.inject(context, carrier);
        w3c.inject(context, carrier);  // Replaces.
        return text_of(w3c.extract(carrier));
    };
    CHECK(through(std::map<std::string, std::string>{}) == expected);
    CHECK(through(std::unordered_map<std::string, std::string>{}) == expected);
    CHECK(through(std::multimap<std::string, std::string>{}) == expected);
    CHECK(through(Headers{}) == expected);
    CHECK(through(Own{}) == expected);
    CHECK(through(EnvironmentCarrier{}) == expected);
    CHECK(std::string(std::getenv("TRACEPARENT")) == PARENT);
    CHECK(std::string(std::getenv("TRACESTATE")) == "a=1");
    CHECK(std::string(std::getenv("BAGGAGE")) == "b=2");
    CHECK(environment_name("X-B3-TraceId") == "X_B3_TRACEID");
    for (const char* name : {"TRACEPARENT", "TRACESTATE", "BAGGAGE"}) ::unsetenv(name);
    CHECK(text_of(w3c.extract(EnvironmentCarrier{})) == "");

    Message message;
    all.inject(context, message);
    CHECK(text_of(w3c.extract(message)) == expected);
    CHECK(text_of(Propagators{Propagator::jaeger}.extract(message)) == seen + " {b=2}");
    message.fields.push_back({"Baggage", "c=3"});
    std::swap(message.fields[3], message.fields.back());
    CHECK(text_of(w3c.extract(message)) == seen + " [a=1] {b=2|c=3}");
    message.fields.insert(message.fields.begin(), {"Traceparent", PARENT});
    CHECK(text_of(w3c.extract(message)) == " {b=2|c=3}");

    // Replaced are all values of a header; its name keeps its case.
    std::multimap<std::string, std::string> twice{{"TraceParent", "1"}, {"TraceParent", "2"}};
    w3c.inject(context, twice);
    CHECK(twice.count("TraceParent") == 1);
    CHECK(twice.find("TraceParent")->second == PARENT);
    CHECK(twice.count("traceparent") == 0);
    Headers list{{"traceparent", "1"}, {"other", "2"}, {"Traceparent", "3"}};
    w3c.inject(context, list);
    CHECK(list.size() == 4);
    CHECK(list[0].second == PARENT);
}

TEST_CASE("functions will do as carriers") {
    std::map<std::string, std::string, std::less<>> map;
    const Context context = default_propagators.extract(
        Headers{{"traceparent", PARENT}, {"tracestate", "a=1"}, {"baggage", "b=2"}});
    const std::string expected = text_of(context);
    default_propagators.inject(context, [&](std::string_view name, std::string_view value) {
        map[std::string(name)] = value;
    });
    const auto find = [&](std::string_view name) { return map.find(name); };
    const auto extracted = [](auto get) { return text_of(default_propagators.extract(get)); };
    CHECK(extracted([&](std::string_view name) {
              return find(name) == map.end() ? std::string() : find(name)->second;
          }) == expected);
    CHECK(extracted([&](std::string_view name) {
              return find(name) == map.end() ? std::string_view() : find(name)->second;
          }) == expected);
    CHECK(extracted([&](std::string_view name) {
              return find(name) == map.end() ? nullptr : find(name)->second.c_str();
          }) == expected);
    CHECK(extracted([&](std::string_view name) {
              return find(name) == map.end() ? std::nullopt : std::optional(find(name)->second);
          }) == expected);
    CHECK(extracted([&](std::string_view name, auto found) {
              if (find(name) != map.end()) found(find(name)->second);
          }) == expected);
    CHECK(extracted([&](std::string_view name, auto found) {
              if (name == "tracestate") found("b=2");
              if (find(name) != map.end()) found(find(name)->second);
          }) == seen + " [b=2,a=1] {b=2}");
}

TEST_CASE("what a carrier throws is a header that is not there, and not set") {
    int calls = 0;
    const auto throwing = [&](std::string_view name) -> std::string {
        ++calls;
        if (name != "traceparent") throw std::runtime_error("no such header");
        return PARENT;
    };
    CHECK(text_of(default_propagators.extract(throwing)) == seen);
    CHECK(calls == 3);
    Headers headers;
    const Context context =
        default_propagators.extract(throwing).with_baggage(Baggage().set("a", "1"));
    default_propagators.inject(context, [&](std::string_view name, std::string_view value) {
        if (name == "traceparent") throw std::runtime_error("full");
        headers.emplace_back(name, value);
    });
    CHECK(text_of(headers) == "baggage: a=1\n");
}

TEST_CASE("a remote context is continued: the same trace, a new span, its state and flags") {
    const Rings rings = in_child([] {
        const Tracer tracer = oteld::tracer("test");
        Headers out;
        {
            const auto scope = attach(extract(Headers{{"traceparent", "00-" TRACE "-" SPAN "-03"},
                                                      {"tracestate", "a=1"},
                                                      {"baggage", "b=2"}}));
            EXPECT(text_of(current()) == TRACE "-" SPAN " 3 [a=1] {b=2}");
            const auto span = tracer.scope("served", server);
            inject(out);
            EXPECT(out.size() == 3);
            EXPECT(out[0].second == "00-" TRACE "-" + span.context().span_id_hex() + "-03");
            EXPECT(out[1].second == "a=1");
            EXPECT(out[2].second == "b=2");
        }
        out.clear();
        inject(out);
        EXPECT(out.empty());
        (void)tracer.span("by option", parent(extract(Headers{{"traceparent", PARENT}})));
    });
    check_balance(rings);
    CHECK(rings.span("served").trace_id == TRACE);
    CHECK(rings.span("served").parent_id == SPAN);
    CHECK(rings.span("served").trace_state == "a=1");
    CHECK(rings.span("served").flags == 0x303);
    CHECK(rings.span("served").attributes.empty());  // Baggage stays out of spans.
    CHECK(rings.span("by option").parent_id == SPAN);
}

TEST_CASE("a sampling decision without ids is for the next root; ids without one leave it to us") {
    const auto recorded = [](Propagator which, Headers headers, const char* sampler) {
        const Rings rings = in_child(
            [&] {
                const auto scope = attach(Propagators{which}.extract(headers));
                const auto span = tracer("test").scope("first");
                (void)tracer("test").span("second");
                Headers out;
                Propagators{which}.inject(current(), out);
                EXPECT(!out.empty());
            },
            {{"OTEL_TRACES_SAMPLER", sampler}});
        check_balance(rings);
        CHECK(rings.spans.size() + rings.unsampled == 2);
        for (const ReadSpan& span : rings.spans) {
            if (span.name == "first" && headers[0].second.size() < 3) CHECK(span.parent_id == "");
        }
        return rings.spans.size();
    };
    const char* on = "parentbased_always_on";
    const char* off = "parentbased_always_off";
    CHECK(recorded(Propagator::b3, {{"b3", "0"}}, on) == 0);
    CHECK(recorded(Propagator::b3, {{"b3", "1"}}, off) == 2);
    CHECK(recorded(Propagator::b3, {{"b3", "d"}}, off) == 2);
    CHECK(recorded(Propagator::b3, {{"b3", "0"}}, "always_on") == 2);
    CHECK(recorded(Propagator::b3, {{"b3", TRACE "-" SPAN}}, on) == 2);
    CHECK(recorded(Propagator::b3, {{"b3", TRACE "-" SPAN}}, off) == 0);
    CHECK(recorded(Propagator::b3, {{"b3", TRACE "-" SPAN "-0"}}, on) == 0);
    const std::string root = "Root=1-0af76519-16cd43dd8448eb211c80319c";
    CHECK(recorded(Propagator::xray, {{"x-amzn-trace-id", root + ";Parent=" SPAN ";Sampled=?"}},
                   on) == 2);
    CHECK(recorded(Propagator::xray_root, {{"x-amzn-trace-id", root}}, off) == 0);
    const Rings rings = in_child([&] {
        const auto scope =
            attach(Propagators{Propagator::xray_root}.extract(Headers{{"x-amzn-trace-id", root}}));
        (void)tracer("test").span("behind a load balancer");
    });
    CHECK(rings.span("behind a load balancer").trace_id == TRACE);
    CHECK(rings.span("behind a load balancer").parent_id == "");
}

}  // namespace oteld::test
