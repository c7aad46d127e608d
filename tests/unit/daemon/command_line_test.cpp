#include "daemon/command_line.hpp"

#include <doctest/doctest.h>

#include <sstream>
#include <string>
#include <vector>

namespace oteld::daemon {
namespace {

Command parse_words(const std::vector<std::string>& words) {
    std::vector<const char*> argv{"oteld"};
    for (const std::string& word : words) argv.push_back(word.c_str());
    return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

// Splits at blanks; "" stays an empty word.
Command parse(const std::string& line) {
    std::vector<std::string> words;
    std::istringstream stream(line);
    for (std::string word; stream >> word;) words.push_back(word == "\"\"" ? "" : word);
    return parse_words(words);
}

struct Refused {
    const char* line;
    const char* sentence;
};

TEST_CASE("what cannot be understood is refused with exit code 2 and a sentence that helps") {
    const Refused cases[] = {
        {"staus", "oteld: there is no verb \"staus\"; did you mean `oteld status`?\n"},
        {"xyzzy", "oteld: there is no verb \"xyzzy\"; `oteld --help` lists them.\n"},
        {"help lod", "oteld: there is no verb \"lod\"; did you mean `oteld load`?\n"},
        {"run --confg x", "oteld: `oteld run` has no option \"--confg\"; did you mean --config?\n"},
        {"run --confg=x", "oteld: `oteld run` has no option \"--confg\"; did you mean --config?\n"},
        {"run -v", "oteld: `oteld run` has no option \"-v\"; `oteld run --help` lists them.\n"},
        {"--config x run",
         "oteld: oteld has no option \"--config\"; there is `oteld run --config`, `oteld validate "
         "--config`.\n"},
        {"status --spans",
         "oteld: `oteld status` has no option \"--spans\"; there is `oteld rings --spans`, `oteld "
         "load --spans`.\n"},
        {"status now", "oteld: `oteld status` takes no \"now\".\n"},
        {"run --config", "oteld: --config needs a value: --config FILE.\n"},
        {"run --config \"\"", "oteld: --config needs a value, but it is empty.\n"},
        {"status --dir --json", "oteld: --dir needs a value, but \"--json\" follows.\n"},
        {"status --dir a --dir b", "oteld: --dir is given twice.\n"},
        {"status --json=maybe", "oteld: --json takes no value.\n"},
        {"load", "oteld: load needs --spans N or --seconds S to know when to stop.\n"},
        {"load --spans ten", "oteld: --spans takes a whole number, 0 or more, not \"ten\".\n"},
        {"load --spans -5", "oteld: --spans takes a whole number, 0 or more, not \"-5\".\n"},
        {"load --spans 1.5", "oteld: --spans takes a whole number, 0 or more, not \"1.5\".\n"},
        {"load --spans 99999999999999999999",
         "oteld: --spans takes a whole number, 0 or more; \"99999999999999999999\" is too "
         "large.\n"},
        {"load --spans 5 --threads 0",
         "oteld: --threads takes a whole number, from 1 to 4,096, not \"0\".\n"},
        {"load --spans 5 --threads 4097",
         "oteld: --threads takes a whole number, from 1 to 4,096, not \"4097\".\n"},
        {"load --seconds nan",
         "oteld: --seconds takes a number, from 0.001 to 31,536,000, not \"nan\".\n"},
        {"load --seconds 1 --rate -1", "oteld: --rate takes a number, 0 or more, not \"-1\".\n"},
    };
    for (const Refused& c : cases) {
        CAPTURE(c.line);
        const Command command = parse(c.line);
        const auto* finished = std::get_if<Finished>(&command);
        REQUIRE(finished != nullptr);
        CHECK(finished->exit_code == exit_usage);
        CHECK(finished->text == c.sentence);
    }
}

TEST_CASE("what was typed cannot drive the terminal through an error") {
    const Command command = parse_words({"status", "\033[31m\nall is well"});
    const auto* finished = std::get_if<Finished>(&command);
    REQUIRE(finished != nullptr);
    CHECK(finished->exit_code == exit_usage);
    CHECK(finished->text.find('\033') == std::string::npos);
    CHECK(finished->text.find('\n') == finished->text.size() - 1);
}

TEST_CASE("no verb, help and -h show every verb and exit with 0") {
    for (const char* line : {"", "--help", "-h", "help"}) {
        CAPTURE(line);
        const Command command = parse(line);
        const auto* finished = std::get_if<Finished>(&command);
        REQUIRE(finished != nullptr);
        CHECK(finished->exit_code == 0);
        for (const char* verb : {"run", "status", "validate", "rings", "traces", "load"}) {
            CAPTURE(verb);
            CHECK(finished->text.find(std::string("\n  ") + verb + " ") != std::string::npos);
        }
    }
}

TEST_CASE("each verb explains its options, and help lines fit a terminal") {
    for (const char* verb : {"run", "status", "validate", "rings", "traces", "load"}) {
        for (const std::string& line :
             {std::string(verb) + " --help", std::string("help ") + verb}) {
            CAPTURE(line);
            const Command command = parse(line);
            const auto* finished = std::get_if<Finished>(&command);
            REQUIRE(finished != nullptr);
            CHECK(finished->exit_code == 0);
            CHECK(finished->text.find(std::string("Usage: oteld ") + verb) == 0);
            std::istringstream text(finished->text);
            for (std::string row; std::getline(text, row);) CHECK(row.size() <= 100);
        }
    }
}

TEST_CASE("options arrive where they belong") {
    CHECK(std::holds_alternative<ShowVersion>(parse("--version")));
    CHECK(std::holds_alternative<ShowVersion>(parse("version")));
    CHECK(std::get<RunOptions>(parse("run")).config_path.empty());
    CHECK(std::get<RunOptions>(parse("run --config a.yaml")).config_path == "a.yaml");
    CHECK(std::get<RunOptions>(parse("run --config=a.yaml")).config_path == "a.yaml");
    CHECK(std::get<ValidateOptions>(parse("validate --config a.yaml")).config == "a.yaml");

    const auto status = std::get<StatusOptions>(parse("status --json --watch --dir /x"));
    CHECK(status.json);
    CHECK(status.watch);
    CHECK(status.directory == "/x");
    CHECK_FALSE(std::get<StatusOptions>(parse("status")).json);

    const auto rings = std::get<RingsOptions>(parse("rings a.ring b.ring --spans --json --dir /x"));
    CHECK(rings.files == std::vector<std::string>{"a.ring", "b.ring"});
    CHECK(rings.spans);
    CHECK(rings.json);
    CHECK(rings.directory == "/x");

    const auto traces =
        std::get<TracesOptions>(parse("traces --trace ab --service s --errors --min-duration 1ms "
                                      "--since 2h --limit 3 --json --store /s.db"));
    CHECK(traces.trace == "ab");
    CHECK(traces.service == "s");
    CHECK(traces.errors);
    CHECK(traces.min_duration == "1ms");
    CHECK(traces.since == "2h");
    CHECK(traces.limit == 3);
    CHECK(traces.json);
    CHECK(traces.store == "/s.db");

    const auto load =
        std::get<LoadOptions>(parse("load --spans 10 --seconds 0.5 --rate 1e3 --threads 4 "
                                    "--attributes 0 --service x --leave-open 2 --progress p"));
    CHECK(load.spans == 10);
    CHECK(load.seconds == 0.5);
    CHECK(load.rate == 1000);
    CHECK(load.threads == 4);
    CHECK(load.attributes == 0);
    CHECK(load.service == "x");
    CHECK(load.leave_open == 2);
    CHECK(load.progress == "p");
}

}  // namespace
}  // namespace oteld::daemon
