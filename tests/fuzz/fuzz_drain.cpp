// A segment whose owner lies: whatever it holds, the drain takes whole spans, counts what it cannot
// take, comes to an end, and takes nothing twice.
//
//   options       u8    bits, below
//   patches       u8    so many times {place u16, value u64}: eight bytes written over anything
//   table         u16   so many bytes behind the table log
//   records             the rest, as it lies in lane 0
#include "daemon/intake/intake.hpp"
#include "tests/fuzz/host.hpp"

#include "otlp.pb.h"

#include <cstddef>
#include <numeric>

// Closing an inotify instance waits for the kernel, ten milliseconds and more each time. Without
// one the daemon lists the directory.
extern "C" int inotify_init1(int) { return -1; }

namespace oteld::fuzz {
namespace {

using daemon::ExtentRef;
using test::FakeSegment;

enum Option : std::uint8_t {
    dead = 1,        // The owner is.
    known = 2,       // The daemon has mapped the segment before any of this was written.
    truncated = 4,   // ... and the file loses its second half when it has been.
    late = 8,        // The records begin near the end of the lane and go on at its beginning.
    left_open = 16,  // They are in a slot of lane 1 as well, as an open span.
};
const std::vector<std::string> one_exporter{"a"};
constexpr std::uint64_t data_bytes = 8192;
constexpr int rounds_max = 6;

// One daemon's life: from start() on, until the next.
struct Daemon {
    void start() {
        intake.reset();
        handed.clear();
        OTELD_EXPECT(host.restart(one_exporter));
        clock.emplace(daemon::read_anchor(), daemon::ClockAnchor{});
        intake = std::make_unique<daemon::Intake>(
            host.handle, settings, 1, *host.spool, *clock,
            [this](std::span<const ExtentRef> some) {
                handed.insert(handed.end(), some.begin(), some.end());
            },
            "");
    }
    std::uint64_t round() {
        intake->look_soon();
        return intake->round(now += std::chrono::seconds(11), nap);  // Far enough for a scan.
    }
    [[nodiscard]] unsigned word() const { return host.spool->exporter_words()[0]; }
    void settle(const ExtentRef& extent) {
        host.spool->settle(extent, word(), extent.header->spans, 0,
                           exporters::RejectReason::refused);
    }

    SpoolHost host;
    config::Shm settings;
    std::optional<daemon::DaemonClock> clock;
    std::vector<ExtentRef> handed;
    std::unique_ptr<daemon::Intake> intake;
    daemon::Nap nap;
    daemon::Intake::Time now{0};
};

struct Part {
    std::uint8_t* begin;
    std::uint64_t bytes;
};

// Where a patch goes: three bits name the part, the rest the place in it.
void patch(FakeSegment& segment, std::uint16_t place, std::uint64_t value) {
    const shm::SegmentHeader& header = segment.header;
    const Part parts[8] = {{segment.memory, sizeof header},
                           {segment.memory + header.tables_offset, header.tables_bytes},
                           {segment.memory + header.daemon_offset, header.daemon_bytes},
                           {segment.lane(0), shm::slots_bytes(header)},
                           {segment.lane(0) + header.producer_offset, sizeof(shm::LaneProducer)},
                           {segment.lane(1), shm::slots_bytes(header)},
                           {segment.lane(1) + header.producer_offset, sizeof(shm::LaneProducer)},
                           {segment.data(1), header.data_bytes}};
    const Part& part = parts[place >> 13];
    const std::uint64_t offset = std::min<std::uint64_t>(place & 8191U, part.bytes - sizeof value);
    std::memcpy(part.begin + offset, &value, sizeof value);
}

void append_to_table(FakeSegment& segment, std::string_view bytes) {
    auto* header = reinterpret_cast<shm::SegmentHeader*>(segment.memory);
    const std::uint64_t end = header->tables_end;
    bytes = bytes.substr(0, segment.header.tables_bytes - end);
    std::memcpy(segment.memory + segment.header.tables_offset + end, bytes.data(), bytes.size());
    header->tables_end = end + bytes.size() / 8 * 8;
}

void put_records(FakeSegment& segment, std::string_view records, bool near_the_end) {
    const std::uint64_t from = near_the_end ? data_bytes - 256 : 0;
    records = records.substr(0, data_bytes);
    for (std::size_t i = 0; i < records.size(); ++i)
        segment.data(0)[(from + i) % data_bytes] = static_cast<std::uint8_t>(records[i]);
    segment.daemon_lane(0)->read_cursor = from;
    segment.producer(0)->write_cursor = from + records.size() / 8 * 8;
    segment.producer(0)->begun = segment.producer(0)->ended = records.size() / 128;
}

void leave_open(FakeSegment& segment, std::string_view record) {
    shm::SlotControl* control = segment.slot(1, 0);
    record = record.substr(0, shm::slot_place(segment.header, 0).record_bytes);
    std::memcpy(control + 1, record.data(), record.size());
    control->published = static_cast<std::uint32_t>(record.size());
    control->end_cursor = shm::slot_open;
    ++segment.producer(1)->begun;
}

FakeSegment::Shape shape_for(std::uint8_t options) {
    FakeSegment::Shape shape;
    shape.data_bytes = data_bytes;
    shape.owner_alive = (options & dead) == 0;
    return shape;
}

void fill(FakeSegment& segment, std::uint8_t options, Input& input) {
    std::vector<std::pair<std::uint16_t, std::uint64_t>> patches(input.number<std::uint8_t>() % 16);
    for (auto& [place, value] : patches) {
        place = input.number<std::uint16_t>();
        value = input.number<std::uint64_t>();
    }
    append_to_table(segment, input.bytes(input.number<std::uint16_t>()));
    const std::string_view records = input.rest();
    put_records(segment, records, (options & late) != 0 && (options & known) == 0);
    if ((options & left_open) != 0) leave_open(segment, records);
    // What the owner writes to the daemon's page counts when a daemon starts. Later it is to the
    // owner's own harm: the next daemon drains anew what that page says.
    constexpr std::uint16_t daemon_pages = 2;
    for (const auto& [place, value] : patches)
        if ((options & known) == 0 || place >> 13 != daemon_pages) patch(segment, place, value);
}

template <class Message>
void expect_readable(std::string_view bytes) {
    Message message;
    OTELD_EXPECT(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
}

// Every span that was counted is there, and protobuf reads it.
std::uint64_t expect_well_formed(const ExtentRef& extent) {
    std::uint64_t spans = 0;
    for (const exporters::SpanRun& run : runs_of(extent)) {
        expect_readable<otlp::Resource>(run.resource);
        expect_readable<otlp::InstrumentationScope>(run.scope);
        otlp::ScopeSpans parsed;
        OTELD_EXPECT(parsed.ParseFromArray(run.frames.data(), static_cast<int>(run.frames.size())));
        OTELD_EXPECT(static_cast<std::uint32_t>(parsed.spans_size()) == run.spans);
        for (const otlp::Span& span : parsed.spans())
            OTELD_EXPECT(span.trace_id().size() == 16 && span.span_id().size() == 8);
        spans += run.spans;
    }
    OTELD_EXPECT(spans == extent.header->spans && spans > 0);
    return spans;
}

struct RowSums {
    std::uint64_t drained = 0;
    std::uint64_t malformed = 0;
    std::uint64_t pending = 0;
    std::uint64_t delivered = 0;
};
RowSums sums_of(Daemon& daemon) {
    RowSums sums;
    for (std::uint32_t i = 0; i < daemon::application_rows_max; ++i) {
        if (!daemon.host.spool->rows().used(i)) continue;
        const daemon::ApplicationRow& row = daemon.host.spool->rows().row(i);
        const daemon::Ledger::Share& share = daemon.host.spool->ledger().share(i, daemon.word());
        sums.drained += row.drained;
        sums.malformed += row.malformed;
        sums.pending += share.pending;
        sums.delivered += share.delivered;
    }
    return sums;
}

void expect_drained(const daemon::Segment& segment) {
    if (segment.quarantined()) return;
    for (const daemon::Lane& lane : segment.lanes()) {
        if (lane.view.data_bytes == 0) continue;
        OTELD_EXPECT(lane.cursor == lane.view.producer->write_cursor);
        OTELD_EXPECT(lane.cursor == lane.view.daemon->read_cursor);
        OTELD_EXPECT(lane.drained == lane.view.daemon->drained);
    }
}

void expect_balance(Daemon& daemon, const FakeSegment& segment) {
    std::uint64_t spans = 0;
    for (const ExtentRef& extent : daemon.handed) spans += expect_well_formed(extent);
    const RowSums sums = sums_of(daemon);
    const daemon::DrainCounts& counts = daemon.intake->counts();
    OTELD_EXPECT(counts.spans == spans && sums.drained == spans && sums.pending == spans);
    OTELD_EXPECT(sums.malformed >= counts.malformed);
    // No two spans share a byte of the file, and what could not be taken is counted by its bytes.
    OTELD_EXPECT(spans <= segment.bytes / sizeof(detail::SpanRecord));
    OTELD_EXPECT(counts.malformed + counts.skipped <= segment.bytes / 8);
    OTELD_EXPECT(daemon.intake->segments().size() + daemon.intake->refused().size() <= 1);
    for (const auto& each : daemon.intake->segments()) {
        expect_drained(*each);
        OTELD_EXPECT(each->map().owner_alive());  // The dead are gone after as many rounds.
    }
}

void expect_nothing_twice(Daemon& daemon) {
    std::uint64_t kept = 0;
    std::size_t extents = 0;
    for (std::size_t i = 0; i < daemon.handed.size(); ++i) {
        if (i % 2 == 0) {
            kept += daemon.handed[i].header->spans;
            ++extents;
        } else {
            daemon.settle(daemon.handed[i]);
        }
    }
    const RowSums before = sums_of(daemon);
    daemon.start();
    OTELD_EXPECT(daemon.host.spool->left_over().size() == extents);
    for (int i = 0; i < 3; ++i) OTELD_EXPECT(daemon.round() == 0);
    OTELD_EXPECT(daemon.handed.empty());
    const RowSums after = sums_of(daemon);
    OTELD_EXPECT(after.pending == kept && after.drained == before.drained &&
                 after.delivered == before.delivered);
    for (const ExtentRef& extent : daemon.host.spool->left_over()) expect_well_formed(extent);
    const auto left_over = daemon.host.spool->left_over();
    for (const ExtentRef& extent : left_over) daemon.settle(extent);
    OTELD_EXPECT(daemon.host.spool->unsettled_extents() == 0);
}

void run(Input input) {
    Daemon daemon;
    const auto options = input.number<std::uint8_t>();
    FakeSegment segment(daemon.host.directory, "a.ring", shape_for(options));
    daemon.start();
    if ((options & known) != 0) (void)daemon.round();
    fill(segment, options, input);
    if ((options & truncated) != 0 && (options & known) != 0)
        OTELD_EXPECT(::ftruncate(segment.fd, static_cast<off_t>(segment.bytes / 2)) == 0);
    std::uint64_t last = 0;
    for (int i = 0; i < rounds_max; ++i) last = daemon.round();
    OTELD_EXPECT(last == 0 && !daemon.intake->more_waits());
    expect_balance(daemon, segment);
    expect_nothing_twice(daemon);
}

}  // namespace
}  // namespace oteld::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
    oteld::fuzz::run(oteld::fuzz::Input(bytes, count));
    return 0;
}
