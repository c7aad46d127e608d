// Columns of text that fit a terminal, and colours that only a terminal gets.
//
// Used by: render.cpp, daemon/commands/rings.cpp. Threads: values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace oteld::status {

enum class Style : std::uint8_t { plain, bold, dim, good, warning, bad };

class Painter {
public:
    explicit Painter(bool colour) : colour_(colour) {}
    [[nodiscard]] std::string paint(std::string_view text, Style style) const;

private:
    bool colour_;
};

struct Cell {
    std::string text;
    Style style = Style::plain;
};

struct Column {
    std::string head;
    bool right = false;       // numbers
    std::uint32_t spare = 0;  // > 0: left out when the table is too wide, the largest first
    bool elastic = false;     // text that may be cut down to `elastic_min` columns
};

class Table {
public:
    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
    void row(std::vector<Cell> cells) { lines_.push_back({std::move(cells), {}}); }
    // A line of its own below the last row; wrapped.
    void remark(Cell text) { lines_.push_back({{}, std::move(text)}); }
    [[nodiscard]] std::string print(std::size_t width, const Painter& painter) const;

private:
    struct Line {
        std::vector<Cell> cells;  // Empty: a remark.
        Cell remark;
    };
    [[nodiscard]] std::vector<std::size_t> natural_widths() const;
    void fit(std::vector<std::size_t>& widths, std::size_t width) const;

    std::vector<Column> columns_;
    std::vector<Line> lines_;
};

// A blank at which wrap() does not break.
inline constexpr char solid_blank = '\x01';

// Breaks at spaces; later lines are indented by `indent`, the first one is not (its text may be).
std::string wrap(std::string_view text, std::size_t width, std::size_t indent);

}  // namespace oteld::status
