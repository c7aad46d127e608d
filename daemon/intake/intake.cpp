#include "daemon/intake/intake.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <optional>

namespace oteld::daemon {
namespace {

std::uint64_t realtime_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

std::uint64_t hash_of(const RingName& file) {
    return std::hash<std::string>()(file.name) ^ file.inode * 0x9E3779B97F4A7C15ULL;
}

bool same_process(const Segment& a, const Segment& b) {
    return a.map().owner() == b.map().owner() &&
           std::memcmp(a.header().process_id, b.header().process_id,
                       sizeof a.header().process_id) == 0;
}

}  // namespace

Intake::Intake(const shm::DirectoryHandle& directory, const config::Shm& settings,
               std::uint64_t control_generation, Spool& spool, const DaemonClock& clock,
               HandOver hand_over, std::string_view stop_after)
    : directory_(directory),
      settings_(settings),
      control_generation_(control_generation),
      spool_(spool),
      clock_(clock),
      hand_over_(std::move(hand_over)),
      drain_(spool, clock, stop_after),
      watch_(directory) {}

Intake::~Intake() = default;

std::uint64_t Intake::round(Time now, Nap& nap) {
    more_waits_ = false;
    discover(now);
    const std::uint64_t spans = drain_all(nap);
    if (now >= next_liveness_) {
        next_liveness_ = now + liveness_interval;
        look_at_processes();
    }
    if (more_waits_) nap.more_waits();
    return spans;
}

void Intake::discover(Time now) {
    for (RingName& file : watch_.look(now, listed_.empty())) {
        // What is beyond the limit waits for the next listing.
        if (file.inode != 0)
            listed_.push_back(std::move(file));
        else if (fresh_.size() < fresh_max)
            fresh_.push_back(std::move(file));
    }
    if (now >= next_clean_up_) {
        next_clean_up_ = now + clean_up_interval;
        watch_.clean_up();
        no_rings_.clear();
        // What was refused is tried again with the next scan; names that are gone need no words any
        // more.
        std::erase_if(refused_, [this](const RefusedFile& file) { return !exists(file.name); });
        std::erase_if(refused_unnamed_, [this](const auto& name) { return !exists(name); });
    }
    open_new(now);
}

// Anybody can fill the directory with names, or make and remove one after the other: that must hold
// up neither the rings that are known nor, for long, new ones.
void Intake::open_new(Time now) {
    open_some(fresh_, now);
    open_some(listed_, now);
    more_waits_ = more_waits_ || !fresh_.empty() || !listed_.empty();
    if (all_seen_ || !listed_.empty()) return;
    all_seen_ = true;
    for (const auto& process : processes_)
        if (process->segments.front()->scopes().first_resource() != nullptr)
            (void)ensure_row(*process);
}

void Intake::open_some(std::deque<RingName>& names, Time now) {
    for (std::size_t opens = 0; opens < round_opens_max && !names.empty();) {
        const RingName file = std::move(names.front());
        names.pop_front();
        if (!is_new(file)) continue;
        open_segment(file, now);
        ++opens;
    }
}

bool Intake::is_new(const RingName& file) const {
    return !mapped_names_.contains(file.name) &&
           (file.inode == 0 || !no_rings_.contains(hash_of(file)));
}

bool Intake::exists(const std::string& name) const {
    struct stat info {};
    return ::fstatat(directory_.fd.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

void Intake::open_segment(const RingName& file, Time now) {
    const std::string& name = file.name;
    auto map = shm::SegmentMap::open(directory_.fd.get(), name, shm::SegmentAccess::drain);
    if (!map) {
        const ErrorCode code = map.error().code;
        if (code == ErrorCode::not_found) return;
        if (code == ErrorCode::full) watch_.scan_soon(now);  // Others give descriptors back.
        if (file.inode != 0 && (code == ErrorCode::corrupt || code == ErrorCode::unsupported)) {
            if (no_rings_.size() >= no_rings_max) no_rings_.clear();
            no_rings_.insert(hash_of(file));
        }
        refuse(name, map.error().message);
        return;
    }
    if (spool_.folded((*map)->identity())) {
        // An earlier daemon had folded its counters and died before it could remove the file.
        (void)::unlinkat(directory_.fd.get(), name.c_str(), 0);
        spool_.forget_folded();
        return;
    }
    if (!within_caps(name, **map)) return;
    no_longer_refused(name);
    TableMemory& table_memory = table_memory_[(*map)->owner()];
    segments_.push_back(std::make_unique<Segment>(std::move(*map), spool_, clock_, table_memory,
                                                  control_generation_, settings_.recording));
    mapped_names_.insert(name);
    Segment& segment = *segments_.back();
    Process& process = process_of(segment);
    process.segments.push_back(&segment);
    process.dead = false;
    process.created_ticks = std::min(process.created_ticks, segment.clock().anchor_ticks);
    if (process.has_row || segment.scopes().first_resource() != nullptr) (void)ensure_row(process);
}

bool Intake::within_caps(const std::string& name, const shm::SegmentMap& map) {
    std::uint64_t bytes = map.file_bytes();
    std::uint32_t files = 1;
    for (const auto& segment : segments_) {
        if (segment->map().owner() != map.owner()) continue;
        bytes += segment->map().file_bytes();
        ++files;
    }
    if (files <= settings_.user_files_max && bytes <= settings_.user_bytes_max) return true;
    refuse(name, name + " is not drained: user " + std::to_string(map.owner()) + " has more than " +
                     std::to_string(settings_.user_files_max) + " ring files or " +
                     std::to_string(settings_.user_bytes_max >> 20) +
                     " MiB of them. Raise receivers.shm's limits if that is meant.");
    return false;
}

void Intake::refuse(const std::string& name, std::string why) {
    const auto known = std::find_if(refused_.begin(), refused_.end(),
                                    [&name](const RefusedFile& file) { return file.name == name; });
    if (known != refused_.end()) {
        known->why = std::move(why);
    } else if (refused_.size() < refused_max) {
        refused_.push_back({name, std::move(why)});
        refused_unnamed_.erase(name);
    } else if (refused_unnamed_.size() < refused_unnamed_max) {
        refused_unnamed_.insert(name);
    }
}

void Intake::no_longer_refused(const std::string& name) {
    std::erase_if(refused_, [&name](const RefusedFile& file) { return file.name == name; });
    refused_unnamed_.erase(name);
}

UserSpans& Intake::user(std::uint32_t uid) {
    for (UserSpans& known : users_)
        if (known.uid == uid) return known;
    UserSpans counted{uid};
    for (std::uint32_t i = 0; i < application_rows_max; ++i)
        if (spool_.rows().held(i) && spool_.rows().row(i).uid == uid)
            counted.spans += spool_.ledger().pending_most(i);
    return users_.emplace_back(counted);
}

Process& Intake::process_of(Segment& segment) {
    for (const auto& process : processes_)
        if (same_process(*process->segments.front(), segment)) return *process;
    processes_.push_back(std::make_unique<Process>());
    return *processes_.back();
}

bool Intake::ensure_row(Process& process) {
    if (process.has_row) {
        for (Segment* segment : process.segments) segment->row = process.row;
        return true;
    }
    // Its first segment names it, with its first resource if it has one by now.
    Segment& segment = *process.segments.front();
    segment.scopes().read(segment.map().tables_untrusted());
    const shm::SegmentHeader& header = segment.header();
    ApplicationFacts facts;
    facts.uid = segment.map().owner();
    std::memcpy(facts.process_id, header.process_id, sizeof facts.process_id);
    facts.pid = header.pid;
    facts.executable = {header.executable, ::strnlen(header.executable, sizeof header.executable)};
    if (const ResourceBytes* resource = segment.scopes().first_resource())
        facts.service = resource->service;
    if (!all_seen_ && !spool_.rows().find(facts) && spool_.rows().full()) return false;
    process.row = spool_.rows().find_or_add(facts, realtime_ns());
    process.has_row = true;
    spool_.rows().hold(process.row);
    for (Segment* each : process.segments) each->row = process.row;
    return true;
}

std::uint64_t Intake::drain_all(Nap& nap) {
    spool_full_ = false;
    round_bytes_left_ = round_bytes_max;
    users_.clear();
    std::uint64_t spans = 0;
    std::optional<std::size_t> first_without;
    const std::size_t count = processes_.size();
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t index = (next_process_ + i) % count;
        const Turn turn = drain_process(*processes_[index], nap);
        spans += turn.spans;
        if (turn.left && !turn.took && !first_without) first_without = index;
    }
    next_process_ = first_without.value_or(next_process_);
    return spans;
}

Intake::Turn Intake::drain_process(Process& process, Nap& nap) {
    Turn turn;
    for (Segment* segment : process.segments) drain_segment(*segment, process, nap, turn);
    return turn;
}

void Intake::drain_segment(Segment& segment, Process& process, Nap& nap, Turn& turn) {
    if (segment.quarantined()) return;
    for (std::uint32_t i = 0; i < segment.lanes().size() && !segment.quarantined(); ++i) {
        const Lane& lane = segment.lanes()[i];
        if (lane.view.data_bytes == 0) continue;
        // One look: a reader that followed the writer would make it slower.
        const shm::LaneRange range = shm::look_at_lane(lane.view, lane.cursor);
        if (range.state == shm::LaneState::empty) continue;
        if (range.state == shm::LaneState::corrupt) {
            // Where a file was cut there are zeros now, the cause of which is said below.
            if (!segment.map().truncated())
                segment.quarantine("the cursors of lane " + std::to_string(i) +
                                   " contradict each other");
            break;
        }
        if (!process.has_row && !ensure_row(process)) {
            turn.left = true;
            break;
        }
        drain_lane(segment, i, process, range, turn);
        nap.drained(lane.cursor - range.from, lane.view.data_bytes);
    }
    if (segment.map().truncated()) segment.quarantine("its file was truncated");
}

void Intake::drain_lane(Segment& segment, std::uint32_t index, const Process& process,
                        const shm::LaneRange& range, Turn& turn) {
    const Lane& lane = segment.lanes()[index];
    UserSpans& owner = user(segment.map().owner());
    const std::uint64_t spans_before = lane.drained;
    bool out_of_time = false;
    Drain::Step step = Drain::Step::drained;
    while (step == Drain::Step::drained && lane.cursor != range.to && !spool_full_) {
        // As with a full spool, they stay in their rings until others have been settled.
        owner.refused = owner.spans >= settings_.user_spans_max;
        out_of_time = owner.round_bytes_left == 0 || round_bytes_left_ == 0;
        if (owner.refused || out_of_time) break;
        const std::uint64_t cursor_before = lane.cursor;
        std::optional<ExtentRef> extent;
        step = drain_.step(segment, index, range.to, process.created_ticks, extent);
        spool_full_ = step == Drain::Step::spool_full;
        const std::uint64_t bytes = lane.cursor - cursor_before;
        owner.round_bytes_left -= std::min(owner.round_bytes_left, bytes);
        round_bytes_left_ -= std::min(round_bytes_left_, bytes);
        if (!extent) continue;
        owner.spans += extent->header->spans;
        hand_over_({&*extent, 1});
    }
    turn.spans += lane.drained - spans_before;
    turn.took = turn.took || lane.cursor != range.from;
    turn.left = turn.left || lane.cursor != range.to;
    more_waits_ = more_waits_ || (out_of_time && !owner.refused);
}

void Intake::look_at_processes() {
    std::vector<Process*> dead;
    for (const auto& process : processes_) {
        const bool alive =
            std::any_of(process->segments.begin(), process->segments.end(),
                        [](const Segment* segment) { return segment->map().owner_alive(); });
        // Seen twice: what a dying thread wrote between our drain and its death is drained by the
        // next round.
        if (!alive && process->dead) dead.push_back(process.get());
        process->dead = !alive;
    }
    for (Process* process : dead) finish_process(*process);
    std::erase_if(processes_, [](const auto& process) { return process->segments.empty(); });
}

bool Intake::settled_with_the_dead() const noexcept {
    return std::none_of(processes_.begin(), processes_.end(),
                        [](const auto& process) { return process->dead; });
}

void Intake::finish_process(Process& process) {
    const auto drained = [](const Segment* segment) { return segment->drained(); };
    if (!std::all_of(process.segments.begin(), process.segments.end(), drained)) return;
    if (!ensure_row(process)) return;
    std::vector<ExtentRef> extents;
    const Recovery recovery = recover_open_slots(process.segments, process.created_ticks, spool_,
                                                 clock_, drain_, extents);
    if (!extents.empty()) hand_over_(extents);
    if (recovery == Recovery::spool_full) return;  // The next look goes on.
    const bool has_crashed = crashed(process);
    const auto segments = process.segments;
    for (Segment* segment : segments) remove_segment(*segment, process, has_crashed);
    spool_.rows().release(process.row);
}

bool Intake::crashed(const Process& process) const {
    const auto died_holding = [](const Segment* segment) { return segment->died_holding(); };
    if (std::none_of(process.segments.begin(), process.segments.end(), died_holding)) return false;
    const ApplicationRow& row = spool_.rows().row(process.row);
    if (row.recovered != 0) return true;
    std::uint64_t begun = row.gone_begun;
    std::uint64_t accounted = row.gone_drained + row.gone_malformed;
    for (const std::uint64_t dropped : row.gone_dropped) accounted += dropped;
    for (const Segment* segment : process.segments) {
        const ProducerCounts counts = segment->counts_untrusted();
        begun += counts.begun;
        for (const std::uint64_t dropped : counts.dropped) accounted += dropped;
        for (const Lane& lane : segment->lanes()) accounted += lane.drained + lane.malformed;
    }
    return begun > accounted;
}

std::uint64_t Intake::counted_untrusted(shm::ProcessCounter counter) const noexcept {
    std::uint64_t sum = gone_counters_[static_cast<std::uint32_t>(counter)];
    for (const auto& segment : segments_) sum += segment->map().counter_untrusted(counter);
    return sum;
}

void Intake::remove_segment(Segment& segment, Process& process, bool has_crashed) {
    segment.retire();
    const ProducerCounts counts = segment.counts_untrusted();
    ApplicationRow difference{};
    difference.gone_begun = counts.begun;
    difference.gone_unsampled = counts.unsampled;
    std::copy(std::begin(counts.dropped), std::end(counts.dropped),
              std::begin(difference.gone_dropped));
    difference.gone_heap_spans = counts.heap_spans;
    for (const Lane& lane : segment.lanes()) {
        difference.gone_drained += lane.drained;
        difference.gone_malformed += lane.malformed;
    }
    difference.malformed = segment.abandoned();
    difference.crashed = has_crashed ? 1 : 0;
    for (std::uint32_t i = 0; i < shm::process_counters_max; ++i)
        gone_counters_[i] += segment.map().counter_untrusted(static_cast<shm::ProcessCounter>(i));
    spool_.fold_segment(process.row, segment.map().identity(), difference);
    struct stat info {};
    // By its name only if that is still this file.
    if (::fstatat(directory_.fd.get(), segment.map().name().c_str(), &info, AT_SYMLINK_NOFOLLOW) ==
            0 &&
        info.st_ino == segment.map().identity().inode &&
        info.st_dev == segment.map().identity().device)
        (void)::unlinkat(directory_.fd.get(), segment.map().name().c_str(), 0);
    spool_.forget_folded();
    std::erase(process.segments, &segment);
    mapped_names_.erase(segment.map().name());
    std::erase_if(segments_, [&segment](const auto& owned) { return owned.get() == &segment; });
}

}  // namespace oteld::daemon
