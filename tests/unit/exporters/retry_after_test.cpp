#include "exporters/retry_after.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace oteld::exporters;
using namespace std::chrono_literals;

namespace {

// 1994-11-06 08:49:37 UTC, the moment that RFC 9110 writes in its three forms.
const auto rfc_moment = std::chrono::system_clock::from_time_t(784111777);

}  // namespace

TEST_CASE("Retry-After in seconds") {
    struct Case {
        const char* text;
        std::chrono::milliseconds wait;
    };
    for (const Case& c : {Case{"0", 0s},
                          {"2", 2s},
                          {" 120 ", 120s},
                          {"86400", 86400s},
                          {"86401", 86400s},
                          {"99999999999999999999999999", 86400s}}) {
        CAPTURE(c.text);
        CHECK(parse_retry_after(c.text, rfc_moment) == c.wait);
    }
}

TEST_CASE("Retry-After as a date, in each form that HTTP knows") {
    for (const char* text : {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                             "Sun Nov  6 08:49:37 1994"}) {
        CAPTURE(text);
        CHECK(parse_retry_after(text, rfc_moment - 90s) == 90s);
        CHECK(parse_retry_after(text, rfc_moment - 1500ms) == 2s);  // Never too early.
        CHECK(parse_retry_after(text, rfc_moment) == 0s);
        CHECK(parse_retry_after(text, rfc_moment + 1h) == 0s);
        CHECK(parse_retry_after(text, rfc_moment - 1000h) == retry_after_max);
    }
    CHECK(parse_retry_after("Thu, 29 Feb 2024 23:59:60 GMT",
                            std::chrono::sys_days{std::chrono::year{2024} / 2 / 29} + 24h - 10s) ==
          10s);
}

TEST_CASE("a year of two digits is the one nearest to today") {
    const auto in_2076 = std::chrono::sys_days{std::chrono::year{2076} / 1 / 1};
    CHECK(parse_retry_after("Friday, 01-Jan-99 00:00:00 GMT", in_2076 - 24h) == retry_after_max);
    const auto in_2026 = std::chrono::sys_days{std::chrono::year{2026} / 1 / 1};
    CHECK(parse_retry_after("Friday, 01-Jan-99 00:00:00 GMT", in_2026) == 0s);
}

TEST_CASE("what is neither is nothing") {
    for (const char* text : {"",
                             " ",
                             "soon",
                             "-1",
                             "1.5",
                             "2 s",
                             "0x10",
                             "Sun, 06 Nov 1994",
                             "Sun, 06 Nov 1994 08:49:37",
                             "Sun, 06 Nov 1994 08:49:37 CET",
                             "Sun, 31 Feb 1994 08:49:37 GMT",
                             "Sun, 06 Nov 1994 24:00:00 GMT",
                             "Sun, 06 Xxx 1994 08:49:37 GMT",
                             "Sun, 06 Nov 1994 08:60:37 GMT",
                             "Sun, 00 Nov 1994 08:49:37 GMT",
                             "Sun, -6 Nov 1994 08:49:37 GMT",
                             "Sun, 06 Nov 1994 08:49:37 GMT tail",
                             "Sun Nov 66 08:49:37 1994",
                             ", 06 Nov 1994 08:49:37 GMT",
                             "Sun, 06 No"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_retry_after(text, rfc_moment).has_value());
    }
}
