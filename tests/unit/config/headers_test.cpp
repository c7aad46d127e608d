#include "config/headers.hpp"

#include <doctest/doctest.h>

using namespace oteld::config;

TEST_CASE("a header list is W3C Baggage, percent-decoded") {
    struct Row {
        const char* text;
        std::vector<Header> headers;
    };
    const Row rows[] = {
        {"a=b", {{"a", "b"}}},
        {"a=b,c=d", {{"a", "b"}, {"c", "d"}}},
        {" A = b , c=d ", {{"a", "b"}, {"c", "d"}}},
        {"authorization=Bearer%20x%3D%3D", {{"authorization", "Bearer x=="}}},
        {"authorization=Basic dXNlcg==", {{"authorization", "Basic dXNlcg=="}}},
        {"a=1%2C2", {{"a", "1,2"}}},
        {"a=b+c", {{"a", "b+c"}}},
        {"a=,b=1", {{"a", ""}, {"b", "1"}}},
        {"a=1,,b=2,", {{"a", "1"}, {"b", "2"}}},
        {"a=1,a=2", {{"a", "2"}}},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.text));
        const auto headers = parse_header_list(row.text);
        REQUIRE(headers);
        CHECK(*headers == row.headers);
    }
}

TEST_CASE("a header's value may have 8 KiB and no more") {
    CHECK(checked_header("a", std::string(8192, 'x')));
    CHECK_FALSE(checked_header("a", std::string(8193, 'x')));
}

TEST_CASE("a broken header list is refused without its values being shown") {
    for (const char* text :
         {"s3cret", "a=s3cret;p=1", "a=s3cret%", "a=s3cret%z1", "a=s3cret%4", "a b=s3cret",
          "=s3cret", "a=s3cret%0d%0aX: y", "content-type=s3cret", "a=s3cret\x80",
          "grpc-timeout=s3cret", "trace-bin=s3cret", "User-Agent=s3cret", "a=1,s3cret"}) {
        CAPTURE(std::string(text));
        const auto headers = parse_header_list(text);
        REQUIRE_FALSE(headers);
        CHECK(headers.error().message.find("s3cret") == std::string::npos);
    }
}
