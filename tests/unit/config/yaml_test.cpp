#include "config/yaml.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace oteld::config;

namespace {

std::string first_problem(std::string_view text) {
    const ParsedYaml parsed = parse_yaml(text, "f");
    return parsed.problems.empty() ? "" : parsed.problems.front().text();
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

std::string repeated(std::string_view part, std::size_t times) {
    std::string text;
    for (std::size_t i = 0; i < times; ++i) text += part;
    return text;
}

}  // namespace

TEST_CASE("each node knows its line and column") {
    const ParsedYaml parsed = parse_yaml("a:\n  b: 1\n  c: [x, 'y']\nd:\n", "f");
    REQUIRE(parsed.problems.empty());
    const YamlNode* a = parsed.root.find("a");
    REQUIRE(a != nullptr);
    const YamlNode* b = a->find("b");
    REQUIRE(b != nullptr);
    CHECK(b->place.line == 2);
    CHECK(b->place.column == 6);
    CHECK(b->text == "1");
    const YamlNode* c = a->find("c");
    REQUIRE(c != nullptr);
    REQUIRE(c->items.size() == 2);
    CHECK(c->items[0].plain);
    CHECK_FALSE(c->items[1].plain);
    CHECK(c->items[1].place.line == 3);
    CHECK(c->items[1].place.column == 10);
    const YamlNode* d = parsed.root.find("d");
    REQUIRE(d != nullptr);
    CHECK(d->kind == YamlNode::Kind::null);
    CHECK(d->place.line == 4);
}

TEST_CASE("an alias is a copy of what it names") {
    const ParsedYaml parsed = parse_yaml("a: &x {b: 1}\nc: *x\n", "f");
    REQUIRE(parsed.problems.empty());
    REQUIRE(parsed.root.find("c") != nullptr);
    REQUIRE(parsed.root.find("c")->find("b") != nullptr);
    CHECK(parsed.root.find("c")->find("b")->text == "1");
}

TEST_CASE("what is not read is refused with its place") {
    struct Row {
        const char* text;
        const char* begins;
        const char* holds;
    };
    const Row rows[] = {
        {"a: 1\na: 2\n", "f:2:1:", "given twice; the first one is on line 1"},
        {"a:\n  b: [1\n", "f:3:1:", "not valid YAML"},
        {"a: b: c\n", "f:1:", "not valid YAML"},
        {"a: *nope\n", "f:1:4:", "not valid YAML"},
        {"a: 1\n---\nb: 2\n", "f:3:1:", "second document"},
        {"a: !!binary aGk=\n", "f:1:4:", "tag"},
        {"a: !secret x\n", "f:1:4:", "tag"},
        {"x: &x {b: 1}\na:\n  <<: *x\n", "f:3:3:", "merge keys"},
        {"? [a, b]\n: c\n", "f:1:3:", "a key must be a word"},
        {"a: &x [*x]\n", "f:1:8:", "alias inside"},
        {"\t- a", "f:1:", "not valid YAML"},
        {"a: {b: ${env:X}}\n", "f:1:", "${...} needs quotes"},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.text));
        const std::string problem = first_problem(row.text);
        CAPTURE(problem);
        CHECK(problem.starts_with(row.begins));
        CHECK(contains(problem, row.holds));
    }
}

TEST_CASE("hostile documents end in an error, not in memory or on the stack") {
    std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (int level = 1; level < 12; ++level) {
        const std::string last = "*a" + std::to_string(level - 1);
        bomb += "a" + std::to_string(level) + ": &a" + std::to_string(level) + " [" + last;
        for (int i = 0; i < 9; ++i) bomb += ", " + last;
        bomb += "]\n";
    }
    CHECK(contains(first_problem(bomb), "more than 20000 keys and values"));

    const std::string text_bomb =
        "a: &a " + std::string(500000, 'x') + "\nb: [" + repeated("*a, ", 100) + "]\n";
    CHECK(contains(first_problem(text_bomb), "aliases repeat more than 4 MiB"));

    // Depth in each of the ways that lead there, aliases included.
    CHECK(contains(first_problem(repeated("[", 100000)), "nested deeper than 32"));
    CHECK(contains(first_problem(repeated("{a: ", 100000)), "nested deeper than 32"));
    CHECK(contains(first_problem(repeated("- ", 100000) + "x"), "nested deeper than 32"));
    std::string ladder = "a0: &a0 [[[[[[x]]]]]]\n";
    for (int level = 1; level < 8; ++level) {
        ladder += "a" + std::to_string(level) + ": &a" + std::to_string(level) + " [[[[[[*a" +
                  std::to_string(level - 1) + "]]]]]]\n";
    }
    CHECK(contains(first_problem(ladder), "nested deeper than 32"));

    CHECK(contains(first_problem(std::string(yaml_bytes_max + 1, '#')), "larger than 1 MiB"));
    CHECK(contains(first_problem(repeated("- x\n", 30000)), "more than 20000"));
    CHECK(contains(first_problem(std::string_view("a: \0b", 5)), "NUL"));
    CHECK(contains(first_problem("\xff\xfe\x00"), "NUL") == false);  // An odd UTF-16 file.
}

TEST_CASE("every prefix and every changed byte of a document ends in a tree or in problems") {
    const std::string whole =
        "receivers:\n  shm: {spool_size: 64MiB}\nexporters:\n  otlp: &x\n    endpoint: \"h:1\"\n"
        "    headers:\n      - 'a'\n      - |\n        text\n  b: *x\n# done\n";
    for (std::size_t length = 0; length <= whole.size(); ++length) {
        const ParsedYaml parsed = parse_yaml(whole.substr(0, length), "f");
        CHECK((parsed.problems.empty() || !parsed.problems.front().message.empty()));
    }
    for (std::size_t at = 0; at < whole.size(); ++at) {
        for (const char with :
             {'{', '[', '"', '&', '*', '!', ':', '-', '?', '\n', '\xff', '%', '|'}) {
            std::string changed = whole;
            changed[at] = with;
            const ParsedYaml parsed = parse_yaml(changed, "f");
            CHECK((parsed.problems.empty() || !parsed.problems.front().message.empty()));
        }
    }
}
