#include "config/substitute.hpp"

#include <doctest/doctest.h>

#include <map>

using namespace oteld::config;

namespace {

struct Outcome {
    YamlNode root;
    Problems problems;
    std::vector<std::string> warnings;
};

Outcome run(const std::string& yaml) {
    const std::map<std::string, std::string> table{{"HOST", "collector"},
                                                   {"PORT", "4317"},
                                                   {"EMPTY", ""},
                                                   {"TRUE", "true"},
                                                   {"YAML", "x\ny: {z: 1}"},
                                                   {"NESTED", "${HOST}"},
                                                   {"NULLWORD", "null"},
                                                   {"BIG", std::string(40 << 10, 'b')}};
    const Environment environment = [&](const std::string& name) -> std::optional<std::string> {
        const auto found = table.find(name);
        if (found == table.end()) return std::nullopt;
        return found->second;
    };
    Outcome outcome;
    ParsedYaml parsed = parse_yaml(yaml, "f");
    REQUIRE(parsed.problems.empty());
    outcome.root = std::move(parsed.root);
    substitute(outcome.root, "f", environment, outcome.problems, outcome.warnings);
    return outcome;
}

}  // namespace

TEST_CASE("references become what the variable holds") {
    struct Row {
        const char* yaml;
        const char* text;
    };
    const Row rows[] = {
        {"a: ${env:HOST}", "collector"},
        {"a: ${HOST}", "collector"},
        {"a: ${env:HOST}:${env:PORT}", "collector:4317"},
        {"a: ${env:NONE:-fallback}", "fallback"},
        {"a: ${EMPTY:-fallback}", "fallback"},
        {"a: ${env:HOST:-fallback}", "collector"},
        {"a: '${NONE:-}x'", "x"},
        {"a: ${NONE:-http://h:1/p}", "http://h:1/p"},
        {"a: $$HOST", "$HOST"},
        {"a: $${HOST}", "${HOST}"},
        {"a: $$$${HOST}", "$${HOST}"},
        {"a: $$${HOST}", "$collector"},
        {"a: cost $5", "cost $5"},
        {"a: $HOST", "$HOST"},
        {"a: end$", "end$"},
        {"a: '${NESTED}'", "${HOST}"},
        {"a: ${NONE:-${HOST}", "${HOST"},
        {"a: \"${YAML}\"", "x\ny: {z: 1}"},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.yaml));
        const Outcome outcome = run(row.yaml);
        CHECK(outcome.problems.empty());
        CHECK(outcome.warnings.empty());
        REQUIRE(outcome.root.find("a") != nullptr);
        CHECK(outcome.root.find("a")->text == row.text);
    }
}

TEST_CASE("what a variable holds stays one scalar, whatever it looks like") {
    const Outcome outcome = run("a: ${YAML}\nb: 1\n");
    REQUIRE(outcome.root.members.size() == 2);
    CHECK(outcome.root.find("a")->kind == YamlNode::Kind::scalar);
    CHECK(outcome.root.find("y") == nullptr);
}

TEST_CASE("the type is decided after the substitution, and quotes keep text") {
    CHECK(run("a: ${TRUE}").root.find("a")->plain);
    CHECK_FALSE(run("a: '${TRUE}'").root.find("a")->plain);
    CHECK(run("a: ${NULLWORD}").root.find("a")->kind == YamlNode::Kind::null);
    CHECK(run("a: '${NULLWORD}'").root.find("a")->kind == YamlNode::Kind::scalar);
    CHECK(run("a: ${EMPTY:-}").root.find("a")->kind == YamlNode::Kind::null);
}

TEST_CASE("a variable that is not there and has no default is nothing, with a warning") {
    const Outcome outcome = run("b: 1\na:  ${env:NONE}\n");
    CHECK(outcome.problems.empty());
    CHECK(outcome.root.find("a")->kind == YamlNode::Kind::null);
    REQUIRE(outcome.warnings.size() == 1);
    CHECK(outcome.warnings[0].starts_with("f:2:5: the variable NONE is not set"));
    CHECK(run("a: x${EMPTY}").warnings.at(0).find("EMPTY is empty") != std::string::npos);
    CHECK(run("a: x${EMPTY}").root.find("a")->text == "x");
}

TEST_CASE("a broken reference is an error at its scalar") {
    for (const char* yaml : {"a: ${HOST", "a: ${}", "a: ${1X}", "a: ${env:}", "a: ${file:/etc/x}",
                             "a: ${HO ST}", "a: ${env:A:B}", "a: ${env:HOST:+x}"}) {
        CAPTURE(std::string(yaml));
        const Outcome outcome = run(yaml);
        REQUIRE(outcome.problems.size() == 1);
        CHECK(outcome.problems[0].place.line == 1);
        CHECK(outcome.problems[0].place.column == 4);
    }
}

TEST_CASE("keys are left alone") { CHECK(run("'${HOST}': 1").root.find("${HOST}") != nullptr); }

TEST_CASE("a scalar that variables blow up is refused") {
    CHECK(run("a: ${BIG}").problems.empty());
    CHECK(run("a: ${BIG}${BIG}").problems.size() == 1);
}
