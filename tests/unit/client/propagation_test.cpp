// Every rule of the formats in which a context travels is a row: headers in, what is understood;
// what there is, headers out.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <map>
#include <optional>
#include <stdexcept>
#include <unordered_map>

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN "b7ad6b7169203331"
#define PARENT "00-" TRACE "-" SPAN "-01"

namespace oteld::test {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

std::string text_of(const Baggage& baggage) {
    std::string text;
    for (const Baggage::Entry entry : baggage) {
        if (!text.empty()) text += '|';
        text.append(entry.key).append("=").append(entry.value);
        if (!entry.metadata.empty()) text.append(";").append(entry.metadata);
    }
    return text;
}

// All that a context carries, on one line.
std::string text_of(const Context& context) {
    const SpanContext span = context.span();
    const std::uint8_t remote = context.raw().span.remote;
    std::string text;
    const bool ids = span.trace_id_hex().find_first_not_of('0') != std::string::npos;
    if (ids) text = span.trace_id_hex() + "-" + span.span_id_hex();
    if (ids || (remote & abi::remote_decided) != 0)
        text += (span.flags() & 2U) != 0 ? (span.sampled() ? " 3" : " 2")
                                         : (span.sampled() ? " 1" : " 0");
    if ((span.flags() & ~3U) != 0) text += " unknown flags";
    if ((remote & abi::remote_decided) != 0) text += " decided";
    if ((remote & abi::remote_deferred) != 0) text += " deferred";
    if (remote != 0 && !span.remote()) text += " not remote";
    if (detail::note_of(context, abi::debug_key).there) text += " debug";
    if (const auto note = detail::note_of(context, abi::lineage_key); note.there)
        text.append(" lineage ").append(note.text);
    if (!span.trace_state().empty()) text.append(" [").append(span.trace_state()).append("]");
    if (!context.baggage().empty()) text += " {" + text_of(context.baggage()) + "}";
    return text;
}

std::string text_of(const Headers& headers) {
    std::string text;
    for (const auto& [name, value] : headers) text.append(name).append(": ").append(value) += '\n';
    return text;
}

Headers headers_of(const Context& context, Propagators which) {
    Headers headers;
    which.inject(context, headers);
    return headers;
}

struct In {
    const char* rule;
    Headers headers;
    std::string expected;
};

void check(Propagators which, const std::vector<In>& rows) {
    for (const In& row : rows) {
        CAPTURE(row.rule);
        CAPTURE(text_of(row.headers));
        CHECK(text_of(which.extract(row.headers)) == row.expected);
        // Whatever comes in, a context that is there already survives it, or is replaced as a
        // whole.
        const SpanContext other({9}, {9}, 1, true);
        const Context before = Context().with_span(other);
        const std::string after = text_of(which.extract(row.headers, before));
        const bool span_found = row.expected.size() > 49 && row.expected[32] == '-' &&
                                row.expected.find("-0000000000000000") == row.expected.npos;
        if (span_found) {
            CHECK(after == row.expected);
        } else {
            CHECK(after.rfind(text_of(before), 0) == 0);
        }
        // What is written is understood as what it was.
        const Headers once = headers_of(which.extract(row.headers), which);
        CHECK(text_of(headers_of(which.extract(once), which)) == text_of(once));
    }
}

std::string repeated(char c, std::size_t count) { return std::string(count, c); }

std::string members(int first, int last) {
    std::string text;
    for (int i = first; i <= last; ++i)
        text += (i == first ? "k" : ",k") + std::to_string(i) + "=" + std::to_string(i);
    return text;
}

const std::string seen = TRACE "-" SPAN " 1";

}  // namespace

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
            {"other headers", {{"jaeger-debug-id", "1"}, {"uberct", "1"}}, ""},
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
    CHECK(again("", Baggage().set("a", "1 2", "p").set("b c", "3").set("d", "")) ==
          "uberctx-a: 1%202\nuberctx-d: \n");
    CHECK(again("", Baggage().set(repeated('k', 249), "1")) == "");
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
