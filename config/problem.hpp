// One mistake in a configuration, with its place and, when there is one, the word that was meant.
//
// Used by: everything in config/; commands print `text()`. Threads: values.
// A message never carries the value of a header or of a credential.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace oteld::config {

struct Place {
    int line = 0;  // From 1; 0 when the mistake is not in a file.
    int column = 0;
};

struct Problem {
    std::string source;  // The file, or "environment".
    Place place;
    std::string message;  // A sentence part: what is wrong and what to write instead.
    std::string suggestion;

    // `file:line:column: message; did you mean "word"?`
    [[nodiscard]] std::string text() const;
};

using Problems = std::vector<Problem>;

// What a person typed, fit to be shown: in quotes, without control characters, cut when it is long.
[[nodiscard]] std::string quoted(std::string_view typed);

// "a, b or c"
[[nodiscard]] std::string listed(const std::vector<std::string_view>& words);

}  // namespace oteld::config
