#include "exporters/otlp_response.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace oteld::exporters;
using namespace std::chrono_literals;
using namespace std::string_literals;

TEST_CASE("an export response says what was rejected") {
    struct Case {
        std::string bytes;
        std::uint32_t rejected;
        const char* message;
    };
    const Case cases[] = {
        {"", 0, ""},
        {"\x0a\x00"s, 0, ""},
        {"\x0a\x06\x08\x03\x12\x02no", 3, "no"},
        {"\x0a\x04\x12\x02no", 0, "no"},
        // -1 and more than 32 bits: nothing that a backend says may wrap.
        {"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0, ""},
        {"\x0a\x07\x08\x80\x80\x80\x80\x80\x01", 4'294'967'295U, ""},
        // Unknown fields are skipped.
        {"\x78\x01\x0a\x09\x22\x01z\x08\x03\x12\x02no", 3, "no"},
    };
    for (const Case& c : cases) {
        CAPTURE(c.message);
        const auto got = parse_export_response(c.bytes);
        REQUIRE(got);
        CHECK(got->rejected_spans == c.rejected);
        CHECK(got->message == c.message);
    }
}

TEST_CASE("what is not an export response is nothing") {
    for (const std::string& bytes :
         {"<html>"s, "\x0a\xff"s, "\x0a\x05\x08\x03"s, "\x0a\x02\x12\x7f"s}) {
        CHECK_FALSE(parse_export_response(bytes).has_value());
    }
}

TEST_CASE("a status carries its message and the delay that the backend asks for") {
    const std::string info = "\x0a\x28type.googleapis.com/google.rpc.RetryInfo";
    // RetryInfo{retry_delay{seconds: 1, nanos: 500000000}} as Python's protobuf writes it.
    const std::string delay = "\x12\x0a\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01";
    const std::string any = info + delay;
    const std::string bytes =
        "\x08\x0e\x12\x04"
        "busy\x1a" +
        std::string(1, static_cast<char>(any.size())) + any;
    const auto status = parse_status(bytes);
    REQUIRE(status);
    CHECK(status->code == 14);
    CHECK(status->message == "busy");
    CHECK(status->retry_delay == 1500ms);
}

TEST_CASE("details of other kinds name no delay") {
    const std::string other = "\x0a\x29type.googleapis.com/google.rpc.BadRequest\x12\x00"s;
    const auto status =
        parse_status("\x08\x08\x1a" + std::string(1, static_cast<char>(other.size())) + other);
    REQUIRE(status);
    CHECK(status->code == 8);
    CHECK_FALSE(status->retry_delay.has_value());
}

TEST_CASE("a negative or endless delay is bounded") {
    const std::string info = "\x0a\x1agoogle.rpc/google.rpc.Retr";  // Any type but RetryInfo.
    CHECK_FALSE(
        parse_status("\x1a" + std::string(1, static_cast<char>(info.size())) + info)->retry_delay);

    const std::string type = "\x0a\x14google.rpc.RetryInfo";
    const std::string minus_one = "\x12\x0d\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    const std::string endless = "\x12\x0c\x0a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    for (const auto& [delay, expected] :
         {std::pair(minus_one, 0ms), std::pair(endless, 86'400'000ms)}) {
        const std::string any = type + delay;
        const auto status =
            parse_status("\x1a" + std::string(1, static_cast<char>(any.size())) + any);
        REQUIRE(status);
        REQUIRE(status->retry_delay);
        CHECK(*status->retry_delay == expected);
    }
}

TEST_CASE("what is not a status is nothing") {
    CHECK_FALSE(parse_status("<html>").has_value());
    CHECK_FALSE(parse_status("\x12\x7f").has_value());
}

TEST_CASE("a backend's words cannot play tricks on a terminal, nor fill it") {
    CHECK(quoted("fine") == "\"fine\"");
    CHECK(quoted("\x1b[2J").find('\x1b') == std::string::npos);
    CHECK(quoted("a\nb").find('\n') == std::string::npos);
    CHECK(quoted(std::string(100'000, 'x')).size() < 400);
}

TEST_CASE("a partial success is told with its count; nothing to tell is nothing") {
    CHECK(partial_success_text("here", {}).empty());
    CHECK(partial_success_text("here", {0, "slow"}) == "here took all spans but warns: \"slow\"");
    CHECK(partial_success_text("here", {2, "bad"}) ==
          "here rejected 2 spans of a request: \"bad\"");
    CHECK(partial_success_text("here", {2, ""}).find("2 spans") != std::string::npos);
}
