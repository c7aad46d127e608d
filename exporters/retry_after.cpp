#include "exporters/retry_after.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>

namespace oteld::exporters {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;

constexpr std::array<std::string_view, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct Fields {
    int year = 0;
    unsigned month = 0;
    unsigned day = 0;
    int hour = 0;
    int minute = 0;
    int second = 0;
};

std::string_view trim(std::string_view text) {
    const auto is_space = [](char c) { return c == ' ' || c == '\t'; };
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

// Walks `text` along `pattern`: D day, M month name, Y year, y two digits of it, h m s the time, w
// letters (a weekday), d a day of two places, the first perhaps a space, Z GMT; everything else
// stands for itself. Never reads past the end: a step that fails is the last.
class Scanner {
public:
    explicit Scanner(std::string_view text) : text_(text) {}

    bool matches(std::string_view pattern, Fields& fields) {
        return std::all_of(pattern.begin(), pattern.end(),
                           [&](char what) { return step(what, fields); }) &&
               at_ == text_.size();
    }

private:
    bool step(char what, Fields& fields) {
        switch (what) {
            case 'w': return letters();
            case 'D': return number(2, fields.day);
            case 'd':
                return text_.substr(at_, 1) == " " ? (++at_, number(1, fields.day))
                                                   : number(2, fields.day);
            case 'M': return month(fields.month);
            case 'Y': return number(4, fields.year);
            case 'y': return number(2, fields.year);
            case 'h': return number(2, fields.hour);
            case 'm': return number(2, fields.minute);
            case 's': return number(2, fields.second);
            case 'Z': return literal("GMT");
            default: return at_ < text_.size() && text_[at_++] == what;
        }
    }

    bool letters() {
        const std::size_t from = at_;
        while (at_ < text_.size() && ((text_[at_] | 0x20) >= 'a' && (text_[at_] | 0x20) <= 'z'))
            ++at_;
        return at_ > from;
    }

    bool literal(std::string_view text) {
        if (text_.substr(at_, text.size()) != text) return false;
        at_ += text.size();
        return true;
    }

    bool month(unsigned& value) {
        const auto* found = std::find(months.begin(), months.end(), text_.substr(at_, 3));
        at_ += 3;
        value = static_cast<unsigned>(found - months.begin()) + 1;
        return found != months.end();
    }

    template <class Number>
    bool number(std::size_t digits, Number& value) {
        if (text_.size() - at_ < digits || text_[at_] == '-') return false;
        const char* from = text_.data() + at_;
        at_ += digits;
        const auto [end, error] = std::from_chars(from, from + digits, value);
        return error == std::errc{} && end == from + digits;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

std::optional<Fields> parse_date(std::string_view text, system_clock::time_point now) {
    Fields fields;
    if (Scanner(text).matches("w, D M Y h:m:s Z", fields))
        return fields;                                                  // As it is written today.
    if (Scanner(text).matches("w M d h:m:s Y", fields)) return fields;  // asctime.
    if (Scanner(text).matches("w, D-M-y h:m:s Z", fields)) {            // RFC 850.
        const std::chrono::year_month_day today(std::chrono::floor<std::chrono::days>(now));
        const int this_year = static_cast<int>(today.year());
        fields.year += this_year - this_year % 100;
        if (fields.year > this_year + 50) fields.year -= 100;
        return fields;
    }
    return std::nullopt;
}

std::optional<milliseconds> until(const Fields& fields, system_clock::time_point now) {
    const std::chrono::year_month_day date{std::chrono::year(fields.year),
                                           std::chrono::month(fields.month),
                                           std::chrono::day(fields.day)};
    if (!date.ok() || fields.hour > 23 || fields.minute > 59 || fields.second > 60)
        return std::nullopt;
    const std::chrono::sys_seconds then =
        std::chrono::sys_days(date) + std::chrono::hours(fields.hour) +
        std::chrono::minutes(fields.minute) + seconds(fields.second);
    const auto left = std::chrono::ceil<seconds>(then - now);
    return std::clamp<milliseconds>(left, milliseconds{0}, retry_after_max);
}

}  // namespace

std::optional<milliseconds> parse_retry_after(std::string_view value,
                                              system_clock::time_point now) noexcept {
    value = trim(value);
    if (value.empty()) return std::nullopt;
    const bool all_digits =
        std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (all_digits) {
        std::uint64_t number = 0;
        const auto [end, error] =
            std::from_chars(value.data(), value.data() + value.size(), number);
        const std::uint64_t most = std::chrono::duration_cast<seconds>(retry_after_max).count();
        return seconds(error == std::errc{} ? std::min(number, most) : most);
    }
    const std::optional<Fields> fields = parse_date(value, now);
    return fields ? until(*fields, now) : std::nullopt;
}

}  // namespace oteld::exporters
