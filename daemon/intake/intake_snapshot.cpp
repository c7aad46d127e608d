#include "daemon/intake/intake_snapshot.hpp"

#include <cstdio>
#include <cstring>

namespace oteld::daemon {
namespace {

std::uint64_t less(std::uint64_t from, std::uint64_t what) { return from > what ? from - what : 0; }

const char* drop_reason_name(std::size_t reason) {
    static constexpr const char* names[] = {"ring_full", "too_large", "no_memory",
                                            "reentrant", "orphaned",  "no_lane"};
    static_assert(std::size(names) == static_cast<std::size_t>(shm::DropReason::count_));
    if (reason == dropped_reclaimed) return "reclaimed";
    return reason < std::size(names) ? names[reason] : "other";
}

void count(status::Counts& counts, const std::string& reason, std::uint64_t spans) {
    if (spans != 0) counts[reason] += spans;
}

std::string hex_id(const ApplicationRow& row, std::uint32_t index) {
    if (row.process_id[0] == 0 && row.process_id[1] == 0) return "merged-" + std::to_string(index);
    std::uint8_t bytes[16];
    std::memcpy(bytes, row.process_id, sizeof bytes);
    std::string text;
    for (const std::uint8_t byte : bytes) {
        char pair[3];
        std::snprintf(pair, sizeof pair, "%02x", byte);
        text += pair;
    }
    return text;
}

// Sums over the segments of a row that are mapped.
struct Live {
    ProducerCounts counts;
    std::uint64_t drained = 0;
    std::uint64_t malformed = 0;
    std::uint64_t abandoned = 0;
    bool any = false;
    bool alive = false;
};

void add(Live& live, const Process& process) {
    live.any = true;
    live.alive = live.alive || !process.dead;
    // Our own counters first, then the producer's: what it finished in between is in the ring, not
    // missing.
    for (const Segment* segment : process.segments) {
        for (const Lane& lane : segment->lanes()) {
            live.drained += lane.drained;
            live.malformed += lane.malformed;
        }
        live.abandoned += segment->abandoned();
    }
    for (const Segment* segment : process.segments) segment->add_finished_untrusted(live.counts);
    for (const Segment* segment : process.segments) segment->add_begun_untrusted(live.counts);
}

void fill_balance(status::Application& application, const ApplicationRow& row, const Live& live) {
    const std::uint64_t malformed = row.malformed + live.abandoned;
    std::uint64_t gone_dropped = 0;
    std::uint64_t live_dropped = 0;
    for (std::size_t i = 0; i < std::size(row.gone_dropped); ++i) {
        count(application.dropped, drop_reason_name(i),
              row.gone_dropped[i] + live.counts.dropped[i]);
        gone_dropped += row.gone_dropped[i];
        live_dropped += live.counts.dropped[i];
    }
    count(application.dropped, "malformed", malformed);

    // Segments that a process removed itself while no daemon looked: known only by what had been
    // drained from them.
    const std::uint64_t vanished = less(row.drained, row.gone_drained + live.drained) +
                                   less(malformed, row.gone_malformed + live.malformed);
    application.unsampled = row.gone_unsampled + live.counts.unsampled;
    application.started = application.unsampled + row.gone_begun + live.counts.begun + vanished;

    const std::uint64_t gone_accounted = row.gone_drained + row.gone_malformed + gone_dropped;
    application.lost = less(row.gone_begun, gone_accounted);
    if (!live.any) return;
    application.in_ring = less(live.counts.ended, live.drained + live.malformed);
    const std::uint64_t finished =
        live.drained + live.malformed + application.in_ring + live_dropped;
    application.open = less(live.counts.begun, finished);
}

status::Life life_of(const ApplicationRow& row, const Live& live) {
    if (live.any && live.alive) return status::Life::alive;
    if (row.state == static_cast<std::uint64_t>(RowState::merged)) return status::Life::merged;
    if (row.crashed != 0 || row.recovered != 0) return status::Life::crashed;
    return status::Life::ended;
}

void fill_application(status::Application& application, std::uint32_t index,
                      const ApplicationRow& row, const Live& live) {
    application.id = hex_id(row, index);
    application.service.assign(row.service, ::strnlen(row.service, sizeof row.service));
    application.executable.assign(row.executable, ::strnlen(row.executable, sizeof row.executable));
    application.process = row.pid;
    application.uid = static_cast<std::uint32_t>(row.uid);
    application.life = life_of(row, live);
    application.since_ns = static_cast<std::int64_t>(row.first_seen_ns);
    application.last_seen_ns = static_cast<std::int64_t>(row.last_seen_ns);
    application.recovered_open = row.recovered;
    application.not_crash_visible = row.gone_heap_spans + live.counts.heap_spans;
    application.skipped_records = row.skipped;
    application.ring_bytes = live.counts.lane_bytes;
    application.ring_used = live.counts.lane_bytes_used;
    fill_balance(application, row, live);
}

void fill_share(status::ExporterShare& share, const std::string& name,
                const Ledger::Share& counts) {
    share.name = name;
    share.in_daemon = counts.pending;
    share.delivered = counts.delivered;
    count(share.filtered, "exporter_added_later", counts.absent);
    for (std::size_t i = 0; i < counts.rejected.size(); ++i)
        count(share.rejected,
              std::string(exporters::to_string(static_cast<exporters::RejectReason>(i))),
              counts.rejected[i]);
}

std::string times(std::uint64_t count) {
    return count == 1 ? "Once" : std::to_string(count) + " times";
}

void fill_refused(status::Rings& rings, const Intake& intake) {
    for (const RefusedFile& file : intake.refused()) rings.refused.push_back({file.name, file.why});
    if (const std::size_t more = intake.refused_unnamed(); more != 0)
        rings.refused.push_back({"(" + std::to_string(more) + " more)", "not listed here"});
    for (const UserSpans& user : intake.users()) {
        if (!user.refused) continue;
        rings.refused.push_back(
            {"(all of user " + std::to_string(user.uid) + ")",
             std::to_string(user.spans) +
                 " of the user's spans wait in the spool for exporters, more than "
                 "receivers.shm.user_spans_max allows; draining goes on when some are settled"});
    }
}

void fill_rings(status::Rings& rings, const Intake& intake) {
    rings.bus_errors = shm::faults_survived();
    for (const auto& segment : intake.segments()) {
        ++rings.segments;
        rings.bytes += segment->map().file_bytes();
        rings.lanes += segment->counts_untrusted().lanes_claimed;
        if (segment->quarantined())
            rings.quarantined.push_back({segment->map().name(), segment->quarantine_reason()});
    }
    fill_refused(rings, intake);
}

void fill_clocks(status::Snapshot& snapshot, const DaemonClock& clock, std::uint64_t clamped) {
    snapshot.clocks = {clock.jumps(), clock.steps(), clamped};
    if (clock.jumps() != 0)
        snapshot.notes.push_back(
            times(clock.jumps()) +
            " the machine slept, or was moved to another host, while oteld ran: spans of that "
            "moment may seem longer than they were.");
    if (clock.steps() != 0)
        snapshot.notes.push_back(times(clock.steps()) +
                                 " the wall clock was set while oteld ran: spans from before and "
                                 "after may overlap or lie apart.");
    if (clamped != 0)
        snapshot.notes.push_back(
            std::to_string(clamped) +
            " times of spans lay before their program or after now, and were "
            "moved to the nearer end: clocks jumped, or its memory is damaged.");
}

// What programs should know of themselves; their rings say it, too.
void note_mistakes(status::Snapshot& snapshot, const Intake& intake) {
    const auto note = [&](shm::ProcessCounter counter, const char* words, const char* name) {
        const std::uint64_t count = intake.counted_untrusted(counter);
        if (count == 0) return;
        snapshot.notes.push_back(times(count) + words + ": `oteld rings` shows whose (" + name +
                                 ").");
    };
    note(shm::ProcessCounter::hook_failures,
         " a sampler, processor or id generator of a program failed, and the span went on "
         "without it",
         "hook_failures");
    note(shm::ProcessCounter::misuses,
         " a program ended a scope out of order or on another thread, so parents of its spans "
         "may be wrong",
         "misuses");
}

void fill_spool(status::Spool& status, const SpoolState& state) {
    status.bytes = state.bytes;
    status.blocks = state.blocks;
    status.blocks_max = state.blocks_max;
    status.used = state.blocks * block_bytes;
    status.full = state.full;
    status.file_system_full = state.file_system_full;
}

}  // namespace

void fill_intake(status::Snapshot& snapshot, const Intake& intake, const DaemonClock& clock,
                 Spool& spool, const std::vector<std::unique_ptr<ExportWorker>>& workers) {
    std::vector<Live> live(application_rows_max);
    for (const auto& process : intake.processes())
        if (process->has_row) add(live[process->row], *process);
    for (std::uint32_t i = 0; i < application_rows_max; ++i) {
        if (!spool.rows().used(i)) continue;
        status::Application application;
        fill_application(application, i, spool.rows().row(i), live[i]);
        for (const auto& worker : workers)
            fill_share(application.exporters.emplace_back(), worker->settings().name,
                       spool.ledger().share(i, worker->word()));
        snapshot.applications.push_back(std::move(application));
    }
    fill_rings(snapshot.rings, intake);
    fill_clocks(snapshot, clock, intake.counts().times_clamped);
    note_mistakes(snapshot, intake);
    const SpoolState state = spool.state();
    fill_spool(snapshot.spool, state);
    if (!state.note.empty()) snapshot.notes.push_back(state.note);
    if (const char* missing = intake.missing_to_watch(); missing != nullptr)
        snapshot.notes.push_back(std::string("No inotify ") + missing +
                                 " is to be had, so new programs are looked for once a second: "
                                 "raise fs.inotify.max_user_" +
                                 missing + (missing == std::string_view("watch") ? "es" : "s") +
                                 " (sysctl) if that is too seldom.");
}

}  // namespace oteld::daemon
