// Moves finished spans from a lane into the spool, one step at a time.
//
// Used by: intake.cpp for each lane with something in it. Threads: drain thread only.
// A step reads up to 64 KiB of a lane, writes whole frames into the spool, commits them there by
// one store and only then gives the room in the lane back. So a daemon killed at any instruction
// neither loses nor repeats a span.
#pragma once

#include "daemon/intake/clock.hpp"
#include "daemon/intake/segment.hpp"
#include "daemon/intake/validate.hpp"
#include "daemon/spool/spool.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

namespace oteld::daemon {

struct DrainCounts {
    std::uint64_t spans = 0;
    std::uint64_t bytes_repaired = 0;
    std::uint64_t keys_removed = 0;
    std::uint64_t times_clamped = 0;
    std::uint64_t malformed = 0;
    std::uint64_t skipped = 0;
    Refusal last_refusal = Refusal::none;
};

class Drain {
public:
    // `stop_after`: for tests only, see daemon/README.md. "spool_commit" stops the process between
    // a commit and the lane's cursor.
    Drain(Spool& spool, const DaemonClock& clock, std::string_view stop_after);

    enum class Step {
        nothing,      // The lane is empty up to `until`.
        drained,      // Something was taken; there may be more.
        spool_full,   // The spans stay where they are.
        quarantined,  // The segment was found damaged.
    };
    // Takes what fits into one step, up to the cursor `until`. `extent` is set when exporters have
    // something to do.
    [[nodiscard]] Step step(Segment& segment, std::uint32_t lane, std::uint64_t until,
                            std::uint64_t created_ticks, std::optional<ExtentRef>& extent);

    // Commits what a caller wrote (recovered slots) the same way a step does.
    ExtentRef commit(const ExtentDraft& draft);

    [[nodiscard]] const DrainCounts& counts() const noexcept { return counts_; }
    [[nodiscard]] std::uint64_t next_extent_number() noexcept { return ++extent_number_; }
    void note_refusal(Refusal refusal) noexcept;

private:
    struct Taken;
    void take_records(Segment& segment, shm::LaneReader& reader, class ExtentWriter& writer,
                      TickConverter& clock, Taken& taken);
    [[nodiscard]] bool take_span(Segment& segment, const shm::LaneRecord& record,
                                 class ExtentWriter& writer, TickConverter& clock, Taken& taken);

    Spool& spool_;
    const DaemonClock& clock_;
    DrainCounts counts_;
    std::uint64_t extent_number_ = 0;
    int stop_signal_ = 0;
};

}  // namespace oteld::daemon
