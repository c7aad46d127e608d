#include "daemon/command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "config/nearest.hpp"
#include "daemon/status/words.hpp"

namespace oteld::daemon {
namespace {

struct UsageError {
    std::string text;
};

std::string in_quotes(std::string_view text) { return "\"" + status::clean_text(text) + "\""; }

std::string long_name(const CLI::Option& option) {
    return option.get_lnames().empty() ? option.get_name() : "--" + option.get_lnames().front();
}

Finished refused(const std::string& text) {
    return {exit_usage, "oteld: " + text + (text.ends_with('?') ? "\n" : ".\n")};
}

// An option followed by another option has no value: nobody names a file "--json".
const std::string& checked_value(const std::string& name, const std::string& text) {
    if (text.starts_with("--"))
        throw UsageError{name + " needs a value, but " + in_quotes(text) + " follows"};
    if (text.empty()) throw UsageError{name + " needs a value, but it is empty"};
    return text;
}

CLI::Option* text_option(CLI::App& verb, const std::string& name, std::string& target,
                         const std::string& value, const std::string& help) {
    const auto take = [&target, name](const std::string& text) {
        target = checked_value(name, text);
    };
    return verb.add_option_function<std::string>(name, take, help)->type_name(value);
}

std::string number_words(double number) {
    return number == std::floor(number) && number < 1e18
               ? status::count_words(static_cast<std::uint64_t>(number))
               : CLI::detail::to_string(number);
}

// Limits are said in words: from 1 to 1,024, or "1 or more" when the type is the only upper limit.
template <class Number>
std::string range_words(Number smallest, Number largest) {
    if (largest == std::numeric_limits<Number>::max())
        return number_words(static_cast<double>(smallest)) + " or more";
    return "from " + number_words(static_cast<double>(smallest)) + " to " +
           number_words(static_cast<double>(largest));
}

template <class Number>
CLI::Option* number_option(CLI::App& verb, const std::string& name, Number& target, Number smallest,
                           Number largest, const std::string& value, const std::string& help) {
    const auto take = [&target, name, smallest, largest](const std::string& text) {
        checked_value(name, text);
        Number number{};
        const char* end = text.data() + text.size();
        const auto [stopped, error] = std::from_chars(text.data(), end, number);
        // A comparison that NaN fails too.
        const bool fits =
            error == std::errc() && stopped == end && number >= smallest && number <= largest;
        constexpr const char* kind =
            std::is_integral_v<Number> ? " takes a whole number, " : " takes a number, ";
        const std::string wrong = error == std::errc::result_out_of_range
                                      ? "; " + in_quotes(text) + " is too large"
                                      : ", not " + in_quotes(text);
        if (!fits) throw UsageError{name + kind + range_words(smallest, largest) + wrong};
        target = number;
    };
    return verb.add_option_function<std::string>(name, take, help)->type_name(value);
}

class CommandLine {
public:
    CommandLine();
    Command parse(int argc, const char* const* argv);

private:
    CLI::App* verb(const std::string& name, const std::string& help);
    void add_run();
    void add_status();
    void add_validate();
    void add_rings();
    void add_traces();
    void add_load();

    Command chosen(const CLI::App& verb) const;
    [[nodiscard]] std::string overview() const;
    [[nodiscard]] std::string help(const CLI::App& verb) const;
    void refuse_unknown(const CLI::App& verb) const;
    [[nodiscard]] std::string unknown_verb(const std::string& word) const;
    [[nodiscard]] std::string unknown_option(const CLI::App& verb, const std::string& option) const;
    [[nodiscard]] std::string mismatch(const CLI::App& verb, const std::string& message) const;
    [[nodiscard]] const CLI::App& parsed_verb() const;
    [[nodiscard]] std::vector<const CLI::App*> verbs() const;

    CLI::App app_;
    bool version_ = false;
    bool help_ = false;
    RunOptions run_;
    StatusOptions status_;
    ValidateOptions validate_;
    RingsOptions rings_;
    TracesOptions traces_;
    LoadOptions load_;
    std::string topic_;  // of `oteld help`
};

CommandLine::CommandLine() : app_("", "oteld") {
    app_.set_help_flag();
    app_.allow_extras();
    app_.require_subcommand(0, 1);
    app_.add_flag("-h,--help", help_, "show this text");
    app_.add_flag("--version", version_, "show the version");
    add_run();
    add_status();
    add_traces();
    add_rings();
    add_validate();
    add_load();
    // What people try first, though nothing lists it.
    verb("version", "show the version")->group("");
    CLI::App* topic = verb("help", "show help");
    topic->group("");
    topic->add_option("verb", topic_);
}

// Unknown words are collected and judged afterwards, with better words than CLI11's.
CLI::App* CommandLine::verb(const std::string& name, const std::string& help) {
    CLI::App* verb = app_.add_subcommand(name, help);
    verb->set_help_flag();
    verb->allow_extras();
    verb->add_flag("-h,--help", help_, "show this text");
    return verb;
}

void CommandLine::add_run() {
    CLI::App& run = *verb("run", "the daemon: drain rings, export spans");
    text_option(run, "--config", run_.config_path, "FILE",
                "configuration; else /etc/oteld/oteld.yaml, OTEL_* or the trace store");
    run.footer("Exit codes: 0 stopped, 1 cannot run, 78 the configuration is not valid.");
}

void CommandLine::add_traces() {
    constexpr std::uint32_t any = std::numeric_limits<std::uint32_t>::max();
    CLI::App& traces = *verb("traces", "list traces of the local store, or show one as a tree");
    text_option(traces, "--trace", traces_.trace, "ID",
                "show this trace as a tree: its id or the first digits of it");
    text_option(traces, "--service", traces_.service, "NAME",
                "only traces in which this service took part");
    traces.add_flag("--errors", traces_.errors, "only traces with errors");
    text_option(traces, "--min-duration", traces_.min_duration, "DURATION",
                "only traces that took as long: 250us, 100ms, 1.5s");
    text_option(traces, "--since", traces_.since, "WHEN",
                "only traces since then: 10m, 2h, or 2026-11-24T20:00:00Z");
    number_option<std::uint32_t>(traces, "--limit", traces_.limit, 0, any, "N",
                                 "how many, the newest first (20; 0: all)");
    text_option(traces, "--store", traces_.store, "FILE",
                "the store; else traces.db in the state directory");
    traces.add_flag("--json", traces_.json, "print JSON");
    traces.footer("Exit codes: 0, 1 nothing found or the store cannot be read.");
}

void CommandLine::add_status() {
    CLI::App& status = *verb("status", "whether spans arrive, and what became of each");
    status.add_flag("--json", status_.json, "print the same as JSON");
    status.add_flag("--watch", status_.watch, "redraw each second until q or ctrl-c");
    text_option(status, "--dir", status_.directory, "DIRECTORY",
                "ring directory of the daemon (OTELD_DIR)");
    status.footer("Exit codes: 0 healthy, 1 degraded, 3 not running, 4 cannot tell.");
}

void CommandLine::add_validate() {
    CLI::App& validate = *verb("validate", "check a configuration, offline");
    text_option(validate, "--config", validate_.config, "FILE",
                "configuration; else what `oteld run` would take");
    validate.footer("Exit codes: 0 valid, 78 not valid; all mistakes are listed at once.");
}

void CommandLine::add_rings() {
    CLI::App& rings = *verb("rings", "what lies in ring files; works without a daemon");
    rings.add_option("FILE", rings_.files, "ring files; else all of the ring directory");
    text_option(rings, "--dir", rings_.directory, "DIRECTORY", "ring directory (OTELD_DIR)");
    rings.add_flag("--spans", rings_.spans, "show finished and open spans too");
    rings.add_flag("--json", rings_.json, "print JSON");
    rings.footer("Exit codes: 0, 1 when a file is damaged or cannot be read.");
}

void CommandLine::add_load() {
    constexpr std::uint64_t any = std::numeric_limits<std::uint64_t>::max();
    constexpr double no_limit = std::numeric_limits<double>::max();
    CLI::App& load = *verb("load", "write spans as an application would, to size a host");
    number_option<std::uint64_t>(load, "--spans", load_.spans, 0, any, "N",
                                 "spans to write, over all threads");
    number_option<double>(load, "--seconds", load_.seconds, 0.001, 31'536'000, "S",
                          "or how long to write");
    number_option<double>(load, "--rate", load_.rate, 0, no_limit, "R",
                          "spans per second, over all threads; 0: as fast as it can");
    number_option<unsigned>(load, "--threads", load_.threads, 1, 4096, "T", "threads (1)");
    number_option<unsigned>(load, "--attributes", load_.attributes, 0, 1000, "A",
                            "attributes per span beside load.thread and load.seq (5)");
    text_option(load, "--service", load_.service, "NAME", "service.name (oteld-load)");
    number_option<std::uint64_t>(load, "--leave-open", load_.leave_open, 0, any, "K",
                                 "spans that are started and never ended, on top (0)");
    text_option(load, "--progress", load_.progress, "FILE",
                "keeps, per thread, the last load.seq that has ended");
    load.footer(
        "The last line on standard output is JSON: started, ended, dropped, open, seconds.");
}

Command CommandLine::parse(int argc, const char* const* argv) {
    try {
        app_.parse(argc, argv);
        const CLI::App& verb = parsed_verb();
        if (help_) return Finished{0, help(verb)};
        refuse_unknown(verb);
        return chosen(verb);
    } catch (const UsageError& error) {
        return refused(error.text);
    } catch (const CLI::Error& error) {
        return refused(mismatch(parsed_verb(), error.what()));
    }
}

Command CommandLine::chosen(const CLI::App& verb) const {
    const std::string& name = verb.get_name();
    if (version_ || name == "version") return ShowVersion{};
    if (name == "run") return run_;
    if (name == "status") return status_;
    if (name == "validate") return validate_;
    if (name == "rings") return rings_;
    if (name == "traces") return traces_;
    if (name == "load") {
        if (load_.spans == 0 && load_.seconds == 0 && load_.leave_open == 0) {
            throw UsageError{"load needs --spans N or --seconds S to know when to stop"};
        }
        return load_;
    }
    for (const CLI::App* known : verbs()) {
        if (known->get_name() == topic_) return Finished{0, help(*known)};
    }
    if (!topic_.empty()) throw UsageError{unknown_verb(topic_)};
    return Finished{0, overview()};
}

// The verb that was typed, or the program itself.
const CLI::App& CommandLine::parsed_verb() const {
    const std::vector<const CLI::App*> all = verbs();
    for (const CLI::App* verb : all) {
        if (verb->parsed()) return *verb;
    }
    return app_;
}

std::vector<const CLI::App*> CommandLine::verbs() const {
    return app_.get_subcommands([](const CLI::App*) { return true; });
}

void CommandLine::refuse_unknown(const CLI::App& verb) const {
    const std::vector<std::string> before = app_.remaining();
    const std::vector<std::string> after = verb.remaining();
    const std::vector<std::string>& words = before.empty() ? after : before;
    if (words.empty()) return;
    const std::string& word = words.front();
    if (word.starts_with('-')) throw UsageError{unknown_option(before.empty() ? verb : app_, word)};
    if (&verb != &app_)
        throw UsageError{"`oteld " + verb.get_name() + "` takes no " + in_quotes(word)};
    throw UsageError{unknown_verb(word)};
}

std::string CommandLine::unknown_verb(const std::string& word) const {
    std::vector<std::string> names;
    for (const CLI::App* known : verbs()) names.push_back(known->get_name());
    const std::string near = config::nearest(word, names);
    return "there is no verb " + in_quotes(word) +
           (near.empty() ? "; `oteld --help` lists them" : "; did you mean `oteld " + near + "`?");
}

std::string CommandLine::unknown_option(const CLI::App& verb, const std::string& typed) const {
    const std::string option = typed.substr(0, typed.find('='));
    const bool whole = &verb == &app_;
    std::vector<std::string> own;
    std::string elsewhere;
    for (const CLI::Option* known : verb.get_options()) own.push_back(long_name(*known));
    for (const CLI::App* other : verbs()) {
        if (other != &verb && other->get_option_no_throw(option) != nullptr) {
            elsewhere += (elsewhere.empty() ? "`oteld " : ", `oteld ") + other->get_name() + " " +
                         option + "`";
        }
    }
    std::string text = whole ? "oteld" : "`oteld " + verb.get_name() + "`";
    text += " has no option " + in_quotes(option);
    if (const std::string near = config::nearest(option, own); !near.empty())
        return text + "; did you mean " + near + "?";
    if (!elsewhere.empty()) return text + "; there is " + elsewhere;
    return text + "; `oteld " + (whole ? "" : verb.get_name() + " ") + "--help` lists them";
}

// CLI11 says "--dir: 1 required DIRECTORY missing", or too many of them.
std::string CommandLine::mismatch(const CLI::App& verb, const std::string& message) const {
    constexpr std::string_view of_flags = "Could not convert: ";  // ... --json = abc
    const std::size_t start = message.starts_with(of_flags) ? of_flags.size() : 0;
    const std::string name = message.substr(start, message.find_first_of(": ", start) - start);
    const CLI::Option* option = verb.get_option_no_throw(name);
    if (option == nullptr) return message;
    if (option->get_items_expected_max() == 0) return name + " takes no value";
    if (option->count() > 1) return name + " is given twice";
    return name + " needs a value: " + name + " " + option->get_type_name();
}

std::string CommandLine::overview() const {
    std::string text =
        "oteld: exports the spans that programs write into shared memory.\n\nUsage: oteld VERB "
        "[options]\n\n";
    for (const CLI::App* verb : verbs()) {
        if (verb->get_group().empty()) continue;
        std::string name = verb->get_name();
        text += "  " + name.append(12 - name.size(), ' ') + verb->get_description() + "\n";
    }
    return text +
           "\n  oteld VERB --help shows the options of a verb; oteld --version the version.\n";
}

// "--dir DIRECTORY", "-h, --help", "[FILE...]"
std::string left_side(const CLI::Option& option) {
    if (option.get_positional()) return "[" + option.get_name(true) + "...]";
    const std::string type =
        option.get_items_expected_max() == 0 ? "" : " " + option.get_type_name();
    return (option.get_snames().empty() ? "" : "-" + option.get_snames().front() + ", ") +
           long_name(option) + type;
}

std::string CommandLine::help(const CLI::App& verb) const {
    if (&verb == &app_) return overview();
    std::string usage = "Usage: oteld " + verb.get_name();
    std::string list;
    std::vector<const CLI::Option*> options = verb.get_options();
    std::rotate(options.begin(), options.begin() + 1, options.end());  // --help comes last.
    std::size_t widest = 0;
    for (const CLI::Option* option : options) {
        widest = std::max(widest, left_side(*option).size());
        if (option->get_positional()) usage += " " + left_side(*option);
    }
    for (const CLI::Option* option : options) {
        std::string left = "  " + left_side(*option);
        list += left.append(widest + 4 - left.size(), ' ') + option->get_description() + "\n";
    }
    const std::string footer = verb.get_footer().empty() ? "" : "\n" + verb.get_footer() + "\n";
    return usage + " [options]\n" + verb.get_description() + "\n\n" + list + footer;
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
    return CommandLine().parse(argc, argv);
}

}  // namespace oteld::daemon
