#include "config/units.hpp"

#include <doctest/doctest.h>

using namespace oteld::config;
using std::chrono::milliseconds;

TEST_CASE("durations are read as people write them") {
    struct Row {
        const char* text;
        std::int64_t ms;  // -1: refused.
    };
    const Row rows[] = {
        {"0", 0},         {"0s", 0},      {"200ms", 200},     {"5s", 5000},
        {"1m30s", 90000}, {"1.5s", 1500}, {"72h", 259200000}, {"3d", 259200000},
        {"1us", 1},       {"1500us", 2},  {"2000us", 2},      {".5s", 500},
        {"", -1},         {"5", -1},      {"s", -1},          {"5 s", -1},
        {"-5s", -1},      {"5x", -1},     {"5sec", -1},       {"1e3s", -1},
        {"inf", -1},      {"nans", -1},   {"1.2.3s", -1},     {"99999999999999d", -1},
        {"5s5", -1},      {"0x10s", -1},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.text));
        const auto parsed = parse_duration(row.text);
        CHECK(parsed.has_value() == (row.ms >= 0));
        if (parsed) CHECK(parsed->count() == row.ms);
    }
}

TEST_CASE("sizes are bytes or binary units") {
    struct Row {
        const char* text;
        std::uint64_t bytes;
        bool good = true;
    };
    const Row rows[] = {
        {"0", 0},
        {"1048576", 1048576},
        {"1_048_576", 1048576},
        {"64MiB", 64 << 20},
        {"64 MiB", 64 << 20},
        {"1.5KiB", 1536},
        {"2GiB", 2ULL << 30},
        {"1TiB", 1ULL << 40},
        {"7B", 7},
        {"18446744073709551615", UINT64_MAX},
        {"18446744073709551616", 0, false},
        {"16777216TiB", 0, false},
        {"64MB", 0, false},
        {"64M", 0, false},
        {"", 0, false},
        {"MiB", 0, false},
        {"-1", 0, false},
        {"1.5", 0, false},
        {"1.5B", 0, false},
        {"_1", 0, false},
        {"1__0", 0, false},
        {"0x10", 0, false},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.text));
        const auto parsed = parse_size(row.text);
        CHECK(parsed.has_value() == row.good);
        if (parsed) CHECK(*parsed == row.bytes);
    }
}

TEST_CASE("what is shown reads back as the same") {
    for (const std::int64_t ms : {0LL, 1LL, 200LL, 1500LL, 90000LL, 259200000LL, 3723004LL}) {
        CAPTURE(ms);
        CHECK(parse_duration(show(milliseconds(ms))) == milliseconds(ms));
    }
    for (const std::uint64_t bytes :
         {0ULL, 1ULL, 1023ULL, 1024ULL, 1536ULL, 64ULL << 20, 1ULL << 63}) {
        CAPTURE(bytes);
        CHECK(parse_size(show_size(bytes)) == bytes);
    }
    CHECK(show(milliseconds(90000)) == "1m30s");
    CHECK(show_size(64 << 20) == "64MiB");
}

TEST_CASE("whole numbers of any length end in a value or a refusal") {
    CHECK(parse_whole("00000000000000000000000000000000000000012") == std::nullopt);
    CHECK(parse_whole("0000012") == 12);
    CHECK(parse_whole(std::string(300, '9')) == std::nullopt);
    CHECK(parse_decimal("1.5") == 1.5);
    CHECK(parse_decimal("1e5") == std::nullopt);
}
