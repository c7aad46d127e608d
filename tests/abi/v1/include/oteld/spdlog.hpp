// The ids of the current span in the lines of spdlog: flags for its patterns.
//
// Example:
//     spdlog::set_formatter(oteld::spdlog_formatter("%T %l trace_id=%W span_id=%w flags=%k %v"));
//     spdlog::info("order {} shipped", order.id);
//
// %W is the trace id, %w the span id (within it), %k the trace flags: lower-case hex, padded and
// aligned as spdlog's own flags are. They are empty when no span is current.
// They are also empty in lines that another thread formats, as an asynchronous logger's does: its
// context is not the line's. There the ids go into the message:
//     logger->info("trace_id={} shipped", oteld::current_trace_id_text().c_str());
// spdlog's set_pattern() makes a formatter without these flags.
//
// Used by: programs with spdlog (1.8 or later), which this header alone includes. Threads: as
// spdlog's formatters: a sink calls its own under its lock. Throws what spdlog throws; a line costs
// no allocation more.
// https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
#pragma once

#include "oteld/context.hpp"

#include <spdlog/details/os.h>
#include <spdlog/pattern_formatter.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace oteld {

// One of the flags, for a letter of one's own:
//     formatter->add_flag<oteld::SpdlogFlag>('j', oteld::SpdlogFlag::trace_id).set_pattern(...);
class SpdlogFlag final : public ::spdlog::custom_flag_formatter {
public:
    enum Field : unsigned char { trace_id, span_id, trace_flags };

    explicit SpdlogFlag(Field field) noexcept : field_(field) {}

    void format(const ::spdlog::details::log_msg& line, const std::tm&,
                ::spdlog::memory_buf_t& to) override {
        if (!of_this_thread(line)) return put({}, to);
        switch (field_) {
            case trace_id: return put(current_trace_id_text().view(), to);
            case span_id: return put(current_span_id_text().view(), to);
            case trace_flags: return put(current_trace_flags_text().view(), to);
        }
    }
    [[nodiscard]] std::unique_ptr<custom_flag_formatter> clone() const override {
        return std::make_unique<SpdlogFlag>(field_);
    }

private:
    static bool of_this_thread(const ::spdlog::details::log_msg& line) noexcept {
#ifdef SPDLOG_NO_THREAD_ID
        (void)line;  // It cannot be told: programs that leave it out have no asynchronous loggers.
        return true;
#else
        return line.thread_id == ::spdlog::details::os::thread_id();
#endif
    }
    void put(std::string_view text, ::spdlog::memory_buf_t& to) const {
        using Side = ::spdlog::details::padding_info::pad_side;
        const std::size_t spaces =
            padinfo_.width_ > text.size() ? padinfo_.width_ - text.size() : 0;
        std::size_t before = 0;
        if (padinfo_.side_ == Side::left) before = spaces;
        if (padinfo_.side_ == Side::center) before = spaces / 2;
        if (padinfo_.truncate_) text = text.substr(0, padinfo_.width_);
        for (std::size_t i = 0; i < before; ++i) to.push_back(' ');
        to.append(text.data(), text.data() + text.size());
        for (std::size_t i = before; i < spaces; ++i) to.push_back(' ');
    }

    Field field_;
};

// A formatter for this pattern, in which the three flags stand for what they are here.
[[nodiscard]] inline std::unique_ptr<::spdlog::pattern_formatter> spdlog_formatter(
    std::string pattern) {
    auto formatter = std::make_unique<::spdlog::pattern_formatter>();
    formatter->add_flag<SpdlogFlag>('W', SpdlogFlag::trace_id)
        .add_flag<SpdlogFlag>('w', SpdlogFlag::span_id)
        .add_flag<SpdlogFlag>('k', SpdlogFlag::trace_flags)
        .set_pattern(std::move(pattern));
    return formatter;
}

}  // namespace oteld
