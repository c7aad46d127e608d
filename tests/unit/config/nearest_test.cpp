#include "config/nearest.hpp"

#include <doctest/doctest.h>

using oteld::config::nearest;

TEST_CASE("the nearest known word is the one that was meant") {
    const std::vector<std::string> words{"endpoint", "timeout", "headers", "tls", "batch"};
    struct Row {
        const char* typed;
        const char* meant;
    };
    const Row rows[] = {
        {"endpiont", "endpoint"},
        {"endpont", "endpoint"},
        {"ENDPOINT", "endpoint"},
        {"timeouts", "timeout"},
        {"time-out", "timeout"},
        {"header", "headers"},
        {"tsl", "tls"},
        {"bacth", "batch"},
        // Too far from everything, or nothing at all.
        {"zstd", ""},
        {"", ""},
        {"x", ""},
        {"compression", ""},
        {"abc", ""},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.typed));
        CHECK(nearest(row.typed, words) == row.meant);
    }
}

TEST_CASE("a dash or a capital letter in the place of what is right costs nothing") {
    CHECK(nearest("Flush-Timeout", std::vector<std::string_view>{
                                       "flush_timeouts", "flush_timeout"}) == "flush_timeout");
}

TEST_CASE("of two words that are equally near the first is named") {
    CHECK(nearest("stat", std::vector<std::string_view>{"star", "stab"}) == "star");
}

TEST_CASE("a word of a thousand letters is not compared") {
    const std::string long_word(1000, 'a');
    CHECK(nearest(long_word, std::vector<std::string>{long_word}).empty());
}

TEST_CASE("a swap of neighbours is one edit, and every other edit too") {
    using oteld::config::detail::edit_distance;
    CHECK(edit_distance("ab", "ba") == 1);
    CHECK(edit_distance("abc", "ab") == 1);
    CHECK(edit_distance("ab", "abc") == 1);
    CHECK(edit_distance("abc", "axc") == 1);
    CHECK(edit_distance("", "abc") == 3);
    CHECK(edit_distance("kitten", "sitting") == 3);
}
