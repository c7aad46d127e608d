#include "shm/span_view.hpp"

#include "oteld/detail/wire.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

using namespace oteld::shm;
using namespace std::string_literals;

namespace {

namespace wire = oteld::detail::wire;

std::string varint_field(std::uint32_t field, std::uint64_t value) {
    std::string out(20, '\0');
    auto* const begin = reinterpret_cast<std::uint8_t*>(out.data());
    std::uint8_t* end = wire::put_varint(wire::put_tag(begin, field, wire::varint_type), value);
    out.resize(static_cast<std::size_t>(end - begin));
    return out;
}

std::string bytes_field(std::uint32_t field, std::string_view bytes) {
    std::string out(wire::bytes_field_bytes(field, bytes.size()), '\0');
    wire::put_bytes(reinterpret_cast<std::uint8_t*>(out.data()), field, bytes.data(), bytes.size());
    return out;
}

std::string fixed64_field(std::uint32_t field, std::uint64_t value) {
    std::string out(20, '\0');
    auto* const begin = reinterpret_cast<std::uint8_t*>(out.data());
    std::uint8_t* end = wire::put_fixed64(wire::put_tag(begin, field, wire::fixed64_type), value);
    out.resize(static_cast<std::size_t>(end - begin));
    return out;
}

std::string fixed32_field(std::uint32_t field, std::uint32_t value) {
    std::string out(20, '\0');
    auto* const begin = reinterpret_cast<std::uint8_t*>(out.data());
    std::uint8_t* end = wire::put_fixed32(wire::put_tag(begin, field, wire::fixed32_type), value);
    out.resize(static_cast<std::size_t>(end - begin));
    return out;
}

std::string key_value(std::string_view key, const std::string& any_value) {
    return bytes_field(1, key) + bytes_field(2, any_value);
}

// A span with every field, in an order that no encoder uses.
std::string full_span() {
    const std::string attribute = key_value("k", bytes_field(1, "v"));
    return varint_field(14, 3) + bytes_field(15, bytes_field(2, "boom") + varint_field(3, 2)) +
           bytes_field(1, std::string(16, 'T')) + bytes_field(2, std::string(8, 'S')) +
           bytes_field(3, "a=b") + bytes_field(4, std::string(8, 'P')) + bytes_field(5, "first") +
           varint_field(6, 3) + fixed64_field(7, 1000) + fixed64_field(8, 2500) +
           bytes_field(9, attribute) +
           bytes_field(9, key_value("n", varint_field(3, static_cast<std::uint64_t>(-5)))) +
           varint_field(10, 1) +
           bytes_field(11, fixed64_field(1, 1700) + bytes_field(2, "e") +
                               bytes_field(3, attribute) + varint_field(4, 9)) +
           varint_field(12, 2) +
           bytes_field(13, bytes_field(1, std::string(16, 't')) +
                               bytes_field(2, std::string(8, 's')) + bytes_field(3, "c=d") +
                               bytes_field(4, attribute) + varint_field(5, 4) +
                               fixed32_field(6, 0x301)) +
           fixed32_field(16, 0x101) + bytes_field(5, "name");
}

void read_value(const AnyValue& value, int depth);

void read_attributes(const Repeated<Attribute>& attributes, int depth) {
    for (const Attribute& attribute : attributes) {
        CHECK(attribute.key.size() < 1U << 20);
        read_value(attribute.value, depth);
    }
}

// Touches each byte that a view gives out, so that a sanitizer sees a view that is too long.
std::size_t touched = 0;
void touch(std::string_view bytes) {
    for (const char c : bytes) touched += static_cast<unsigned char>(c);
}

void read_value(const AnyValue& value, int depth) {
    touch(value.text());
    if (depth > nesting_max) return;
    if (value.kind() == AnyValue::Kind::array) {
        for (const AnyValue& element : value.array()) read_value(element, depth + 1);
    }
    if (value.kind() == AnyValue::Kind::map) read_attributes(value.map(), depth + 1);
}

void read_everything(std::string_view message) {
    const Span span(message);
    for (const std::string_view part : {span.trace_id, span.span_id, span.trace_state,
                                        span.parent_span_id, span.name, span.status_message}) {
        touch(part);
        const bool inside =
            part.empty() || (part.data() >= message.data() &&
                             part.data() + part.size() <= message.data() + message.size());
        CHECK(inside);
    }
    read_attributes(span.attributes(), 0);
    for (const Event& event : span.events()) {
        touch(event.name);
        read_attributes(event.attributes(), 0);
    }
    for (const Link& link : span.links()) {
        touch(link.trace_id);
        touch(link.trace_state);
        read_attributes(link.attributes(), 0);
    }
    const Resource resource(message);
    read_attributes(resource.attributes(), 0);
    const Scope scope(message);
    touch(scope.name);
    read_attributes(scope.attributes(), 0);
    FrameReader frames(message);
    for (Frame frame; frames.next(frame);) touch(frame.bytes);
}

// A copy on the heap whose end is the end of the allocation: a read past it is a sanitizer's
// finding.
void read_copy(std::string_view message) {
    const std::unique_ptr<char[]> copy(new char[message.size()]);
    std::memcpy(copy.get(), message.data(), message.size());
    read_everything({copy.get(), message.size()});
}

}  // namespace

TEST_CASE("every field of a span is read, whatever their order, and the last scalar wins") {
    const std::string message = full_span();
    const Span span(message);
    CHECK_FALSE(span.malformed());
    CHECK(span.trace_id == std::string(16, 'T'));
    CHECK(span.span_id == std::string(8, 'S'));
    CHECK(span.trace_state == "a=b");
    CHECK(span.parent_span_id == std::string(8, 'P'));
    CHECK(span.name == "name");
    CHECK(span.kind == 3);
    CHECK(span.start_unix_ns == 1000);
    CHECK(span.end_unix_ns == 2500);
    CHECK(span.dropped_attributes_count == 1);
    CHECK(span.dropped_events_count == 2);
    CHECK(span.dropped_links_count == 3);
    CHECK(span.flags == 0x101);
    CHECK(span.has_status);
    CHECK(span.status_code == 2);
    CHECK(span.status_message == "boom");
    CHECK(span.attributes().count() == 2);
    CHECK(span.attribute("n").integer() == -5);
    CHECK(span.attribute("missing").kind() == AnyValue::Kind::none);

    REQUIRE(span.events().count() == 1);
    const Event event = *span.events().begin();
    CHECK(event.time_unix_ns == 1700);
    CHECK(event.name == "e");
    CHECK(event.dropped_attributes_count == 9);
    CHECK(event.attributes().begin()->value.text() == "v");

    REQUIRE(span.links().count() == 1);
    const Link link = *span.links().begin();
    CHECK(link.trace_id == std::string(16, 't'));
    CHECK(link.span_id == std::string(8, 's'));
    CHECK(link.trace_state == "c=d");
    CHECK(link.dropped_attributes_count == 4);
    CHECK(link.flags == 0x301);
    CHECK(link.attributes().begin()->key == "k");
}

TEST_CASE("an empty message is a span of zeros") {
    const Span span{std::string_view{}};
    CHECK_FALSE(span.malformed());
    CHECK(span.name.empty());
    CHECK(span.attributes().empty());
    CHECK_FALSE(span.has_status);
}

TEST_CASE("each kind of value is told apart, and the last member of a value wins") {
    double pi = 3.25;
    std::uint64_t bits = 0;
    std::memcpy(&bits, &pi, sizeof bits);
    CHECK(AnyValue(bytes_field(1, "s")).text() == "s");
    CHECK(AnyValue(varint_field(2, 1)).boolean());
    CHECK(AnyValue(varint_field(3, ~0ULL)).integer() == -1);
    CHECK(AnyValue(fixed64_field(4, bits)).floating() == 3.25);
    CHECK(AnyValue(bytes_field(7, "\0\1"s)).text() == "\0\1"s);
    CHECK(AnyValue(std::string_view{}).kind() == AnyValue::Kind::none);

    const std::string array =
        bytes_field(1, varint_field(3, 1)) + bytes_field(1, bytes_field(1, "two"));
    const std::string array_value = bytes_field(5, array);
    const AnyValue list(array_value);
    REQUIRE(list.kind() == AnyValue::Kind::array);
    CHECK(list.array().count() == 2);
    CHECK(list.array().begin()->integer() == 1);

    const std::string map_value =
        bytes_field(6, bytes_field(1, key_value("in", varint_field(2, 0))));
    const AnyValue map(map_value);
    REQUIRE(map.kind() == AnyValue::Kind::map);
    CHECK(map.map().begin()->key == "in");
    CHECK(map.map().begin()->value.kind() == AnyValue::Kind::boolean);

    const std::string twice = bytes_field(1, "s") + varint_field(3, 7);
    CHECK(AnyValue(twice).kind() == AnyValue::Kind::integer);
    CHECK(AnyValue(twice).integer() == 7);
    CHECK(AnyValue(twice).text().empty());
}

TEST_CASE("a status given in two parts is one status") {
    const std::string message =
        bytes_field(15, varint_field(3, 2)) + bytes_field(15, bytes_field(2, "late"));
    const Span span(message);
    CHECK(span.status_code == 2);
    CHECK(span.status_message == "late");
}

TEST_CASE("resource and scope are read") {
    const std::string resource_message =
        bytes_field(1, key_value("service.name", bytes_field(1, "shop"))) + varint_field(2, 6);
    const Resource resource(resource_message);
    CHECK(resource.attribute("service.name").text() == "shop");
    CHECK(resource.dropped_attributes_count == 6);

    const std::string scope_message = bytes_field(1, "lib") + bytes_field(2, "1.2") +
                                      bytes_field(3, key_value("a", varint_field(3, 1))) +
                                      varint_field(4, 8);
    const Scope scope(scope_message);
    CHECK(scope.name == "lib");
    CHECK(scope.version == "1.2");
    CHECK(scope.dropped_attributes_count == 8);
    CHECK(scope.attributes().count() == 1);
}

TEST_CASE("frames are walked with their bytes and their span") {
    const std::string one = bytes_field(2, bytes_field(5, "one"));
    const std::string two = bytes_field(2, std::string(300, '\x08') + "");
    const std::string frames = one + bytes_field(2, "") + two;
    FrameReader reader(frames);
    Frame frame;
    REQUIRE(reader.next(frame));
    CHECK(frame.bytes == one);
    CHECK(Span(frame.span).name == "one");
    REQUIRE(reader.next(frame));
    CHECK(frame.span.empty());
    CHECK(frame.bytes.size() == 2);
    REQUIRE(reader.next(frame));
    CHECK(frame.bytes == two);
    CHECK_FALSE(reader.next(frame));
    CHECK_FALSE(reader.malformed());
}

TEST_CASE("what is no frame stops the walk and is said to be malformed") {
    for (const std::string& bad :
         {varint_field(1, 1), bytes_field(3, "x"), "\x12\x05"s + "four", "\x12"s}) {
        const std::string frames = bytes_field(2, "ok") + bad + bytes_field(2, "behind");
        FrameReader reader(
            std::string_view(frames).substr(0, bytes_field(2, "ok").size() + bad.size()));
        Frame frame;
        CHECK(reader.next(frame));
        CHECK_FALSE(reader.next(frame));
        CHECK(reader.malformed());
        CHECK_FALSE(reader.next(frame));
    }
}

TEST_CASE("hostile bytes end a message where they stand and never read beyond it") {
    struct Case {
        const char* what;
        std::string bytes;
    };
    const std::vector<Case> cases = {
        {"a tag that never ends", std::string(11, '\xff')},
        {"a lone continuation byte", "\x80"s},
        {"a tag above 32 bits", "\xf8\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"s},
        {"field number zero", "\x00\x01"s},
        {"a varint cut off", "\x30\x80"s},
        {"a varint of eleven bytes", "\x30"s + std::string(10, '\xff') + "\x01"},
        {"a fixed64 cut off", "\x39\x01\x02\x03"s},
        {"a fixed32 cut off", "\x85\x01\x01"s},
        {"a length without bytes", "\x2a\x01"s},
        {"a length one too long", "\x2a\x04"s + "abc"},
        {"a length of 2^64-1", "\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s + "abc"},
        {"a length of 2^63", "\x2a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"s + "abc"},
        {"a length cut off", "\x2a\x80"s},
        {"a group", "\x0b\x0c"s},
        {"an end of a group", "\x0c"s},
        {"wire type 6", "\x0e\x00"s},
        {"wire type 7", "\x0f\x00"s},
    };
    for (const Case& c : cases) {
        CAPTURE(c.what);
        const std::string message = bytes_field(5, "before") + c.bytes;
        const Span span(message);
        CHECK(span.malformed());
        CHECK(span.name == "before");
        read_copy(message);
        // The same bytes inside an attribute, an event, a link, a status.
        for (const std::uint32_t field : {9U, 11U, 13U, 15U}) {
            const std::string outer = bytes_field(field, c.bytes) + bytes_field(5, "after");
            CHECK(Span(outer).name == "after");
            read_copy(outer);
        }
    }
}

TEST_CASE("a known field of another wire type is skipped") {
    const std::string message = varint_field(5, 1) + bytes_field(7, "12345678") +
                                fixed32_field(9, 1) + varint_field(15, 2) +
                                bytes_field(99, "unknown") + bytes_field(5, "name");
    const Span span(message);
    CHECK_FALSE(span.malformed());
    CHECK(span.name == "name");
    CHECK(span.start_unix_ns == 0);
    CHECK(span.attributes().empty());
    CHECK_FALSE(span.has_status);
}

TEST_CASE(
    "every prefix of a span, and spans with random bytes changed, are read within their bounds") {
    const std::string message = full_span();
    for (std::size_t cut = 0; cut <= message.size(); ++cut)
        read_copy(std::string_view(message).substr(0, cut));
    std::mt19937 random(20261124);  // NOLINT: a fixed seed, so that a failure repeats.
    for (int round = 0; round < 20000; ++round) {
        std::string bent = message;
        for (int change = 0; change < 4; ++change)
            bent[random() % bent.size()] = static_cast<char>(random());
        read_copy(bent);
    }
    CHECK(touched > 0);
}

TEST_CASE("values nested beyond the limit are walked without end of the stack") {
    std::string value = varint_field(3, 1);
    for (int depth = 0; depth < 5000; ++depth) value = bytes_field(5, bytes_field(1, value));
    read_copy(bytes_field(9, key_value("deep", value)));
    CHECK(AnyValue(value).kind() == AnyValue::Kind::array);
}
