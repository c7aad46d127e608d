// Reading one map of the configuration: typed keys with ranges, and every key that is left over.
//
// Used by: config/load.cpp, exporter_keys.cpp. Threads: one. A section learns which keys exist from
// the calls that read them, so the code that reads is the schema. `finish()` reports the rest.
// A key that is absent or null leaves its target, the default, as it is. Never throws.
#pragma once

#include "config/problem.hpp"
#include "config/yaml.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace oteld::config {

// Where mistakes and warnings of one source are gathered.
struct Report {
    std::string source;
    Problems problems;
    std::vector<std::string> warnings;

    void problem(Place place, std::string message, std::string suggestion = {});
    void warning(Place place, std::string message);
};

class Section {
public:
    // `node` may be null (no such key, or nothing behind it): then every key is absent. Anything
    // but a map is reported here, once. `path` names the section in messages:
    // "exporters.otlp_grpc.tls".
    Section(const YamlNode* node, std::string path, Report& report);

    // Null when the key is absent or null.
    const YamlNode* find(std::string_view key);
    // Whether the key stands there at all, even with nothing behind it.
    [[nodiscard]] bool has(std::string_view key) const;
    Section section(std::string_view key);
    [[nodiscard]] Place place() const { return place_; }
    [[nodiscard]] Place place_of(std::string_view key) const;
    [[nodiscard]] const std::string& path() const { return path_; }
    // All keys, for sections whose keys are names that people choose.
    [[nodiscard]] const std::vector<Member>& members() const;

    // Each returns whether the key was there and good.
    bool text(std::string_view key, std::string& target);
    bool boolean(std::string_view key, bool& target);
    bool whole(std::string_view key, std::uint32_t& target, std::uint32_t min, std::uint32_t max);
    bool decimal(std::string_view key, double& target, double min, double max);
    bool size(std::string_view key, std::uint64_t& target, std::uint64_t min, std::uint64_t max);
    bool duration(std::string_view key, std::chrono::milliseconds& target,
                  std::chrono::milliseconds min, std::chrono::milliseconds max);
    // The index of the word; words are compared without regard to case.
    std::optional<std::size_t> word(std::string_view key,
                                    const std::vector<std::string_view>& words);

    // A key that people bring along from the Collector and that means nothing here: an error that
    // says what to do instead.
    void replaced(std::string_view key, const std::string& advice);

    // A key that must be there and is not. Said by finish(), and only when no unknown key looks as
    // if it were this one mistyped: then the suggestion says it.
    void missing(std::string_view key, const std::string& message);

    void problem(std::string_view key, const std::string& message, std::string suggestion = {});
    void warning(std::string_view key, const std::string& message);

    // Reports what is missing and every key that no call has asked for. Call it last.
    void finish();

private:
    const YamlNode* scalar(std::string_view key, const std::string& expected);
    const YamlNode* unquoted(std::string_view key, const std::string& expected);
    [[nodiscard]] std::string name(std::string_view key) const;

    const YamlNode* node_ = nullptr;
    std::string path_;
    Place place_;
    Report& report_;
    std::vector<std::string> known_;
    std::vector<std::string> replaced_;
    std::vector<std::pair<std::string, std::string>> missing_;  // Key, message.
};

}  // namespace oteld::config
