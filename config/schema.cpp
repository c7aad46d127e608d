#include "config/schema.hpp"

#include "config/nearest.hpp"
#include "config/units.hpp"

#include <algorithm>
#include <cstdio>

namespace oteld::config {
namespace {

std::string lower_case(std::string_view text) {
    std::string lower(text);
    for (char& c : lower) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return lower;
}

const char* kind_name(YamlNode::Kind kind) {
    switch (kind) {
        case YamlNode::Kind::null: return "nothing";
        case YamlNode::Kind::scalar: return "a single value";
        case YamlNode::Kind::sequence: return "a list";
        case YamlNode::Kind::map: return "a map of keys";
    }
    return "something else";
}

std::string show(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

}  // namespace

void Report::problem(Place place, std::string message, std::string suggestion) {
    problems.push_back({source, place, std::move(message), std::move(suggestion)});
}

void Report::warning(Place place, std::string message) {
    warnings.push_back(Problem{source, place, std::move(message), {}}.text());
}

Section::Section(const YamlNode* node, std::string path, Report& report)
    : path_(std::move(path)), report_(report) {
    if (node == nullptr) return;
    place_ = node->place;
    if (node->kind == YamlNode::Kind::map) node_ = node;
    if (node->kind == YamlNode::Kind::scalar || node->kind == YamlNode::Kind::sequence) {
        report_.problem(place_, (path_.empty() ? "the configuration" : path_) +
                                    std::string(" must be a map of keys, not ") +
                                    kind_name(node->kind));
    }
}

const YamlNode* Section::find(std::string_view key) {
    known_.emplace_back(key);
    const YamlNode* value = node_ == nullptr ? nullptr : node_->find(key);
    return value == nullptr || value->kind == YamlNode::Kind::null ? nullptr : value;
}

bool Section::has(std::string_view key) const {
    return node_ != nullptr && node_->find(key) != nullptr;
}

Section Section::section(std::string_view key) {
    Section made(find(key), name(key), report_);
    made.place_ = place_of(key);  // Also where nothing stands: what is missing needs a place.
    return made;
}

Place Section::place_of(std::string_view key) const {
    const YamlNode* value = node_ == nullptr ? nullptr : node_->find(key);
    return value == nullptr ? place_ : value->place;
}

const std::vector<Member>& Section::members() const {
    static const std::vector<Member> none;
    return node_ == nullptr ? none : node_->members;
}

bool Section::text(std::string_view key, std::string& target) {
    const YamlNode* value = scalar(key, "text");
    if (value == nullptr) return false;
    target = value->text;
    return true;
}

bool Section::boolean(std::string_view key, bool& target) {
    const YamlNode* value = unquoted(key, "true or false");
    if (value == nullptr) return false;
    const std::string lower = lower_case(value->text);
    if (lower == "true" || lower == "false") {
        target = lower == "true";
        return true;
    }
    const bool yes = lower == "yes" || lower == "on" || lower == "1" || lower == "y";
    const bool no = lower == "no" || lower == "off" || lower == "0" || lower == "n";
    std::string meant = yes ? "true" : no ? "false" : "";
    if (meant.empty()) {
        meant = nearest(lower, std::vector<std::string_view>{"true", "false"});
    }
    problem(key, name(key) + " must be true or false, not " + quoted(value->text), meant);
    return false;
}

bool Section::whole(std::string_view key, std::uint32_t& target, std::uint32_t min,
                    std::uint32_t max) {
    const std::string range =
        "a whole number from " + std::to_string(min) + " to " + std::to_string(max);
    const YamlNode* value = unquoted(key, range);
    if (value == nullptr) return false;
    const auto number = parse_whole(value->text);
    if (!number || *number < min || *number > max) {
        problem(key, name(key) + " must be " + range + ", not " + quoted(value->text));
        return false;
    }
    target = static_cast<std::uint32_t>(*number);
    return true;
}

bool Section::decimal(std::string_view key, double& target, double min, double max) {
    const std::string range = "a number from " + show(min) + " to " + show(max);
    const YamlNode* value = unquoted(key, range);
    if (value == nullptr) return false;
    const auto number = parse_decimal(value->text);
    if (!number || *number < min || *number > max) {
        problem(key, name(key) + " must be " + range + ", not " + quoted(value->text));
        return false;
    }
    target = *number;
    return true;
}

bool Section::size(std::string_view key, std::uint64_t& target, std::uint64_t min,
                   std::uint64_t max) {
    const YamlNode* value = scalar(key, "a size such as 64MiB");
    if (value == nullptr) return false;
    const auto bytes = parse_size(value->text);
    if (!bytes) {
        std::string meant;
        std::string unit = lower_case(value->text);
        const std::size_t digits = unit.find_first_not_of("0123456789.");
        if (digits != std::string::npos && digits > 0) {
            unit.erase(0, unit.find_first_not_of(' ', digits));
            constexpr std::string_view letters = "kmgt";
            const bool unit_meant = unit.size() <= 3 && letters.find(unit[0]) != letters.npos;
            if (unit_meant) {
                meant =
                    value->text.substr(0, digits) + static_cast<char>(unit[0] - 'a' + 'A') + "iB";
            }
        }
        problem(key,
                name(key) + " must be a size (a number of bytes, or with B, KiB, MiB, GiB), not " +
                    quoted(value->text),
                meant);
        return false;
    }
    if (*bytes < min || *bytes > max) {
        problem(key, name(key) + " must be from " + show_size(min) + " to " + show_size(max) +
                         ", not " + quoted(value->text));
        return false;
    }
    target = *bytes;
    return true;
}

bool Section::duration(std::string_view key, std::chrono::milliseconds& target,
                       std::chrono::milliseconds min, std::chrono::milliseconds max) {
    const YamlNode* value = scalar(key, "a duration such as 10s");
    if (value == nullptr) return false;
    const auto parsed = parse_duration(value->text);
    if (!parsed) {
        const bool bare = parse_decimal(value->text).has_value();
        problem(key,
                name(key) +
                    " must be a duration (numbers with us, ms, s, m, h or d: 200ms, 5s, 1m30s), "
                    "not " +
                    quoted(value->text),
                bare ? value->text + "s" : "");
        return false;
    }
    if (*parsed < min || *parsed > max) {
        problem(key, name(key) + " must be from " + config::show(min) + " to " + config::show(max) +
                         ", not " + quoted(value->text));
        return false;
    }
    target = *parsed;
    return true;
}

std::optional<std::size_t> Section::word(std::string_view key,
                                         const std::vector<std::string_view>& words) {
    const YamlNode* value = scalar(key, listed(words));
    if (value == nullptr) return std::nullopt;
    const std::string lower = lower_case(value->text);
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (words[i] == lower) return i;
    }
    problem(key, name(key) + " must be " + listed(words) + ", not " + quoted(value->text),
            nearest(value->text, words));
    return std::nullopt;
}

void Section::replaced(std::string_view key, const std::string& advice) {
    replaced_.emplace_back(key);
    if (node_ == nullptr) return;
    for (const Member& member : node_->members) {
        if (member.key == key) report_.problem(member.place, name(key) + ": " + advice);
    }
}

void Section::missing(std::string_view key, const std::string& message) {
    missing_.emplace_back(key, message);
}

void Section::problem(std::string_view key, const std::string& message, std::string suggestion) {
    report_.problem(place_of(key), message, std::move(suggestion));
}

void Section::warning(std::string_view key, const std::string& message) {
    report_.warning(place_of(key), message);
}

void Section::finish() {
    const auto in = [](const std::vector<std::string>& words, const std::string& word) {
        return std::find(words.begin(), words.end(), word) != words.end();
    };
    for (const Member& member : members()) {
        if (in(known_, member.key) || in(replaced_, member.key)) continue;
        const std::string where = path_.empty() ? "at the top level" : "in " + path_;
        const std::string meant = nearest(member.key, known_);
        std::string message = "unknown key " + quoted(member.key) + " " + where;
        if (meant.empty() && !known_.empty()) {
            std::vector<std::string_view> known(known_.begin(), known_.end());
            message += "; it may hold " + listed(known);
        }
        report_.problem(member.place, std::move(message), meant);
        std::erase_if(missing_, [&](const auto& missing) { return missing.first == meant; });
    }
    for (const auto& [key, message] : missing_) problem(key, message);
}

const YamlNode* Section::scalar(std::string_view key, const std::string& expected) {
    const YamlNode* value = find(key);
    if (value == nullptr || value->kind == YamlNode::Kind::scalar) return value;
    problem(key, name(key) + " must be " + expected + ", not " + kind_name(value->kind));
    return nullptr;
}

const YamlNode* Section::unquoted(std::string_view key, const std::string& expected) {
    const YamlNode* value = scalar(key, expected);
    if (value == nullptr || value->plain) return value;
    problem(key, name(key) + " must be " + expected + "; " + quoted(value->text) +
                     " in quotes is text, so take the quotes away");
    return nullptr;
}

std::string Section::name(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

}  // namespace oteld::config
