// The configuration: any text ends as settings or as problems that say where, never as both or
// neither, and nothing is thrown.
//
// The input is lines NAME=VALUE up to the first empty line (the environment, none when the first
// line has no '='), then the file. Without a file, the environment alone is the configuration.
#include "config/load.hpp"
#include "config/yaml.hpp"
#include "tests/fuzz/input.hpp"

#include <exception>
#include <map>
#include <set>

namespace oteld::fuzz {
namespace {

using config::Loaded;
using Variables = std::map<std::string, std::string>;

constexpr char source[] = "oteld.yaml";
constexpr char no_file[] = "/nonexistent/oteld.yaml";

Variables take_variables(std::string_view& text) {
    Variables variables;
    while (true) {
        const std::string_view line = text.substr(0, text.find('\n'));
        const std::size_t equals = line.find('=');
        if (line.empty() ? variables.empty() : equals == line.npos) return variables;
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (line.empty()) return variables;
        // As from execve: what a process finds in its environment has no zero byte.
        if (line.find('\0') == line.npos)
            variables.emplace(line.substr(0, equals), line.substr(equals + 1));
    }
}

Loaded load(std::string_view yaml, const Variables& variables) {
    const auto environment = [&variables](const std::string& name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end()) return std::nullopt;
        return found->second;
    };
    return yaml.empty() ? config::load("", environment, no_file)
                        : config::load_text(yaml, source, environment);
}

bool shows_well(const std::string& line) {
    for (const char c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
    return !line.empty();
}

void expect_problems(const Loaded& loaded, std::string_view yaml) {
    const auto lines =
        1 + std::count(yaml.begin(), yaml.end(), '\n') + std::count(yaml.begin(), yaml.end(), '\r');
    for (const config::Problem& problem : loaded.problems) {
        OTELD_EXPECT(!problem.message.empty() && !problem.source.empty());
        OTELD_EXPECT(shows_well(problem.text()));
        OTELD_EXPECT(problem.place.line >= 0 && problem.place.line <= lines + 1);
        const bool has_place = problem.text().starts_with(problem.source + ":" +
                                                          std::to_string(problem.place.line) + ":");
        OTELD_EXPECT(has_place == (problem.place.line != 0));
    }
    for (const std::string& warning : loaded.warnings) OTELD_EXPECT(shows_well(warning));
}

void expect_exporter(const config::ExporterSettings& exporter) {
    using namespace std::chrono_literals;
    OTELD_EXPECT(shows_well(exporter.name) && exporter.name.size() < 120);
    OTELD_EXPECT(exporter.queue.num_consumers >= 1);
    OTELD_EXPECT(exporter.queue.batch_spans_max >= 1);
    OTELD_EXPECT(exporter.queue.batch_spans_min <= exporter.queue.batch_spans_max);
    OTELD_EXPECT(exporter.queue.batch_bytes_max >= 1 && exporter.queue.flush_timeout >= 0ms);
    OTELD_EXPECT(exporter.retry.initial_interval >= 0ms && exporter.retry.max_interval >= 0ms);
    OTELD_EXPECT(exporter.retry.max_elapsed_time >= 0ms && exporter.retry.multiplier >= 1);
    OTELD_EXPECT(exporter.retry.randomization_factor >= 0 &&
                 exporter.retry.randomization_factor <= 1);
    const auto* otlp = std::get_if<config::Otlp>(&exporter.what);
    if (otlp == nullptr) return;
    OTELD_EXPECT(!otlp->endpoint.empty() && otlp->timeout > 0ms);
    OTELD_EXPECT(otlp->tls.cert_file.empty() == otlp->tls.key_file.empty());
    for (const auto& [name, value] : otlp->headers)
        OTELD_EXPECT(shows_well(name) && value.find_first_of("\r\n") == value.npos &&
                     value.find('\0') == value.npos);
}

void expect_settings(const config::Settings& settings) {
    OTELD_EXPECT(!settings.exporters.empty() && settings.exporters.size() <= 16);
    OTELD_EXPECT(settings.shm.spool_bytes > 0 && settings.shm.user_files_max > 0 &&
                 settings.shm.user_bytes_max > 0 && settings.shm.user_spans_max > 0);
    OTELD_EXPECT(
        std::set<std::string>({"debug", "info", "warn", "error"}).contains(settings.log_level));
    std::set<std::string> names;
    for (const config::ExporterSettings& exporter : settings.exporters) {
        OTELD_EXPECT(names.insert(exporter.name).second);
        expect_exporter(exporter);
    }
}

std::string problem_texts(const Loaded& loaded) {
    std::string all;
    for (const config::Problem& problem : loaded.problems) all += problem.text() + "\n";
    return all;
}

// A tree or problems; duplicate keys leave both, so that the rest can be checked as well.
void expect_tree(std::string_view yaml) {
    const config::ParsedYaml parsed = config::parse_yaml(yaml, source);
    const bool tree = parsed.root.kind != config::YamlNode::Kind::null;
    OTELD_EXPECT(yaml.size() <= config::yaml_bytes_max || (!tree && !parsed.problems.empty()));
}

}  // namespace
}  // namespace oteld::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
    using namespace oteld::fuzz;
    std::string_view yaml = Input(bytes, count).rest();
    try {
        const Variables variables = take_variables(yaml);
        const Loaded loaded = load(yaml, variables);
        expect_tree(yaml);
        expect_problems(loaded, yaml);
        if (loaded.valid()) expect_settings(loaded.settings);
        OTELD_EXPECT(problem_texts(load(yaml, variables)) == problem_texts(loaded));
    } catch (const std::exception& thrown) {
        std::fprintf(stderr, "%s\n", thrown.what());
        OTELD_EXPECT(!"an exception");
    }
    return 0;
}
