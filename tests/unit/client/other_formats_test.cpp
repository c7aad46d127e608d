// B3, Jaeger and X-Ray.
#include "propagation_fixture.hpp"

namespace oteld::test {

TEST_CASE("B3: both forms, with and without ids and decisions") {
    const auto one = [](const std::string& value) { return Headers{{"b3", value}}; };
    const std::string short_id = "8448eb211c80319c";
    const auto multi = [](const char* sampled, const char* flags) {
        Headers headers{{"X-B3-TraceId", TRACE}, {"X-B3-SpanId", SPAN}};
        if (sampled != nullptr) headers.emplace_back("X-B3-Sampled", sampled);
        if (flags != nullptr) headers.emplace_back("X-B3-Flags", flags);
        return headers;
    };
    const std::string denied = TRACE "-" SPAN " 0";
    const std::vector<In> rows{
        {"single, sampled", one(TRACE "-" SPAN "-1"), seen},
        {"not sampled", one(TRACE "-" SPAN "-0"), denied},
        {"debug implies sampled", one(TRACE "-" SPAN "-d"), seen + " debug"},
        {"older words", one(TRACE "-" SPAN "-true"), seen},
        {"older words", one(TRACE "-" SPAN "-false"), denied},
        {"no decision: it is ours", one(TRACE "-" SPAN), denied + " deferred"},
        {"a parent", one(TRACE "-" SPAN "-1-" SPAN), seen},
        {"a parent that is none", one(TRACE "-" SPAN "-1-12"), ""},
        {"a parent of 15 digits", one(TRACE "-" SPAN "-1-" + repeated('1', 15)), ""},
        {"of two headers the first counts",
         {{"b3", TRACE "-" SPAN "-0"}, {"b3", repeated('1', 32) + "-" SPAN "-1"}},
         denied},
        {"an empty parent", one(TRACE "-" SPAN "-1-"), ""},
        {"something behind the parent", one(TRACE "-" SPAN "-1-" SPAN "-1"), ""},
        {"an empty decision", one(TRACE "-" SPAN "-"), ""},
        {"an unknown decision", one(TRACE "-" SPAN "-2"), ""},
        {"a trace id of 16 digits", one(short_id + "-" SPAN "-1"),
         "0000000000000000" + short_id + "-" SPAN " 1"},
        {"of 15", one(repeated('1', 15) + "-" SPAN "-1"), ""},
        {"of 31", one(repeated('1', 31) + "-" SPAN "-1"), ""},
        {"of 33", one(repeated('1', 33) + "-" SPAN "-1"), ""},
        {"a span id of 15 digits", one(TRACE "-" + repeated('1', 15) + "-1"), ""},
        {"a span id of 17 digits", one(TRACE "-" + repeated('1', 17) + "-1"), ""},
        {"zeros", one(repeated('0', 32) + "-" SPAN "-1"), ""},
        {"zeros", one(TRACE "-" + repeated('0', 16) + "-1"), ""},
        {"upper case", one("0AF7651916CD43DD8448EB211C80319C-" SPAN "-1"), ""},
        {"white space around it", one(" " TRACE "-" SPAN "-1 "), seen},
        {"its name has no case", {{"B3", TRACE "-" SPAN "-1"}}, seen},
        {"a decision alone", one("0"), " 0 decided"},
        {"a decision alone", one("1"), " 1 decided"},
        {"a decision alone", one("d"), " 1 decided debug"},
        {"nonsense", one("x"), ""},
        {"empty", one(""), ""},
        {"multi, sampled", multi("1", nullptr), seen},
        {"not sampled", multi("0", nullptr), denied},
        {"older words", multi("true", nullptr), seen},
        {"older words", multi("False", nullptr), denied},
        {"debug", multi(nullptr, "1"), seen + " debug"},
        {"debug beats the decision", multi("0", "1"), seen + " debug"},
        {"debug as a decision", multi("d", nullptr), seen + " debug"},
        {"other flags mean nothing", multi("0", "2"), denied},
        {"no decision: it is ours", multi(nullptr, nullptr), denied + " deferred"},
        {"no decision, and no flags", multi(nullptr, "0"), denied + " deferred"},
        {"an unknown decision", multi("2", nullptr), ""},
        {"a parent",
         {{"X-B3-TraceId", TRACE},
          {"X-B3-ParentSpanId", "1"},
          {"X-B3-SpanId", SPAN},
          {"X-B3-Sampled", "1"}},
         seen},
        {"lower-case names",
         {{"x-b3-traceid", TRACE}, {"x-b3-spanid", SPAN}, {"x-b3-sampled", "1"}},
         seen},
        {"a trace id of 16 digits",
         {{"X-B3-TraceId", short_id}, {"X-B3-SpanId", SPAN}, {"X-B3-Sampled", "1"}},
         "0000000000000000" + short_id + "-" SPAN " 1"},
        {"a trace id of 20 digits",
         {{"X-B3-TraceId", repeated('1', 20)}, {"X-B3-SpanId", SPAN}, {"X-B3-Sampled", "1"}},
         ""},
        {"no span id", {{"X-B3-TraceId", TRACE}, {"X-B3-Sampled", "1"}}, ""},
        {"no trace id", {{"X-B3-SpanId", SPAN}, {"X-B3-Sampled", "1"}}, ""},
        {"zeros", {{"X-B3-TraceId", repeated('0', 32)}, {"X-B3-SpanId", SPAN}}, ""},
        {"zeros", {{"X-B3-TraceId", TRACE}, {"X-B3-SpanId", repeated('0', 16)}}, ""},
        {"a bad span id", {{"X-B3-TraceId", TRACE}, {"X-B3-SpanId", "xyz"}}, ""},
        {"a decision alone", {{"X-B3-Sampled", "0"}}, " 0 decided"},
        {"a decision alone", {{"X-B3-Sampled", "1"}}, " 1 decided"},
        {"debug alone", {{"X-B3-Flags", "1"}}, " 1 decided debug"},
        {"a bad decision alone", {{"X-B3-Sampled", "x"}}, ""},
        {"single beats multi",
         {{"X-B3-TraceId", repeated('1', 32)}, {"X-B3-SpanId", SPAN}, {"b3", TRACE "-" SPAN "-0"}},
         denied},
        {"a bad single one does not",
         {{"b3", "nonsense"},
          {"X-B3-TraceId", TRACE},
          {"X-B3-SpanId", SPAN},
          {"X-B3-Sampled", "1"}},
         seen},
    };
    check({Propagator::b3}, rows);
    check({Propagator::b3multi}, rows);
}

TEST_CASE("B3: what is written") {
    const Propagators single{Propagator::b3}, multi{Propagator::b3multi};
    struct Row {
        const char* in;
        const char* single;
        const char* multi;
    };
    const Row rows[] = {
        {TRACE "-" SPAN "-1", "b3: " TRACE "-" SPAN "-1\n",
         "X-B3-TraceId: " TRACE "\nX-B3-SpanId: " SPAN "\nX-B3-Sampled: 1\n"},
        {TRACE "-" SPAN "-0", "b3: " TRACE "-" SPAN "-0\n",
         "X-B3-TraceId: " TRACE "\nX-B3-SpanId: " SPAN "\nX-B3-Sampled: 0\n"},
        {TRACE "-" SPAN "-d", "b3: " TRACE "-" SPAN "-d\n",
         "X-B3-TraceId: " TRACE "\nX-B3-SpanId: " SPAN "\nX-B3-Flags: 1\n"},
        {TRACE "-" SPAN, "b3: " TRACE "-" SPAN "\n",
         "X-B3-TraceId: " TRACE "\nX-B3-SpanId: " SPAN "\n"},
        {TRACE "-" SPAN "-1-" SPAN, "b3: " TRACE "-" SPAN "-1\n",
         "X-B3-TraceId: " TRACE "\nX-B3-SpanId: " SPAN "\nX-B3-Sampled: 1\n"},
        {"8448eb211c80319c-" SPAN "-1", "b3: 00000000000000008448eb211c80319c-" SPAN "-1\n",
         "X-B3-TraceId: 00000000000000008448eb211c80319c\nX-B3-SpanId: " SPAN
         "\nX-B3-Sampled: 1\n"},
        {"0", "b3: 0\n", "X-B3-Sampled: 0\n"},
        {"1", "b3: 1\n", "X-B3-Sampled: 1\n"},
        {"d", "b3: d\n", "X-B3-Flags: 1\n"},
        {"", "", ""},
    };
    for (const Row& row : rows) {
        CAPTURE(row.in);
        const Context context = single.extract(Headers{{"b3", row.in}});
        CHECK(text_of(headers_of(context, single)) == row.single);
        CHECK(text_of(headers_of(context, multi)) == row.multi);
    }
    // The debug flag goes on with its trace, under other spans, and not with another trace.
    const Context debug = single.extract(Headers{{"b3", TRACE "-" SPAN "-d"}});
    const SpanContext same(debug.span().trace_id(), {7}, 3, false);
    CHECK(text_of(headers_of(debug.with_span(same), single)) == "b3: " TRACE
                                                                "-0700000000000000-d\n");
    CHECK(text_of(headers_of(debug.with_span(SpanContext({1}, {7}, 1, false)), single)) ==
          "b3: 01000000000000000000000000000000-0700000000000000-1\n");
    const Context off = single.extract(Headers{{"b3", TRACE "-" SPAN "-1"}}, debug);
    CHECK(text_of(headers_of(off, single)) == "b3: " TRACE "-" SPAN "-1\n");
    // And reaches a root that was told so.
    const Context told = single.extract(Headers{{"b3", "d"}});
    CHECK(text_of(headers_of(told.with_span(same), single)) == "b3: " TRACE
                                                               "-0700000000000000-d\n");
}

TEST_CASE("Jaeger: ids of any length, flags, encoding, baggage") {
    const auto one = [](const std::string& value) { return Headers{{"uber-trace-id", value}}; };
    check(
        {Propagator::jaeger},
        {
            {"sampled", one(TRACE ":" SPAN ":0:1"), seen},
            {"two digits of flags", one(TRACE ":" SPAN ":0:01"), seen},
            {"not sampled", one(TRACE ":" SPAN ":0:0"), TRACE "-" SPAN " 0"},
            {"debug", one(TRACE ":" SPAN ":0:3"), seen + " debug"},
            {"debug alone implies sampled", one(TRACE ":" SPAN ":0:2"), seen + " debug"},
            {"firehose is not kept", one(TRACE ":" SPAN ":0:9"), seen},
            {"a parent", one(TRACE ":" SPAN ":" SPAN ":1"), seen},
            {"leading zeros may be missing", one("1:2:0:1"),
             "00000000000000000000000000000001-0000000000000002 1"},
            {"upper case", one("AF7651916CD43DD8448EB211C80319C:" SPAN ":0:1"), seen},
            {"percent-encoded", one(TRACE "%3A" SPAN "%3a0%3A1"), seen},
            {"its name has no case", {{"Uber-Trace-Id", TRACE ":" SPAN ":0:1"}}, seen},
            {"white space around it", one(" " TRACE ":" SPAN ":0:1\t"), seen},
            {"three parts", one(TRACE ":" SPAN ":1"), ""},
            {"five parts", one(TRACE ":" SPAN ":0:1:1"), ""},
            {"an empty part", one(TRACE ":" SPAN "::1"), ""},
            {"no flags", one(TRACE ":" SPAN ":0:"), ""},
            {"flags of three digits", one(TRACE ":" SPAN ":0:001"), ""},
            {"a trace id of 33 digits", one("1" TRACE ":" SPAN ":0:1"), ""},
            {"a span id of 17 digits", one(TRACE ":1" SPAN ":0:1"), ""},
            {"zeros", one("0:" SPAN ":0:1"), ""},
            {"zeros", one(TRACE ":0:0:1"), ""},
            {"no hex digits", one("xyz:" SPAN ":0:1"), ""},
            {"characters beyond ASCII", one("\xC3\xA4:" SPAN ":0:1"), ""},
            {"too long", one(repeated('0', 200) + TRACE ":" SPAN ":0:1"), ""},
            {"empty", one(""), ""},
            {"baggage",
             {{"uber-trace-id", TRACE ":" SPAN ":0:1"}, {"uberctx-a", "1%202"}, {"Uberctx-B", ""}},
             seen + " {a=1 2|B=}"},
            {"baggage without ids", {{"uberctx-a", "1"}}, " {a=1}"},
            {"baggage with bad ids", {{"uber-trace-id", "x"}, {"uberctx-a", "1"}}, " {a=1}"},
            {"baggage without a key", {{"uberctx-", "1"}}, ""},
            {"baggage with a bad value", {{"uberctx-a", "1 2"}, {"uberctx-b", "2"}}, " {b=2}"},
            {"other headers", {{"jaeger-debug", "1"}, {"uberct", "1"}}, ""},
            {"somebody asks for a trace", {{"jaeger-debug-id", "mine"}}, " 1 decided debug"},
            {"its name has no case", {{"Jaeger-Debug-Id", "mine"}}, " 1 decided debug"},
            {"of a request with bad ids",
             {{"uber-trace-id", "x"}, {"jaeger-debug-id", "mine"}},
             " 1 decided debug"},
            {"of one with a trace",
             {{"jaeger-debug-id", "mine"}, {"uber-trace-id", TRACE ":" SPAN ":0:0"}},
             TRACE "-" SPAN " 0"},
            {"asks with nothing", {{"jaeger-debug-id", " "}}, ""},
            {"baggage in one header",
             {{"jaeger-baggage", "a=1, b = 2%203 ,c,=4"}, {"jaeger-baggage", "d=5"}},
             " {a=1|b=2 3|d=5}"},
            {"baggage of both kinds",
             {{"uberctx-a", "9"}, {"Jaeger-Baggage", "a=1,b=2"}},
             " {b=2|a=9}"},
            {"empty baggage", {{"jaeger-baggage", ""}}, ""},
            {"all of it",
             {{"jaeger-debug-id", "mine"}, {"jaeger-baggage", "a=1"}},
             " 1 decided debug {a=1}"},
        });
}

TEST_CASE("Jaeger: what is written") {
    const Propagators jaeger{Propagator::jaeger};
    const auto again = [&](const std::string& in, const Baggage& baggage = {}) {
        return text_of(headers_of(
            jaeger.extract(Headers{{"uber-trace-id", in}}).with_baggage(baggage), jaeger));
    };
    CHECK(again(TRACE ":" SPAN ":" SPAN ":1") == "uber-trace-id: " TRACE ":" SPAN ":0:01\n");
    CHECK(again(TRACE ":" SPAN ":0:0") == "uber-trace-id: " TRACE ":" SPAN ":0:00\n");
    CHECK(again(TRACE ":" SPAN ":0:f") == "uber-trace-id: " TRACE ":" SPAN ":0:03\n");
    CHECK(again("1:2:0:1") ==
          "uber-trace-id: 00000000000000000000000000000001:0000000000000002:0:01\n");
    // What was asked for goes on as the debug flag of the trace that begins here.
    const Context asked = jaeger.extract(Headers{{"jaeger-debug-id", "mine"}});
    CHECK(text_of(headers_of(asked, jaeger)) == "");
    CHECK(text_of(headers_of(asked.with_span(SpanContext({1}, {7}, 3, false)), jaeger)) ==
          "uber-trace-id: 01000000000000000000000000000000:0700000000000000:0:03\n");
    CHECK(again("", Baggage().set("a", "1 2", "p").set("b c", "3").set("d", "")) ==
          "uberctx-a: 1%202\nuberctx-d: \n");
    CHECK(again("", Baggage().set(repeated('k', 249), "1")) == "");
    CHECK(again("", Baggage().set("Key", "1").set("a", "2").set("key", "3")) ==
          "uberctx-a: 2\nuberctx-key: 3\n");
    CHECK(again("", Baggage().set("a", repeated('v', 8190)).set("b", "123").set("c", "1")) ==
          "uberctx-a: " + repeated('v', 8190) + "\nuberctx-c: 1\n");
}

TEST_CASE("X-Ray: any order, decisions, what load balancers send") {
    const auto one = [](const std::string& value) { return Headers{{"X-Amzn-Trace-Id", value}}; };
    const std::string root = "Root=1-0af76519-16cd43dd8448eb211c80319c";
    const std::string parent = "Parent=" SPAN;
    const std::string denied = TRACE "-" SPAN " 0";
    const std::vector<In> rows{
        {"sampled", one(root + ";" + parent + ";Sampled=1"), seen},
        {"not sampled", one(root + ";" + parent + ";Sampled=0"), denied},
        {"the caller asks", one(root + ";" + parent + ";Sampled=?"), denied + " deferred"},
        {"no decision: it is ours", one(root + ";" + parent), denied + " deferred"},
        {"another order", one("Sampled=1;" + parent + ";" + root), seen},
        {"spaces behind separators", one(root + "; " + parent + "; Sampled=1"), seen},
        {"a separator at the end", one(root + ";" + parent + ";Sampled=1;"), seen},
        {"empty pairs", one(";;" + root + ";;" + parent + ";Sampled=1"), seen},
        {"unknown pairs", one("CalledFrom=app;" + root + ";" + parent + ";Sampled=1;x"), seen},
        {"Self does not matter", one("Self=1-1-1;" + root + ";" + parent + ";Sampled=1"), seen},
        {"its name has no case", {{"x-amzn-trace-id", root + ";" + parent + ";Sampled=1"}}, seen},
        {"an old lineage", one(root + ";" + parent + ";Sampled=1;Lineage=a87bd80c:1|68fd508a:5"),
         seen + " lineage a87bd80c:1|68fd508a:5"},
        {"a new lineage", one(root + ";" + parent + ";Sampled=1;Lineage=1:a87bd80c:0"),
         seen + " lineage 1:a87bd80c:0"},
        {"a lineage that is none", one(root + ";" + parent + ";Sampled=1;Lineage=a b"), seen},
        {"an empty lineage", one(root + ";" + parent + ";Sampled=1;Lineage="), seen},
        {"a lineage of 256", one(root + ";" + parent + ";Sampled=1;Lineage=" + repeated('a', 256)),
         seen + " lineage " + repeated('a', 256)},
        {"a lineage of 257", one(root + ";" + parent + ";Sampled=1;Lineage=" + repeated('a', 257)),
         seen},
        {"an unknown decision", one(root + ";" + parent + ";Sampled=2"), ""},
        {"no root", one(parent + ";Sampled=1"), ""},
        {"another version", one("Root=2-0af76519-16cd43dd8448eb211c80319c;" + parent), ""},
        {"a root of 36", one(root + "0;" + parent + ";Sampled=1"), ""},
        {"a root of 34", one("Root=1-0af76519-16cd43dd8448eb211c80319;" + parent), ""},
        {"dashes elsewhere", one("Root=1-0af765191-6cd43dd8448eb211c80319c;" + parent), ""},
        {"zeros", one("Root=1-00000000-000000000000000000000000;" + parent), ""},
        {"no hex digits in the root", one("Root=1-0af7651x-16cd43dd8448eb211c80319c;" + parent),
         ""},
        {"a parent of 15", one(root + ";Parent=" + repeated('1', 15)), ""},
        {"a parent of zeros", one(root + ";Parent=" + repeated('0', 16)), ""},
        {"no hex digits in the parent", one(root + ";Parent=" + repeated('x', 16)), ""},
        {"empty", one(""), ""},
    };
    check({Propagator::xray}, rows);
    check({Propagator::xray_root}, rows);
    const std::string none = TRACE "-0000000000000000";
    check({Propagator::xray}, {{"a root alone, by default", one(root), ""}});
    check({Propagator::xray_root},
          {
              {"a root alone", one(root), none + " 0 deferred"},
              {"a root and Self", one("Self=1-1-1;" + root), none + " 0 deferred"},
              {"a root alone, with a decision", one(root + ";Sampled=1"), none + " 1"},
          });
}

TEST_CASE("X-Ray: what is written") {
    const Propagators xray{Propagator::xray};
    const std::string ids = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=" SPAN;
    const auto again = [&](const std::string& in) {
        const Headers out = headers_of(xray.extract(Headers{{"x-amzn-trace-id", in}}), xray);
        return out.empty() ? std::string() : out.at(0).first + ": " + out.at(0).second;
    };
    const std::string name = "X-Amzn-Trace-Id: ";
    CHECK(again("Sampled=1; Self=1-1-1; " + ids + ";") == name + ids + ";Sampled=1");
    CHECK(again(ids + ";Sampled=0") == name + ids + ";Sampled=0");
    CHECK(again(ids + ";Sampled=?") == name + ids);
    CHECK(again(ids) == name + ids);
    CHECK(again(ids + ";Sampled=1;Lineage=" + repeated('a', 256)) ==
          name + ids + ";Sampled=1;Lineage=" + repeated('a', 256));
    CHECK(again("") == "");
}

}  // namespace oteld::test
