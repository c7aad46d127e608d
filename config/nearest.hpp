// The known word that a mistyped one most likely meant, by edit distance.
//
// Used by: config/ for keys and values, the command line for verbs and options.
// Threads: any. Never suggests a word that has little in common with what was typed: no suggestion
// is better than a wrong one.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace oteld::config {

namespace detail {

// Case, '-' and '_' are what people mix up without noticing: they cost nothing.
inline char folded(char letter) {
    return letter == '-' ? '_'
                         : static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
}

// Insertions, deletions, replacements and swaps of neighbours, each at a cost of one.
inline std::size_t edit_distance(std::string_view left, std::string_view right) {
    std::vector<std::size_t> before_last(right.size() + 1);
    std::vector<std::size_t> last(right.size() + 1);
    std::vector<std::size_t> row(right.size() + 1);
    for (std::size_t j = 0; j <= right.size(); ++j) last[j] = j;
    for (std::size_t i = 1; i <= left.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= right.size(); ++j) {
            const char a = folded(left[i - 1]);
            const char b = folded(right[j - 1]);
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a == b ? 0U : 1U)});
            const bool swapped =
                i > 1 && j > 1 && a == folded(right[j - 2]) && folded(left[i - 2]) == b;
            if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
        }
        before_last.swap(last);
        last.swap(row);
    }
    return last[right.size()];
}

}  // namespace detail

// Empty when nothing is near: a third of the longer word may differ, and one letter always.
// `words` is any range of things that a string_view can be made of; of equals the first one wins.
template <class Words>
[[nodiscard]] std::string nearest(std::string_view typed, const Words& words) {
    constexpr std::size_t word_bytes_max = 64;
    std::string best;
    std::size_t best_distance = word_bytes_max;
    if (typed.empty() || typed.size() > word_bytes_max) return best;
    for (const auto& candidate : words) {
        const std::string_view word(candidate);
        const std::size_t longer = std::max(word.size(), typed.size());
        const std::size_t allowed = std::max<std::size_t>(1, longer / 3);
        const std::size_t distance = detail::edit_distance(typed, word);
        if (distance > allowed || distance >= best_distance || distance >= longer) continue;
        best = word;
        best_distance = distance;
    }
    return best;
}

}  // namespace oteld::config
