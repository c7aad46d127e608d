// What a program that is about to die has done so far, told in memory that survives it, and the
// judge who compares this with what was recovered.
//
// Used by: writer_steps_test.cpp. Threads: any thread of the child tells; the judge's one.
#pragma once

#include "oteld/client.hpp"

#include "shm/span_view.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace oteld::test {

enum class Stage : std::uint32_t {
    nothing,
    beginning,  // Its start has been called,
    begun,      // has returned;
    ending,     // its end() has been called,
    ended,      // has returned.
};

struct ToldSpan {
    std::atomic<Stage> stage;
    std::atomic<std::uint32_t> attributes;  // set() has returned so often,
    std::atomic<std::uint32_t> events;      // event() so often.
};
inline constexpr std::size_t told_spans_max = 128;
using Told = std::array<ToldSpan, told_spans_max>;

// Zeroed, shared with children; unmapped never.
[[nodiscard]] Told& new_told();

// Records spans by number, and tells. Names and values say what they must be.
class Script {
public:
    Script(Told& told, const Settings& settings)
        : told_(told), tracer_(TracerProvider(settings).tracer("steps")) {}

    [[nodiscard]] Span begin(unsigned number);
    // Its next attribute, with a value of about that many bytes.
    void set(unsigned number, Span& span, std::size_t bytes = 10);
    void event(unsigned number, Span& span);
    void end(unsigned number, Span& span);
    // All of it, with some attributes.
    void whole(unsigned number, unsigned attributes = 2, std::size_t bytes = 10);

private:
    Told& told_;
    Tracer tracer_;
};

// What contradicts the story; empty: nothing. Attributes that were dropped count as those that are
// there.
[[nodiscard]] std::string judge(const Told& told, const std::vector<shm::Span>& recovered);
// Spans that had perhaps not begun when their process died.
[[nodiscard]] std::uint64_t beginning(const Told& told);

}  // namespace oteld::test
