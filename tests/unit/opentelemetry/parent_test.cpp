// Whose child a span of opentelemetry-cpp's API becomes, and what its context passes on.
#include "bridge_fixture.hpp"

#include <opentelemetry/context/propagation/text_map_propagator.h>
#include <opentelemetry/trace/propagation/http_trace_context.h>

#include <map>
#include <string>

namespace oteld::test {
namespace {

otrace::StartSpanOptions under(const otrace::SpanContext& parent) {
    otrace::StartSpanOptions options;
    options.parent = parent;
    return options;
}
otrace::StartSpanOptions under(const otel::context::Context& parent) {
    otrace::StartSpanOptions options;
    options.parent = parent;
    return options;
}

class Headers : public otel::context::propagation::TextMapCarrier {
public:
    [[nodiscard]] nostd::string_view Get(nostd::string_view key) const noexcept override {
        const auto found = all.find(std::string(key.data(), key.size()));
        return found == all.end() ? nostd::string_view() : nostd::string_view(found->second);
    }
    void Set(nostd::string_view key, nostd::string_view value) noexcept override {
        all[std::string(key.data(), key.size())] = std::string(value.data(), value.size());
    }
    std::map<std::string, std::string> all;
};

}  // namespace

TEST_CASE("the active span is the parent, and a span without one is a root") {
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        {
            SpanPointer outer = tracer->StartSpan("outer");
            const otrace::Scope scope(outer);
            {
                const otrace::Scope inner(tracer->StartSpan("inner"));
                tracer->StartSpan("leaf");
            }
            tracer->StartSpan("sibling");
        }
        tracer->StartSpan("root");
    });
    check_balance(rings);
    CHECK(rings.span("outer").parent_id == "");
    CHECK(rings.span("outer").flags == 0x103);
    CHECK(rings.span("inner").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("leaf").parent_id == rings.span("inner").span_id);
    CHECK(rings.span("leaf").trace_id == rings.span("outer").trace_id);
    CHECK(rings.span("leaf").flags == 0x103);
    CHECK(rings.span("sibling").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("root").parent_id == "");
    CHECK(rings.span("root").trace_id != rings.span("outer").trace_id);
}

TEST_CASE("an explicit parent: a span's context, a context with a span, and none") {
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        SpanPointer active = tracer->StartSpan("active");
        const otrace::Scope scope(active);
        const SpanPointer other = tracer->StartSpan("other");
        tracer->StartSpan("by context", under(other->GetContext()));
        otel::context::Context with_other("active_span", other);
        tracer->StartSpan("in a context", under(with_other));
        otel::context::Context root("is_root_span", true);
        tracer->StartSpan("root", under(root));
        otel::context::Context both = with_other.SetValue("is_root_span", true);
        tracer->StartSpan("a span wins over root", under(both));
        tracer->StartSpan("invalid", under(otrace::SpanContext::GetInvalid()));
        tracer->StartSpan("not root", under(otel::context::Context("is_root_span", false)));
        tracer->StartSpan("no span", under(otel::context::Context("active_span", true)));
        tracer->StartSpan("null span", under(otel::context::Context("active_span", SpanPointer())));
        const nostd::shared_ptr<otrace::SpanContext> bare(
            new otrace::SpanContext(other->GetContext()));
        tracer->StartSpan("bare context", under(otel::context::Context("active_span", bare)));
    });
    check_balance(rings);
    const std::string active = rings.span("active").span_id;
    const std::string other = rings.span("other").span_id;
    CHECK(rings.span("by context").parent_id == other);
    CHECK(rings.span("in a context").parent_id == other);
    CHECK(rings.span("root").parent_id == "");
    CHECK(rings.span("a span wins over root").parent_id == other);
    CHECK(rings.span("invalid").parent_id == active);
    CHECK(rings.span("not root").parent_id == active);
    CHECK(rings.span("no span").parent_id == active);
    CHECK(rings.span("null span").parent_id == active);
    CHECK(rings.span("bare context").parent_id == other);
}

TEST_CASE("a remote parent: its ids, flags and trace state go on to children and grandchildren") {
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        const SpanPointer child = tracer->StartSpan("child", under(remote_parent(3, "k=v,l=w")));
        EXPECT(!child->GetContext().IsRemote());
        EXPECT(child->GetContext().trace_flags().flags() == 3);
        EXPECT(child->GetContext().trace_state()->ToHeader() == "k=v,l=w");
        const SpanPointer grandchild = tracer->StartSpan("grandchild", under(child->GetContext()));
        EXPECT(grandchild->GetContext().trace_state()->ToHeader() == "k=v,l=w");
        SpanPointer active = child;
        const auto scope = otrace::Tracer::WithActiveSpan(active);
        const SpanPointer nested = tracer->StartSpan("nested");
        // The same object, which nobody had to read again.
        EXPECT(nested->GetContext().trace_state().get() == child->GetContext().trace_state().get());
        EXPECT(!tracer->StartSpan("unsampled", under(remote_parent(0)))->IsRecording());
        EXPECT(tracer->StartSpan("none", under(remote_parent(1)))
                   ->GetContext()
                   .trace_state()
                   ->Empty());
    });
    check_balance(rings);
    CHECK(rings.span("child").trace_id == "01020300000000000000000000000000");
    CHECK(rings.span("child").parent_id == "0405000000000000");
    CHECK(rings.span("child").trace_state == "k=v,l=w");
    CHECK(rings.span("child").flags == 0x303);
    CHECK(rings.span("grandchild").parent_id == rings.span("child").span_id);
    CHECK(rings.span("grandchild").trace_state == "k=v,l=w");
    CHECK(rings.span("grandchild").flags == 0x103);
    CHECK(rings.span("nested").trace_state == "k=v,l=w");
    CHECK(rings.span("nested").flags == 0x103);
}

TEST_CASE("opentelemetry-cpp's propagator takes the contexts of these spans in and out") {
    const Rings rings = in_bridged_child([] {
        const auto tracer = their_tracer();
        otrace::propagation::HttpTraceContext propagator;
        Headers in, out;
        in.all["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        in.all["tracestate"] = "k=v";
        otel::context::Context context;
        context = propagator.Extract(in, context);
        const SpanPointer span = tracer->StartSpan("served", under(context));
        const otrace::Scope scope(span);
        propagator.Inject(out, otel::context::RuntimeContext::GetCurrent());
        const SpanContext ours = from_opentelemetry(span->GetContext());
        EXPECT(out.all["traceparent"] ==
               "00-" + ours.trace_id_hex() + "-" + ours.span_id_hex() + "-01");
        EXPECT(out.all["tracestate"] == "k=v");
    });
    check_balance(rings);
    CHECK(rings.span("served").trace_id == "0af7651916cd43dd8448eb211c80319c");
    CHECK(rings.span("served").parent_id == "b7ad6b7169203331");
    CHECK(rings.span("served").flags == 0x301);
}

TEST_CASE("without a span in opentelemetry-cpp's context ours is the parent") {
    const Rings rings = in_bridged_child([] {
        const auto outer = tracer("ours").scope("outer");
        const SpanPointer inner = their_tracer()->StartSpan("inner");
        const otrace::Scope scope(inner);
        their_tracer()->StartSpan("leaf");
        const SpanContext remote(some_trace, some_span, 1, true, "k=v");
        const auto attached = attach(remote);
        otel::context::Context nothing;
        const auto token = otel::context::RuntimeContext::Attach(nothing);
        const SpanPointer served = their_tracer()->StartSpan("served");
        EXPECT(served->GetContext().trace_state()->ToHeader() == "k=v");
        their_tracer()->StartSpan("root", under(otel::context::Context("is_root_span", true)));
    });
    check_balance(rings);
    CHECK(rings.span("inner").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("leaf").parent_id == rings.span("inner").span_id);
    CHECK(rings.span("served").parent_id == "0405000000000000");
    CHECK(rings.span("served").trace_state == "k=v");
    CHECK(rings.span("root").parent_id == "");
}

TEST_CASE("a span's context is the same on either side") {
    const otrace::SpanContext theirs = remote_parent(3, "k=v,l=w");
    const SpanContext ours = from_opentelemetry(theirs);
    CHECK(ours.valid());
    CHECK(ours.remote());
    CHECK(ours.flags() == 3);
    CHECK(ours.trace_state() == "k=v,l=w");
    CHECK(ours.trace_id_hex() == "01020300000000000000000000000000");
    CHECK(ours.span_id_hex() == "0405000000000000");
    const otrace::SpanContext back = to_opentelemetry(ours);
    CHECK(back == theirs);
    CHECK(back.IsRemote());
    CHECK(back.trace_state()->ToHeader() == "k=v,l=w");
    const otrace::SpanContext local =
        to_opentelemetry(SpanContext(some_trace, some_span, 0, false));
    CHECK(!local.IsRemote());
    CHECK(!local.IsSampled());
    CHECK(local.trace_state()->Empty());
    CHECK(!from_opentelemetry(otrace::SpanContext::GetInvalid()).valid());
    CHECK(!to_opentelemetry(SpanContext()).IsValid());
    CHECK(from_opentelemetry(otrace::SpanContext(otrace::TraceId(some_trace),
                                                 otrace::SpanId(some_span), otrace::TraceFlags(1),
                                                 false, nostd::shared_ptr<otrace::TraceState>()))
              .trace_state() == "");
}

}  // namespace oteld::test
