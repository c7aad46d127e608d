#include "config/problem.hpp"

#include <cstdio>

namespace oteld::config {
namespace {

// A configuration may come from elsewhere: what it holds must not steer the terminal.
std::string visible(std::string_view raw) {
    std::string text;
    for (const char letter : raw) {
        const auto byte = static_cast<unsigned char>(letter);
        if (byte < 0x20 || byte == 0x7f) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
            text += escaped;
        } else {
            text += letter;
        }
    }
    return text;
}

}  // namespace

std::string Problem::text() const {
    std::string text = source;
    if (place.line > 0) {
        text += ':' + std::to_string(place.line) + ':' + std::to_string(place.column);
    }
    text += ": " + message;
    if (!suggestion.empty()) text += "; did you mean \"" + suggestion + "\"?";
    return visible(text);
}

std::string quoted(std::string_view typed) {
    constexpr std::size_t shown_bytes_max = 80;
    std::string text = "\"" + visible(typed.substr(0, shown_bytes_max));
    if (typed.size() > shown_bytes_max) text += "...";
    return text + "\"";
}

std::string listed(const std::vector<std::string_view>& words) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
        text += words[i];
    }
    return text;
}

}  // namespace oteld::config
