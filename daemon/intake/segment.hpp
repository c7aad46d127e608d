// One mapped segment with what the daemon keeps about it in its own memory: cursors, counters,
// scopes, state.
//
// Used by: the drain. Threads: drain thread only.
// The daemon's truth about a lane is here; what lies on the lane's daemon page is for the client
// and the next daemon, and is believed only at the start, after checking.
#pragma once

#include "daemon/intake/clock.hpp"
#include "daemon/intake/scopes.hpp"
#include "daemon/spool/spool.hpp"
#include "shm/lane_reader.hpp"
#include "shm/segment_map.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace oteld::daemon {

struct Lane {
    shm::LaneView view;
    std::uint64_t cursor = 0;
    std::uint64_t drained = 0;
    std::uint64_t malformed = 0;
    std::uint64_t skipped = 0;
    bool recovered = false;
};

// Counters of the application's side, read one after the other: exact only when nothing moves, but
// begun >= ended + dropped in every reading.
struct ProducerCounts {
    std::uint64_t begun = 0;
    std::uint64_t ended = 0;
    std::uint64_t unsampled = 0;
    std::uint64_t heap_spans = 0;
    std::uint64_t dropped[shm::drop_reasons_max] = {};
    std::uint64_t lanes_claimed = 0;
    std::uint64_t lane_bytes = 0;
    std::uint64_t lane_bytes_used = 0;
};
// In `dropped`, in the last place, which no reason of lanes may take: dead segments that this
// process had to remove undrained.
inline constexpr std::size_t dropped_reclaimed = shm::drop_reasons_max - 1;
static_assert(static_cast<std::size_t>(shm::DropReason::count_) <= dropped_reclaimed);

class Segment {
public:
    // Continues each lane where the spool or the lane's own page says that an earlier daemon was.
    // Tells the client which control page is current and whether it may record.
    Segment(std::unique_ptr<shm::SegmentMap> map, const Spool& spool, const DaemonClock& clock,
            TableMemory& table_memory, std::uint64_t control_generation, bool recording);

    [[nodiscard]] const shm::SegmentMap& map() const noexcept { return *map_; }
    [[nodiscard]] const shm::SegmentHeader& header() const noexcept { return map_->header(); }
    [[nodiscard]] const SegmentClock& clock() const noexcept { return clock_; }
    [[nodiscard]] std::vector<Lane>& lanes() noexcept { return lanes_; }
    [[nodiscard]] const std::vector<Lane>& lanes() const noexcept { return lanes_; }
    [[nodiscard]] Scopes& scopes() noexcept { return scopes_; }
    // Looks into the table again when the index is not known yet.
    [[nodiscard]] ScopeBytes* scope(std::uint16_t index) {
        if (ScopeBytes* known = scopes_.find(index)) return known;
        scopes_.read(map_->tables_untrusted());
        return scopes_.find(index);
    }
    [[nodiscard]] ProducerCounts counts_untrusted() const noexcept;
    // Its two halves. Over all segments of a process the first comes first: a span may end on
    // another thread, in another lane or segment, than it has begun on.
    void add_finished_untrusted(ProducerCounts& counts) const noexcept;
    void add_begun_untrusted(ProducerCounts& counts) const noexcept;
    // A lane word of its owner says that its thread died holding it.
    [[nodiscard]] bool died_holding() const noexcept;
    [[nodiscard]] bool drained() const noexcept;

    // Stores the lane's counters and then its cursor: the producer may use that room again.
    void publish(Lane& lane) noexcept;
    void publish_recovered(Lane& lane) noexcept;
    void retire() noexcept;

    // What is in it and was not drained is counted as malformed: nobody will ever read it.
    void quarantine(std::string why) noexcept;
    [[nodiscard]] bool quarantined() const noexcept { return !quarantine_reason_.empty(); }
    [[nodiscard]] const std::string& quarantine_reason() const noexcept {
        return quarantine_reason_;
    }
    // Malformed spans that no committed extent has counted.
    [[nodiscard]] std::uint64_t abandoned() const noexcept { return abandoned_; }

    std::uint32_t row = 0;

private:
    void restore(Lane& lane, std::uint32_t index, const Spool& spool);

    std::unique_ptr<shm::SegmentMap> map_;
    SegmentClock clock_;
    std::vector<Lane> lanes_;
    Scopes scopes_;
    std::string quarantine_reason_;
    std::uint64_t abandoned_ = 0;
};

}  // namespace oteld::daemon
