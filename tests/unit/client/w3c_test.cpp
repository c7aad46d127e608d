// traceparent, tracestate and baggage as the W3C has them.
#include "propagation_fixture.hpp"

namespace oteld::test {

TEST_CASE("traceparent: what is valid, and what makes a new trace") {
    const auto one = [](const std::string& value) { return Headers{{"traceparent", value}}; };
    check(
        {Propagator::tracecontext},
        {
            {"a valid one", one(PARENT), seen},
            {"its name has no case", {{"TraceParent", PARENT}}, seen},
            {"another name", {{"trace-parent", PARENT}}, ""},
            {"none", {}, ""},
            {"empty", one(""), ""},
            {"two of them", {{"traceparent", PARENT}, {"traceparent", PARENT}}, ""},
            {"a good one and a bad one", {{"traceparent", PARENT}, {"traceparent", "x"}}, ""},
            {"a bad one and a good one", {{"traceparent", ""}, {"traceparent", PARENT}}, ""},
            {"white space around it", one(" \t" PARENT "\t "), seen},
            {"white space in it", one("00 -" TRACE "-" SPAN "-01"), ""},
            {"not sampled", one("00-" TRACE "-" SPAN "-00"), TRACE "-" SPAN " 0"},
            {"the random bit stays", one("00-" TRACE "-" SPAN "-02"), TRACE "-" SPAN " 2"},
            {"both bits", one("00-" TRACE "-" SPAN "-03"), TRACE "-" SPAN " 3"},
            {"unknown bits do not", one("00-" TRACE "-" SPAN "-fd"), seen},
            {"upper case in the trace id", one("00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01"),
             ""},
            {"upper case in the span id", one("00-" TRACE "-B7AD6B7169203331-01"), ""},
            {"upper case in the flags", one("00-" TRACE "-" SPAN "-0A"), ""},
            {"upper case in the version", one("CC-" TRACE "-" SPAN "-01"), ""},
            {"version ff", one("ff-" TRACE "-" SPAN "-01"), ""},
            {"a later version", one("cc-" TRACE "-" SPAN "-01"), seen},
            {"a later version that goes on", one("cc-" TRACE "-" SPAN "-01-more"), seen},
            {"a later version that ends with a dash", one("cc-" TRACE "-" SPAN "-01-"), seen},
            {"a later version that goes on without a dash", one("cc-" TRACE "-" SPAN "-01.more"),
             ""},
            {"a later version with unknown bits", one("01-" TRACE "-" SPAN "-ff"),
             TRACE "-" SPAN " 3"},
            {"version 00 goes no further", one(PARENT "-more"), ""},
            {"version 00 with one character more", one(PARENT "."), ""},
            {"no hex digit in the version", one("0.-" TRACE "-" SPAN "-01"), ""},
            {"a version of three digits", one("000-" TRACE "-" SPAN "-01"), ""},
            {"a version of one digit", one("0-" TRACE "-" SPAN "-01"), ""},
            {"a trace id of zeros", one("00-" + repeated('0', 32) + "-" SPAN "-01"), ""},
            {"a span id of zeros", one("00-" TRACE "-" + repeated('0', 16) + "-01"), ""},
            {"no hex digit in the trace id", one("00-." + repeated('1', 31) + "-" SPAN "-01"), ""},
            {"no hex digit in the span id", one("00-" TRACE "-." + repeated('1', 15) + "-01"), ""},
            {"no hex digit in the flags", one("00-" TRACE "-" SPAN "-.0"), ""},
            {"a trace id of 33 digits", one("00-" TRACE "1-" SPAN "-01"), ""},
            {"a trace id of 31 digits", one("00-" + repeated('1', 31) + "-" SPAN "-01"), ""},
            {"a span id of 17 digits", one("00-" TRACE "-" SPAN "1-01"), ""},
            {"a span id of 15 digits", one("00-" TRACE "-" + repeated('1', 15) + "-01"), ""},
            {"flags of three digits", one("00-" TRACE "-" SPAN "-001"), ""},
            {"flags of one digit", one("00-" TRACE "-" SPAN "-1"), ""},
            {"dashes elsewhere", one("00_" TRACE "_" SPAN "_01"), ""},
        });
}

TEST_CASE("tracestate: members, keys, values, limits") {
    const auto with = [](std::initializer_list<std::string> states) {
        Headers headers{{"traceparent", PARENT}};
        for (const std::string& state : states) headers.emplace_back("tracestate", state);
        return headers;
    };
    const auto kept = [](const std::string& state) { return seen + " [" + state + "]"; };
    const std::string allowed_key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/@a";
    std::string allowed_value;
    for (char c = 0x20; c <= 0x7E; ++c) {
        if (c != ',' && c != '=') allowed_value += c;
    }
    const std::string long_member = "l=" + repeated('x', 200);
    // 31 members, of which some are long: 31 * 4 + 20 * (254 - 2) bytes and more.
    std::string long_list, long_list_kept;
    for (int i = 0; i < 31; ++i) {
        const std::string key(1, static_cast<char>(i < 26 ? 'a' + i : '0' + i - 26));
        const bool is_long = i % 3 != 0;
        const std::string member = key + "=" + repeated('v', is_long ? 250 : 100);
        long_list += (i == 0 ? "" : ",") + member;
        // 11 short ones with 11 * 103 bytes; the first 11 long ones with 253 each fit beside them.
        if (!is_long || i <= 16) long_list_kept += (i == 0 ? "" : ",") + member;
    }
    REQUIRE(long_list_kept.size() <= detail::trace_state_bytes_max);
    REQUIRE(long_list_kept.size() + 253 > detail::trace_state_bytes_max);
    std::string middle_list, middle_list_kept;  // Of members of 128 bytes none is long.
    for (int i = 0; i < 32; ++i) {
        const std::string member =
            std::string(1, static_cast<char>(i < 26 ? 'a' + i : '0' + i - 26)) + "=" +
            repeated('v', 126);
        middle_list += (i == 0 ? "" : ",") + member;
        if (i < 31) middle_list_kept = middle_list;
    }
    check(
        {Propagator::tracecontext},
        {
            {"one member", with({"foo=1"}), kept("foo=1")},
            {"its name has no case", {{"traceparent", PARENT}, {"TraceState", "a=1"}}, kept("a=1")},
            {"another name", {{"traceparent", PARENT}, {"trace-state", "a=1"}}, seen},
            {"without a traceparent", {{"tracestate", "foo=1"}}, ""},
            {"with a bad traceparent", {{"traceparent", PARENT "x"}, {"tracestate", "a=1"}}, ""},
            {"empty", with({""}), seen},
            {"several headers, in order", with({"foo=1,bar=2", "rojo=1,congo=2", "baz=3"}),
             kept("foo=1,bar=2,rojo=1,congo=2,baz=3")},
            {"an empty header among them", with({"foo=1", "", "bar=2"}), kept("foo=1,bar=2")},
            {"empty members", with({",foo=1,, ,bar=2,"}), kept("foo=1,bar=2")},
            {"white space around members", with({"\t foo=1 \t ,\t bar=2 \t"}), kept("foo=1,bar=2")},
            {"white space before a value belongs to it", with({"foo= 1"}), kept("foo= 1")},
            {"white space behind a key", with({"foo =1"}), seen},
            {"all characters of keys and values", with({allowed_key + "=" + allowed_value}),
             kept(allowed_key + "=" + allowed_value)},
            {"a key begins with a digit", with({"0foo=1"}), kept("0foo=1")},
            {"Level 1: tenant and system", with({"tenant@system=1"}), kept("tenant@system=1")},
            {"a key ends with an at sign", with({"foo@=1,bar=2"}), kept("foo@=1,bar=2")},
            {"a key with two of them", with({"a@b@c=1,d@@e=2"}), kept("a@b@c=1,d@@e=2")},
            {"a key begins with one", with({"@foo=1,bar=2"}), seen},
            {"a key begins with a mark", with({"_foo=1"}), seen},
            {"upper case in a key", with({"FOO=1"}), seen},
            {"a dot in a key", with({"foo.bar=1"}), seen},
            {"no key", with({"=1"}), seen},
            {"no equals sign", with({"foo"}), seen},
            {"a key of 256", with({repeated('z', 256) + "=1"}), kept(repeated('z', 256) + "=1")},
            {"a key of 257", with({"foo=1", repeated('z', 257) + "=1"}), seen},
            {"a tenant of 242", with({repeated('t', 242) + "@v=1"}),
             kept(repeated('t', 242) + "@v=1")},
            {"a system of 15", with({"t@" + repeated('v', 15) + "=1"}),
             kept("t@" + repeated('v', 15) + "=1")},
            {"no value", with({"foo=,bar=3"}), seen},
            {"a value of spaces", with({"foo=  ,bar=3"}), seen},
            {"an equals sign in a value", with({"foo=bar=baz"}), seen},
            {"a tab in a value", with({"foo=a\tb"}), seen},
            {"a control character in a value", with({"foo=a\x01"}), seen},
            {"a value beyond ASCII", with({"foo=\xC3\xA4"}), seen},
            {"a value of 256", with({"foo=" + repeated('v', 256)}),
             kept("foo=" + repeated('v', 256))},
            {"a value of 257", with({"foo=" + repeated('v', 257)}), seen},
            {"one bad member takes all", with({"foo=1", "bar=2,BAD=3"}), seen},
            {"32 members", with({members(1, 16), members(17, 32)}),
             kept(members(1, 16) + "," + members(17, 32))},
            {"33 members", with({members(1, 16), members(17, 33)}), seen},
            {"empty members do not count", with({members(1, 32) + ",,,"}), kept(members(1, 32))},
            {"of two with the same key the first counts", with({"foo=1,bar=2,foo=3"}),
             kept("foo=1,bar=2")},
            {"also in two headers", with({"foo=1", "foo=1"}), kept("foo=1")},
            {"512 characters", with({"a=" + repeated('1', 252) + ",b=" + repeated('2', 255)}),
             kept("a=" + repeated('1', 252) + ",b=" + repeated('2', 255))},
            {"too long a list: long members go first, from the right", with({long_list}),
             kept(long_list_kept)},
            {"then others, from the right", with({middle_list}), kept(middle_list_kept)},
            {"OpenTelemetry's own key goes on as it is",
             with({"ot=th:fd70a4;rv:00000000000001,a=1"}),
             kept("ot=th:fd70a4;rv:00000000000001,a=1")},
            {"X-Ray's sampler's, too", with({"xrsr=1"}), kept("xrsr=1")},
        });
}

TEST_CASE("a trace state that is changed has the change in front and at most 32 members") {
    const SpanContext span({1}, {1}, 1, false, "a=1,b=2,c=3");
    CHECK(span.trace_state("b") == "2");
    CHECK(span.trace_state("d") == "");
    CHECK(span.trace_state("") == "");
    CHECK(span.with_trace_state("d", "4").trace_state() == "d=4,a=1,b=2,c=3");
    CHECK(span.with_trace_state("b", "5").trace_state() == "b=5,a=1,c=3");
    CHECK(span.without_trace_state("b").trace_state() == "a=1,c=3");
    CHECK(span.without_trace_state("a")
              .without_trace_state("b")
              .without_trace_state("c")
              .trace_state() == "");
    CHECK(span.with_trace_state("D", "4").trace_state() == "a=1,b=2,c=3");
    CHECK(span.with_trace_state("d", "4,5").trace_state() == "a=1,b=2,c=3");
    CHECK(span.with_trace_state("d", "4 ").trace_state() == "a=1,b=2,c=3");
    CHECK(span.with_trace_state("d", "4").trace_id_hex() == span.trace_id_hex());
    const SpanContext full({1}, {1}, 1, false, members(1, 32));
    CHECK(full.with_trace_state("new", "x").trace_state() == "new=x," + members(1, 31));
    CHECK(full.with_trace_state("k32", "x").trace_state() == "k32=x," + members(1, 31));
}

TEST_CASE("W3C: what is written") {
    const Propagators w3c{Propagator::tracecontext};
    const auto written = [&](const SpanContext& span) {
        return text_of(headers_of(Context().with_span(span), w3c));
    };
    CHECK(written(SpanContext({1, 2}, {3}, 1, false)) ==
          "traceparent: 00-01020000000000000000000000000000-0300000000000000-01\n");
    CHECK(written(SpanContext({1}, {3}, 0xFF, false)) ==
          "traceparent: 00-01000000000000000000000000000000-0300000000000000-03\n");
    CHECK(written(SpanContext({1}, {3}, 0, false, "a=1")) ==
          "traceparent: 00-01000000000000000000000000000000-0300000000000000-00\n"
          "tracestate: a=1\n");
    // What came as a later version goes on as this one.
    CHECK(text_of(headers_of(w3c.extract(Headers{{"traceparent", "cc-" TRACE "-" SPAN "-ff-more"}}),
                             w3c)) == "traceparent: 00-" TRACE "-" SPAN "-03\n");
    CHECK(written(SpanContext()) == "");
    CHECK(written(SpanContext({1}, {0}, 1, false)) == "");
    CHECK(written(SpanContext({0}, {1}, 1, false)) == "");
    // A header must not end where somebody else wants it to.
    CHECK(written(SpanContext({1}, {3}, 0, false, "a=1\r\nevil: 1")) ==
          "traceparent: 00-01000000000000000000000000000000-0300000000000000-00\n");
}

TEST_CASE("baggage: members, encoding, metadata, limits") {
    const auto one = [](const std::string& value) { return Headers{{"baggage", value}}; };
    std::string many, many_kept;
    for (int i = 0; i < 181; ++i) {
        many += (i == 0 ? "" : ",") + std::string("k") + std::to_string(i) + "=v";
        if (i < 180) many_kept += (i == 0 ? "" : "|") + std::string("k") + std::to_string(i) + "=v";
    }
    const std::string most = "a=" + repeated('v', 8190);
    check(
        {Propagator::baggage},
        {
            {"one member", one("key=value"), " {key=value}"},
            {"its name has no case", {{"Baggage", "a=1"}}, " {a=1}"},
            {"several", one("a=1,b=2"), " {a=1|b=2}"},
            {"several headers", {{"baggage", "a=1"}, {"baggage", "b=2"}}, " {a=1|b=2}"},
            {"white space everywhere", one(" a\t= 1 ; p = 2\t,\tb = 2 "), " {a=1;p = 2|b=2}"},
            {"properties stay as text", one("a=1;p;q=2;r=%20"), " {a=1;p;q=2;r=%20}"},
            {"an empty property", one("a=1;"), " {a=1}"},
            {"percent-encoding", one("a=%20%2c%3B%25"), " {a= ,;%}"},
            {"UTF-8", one("a=%C3%A4%E2%82%AC%F0%9F%98%80"),
             " {a=\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80}"},
            {"not UTF-8", one("a=x%FFy"), " {a=x\xEF\xBF\xBDy}"},
            {"half a character", one("a=%E2%82"), " {a=\xEF\xBF\xBD\xEF\xBF\xBD}"},
            {"half a pair", one("a=%ED%A0%80"), " {a=\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD}"},
            {"overlong", one("a=%C0%80"), " {a=\xEF\xBF\xBD\xEF\xBF\xBD}"},
            {"beyond Unicode", one("a=%F4%90%80%80b"),
             " {a=\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
             "b}"},
            {"a percent sign of its own", one("a=100%,b=%zz,c=%4"), " {a=100%|b=%zz|c=%4}"},
            {"a plus is a plus", one("a=1+2"), " {a=1+2}"},
            {"equals signs in a value", one("a=b=c"), " {a=b=c}"},
            {"an empty value", one("a="), " {a=}"},
            {"keys keep their case", one("Key=1,key=2"), " {Key=1|key=2}"},
            {"a key is not decoded", one("a%20b=1"), " {a%20b=1}"},
            {"all marks of a token", one("!#$%&'*+-.^_`|~09azAZ=1"), " {!#$%&'*+-.^_`|~09azAZ=1}"},
            {"of two the last counts", one("a=1,b=2,a=3"), " {b=2|a=3}"},
            {"empty", one(""), ""},
            {"white space alone", one("  "), ""},
            {"empty members", one(",a=1,,"), " {a=1}"},
            {"bad members are left out: no equals sign", one("a,b=2"), " {b=2}"},
            {"no key", one("=1,b=2"), " {b=2}"},
            {"a space in a key", one("a b=1,b=2"), " {b=2}"},
            {"a bracket in a key", one("a(b)=1,b=2"), " {b=2}"},
            {"a space in a value", one("a=1 2,b=2"), " {b=2}"},
            {"a quote in a value", one("a=\"1\",b=2"), " {b=2}"},
            {"a backslash in a value", one("a=1\\2,b=2"), " {b=2}"},
            {"a character beyond ASCII in a value", one("a=\xC3\xA4,b=2"), " {b=2}"},
            {"a control character in a property", one("a=1;p\x01,b=2"), " {b=2}"},
            {"181 members", one(many), " {" + many_kept + "}"},
            {"8192 bytes", one(most), " {" + most + "}"},
            {"8193 bytes", one(most + "v"), ""},
            {"what does not fit is left out, not what comes behind it",
             one("b=2," + repeated('k', 4096) + "=" + repeated('v', 4096) + ",c=3"), " {b=2|c=3}"},
        });
}

TEST_CASE("baggage: what is written") {
    const Propagators w3c{Propagator::baggage};
    const auto written = [&](const Baggage& baggage) {
        const Headers headers = headers_of(Context().with_baggage(baggage), w3c);
        return headers.empty() ? std::string() : headers.at(0).second;
    };
    CHECK(written(Baggage()) == "");
    CHECK(written(Baggage().set("a", "1").set("b", "2", "p;q=3")) == "a=1,b=2;p;q=3");
    CHECK(written(Baggage().set("a", " ,;\\\"%=+\xC3\xA4\x7F")) ==
          "a=%20%2C%3B%5C%22%25=+%C3%A4%7F");
    CHECK(written(Baggage().set("a", "")) == "a=");
    // What may not stand in a header is not sent: keys, metadata.
    CHECK(written(Baggage().set("a b", "1").set("c", "2")) == "c=2");
    CHECK(written(Baggage().set("a b", "1")) == "");
    CHECK(written(Baggage().set("a", "1", "p\r\nevil: 1").set("c", "2", "p,q")) == "a=1,c=2");
    Baggage many;
    for (int i = 0; i < 200; ++i) many = many.set("k" + std::to_string(i), "v");
    CHECK(w3c.extract(Headers{{"baggage", written(many)}}).baggage().size() == 180);
    const std::string most = repeated('v', 8190);
    CHECK(written(Baggage().set("a", most)).size() == 8192);
    CHECK(written(Baggage().set("a", most + "v")) == "");
    CHECK(written(Baggage().set("a", most).set("b", "1")).size() == 8192);
    CHECK(written(Baggage().set("b", "1").set("a", most).set("c", "2")) == "b=1,c=2");
    CHECK(written(Baggage().set("b", repeated('x', 8189)).set("c", "")) ==
          "b=" + repeated('x', 8189));
    CHECK(written(Baggage().set("a", repeated(' ', 2730))).size() == 8192);
    CHECK(written(Baggage().set("a", repeated(' ', 2731))) == "");
}

TEST_CASE("baggage that comes in is added to what there is") {
    const Context before = Context().with_baggage(Baggage().set("a", "1").set("b", "2"));
    const Propagators w3c{Propagator::baggage};
    CHECK(text_of(w3c.extract(Headers{{"baggage", "c=3,a=4"}}, before).baggage()) == "b=2|c=3|a=4");
    CHECK(text_of(w3c.extract(Headers{}, before).baggage()) == "a=1|b=2");
    CHECK(text_of(w3c.extract(Headers{{"baggage", ""}}, before).baggage()) == "a=1|b=2");
    CHECK(text_of(w3c.extract(Headers{{"baggage", "bad"}}, before).baggage()) == "a=1|b=2");
}

}  // namespace oteld::test
