// Walks protobuf wire format in place: which fields may stand where, how deep, and whether text is
// UTF-8.
//
// Used by: validate.cpp only. Threads: one object a message. Bytes belong to the caller, with
// utf8_slack readable behind them. Every length is checked against what encloses it before it is
// used.
#pragma once

#include "daemon/intake/validate.hpp"

namespace oteld::daemon {

class BodyValidator {
public:
    explicit BodyValidator(TickConverter& clock) noexcept : clock_(clock) {}

    // The body of a span record: fields 3, 5 and 9 to 14 of a Span. `first_high`: its first byte
    // that is not ASCII, or `end`.
    [[nodiscard]] bool span_body(std::uint8_t* at, std::uint8_t* end,
                                 std::uint8_t* first_high) noexcept;
    [[nodiscard]] bool resource(std::uint8_t* at, std::uint8_t* end) noexcept;
    [[nodiscard]] bool instrumentation_scope(std::uint8_t* at, std::uint8_t* end) noexcept;

    [[nodiscard]] Refusal refusal() const noexcept { return refusal_; }
    [[nodiscard]] std::uint32_t bytes_repaired() const noexcept { return bytes_repaired_; }

private:
    // Message levels below the span; protobuf's parsers stop at 100 from the request down.
    static constexpr int depth_max = 90;

    bool event(std::uint8_t* at, std::uint8_t* end) noexcept;
    bool link(std::uint8_t* at, std::uint8_t* end) noexcept;
    [[gnu::always_inline]] inline bool key_value(std::uint8_t* at, std::uint8_t* end,
                                                 int depth) noexcept;
    bool key_value_slow(std::uint8_t* at, std::uint8_t* end, int depth) noexcept;
    bool any_value(std::uint8_t* at, std::uint8_t* end, int depth) noexcept;
    bool array_value(std::uint8_t* at, std::uint8_t* end, int depth) noexcept;
    bool key_value_list(std::uint8_t* at, std::uint8_t* end, int depth) noexcept;
    // Strings whose fields are given as bits of `strings`, KeyValues of `attributes`, varints of
    // `varints`.
    bool flat_message(std::uint8_t* at, std::uint8_t* end, std::uint32_t strings,
                      std::uint32_t attributes, std::uint32_t varints) noexcept;

    bool refuse(Refusal refusal) noexcept {
        refusal_ = refusal;
        return false;
    }
    // Text is checked in the order in which it lies, so one compare says that a string is ASCII:
    // the next byte that is not lies behind it. Whole bodies are scanned for that byte once,
    // sixteen at a time.
    void text(std::uint8_t* at, std::size_t bytes) noexcept {
        if (__builtin_expect(at + bytes > next_high_, 0)) text_slow(at, bytes);
    }
    void text_slow(std::uint8_t* at, std::size_t bytes) noexcept;

    TickConverter& clock_;
    Refusal refusal_ = Refusal::none;
    std::uint32_t bytes_repaired_ = 0;
    std::uint8_t* end_ = nullptr;  // Of the whole message.
    std::uint8_t* next_high_ =
        nullptr;  // The first byte that is not ASCII from the text checked last, or end_.
};

}  // namespace oteld::daemon
