#include "config/problem.hpp"

#include <cstdio>

namespace oteld::config {

std::string Problem::text() const {
    std::string text = source;
    if (place.line > 0) {
        text += ':' + std::to_string(place.line) + ':' + std::to_string(place.column);
    }
    text += ": " + message;
    if (!suggestion.empty()) text += "; did you mean \"" + suggestion + "\"?";
    return text;
}

std::string quoted(std::string_view typed) {
    constexpr std::size_t shown_bytes_max = 80;
    std::string text = "\"";
    for (const char letter : typed.substr(0, shown_bytes_max)) {
        const auto byte = static_cast<unsigned char>(letter);
        // A configuration may come from elsewhere: what it holds must not steer the terminal.
        if (byte < 0x20 || byte == 0x7f) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
            text += escaped;
        } else {
            text += letter;
        }
    }
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
