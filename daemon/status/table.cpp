#include "daemon/status/table.hpp"

#include <algorithm>
#include <numeric>

#include "daemon/status/words.hpp"

namespace oteld::status {
namespace {

constexpr std::size_t indentation = 2;
constexpr std::size_t gap = 2;
constexpr std::size_t elastic_comfortable = 24;
constexpr std::size_t elastic_min = 10;
constexpr std::size_t left_out = ~std::size_t{0};  // In a list of widths: this column is not shown.

std::size_t total(const std::vector<std::size_t>& widths) {
    return std::accumulate(widths.begin(), widths.end(), indentation - gap,
                           [](std::size_t sum, std::size_t width) {
                               return width == left_out ? sum : sum + gap + width;
                           });
}

// The code that starts a style; empty: none.
std::string_view code(Style style) {
    switch (style) {
        case Style::plain: return "";
        case Style::bold: return "\033[1m";
        case Style::dim: return "\033[2m";
        case Style::good: return "\033[32m";
        case Style::warning: return "\033[1;33m";
        case Style::bad: return "\033[1;31m";
    }
    return "";
}

}  // namespace

std::string Painter::paint(std::string_view text, Style style) const {
    if (!colour_ || style == Style::plain || text.empty()) return std::string(text);
    return std::string(code(style)).append(text).append("\033[0m");
}

std::vector<std::size_t> Table::natural_widths() const {
    std::vector<std::size_t> widths;
    for (const Column& column : columns_) widths.push_back(text_width(column.head));
    for (const Line& line : lines_) {
        for (std::size_t i = 0; i < line.cells.size(); ++i) {
            widths[i] = std::max(widths[i], text_width(line.cells[i].text));
        }
    }
    return widths;
}

// First elastic columns give what hurts little, the widest first; then spare columns go; then text
// shrinks further.
void Table::fit(std::vector<std::size_t>& widths, std::size_t width) const {
    const auto shrink = [&](std::size_t smallest) {
        while (total(widths) > width) {
            std::size_t widest = columns_.size();
            for (std::size_t i = 0; i < columns_.size(); ++i) {
                if (!columns_[i].elastic || widths[i] == left_out || widths[i] <= smallest)
                    continue;
                if (widest == columns_.size() || widths[i] > widths[widest]) widest = i;
            }
            if (widest == columns_.size()) return;
            widths[widest] -= 1;
        }
    };
    shrink(elastic_comfortable);
    while (total(widths) > width) {
        std::size_t sparest = columns_.size();
        for (std::size_t i = 0; i < columns_.size(); ++i) {
            if (widths[i] == left_out || columns_[i].spare == 0) continue;
            if (sparest == columns_.size() || columns_[i].spare > columns_[sparest].spare)
                sparest = i;
        }
        if (sparest == columns_.size()) break;
        widths[sparest] = left_out;
    }
    shrink(elastic_min);
}

std::string Table::print(std::size_t width, const Painter& painter) const {
    std::vector<std::size_t> widths = natural_widths();
    fit(widths, width);
    std::string out;
    const auto print_row = [&](const std::vector<Cell>& cells) {
        std::string line(indentation, ' ');
        std::size_t owed = 0;  // Blanks before the next cell; never at the end of a line.
        for (std::size_t i = 0; i < cells.size(); ++i) {
            if (widths[i] == left_out) continue;
            const std::string text = clip_text(cells[i].text, widths[i]);
            const std::size_t blanks = widths[i] - text_width(text);
            line.append(owed + (columns_[i].right ? blanks : 0), ' ');
            line += painter.paint(text, cells[i].style);
            owed = gap + (columns_[i].right ? 0 : blanks);
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + '\n';
    };
    std::vector<Cell> heads;
    for (const Column& column : columns_) heads.push_back({column.head, Style::dim});
    print_row(heads);
    for (const Line& line : lines_) {
        if (!line.cells.empty()) {
            print_row(line.cells);
            continue;
        }
        const std::string indent(2 * indentation + 2, ' ');
        out += painter.paint(wrap(indent + line.remark.text, width, indent.size() + 2),
                             line.remark.style) +
               '\n';
    }
    return out;
}

std::string wrap(std::string_view text, std::size_t width, std::size_t indent) {
    std::string out;
    std::size_t column = 0;
    const std::size_t first = text.find_first_not_of(' ');
    if (first == std::string_view::npos) return out;
    out.append(first, ' ');
    column = first;
    text.remove_prefix(first);
    bool line_start = true;
    while (!text.empty()) {
        const std::string_view word = text.substr(0, text.find(' '));
        const std::size_t wide = text_width(word);
        if (!line_start && column + 1 + wide > width) {
            out.append(1, '\n').append(indent, ' ');
            column = indent;
            line_start = true;
        }
        if (!line_start) {
            out += ' ';
            ++column;
        }
        for (const char c : word) out += c == solid_blank ? ' ' : c;
        column += wide;
        line_start = false;
        text.remove_prefix(word.size());
        text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    }
    return out;
}

}  // namespace oteld::status
