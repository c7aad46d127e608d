// A YAML document as a small tree in which every node knows its line and column.
//
// Used by: config/load.cpp. Threads: any. Never returns a tree that is larger than its limits: a
// file may be hostile (nesting without end, aliases that multiply), and the tree is what all later
// code walks. One document of maps, sequences and scalars; anchors and aliases are copied in.
#pragma once

#include "config/problem.hpp"

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace oteld::config {

inline constexpr std::size_t yaml_bytes_max = 1 << 20;
inline constexpr int yaml_depth_max = 32;
inline constexpr std::size_t yaml_nodes_max = 20000;
inline constexpr std::size_t yaml_copied_bytes_max = 4 << 20;  // Text that aliases repeat.

struct Member;

struct YamlNode {
    enum class Kind { null, scalar, sequence, map };
    Kind kind = Kind::null;
    Place place;
    std::string text;             // Of a scalar.
    bool plain = true;            // A scalar without quotes: it may be a number, a boolean or null.
    std::vector<YamlNode> items;  // Of a sequence.
    std::vector<Member> members;  // Of a map, in the order of the file.

    [[nodiscard]] const YamlNode* find(std::string_view key) const;
};

struct Member {
    std::string key;
    Place place;
    YamlNode value;
};

// Exactly one of the two. A tree is returned only when every key is unique in its map.
struct ParsedYaml {
    YamlNode root;
    Problems problems;
};
[[nodiscard]] ParsedYaml parse_yaml(std::string_view text, const std::string& source);

// What YAML's core schema reads as nothing when it stands without quotes.
[[nodiscard]] bool is_null_word(std::string_view text);

}  // namespace oteld::config
