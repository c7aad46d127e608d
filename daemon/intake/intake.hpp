// Everything between the ring directory and the spool: finds segments, drains them, recovers and
// removes the dead.
//
// Used by: drain_thread.cpp. Threads: drain thread only. One call of round() does all that can be
// done now. Exporters learn of new spans through the `hand_over` function, after the lane's cursor
// has been stored.
#pragma once

#include "config/settings.hpp"
#include "daemon/intake/directory_watch.hpp"
#include "daemon/intake/drain.hpp"
#include "daemon/intake/nap.hpp"
#include "daemon/intake/recover_slots.hpp"
#include "daemon/intake/segment.hpp"

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace oteld::daemon {

// The segments of one process of one user.
struct Process {
    std::vector<Segment*> segments;
    std::uint32_t row = 0;
    bool has_row = false;
    bool dead = false;
    std::uint64_t created_ticks = ~0ULL;  // The oldest anchor among its segments.
};

struct RefusedFile {
    std::string name;
    std::string why;
};

// Whose spans are in the spool, and how many.
struct UserSpans {
    static constexpr std::uint64_t round_bytes_max = 4 << 20;

    std::uint32_t uid = 0;
    std::uint64_t spans = 0;
    std::uint64_t round_bytes_left = round_bytes_max;  // Of rings, to be drained in this round.
    bool refused = false;  // More was there to be drained, and left in its rings.
};

class Intake {
public:
    using Time = std::chrono::nanoseconds;  // Monotonic.
    using HandOver = std::function<void(std::span<const ExtentRef>)>;

    Intake(const shm::DirectoryHandle& directory, const config::Shm& settings,
           std::uint64_t control_generation, Spool& spool, const DaemonClock& clock,
           HandOver hand_over, std::string_view stop_after);
    ~Intake();

    // Looks for new segments, drains every lane up to where its producer is now, and takes care of
    // the dead. Reports to `nap` what it took. Returns the spans drained. Bounded: no user has more
    // than UserSpans::round_bytes_max of rings drained in it, all together no more than
    // `round_bytes_max`. Who got nothing because of that, or because the spool is full, is the
    // first in the next round.
    std::uint64_t round(Time now, Nap& nap);
    // The last round left something that it could have done with more time.
    [[nodiscard]] bool more_waits() const noexcept { return more_waits_; }

    [[nodiscard]] const std::vector<std::unique_ptr<Segment>>& segments() const noexcept {
        return segments_;
    }
    [[nodiscard]] const std::vector<RefusedFile>& refused() const noexcept { return refused_; }
    // Files that are refused and did not fit into that list.
    [[nodiscard]] std::size_t refused_unnamed() const noexcept { return refused_unnamed_.size(); }
    // Null: new rings are seen as they are made; else a second later at most.
    [[nodiscard]] const char* missing_to_watch() const noexcept { return watch_.missing(); }
    // Those that the last round drained, or would have but for user_spans_max.
    [[nodiscard]] const std::vector<UserSpans>& users() const noexcept { return users_; }
    [[nodiscard]] const DrainCounts& counts() const noexcept { return drain_.counts(); }
    // Of all rings that were there since this daemon started.
    [[nodiscard]] std::uint64_t counted_untrusted(shm::ProcessCounter counter) const noexcept;
    // No dead process is left to be finished.
    [[nodiscard]] bool settled_with_the_dead() const noexcept;
    // The next round looks at every process, however recently that was done.
    void look_soon() noexcept { next_liveness_ = Time{0}; }
    [[nodiscard]] const std::vector<std::unique_ptr<Process>>& processes() const noexcept {
        return processes_;
    }

private:
    static constexpr Time liveness_interval = std::chrono::milliseconds(100);
    static constexpr Time clean_up_interval = std::chrono::seconds(60);
    static constexpr std::size_t refused_max = 64;
    static constexpr std::size_t refused_unnamed_max = 100'000;
    static constexpr std::size_t round_opens_max = 128;  // Of each of the two lists.
    static constexpr std::size_t fresh_max = 1 << 14;
    static constexpr std::size_t no_rings_max = 1 << 17;
    // The worst records there are (of duplicate keys alone) take half a second or a whole one for
    // that many bytes, ordinary ones 5 ms.
    static constexpr std::uint64_t round_bytes_max = 16 << 20;

    void discover(Time now);
    void open_new(Time now);
    void open_some(std::deque<RingName>& names, Time now);
    [[nodiscard]] bool is_new(const RingName& file) const;
    void open_segment(const RingName& file, Time now);
    [[nodiscard]] bool within_caps(const std::string& name, const shm::SegmentMap& map);
    Process& process_of(Segment& segment);
    // False: not before all rings that were there at the start have been looked at. Until then the
    // rows of the living are not all known to be held, and none may be merged to make room.
    bool ensure_row(Process& process);
    void refuse(const std::string& name, std::string why);
    void no_longer_refused(const std::string& name);
    [[nodiscard]] bool exists(const std::string& name) const;
    // Counted once a round, at its first need.
    [[nodiscard]] UserSpans& user(std::uint32_t uid);

    // What became of one process in a round.
    struct Turn {
        std::uint64_t spans = 0;
        bool took = false;
        bool left = false;  // Something: a limit of the round or of the user, or a full spool.
    };
    std::uint64_t drain_all(Nap& nap);
    [[nodiscard]] Turn drain_process(Process& process, Nap& nap);
    void drain_segment(Segment& segment, Process& process, Nap& nap, Turn& turn);
    void drain_lane(Segment& segment, std::uint32_t index, const Process& process,
                    const shm::LaneRange& range, Turn& turn);
    void look_at_processes();
    void finish_process(Process& process);
    // It died holding words of lanes, and left spans open or lost some. A program that returns from
    // main holds its words to the end as well.
    [[nodiscard]] bool crashed(const Process& process) const;
    void remove_segment(Segment& segment, Process& process, bool has_crashed);

    const shm::DirectoryHandle& directory_;
    const config::Shm settings_;
    const std::uint64_t control_generation_;
    Spool& spool_;
    const DaemonClock& clock_;
    HandOver hand_over_;
    Drain drain_;
    DirectoryWatch watch_;
    std::unordered_map<uid_t, TableMemory> table_memory_;  // One a user; outlives the segments.
    std::vector<std::unique_ptr<Segment>> segments_;
    std::vector<std::unique_ptr<Process>> processes_;
    std::vector<RefusedFile> refused_;
    std::set<std::string> refused_unnamed_;
    std::deque<RingName> fresh_;                    // To be looked at: made a moment ago ...
    std::deque<RingName> listed_;                   // ... and what the last listing found.
    std::unordered_set<std::string> mapped_names_;  // Of segments_.
    // Files that will never be rings (hashes of name and inode): not opened again until the next
    // clean-up.
    std::unordered_set<std::uint64_t> no_rings_;
    std::vector<UserSpans> users_;
    std::uint64_t gone_counters_[shm::process_counters_max] = {};  // Of rings that were removed.
    Time next_liveness_{0};
    Time next_clean_up_{0};
    std::size_t next_process_ = 0;        // Whose turn it is first.
    std::uint64_t round_bytes_left_ = 0;  // Of rings, as UserSpans::round_bytes_left.
    bool all_seen_ = false;               // Every ring that was there at the start.
    bool spool_full_ = false;
    bool more_waits_ = false;
};

}  // namespace oteld::daemon
