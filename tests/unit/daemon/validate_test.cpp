#include "daemon/intake/validate.hpp"

#include "daemon/intake/duplicate_keys.hpp"
#include "fake_segment.hpp"
#include "shm/span_view.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <vector>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;

namespace {

struct Framed {
    Refusal refusal = Refusal::none;
    SpanFrame frame;
    std::string bytes;  // The frame.
    std::string span;   // The message in it.
};

Framed frame_of(const std::string& record, TickConverter clock = {}) {
    Framed framed;
    std::vector<std::uint8_t> to(frame_room(static_cast<std::uint32_t>(record.size())), 0xEE);
    framed.refusal =
        write_span_frame(to.data(), reinterpret_cast<const std::uint8_t*>(record.data()),
                         static_cast<std::uint32_t>(record.size()), clock, framed.frame);
    if (framed.refusal != Refusal::none) return framed;
    framed.bytes.assign(reinterpret_cast<const char*>(to.data()), framed.frame.bytes);
    shm::FrameReader reader(framed.bytes);
    shm::Frame one;
    REQUIRE(reader.next(one));
    CHECK(one.bytes.size() == framed.bytes.size());
    framed.span = one.span;
    return framed;
}

Framed frame_of(const Record& record, TickConverter clock = {}) {
    return frame_of(record.bytes(), clock);
}

Framed with_body(const std::string& body) {
    Record record;
    record.body = body;
    return frame_of(record);
}

std::string raw_id(const auto& id) { return {reinterpret_cast<const char*>(id.data()), id.size()}; }

std::string nested(int arrays) {
    std::string value = int_value(1);
    for (int i = 0; i < arrays; ++i) value = Bytes().field(5, Bytes().field(1, value).text).text;
    return Bytes().field(9, key_value("k", value)).text;
}

}  // namespace

TEST_CASE("a record becomes a whole Span in field order, every header field in it") {
    Record record;
    record.parent_id = {9, 9};
    record.kind = 3;
    record.status = 2;
    record.description = "boom";
    record.flags = detail::record_parent_known | detail::record_parent_remote;
    const Framed framed = frame_of(record);
    REQUIRE(framed.refusal == Refusal::none);
    const std::string want =
        Bytes()
            .field(1, raw_id(record.trace_id))
            .field(2, raw_id(record.span_id))
            .field(4, raw_id(record.parent_id))
            .varint(6, 3)
            .fixed64(7, 1000)
            .fixed64(8, 2000)
            .text +
        record.body +
        Bytes().field(15, Bytes().field(2, "boom").varint(3, 2).text).fixed32(16, 0x301).text;
    CHECK(framed.span == want);
}

TEST_CASE("a root without kind, status and flags has none of these fields") {
    Record record;
    record.kind = 0;
    record.trace_flags = 0;
    const Framed framed = frame_of(record);
    const std::string want = Bytes()
                                 .field(1, raw_id(record.trace_id))
                                 .field(2, raw_id(record.span_id))
                                 .fixed64(7, 1000)
                                 .fixed64(8, 2000)
                                 .text +
                             record.body;
    CHECK(framed.span == want);
}

TEST_CASE("headers that contradict themselves are refused") {
    const auto changed = [](auto change) {
        std::string bytes = Record{}.bytes();
        change(*reinterpret_cast<detail::SpanRecord*>(bytes.data()));
        return frame_of(bytes).refusal;
    };
    CHECK(changed([](auto&) {}) == Refusal::none);
    CHECK(changed([](auto& r) { r.body_bytes = 1 << 20; }) == Refusal::header);
    CHECK(changed([](auto& r) { r.body_bytes = UINT32_MAX; }) == Refusal::header);
    CHECK(changed([](auto& r) { r.prefix.header_bytes = 56; }) == Refusal::header);
    CHECK(changed([](auto& r) { r.prefix.header_bytes = 0xFFF8; }) == Refusal::header);
    CHECK(changed([](auto& r) { r.kind_status = 6; }) == Refusal::header);
    CHECK(changed([](auto& r) { r.kind_status = 0x31; }) == Refusal::header);
    CHECK(changed([](auto& r) { std::memset(r.trace_id, 0, 16); }) == Refusal::ids);
    CHECK(changed([](auto& r) { std::memset(r.span_id, 0, 8); }) == Refusal::ids);
    CHECK(changed([](auto& r) { r.prefix.flags = detail::record_has_description; }) ==
          Refusal::header);
}

TEST_CASE("an id is only absent when all its bytes are zero") {
    Record record;
    record.trace_id = {};
    record.trace_id[8] = 1;
    CHECK(frame_of(record).refusal == Refusal::none);
    record.trace_id[8] = 0;
    record.trace_id[7] = 1;
    CHECK(frame_of(record).refusal == Refusal::none);
}

TEST_CASE("bodies that are no part of a Span are refused, with the reason") {
    CHECK(with_body("").refusal == Refusal::none);
    CHECK(with_body(Bytes().field(5, "name").text).refusal == Refusal::none);
    CHECK(with_body(Bytes().field(1, std::string(16, 'x')).text).refusal ==
          Refusal::field);                                                   // a second trace id
    CHECK(with_body(Bytes().fixed64(7, 1).text).refusal == Refusal::field);  // a second start
    CHECK(with_body(Bytes().field(15, "").text).refusal ==
          Refusal::field);  // a status to merge with
    CHECK(with_body(Bytes().varint(5, 1).text).refusal ==
          Refusal::field);  // a name that is no text
    CHECK(with_body(Bytes().field(17, "").text).refusal == Refusal::field);
    CHECK(with_body("\x2A\x05"
                    "abc")
              .refusal == Refusal::wire);  // a name cut short
    CHECK(with_body("\x2A").refusal == Refusal::wire);
    CHECK(with_body(std::string("\x2A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", 11)).refusal ==
          Refusal::wire);
    CHECK(with_body(std::string("\x50") + std::string(10, '\x80')).refusal ==
          Refusal::wire);                                                       // an endless varint
    CHECK(with_body(Bytes().field(9, "\x2A").text).refusal == Refusal::field);  // no KeyValue
    CHECK(with_body(Bytes().field(9, key_value("k", Bytes().field(9, "").text)).text).refusal ==
          Refusal::field);
    CHECK(with_body(Bytes().field(9, key_value("k", "\x18")).text).refusal == Refusal::wire);
    CHECK(with_body(Bytes().field(9, key_value("k", "\x21zzz")).text).refusal == Refusal::wire);
    CHECK(with_body(Bytes().field(13, Bytes().field(1, "short").text).text).refusal ==
          Refusal::ids);
    CHECK(with_body(Bytes().field(11, Bytes().varint(1, 5).text).text).refusal == Refusal::field);
}

TEST_CASE("a length that is right for its parent and wrong for its own content is refused") {
    // The attribute's length says 6, the key inside says 40.
    CHECK(with_body("\x4A\x06\x0A\x28"
                    "abcd")
              .refusal == Refusal::wire);
    // The value's length reaches beyond the attribute.
    CHECK(with_body("\x4A\x07\x0A\x01k\x12\x30\x18\x01").refusal == Refusal::wire);
    CHECK(with_body(std::string("\x4A\x01\x0A", 3)).refusal == Refusal::wire);
}

TEST_CASE("every kind of value is accepted") {
    Bytes all;
    all.field(9, key_value("s", string_value("text")));
    all.field(9, key_value("long", string_value(std::string(300, 'x'))));
    all.field(9, key_value("b", Bytes().varint(2, 1).text));
    all.field(9, key_value("i", int_value(~0ULL)));
    all.field(9, key_value("d", Bytes().fixed64(4, 1).text));
    all.field(9, key_value("bytes", Bytes().field(7, "\xFF\x00\xFE").text));
    all.field(
        9, key_value("array",
                     Bytes()
                         .field(5, Bytes().field(1, int_value(1)).field(1, string_value("x")).text)
                         .text));
    all.field(
        9,
        key_value("map",
                  Bytes().field(6, Bytes().field(1, key_value("in", int_value(300))).text).text));
    all.field(9, key_value("empty", ""));
    all.field(9, key_value("", string_value("")));
    all.varint(10, 3).varint(12, 4).varint(14, 5);
    all.field(3, "a=b");
    all.field(11, Bytes()
                      .fixed64(1, 77)
                      .field(2, "event")
                      .field(3, key_value("k", int_value(1)))
                      .varint(4, 1)
                      .text);
    all.field(13, Bytes()
                      .field(1, std::string(16, 'a'))
                      .field(2, std::string(8, 'b'))
                      .field(3, "x=y")
                      .field(4, key_value("k", int_value(1)))
                      .varint(5, 2)
                      .fixed32(6, 1)
                      .text);
    const Framed framed = with_body(all.text);
    REQUIRE(framed.refusal == Refusal::none);
    CHECK(framed.span.find(all.text) != std::string::npos);
    CHECK(framed.frame.bytes_repaired == 0);
}

TEST_CASE("values nest as deeply as protobuf's parsers take them, and no deeper") {
    CHECK(with_body(nested(40)).refusal == Refusal::none);
    CHECK(with_body(nested(5000)).refusal == Refusal::nesting);
}

TEST_CASE("an invalid byte of text becomes a question mark wherever text may stand") {
    const std::string bad = "caf\xE9 and a longer tail";
    const std::string good = "caf? and a longer tail";
    Record record;
    record.status = 2;
    record.description = bad;
    record.body =
        Bytes()
            .field(5, bad)
            .field(3, bad)
            .field(9, key_value(bad, string_value(bad)))
            .field(9, key_value("array",
                                Bytes().field(5, Bytes().field(1, string_value(bad)).text).text))
            .field(11, Bytes().field(2, bad).field(3, key_value(bad, int_value(1))).text)
            .text;
    const Framed framed = frame_of(record);
    REQUIRE(framed.refusal == Refusal::none);
    CHECK(framed.frame.bytes_repaired == 8);
    CHECK(framed.span.find('\xE9') == std::string::npos);
    std::size_t found = 0;
    for (std::size_t at = 0; (at = framed.span.find(good, at)) != std::string::npos; ++at) ++found;
    CHECK(found == 8);
}

TEST_CASE("UTF-8 is judged as Unicode defines it, at every place of a block") {
    struct Case {
        std::string text;
        std::uint32_t bad;
    };
    const Case cases[] = {
        {"\xC3\xA9", 0},         {"\xE2\x82\xAC", 0}, {"\xF0\x9F\x98\x80", 0}, {"\xC0\x80", 2},
        {"\xE0\x80\x80", 3},     {"\xED\xA0\x80", 3}, {"\xF4\x90\x80\x80", 4}, {"\xF5", 1},
        {"\xE2\x82", 2},         {"\x80", 1},         {"\xF0\x9F\x98", 3},     {"\xEF\xBF\xBF", 0},
        {"\xF4\x8F\xBF\xBF", 0}, {"\xC3\xA9\xC3", 1}, {"\xF0\x8F\xBF\xBF", 4}};
    for (const Case& one : cases) {
        for (std::size_t before = 0; before < 40; ++before) {
            const std::string text =
                std::string(before, 'a') + one.text + std::string(before % 7, 'b');
            std::vector<std::uint8_t> buffer(text.begin(), text.end());
            buffer.resize(text.size() + utf8_slack, 0xFF);
            CAPTURE(before);
            CAPTURE(one.text);
            CHECK(repair_utf8(buffer.data(), text.size()) == one.bad);
            for (std::size_t i = 0; i < utf8_slack; ++i) CHECK(buffer[text.size() + i] == 0xFF);
            // What was repaired is valid.
            CHECK(repair_utf8(buffer.data(), text.size()) == 0);
        }
    }
}

TEST_CASE("of a key set twice in a marked record only the last value stays") {
    Record record;
    record.flags = detail::record_duplicate_keys;
    record.body = Bytes()
                      .field(5, "n")
                      .field(9, key_value("a", int_value(1)))
                      .field(9, key_value("b", int_value(2)))
                      .varint(10, 7)
                      .field(9, key_value("a", int_value(3)))
                      .field(9, key_value("c", int_value(4)))
                      .field(9, key_value("a", string_value("last")))
                      .text;
    const Framed framed = frame_of(record);
    REQUIRE(framed.refusal == Refusal::none);
    CHECK(framed.frame.keys_removed == 2);
    const std::string want = Bytes()
                                 .field(5, "n")
                                 .field(9, key_value("b", int_value(2)))
                                 .varint(10, 7)
                                 .field(9, key_value("c", int_value(4)))
                                 .field(9, key_value("a", string_value("last")))
                                 .text;
    CHECK(framed.span.find(want) != std::string::npos);
    record.flags = 0;  // Unmarked: nobody looks.
    CHECK(frame_of(record).frame.keys_removed == 0);
}

TEST_CASE("more attributes than any program sets on purpose are not compared with each other") {
    const auto with = [](std::size_t attributes) {
        Record record;
        record.flags = detail::record_duplicate_keys;
        std::string body = Bytes().field(5, "n").text;
        for (std::size_t i = 0; i < attributes; ++i) body.append("\x4A\x00", 2);
        record.body = body;
        return frame_of(record);
    };
    const Framed few = with(duplicate_keys_attributes_max);
    REQUIRE(few.refusal == Refusal::none);
    CHECK(few.frame.keys_removed == duplicate_keys_attributes_max - 1);
    const Framed many = with(duplicate_keys_attributes_max + 1);
    REQUIRE(many.refusal == Refusal::none);
    CHECK(many.frame.keys_removed == 0);
    const Framed most = with(500'000);
    REQUIRE(most.refusal == Refusal::none);
    CHECK(most.frame.keys_removed == 0);
}

TEST_CASE("a frame whose length shrinks below a varint's step is still whole") {
    // 127 bytes take one byte of length, 128 take two: cross that step by removing duplicates of
    // every size.
    for (std::size_t filler = 0; filler < 90; ++filler) {
        Record record;
        record.flags = detail::record_duplicate_keys;
        record.body = Bytes()
                          .field(9, key_value("key", string_value(std::string(filler, 'x'))))
                          .field(9, key_value("key", int_value(1)))
                          .text;
        const Framed framed = frame_of(record);
        REQUIRE(framed.refusal == Refusal::none);
        CHECK(framed.frame.keys_removed == 1);
        CHECK(framed.span.find(Bytes().field(9, key_value("key", int_value(1))).text) !=
              std::string::npos);
        CHECK(framed.span.substr(framed.span.size() - 4) == std::string("\x01\0\0\0", 4));
    }
}

TEST_CASE("times in ticks are converted, in events too; times in nanoseconds are the caller's") {
    shm::SegmentHeader header{};
    header.clock_kind = static_cast<std::uint32_t>(shm::ClockKind::tsc);
    header.anchor_ticks = 1'000'000'000;
    header.anchor_realtime_ns = 1'700'000'000'000'000'000;
    const ClockAnchor first{1'000'000'000, 500'000'000, 1'700'000'000'000'000'000};
    const DaemonClock daemon_clock(first, {0, 0, 0});  // Half a nanosecond a tick.
    const TickConverter clock(SegmentClock(header, false, daemon_clock), header.anchor_ticks,
                              daemon_clock, 3'000'000'000);
    Record record;
    record.start = 2'000'000'000 | detail::time_is_ticks;
    record.end = 2'000'000'100 | detail::time_is_ticks;
    record.body =
        Bytes()
            .field(11, Bytes().fixed64(1, 2'000'000'050 | detail::time_is_ticks).field(2, "e").text)
            .field(11, Bytes().fixed64(1, 42).field(2, "mine").text)
            .text;
    const Framed framed = frame_of(record, clock);
    REQUIRE(framed.refusal == Refusal::none);
    const std::uint64_t start = 1'700'000'000'500'000'000;
    CHECK(framed.span.find(Bytes().fixed64(7, start).fixed64(8, start + 50).text) !=
          std::string::npos);
    CHECK(framed.span.find(Bytes().fixed64(1, start + 25).field(2, "e").text) != std::string::npos);
    CHECK(framed.span.find(Bytes().fixed64(1, 42).field(2, "mine").text) != std::string::npos);

    record.end =
        1'999'999'990 | detail::time_is_ticks;  // Another processor's counter, a little behind.
    CHECK(frame_of(record, clock).span.find(Bytes().fixed64(7, start).fixed64(8, start).text) !=
          std::string::npos);
    record.start = 50;
    record.end = 40;
    CHECK(frame_of(record, clock).span.find(Bytes().fixed64(7, 50).fixed64(8, 40).text) !=
          std::string::npos);
}

TEST_CASE(
    "random damage never leads outside the buffer and never yields a frame that is no frame") {
    std::mt19937_64 random(20240607);
    Record record;
    record.description = "description";
    record.body =
        Bytes()
            .field(5, "name")
            .field(9, key_value("a", string_value("text")))
            .field(
                9,
                key_value(
                    "m",
                    Bytes().field(6, Bytes().field(1, key_value("x", int_value(500))).text).text))
            .field(11, Bytes().fixed64(1, 1).field(2, "event").text)
            .field(13, Bytes().field(1, std::string(16, 'a')).field(2, std::string(8, 'b')).text)
            .text;
    const std::string good = record.bytes();
    std::uint32_t refused = 0;
    for (int i = 0; i < 20000; ++i) {
        std::string bytes = good;
        for (std::uint64_t n = random() % 4; n != ~0ULL; --n)
            bytes[8 + random() % (bytes.size() - 8)] = static_cast<char>(random());
        std::vector<std::uint8_t> exact(bytes.begin(), bytes.end());
        std::vector<std::uint8_t> to(frame_room(static_cast<std::uint32_t>(bytes.size())));
        TickConverter clock;
        SpanFrame frame;
        const Refusal refusal = write_span_frame(
            to.data(), exact.data(), static_cast<std::uint32_t>(exact.size()), clock, frame);
        if (refusal != Refusal::none) {
            ++refused;
            continue;
        }
        shm::FrameReader reader({reinterpret_cast<const char*>(to.data()), frame.bytes});
        shm::Frame one;
        REQUIRE(reader.next(one));
        REQUIRE(one.bytes.size() == frame.bytes);
    }
    CHECK(refused > 1000);
}

TEST_CASE("table messages are checked like bodies") {
    const auto check = [](TableMessage kind, std::string message) {
        std::uint32_t repaired = 0;
        const std::size_t bytes = message.size();
        message.resize(bytes + utf8_slack);
        return validate_table_message(kind, reinterpret_cast<std::uint8_t*>(message.data()), bytes,
                                      repaired);
    };
    CHECK(check(TableMessage::resource,
                Bytes().field(1, key_value("service.name", string_value("x"))).varint(2, 1).text) ==
          Refusal::none);
    CHECK(check(TableMessage::resource, Bytes().field(5, "x").text) == Refusal::field);
    CHECK(check(TableMessage::scope, Bytes()
                                         .field(1, "n")
                                         .field(2, "v")
                                         .field(3, key_value("k", int_value(1)))
                                         .varint(4, 2)
                                         .text) == Refusal::none);
    CHECK(check(TableMessage::scope, Bytes().field(6, "n").text) == Refusal::field);
    CHECK(check(TableMessage::scope, "\x0A\x7Fx") == Refusal::wire);
    CHECK(check(TableMessage::resource, std::string("\x8A\x01\x01x", 4)) == Refusal::field);
}
