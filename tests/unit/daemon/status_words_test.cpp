#include "daemon/status/words.hpp"

#include "daemon/status/table.hpp"
#include "status_fixture.hpp"

#include <doctest/doctest.h>

namespace oteld::status {
namespace {

TEST_CASE("numbers have separators, units and sensible precision") {
    CHECK(count_words(0) == "0");
    CHECK(count_words(999) == "999");
    CHECK(count_words(1000) == "1,000");
    CHECK(count_words(1'271'120'004) == "1,271,120,004");
    CHECK(count_words(18'446'744'073'709'551'615U) == "18,446,744,073,709,551,615");
    CHECK(spans_words(1) == "1 span");
    CHECK(spans_words(0) == "0 spans");
    CHECK(bytes_words(1023) == "1023 B");
    CHECK(bytes_words(1024) == "1 KiB");
    CHECK(bytes_words(1536) == "1.5 KiB");
    CHECK(bytes_words((1 << 20) - 1) == "1 MiB");
    CHECK(bytes_words(123 << 20) == "123 MiB");
    CHECK(rate_words(0) == "0");
    CHECK(rate_words(0.44) == "0.4");
    CHECK(rate_words(9.97) == "10");
    CHECK(rate_words(12'410.3) == "12,410");
    CHECK(duration_words(900) == "900 ns");
    CHECK(duration_words(1999) == "1 us");
    CHECK(duration_words(1'500'000) == "1 ms");
    CHECK(duration_words(59 * second) == "59 s");
    CHECK(duration_words(252 * second) == "4 min 12 s");
    CHECK(duration_words(7260 * second) == "2 h 1 min");
    CHECK(duration_words(90'000 * second) == "1 d 1 h");
    CHECK(ago_words(0, now) == "never");
    CHECK(ago_words(now, now) == "now");
    CHECK(ago_words(now + 5, now) == "now");
    CHECK(ago_words(now - 3 * second, now) == "3 s ago");
}

TEST_CASE("foreign text can neither forge a line nor drive a terminal") {
    CHECK(clean_text("plain") == "plain");
    CHECK(clean_text("gr\xc3\xbc\xc3\x9f") == "gr\xc3\xbc\xc3\x9f");
    CHECK(clean_text("a\nb\tc\x7f") == "a b c ");
    CHECK(clean_text("\033[31mred") == " [31mred");
    CHECK(clean_text("\xc2\x9b"
                     "31m") == " 31m");  // C1: another way to write ESC [
    CHECK(clean_text("\xe2\x80\xae"
                     "evil") == " evil");        // turns the direction of what follows
    CHECK(clean_text("\xff\xc3") == "??");       // not UTF-8
    CHECK(clean_text("\xed\xa0\x80") == "???");  // a surrogate
    CHECK(clean_text("\xc0\x80") == "??");       // an overlong form
}

TEST_CASE("width counts columns, and cutting keeps characters whole") {
    CHECK(text_width("gr\xc3\xbc\xc3\x9f") == 4);
    CHECK(text_width("\xe6\x97\xa5\xe6\x9c\xac") == 4);
    CHECK(clip_text("short", 5) == "short");
    CHECK(clip_text("a longer text", 8) == "a lon...");
    CHECK(clip_text("\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac", 6) == "\xe6\x97\xa5...");
}

TEST_CASE("wrapping breaks at blanks, not at solid ones, and indents what follows") {
    CHECK(wrap("one two three", 8, 2) == "one two\n  three");
    CHECK(wrap(std::string("one two") + solid_blank + "three", 9, 2) == "one\n  two three");
    CHECK(wrap("  indented", 80, 4) == "  indented");
    CHECK(wrap("unbreakable", 5, 2) == "unbreakable");
}

TEST_CASE("a table that is too wide cuts elastic text, then leaves out spare columns") {
    Table table({{"name", false, 0, true}, {"count", true}, {"spare", true, 1}});
    table.row({{"a-name-that-is-far-too-long-to-be-shown"}, {"12"}, {"345"}});
    const Painter painter(false);
    CHECK(has(table.print(80, painter), "a-name-that-is-far-too-long-to-be-shown     12    345"));
    CHECK(has(table.print(45, painter), "345"));
    CHECK(has(table.print(45, painter), "..."));
    const std::string narrow = table.print(35, painter);
    CHECK_FALSE(has(narrow, "spare"));
    CHECK(has(narrow, "12"));
}

}  // namespace
}  // namespace oteld::status
