#include "config/units.hpp"

#include <charconv>
#include <cmath>

namespace oteld::config {
namespace {

struct Unit {
    std::string_view name;
    double factor;
};

constexpr Unit duration_units[] = {{"us", 0.001}, {"ms", 1},     {"s", 1e3},
                                   {"m", 60e3},   {"h", 3600e3}, {"d", 86400e3}};
constexpr double duration_ms_max = 1e13;  // 300 years: far beyond every range, far from overflow.

struct SizeUnit {
    std::string_view name;
    unsigned shift;
};
constexpr SizeUnit size_units[] = {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::size_t number_length(std::string_view text) {
    std::size_t length = 0;
    while (length < text.size() && (is_digit(text[length]) || text[length] == '.')) ++length;
    return length;
}

std::size_t unit_length(std::string_view text) {
    std::size_t length = 0;
    while (length < text.size() && !is_digit(text[length]) && text[length] != '.') ++length;
    return length;
}

}  // namespace

std::optional<double> parse_decimal(std::string_view text) {
    // Digits and one point only: from_chars would also read "inf", "nan" and exponents.
    if (text.empty() || text.size() > 30 || number_length(text) != text.size()) return std::nullopt;
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
    if (text == "0") return std::chrono::milliseconds(0);
    if (text.empty()) return std::nullopt;
    double total_ms = 0;
    while (!text.empty()) {
        const std::size_t digits = number_length(text);
        const auto number = parse_decimal(text.substr(0, digits));
        if (!number) return std::nullopt;
        text.remove_prefix(digits);
        const std::string_view name = text.substr(0, unit_length(text));
        const Unit* found = nullptr;
        for (const Unit& unit : duration_units) {
            if (unit.name == name) found = &unit;
        }
        if (found == nullptr) return std::nullopt;
        text.remove_prefix(name.size());
        total_ms += *number * found->factor;
    }
    if (!(total_ms < duration_ms_max)) return std::nullopt;
    // The small subtraction keeps 0.1 + 0.2 and its like from costing a millisecond.
    return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(total_ms - 1e-6)));
}

std::optional<std::uint64_t> parse_whole(std::string_view text) {
    if (text.size() > 40) return std::nullopt;
    std::string digits;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool grouped = text[i] == '_' && i > 0 && i + 1 < text.size() && text[i - 1] != '_';
        if (!grouped) digits += text[i];
    }
    std::uint64_t value = 0;
    const char* last = digits.data() + digits.size();
    const auto [end, error] = std::from_chars(digits.data(), last, value);
    if (error != std::errc() || end != last || digits.empty()) return std::nullopt;
    return value;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
    if (auto bytes = parse_whole(text)) return bytes;
    for (const SizeUnit& unit : size_units) {
        if (!text.ends_with(unit.name)) continue;
        std::string_view number = text.substr(0, text.size() - unit.name.size());
        while (number.ends_with(' ')) number.remove_suffix(1);
        if (const auto whole = parse_whole(number)) {
            if (*whole > (UINT64_MAX >> unit.shift)) return std::nullopt;
            return *whole << unit.shift;
        }
        const auto fraction = parse_decimal(number);
        const double bytes = fraction ? std::ldexp(*fraction, static_cast<int>(unit.shift)) : -1;
        // A part of a byte is a slip of the pen ("1.5" with the unit left out).
        if (bytes < 0 || bytes >= 9e18 || bytes != std::floor(bytes)) return std::nullopt;
        return static_cast<std::uint64_t>(bytes);
    }
    return std::nullopt;
}

std::string show(std::chrono::milliseconds duration) {
    struct Step {
        const char* name;
        std::int64_t ms;
    };
    constexpr Step steps[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    std::int64_t left = duration.count();
    if (left == 0) return "0s";
    std::string text;
    for (const Step& step : steps) {
        if (left < step.ms) continue;
        text += std::to_string(left / step.ms) + step.name;
        left %= step.ms;
    }
    return text;
}

std::string show_size(std::uint64_t bytes) {
    for (const SizeUnit& unit : size_units) {
        if (bytes != 0 && (bytes & ((1ULL << unit.shift) - 1)) == 0) {
            return std::to_string(bytes >> unit.shift) + std::string(unit.name);
        }
    }
    return "0B";
}

}  // namespace oteld::config
