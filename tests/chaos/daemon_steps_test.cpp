// Deaths of the daemon at every instruction that it executes, from the look at a lane to the reuse
// of a block.
//
// At each instruction boundary at which ring or spool differ from the one before, the next daemon
// begins on the very files (an extent names its lane by inode, so a copy would not do), is asked
// for every span, and the files are put back as they were.

#include "stepped.hpp"

#include "tests/unit/daemon/fake_host.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;

namespace {

// A file that is watched and put back, under its name again if it was removed.
class KeptFile {
public:
    KeptFile(const std::string& directory, const std::string& name)
        : path_(directory + '/' + name), link_(path_ + ".kept") {
        REQUIRE(::link(path_.c_str(), link_.c_str()) == 0);
        const shm::UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
        const auto bytes = static_cast<std::size_t>(std::filesystem::file_size(path_));
        memory_ = static_cast<std::uint8_t*>(
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
        REQUIRE(memory_ != MAP_FAILED);
        seen_.assign(memory_, memory_ + bytes);
        there_ = true;
        watched_ = {{0, bytes}};
    }
    ~KeptFile() { ::munmap(memory_, seen_.size()); }
    KeptFile(const KeptFile&) = delete;
    KeptFile& operator=(const KeptFile&) = delete;

    struct Range {
        std::size_t from, to;
    };
    // Looks only there, and nothing else may change.
    void watch(std::vector<Range> ranges) { watched_ = std::move(ranges); }
    [[nodiscard]] bool changed() {
        const bool there = ::access(path_.c_str(), F_OK) == 0;
        bool any = there != there_;
        there_ = there;
        for (const auto& [from, to] : watched_) {
            if (std::memcmp(memory_ + from, seen_.data() + from, to - from) == 0) continue;
            std::memcpy(seen_.data() + from, memory_ + from, to - from);
            any = true;
        }
        return any;
    }
    void put_back() {
        std::memcpy(memory_, seen_.data(), seen_.size());
        if (there_ && ::access(path_.c_str(), F_OK) != 0)
            REQUIRE(::link(link_.c_str(), path_.c_str()) == 0);
        if (!there_) (void)::unlink(path_.c_str());
    }
    [[nodiscard]] bool changed_elsewhere() const {
        return std::memcmp(memory_, seen_.data(), seen_.size()) != 0;
    }

private:
    std::string path_, link_;
    std::uint8_t* memory_ = nullptr;
    std::vector<std::uint8_t> seen_;
    std::vector<Range> watched_;
    bool there_ = false;
};

// The spool's commit words, and the first of its journal entries, exporters, blocks, rows and
// extents.
std::vector<KeptFile::Range> few_of_everything() {
    constexpr std::size_t journal = offsetof(SpoolHeader, journal);
    constexpr std::size_t exporters = offsetof(SpoolHeader, exporters);
    constexpr std::size_t blocks = offsetof(SpoolHeader, block);
    constexpr std::size_t rows = offsetof(SpoolHeader, rows);
    return {{0, journal + 128 * sizeof(JournalEntry)},
            {exporters, blocks + 4 * sizeof(BlockEntry)},
            {rows, rows + 2 * sizeof(ApplicationRow)},
            {spool_header_bytes, spool_header_bytes + (16 << 10)}};
}

// What the daemon under test has settled, told in memory that survives it.
struct Progress {
    std::atomic<std::uint64_t> settling;  // Up to here settle() has been called,
    std::atomic<std::uint64_t> settled;   // has returned.
};

struct Story {
    std::string name;
    bool long_form_only = false;
    std::function<void(Host&)> before;             // In the test: what the files hold.
    std::function<void(Host&, Progress&)> daemon;  // In the child, which begins the steps.
    std::uint64_t spans = 0;                       // They are numbered from 1.
    std::uint64_t recovered = 0;                   // Of these, they were open at a death.
    std::uint64_t gone = 0;                        // Of these, their process is gone in the end.
};

// What the next daemon finds; the story says what it has to.
std::string look(Host& host, const Story& story, const Progress& progress) {
    host.restart();
    host.handed = host.spool.spool->left_over();
    for (int i = 0; i < 4; ++i) host.round();
    std::string wrong;
    const std::multiset<std::uint64_t> found = host.numbers();
    const std::uint64_t settled = story.spans - found.size();
    if (settled < progress.settled || settled > progress.settling)
        wrong += std::to_string(found.size()) + " spans are there; ";
    const std::set<std::uint64_t> once(found.begin(), found.end());
    if (once.size() != found.size()) wrong += "a span is there twice; ";
    // They are settled in the order of their numbers.
    for (std::uint64_t number = settled + 1; number <= story.spans; ++number)
        if (!once.contains(number)) wrong += "span " + std::to_string(number) + " is missing; ";

    const ApplicationRow& row = host.row();
    if (row.drained != story.spans) wrong += "drained: " + std::to_string(row.drained) + "; ";
    if (row.recovered != story.recovered) wrong += "another number was recovered; ";
    if (row.malformed + row.skipped != 0) wrong += "malformed or skipped; ";
    if (row.gone_begun != story.gone || row.gone_drained != story.gone)
        wrong += "gone: " + std::to_string(row.gone_begun) + "; ";
    const Ledger::Share& share = host.spool.share(0, 0);
    const std::uint64_t rejected =
        std::accumulate(share.rejected.begin(), share.rejected.end(), std::uint64_t{0});
    if (share.pending != found.size() || share.delivered + rejected != settled)
        wrong += "the ledger has " + std::to_string(share.delivered) + " delivered, " +
                 std::to_string(rejected) + " rejected, " + std::to_string(share.pending) +
                 " pending; ";
    for (const auto& segment : host.intake->segments())
        for (const Lane& lane : segment->lanes())
            if (lane.view.daemon->read_cursor != lane.view.producer->write_cursor)
                wrong += "a lane is not drained; ";
    if ((story.gone != 0) == !host.intake->segments().empty()) wrong += "rings of the dead; ";
    host.handed.clear();
    host.die();
    return wrong;
}

Counts die_at_every_instruction(const Story& story) {
    Host host;
    story.before(host);
    host.die();
    void* shared = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(shared != MAP_FAILED);
    auto& progress = *static_cast<Progress*>(shared);

    std::vector<std::unique_ptr<KeptFile>> files;
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(host.spool.directory.path))
        names.push_back(entry.path().filename());
    for (const std::string& name : names) {
        files.push_back(std::make_unique<KeptFile>(host.spool.directory.path, name));
        if (name == "spool") files.back()->watch(few_of_everything());
    }
    Stepped child([&] { story.daemon(host, progress); });
    Counts counts;
    std::uint64_t settling = 0;
    std::uint64_t settled = 0;
    const auto changed = [&] {
        bool any = progress.settling != settling || progress.settled != settled;
        settling = progress.settling;
        settled = progress.settled;
        for (const auto& file : files) any = file->changed() || any;
        return any;
    };
    const auto die = [&] {
        ++counts.deaths;
        const std::string wrong = look(host, story, progress);
        for (const auto& file : files) file->put_back();
        REQUIRE_MESSAGE(wrong.empty(), wrong, "at instruction ", counts.instructions);
    };
    while (child.run_to_steps()) {
        do {
            if (changed() && counts.worth_a_death()) die();
            ++counts.instructions;
        } while (child.step());
        for (const auto& file : files) {
            (void)file->changed();
            REQUIRE_FALSE(file->changed_elsewhere());
        }
    }
    (void)changed();
    die();
    ::munmap(shared, sizeof(Progress));
    return counts;
}

// Kept for the whole story: what a FakeSegment has mapped is not what the daemon reads.
using Segments = std::vector<std::unique_ptr<FakeSegment>>;

FakeSegment& add_segment(Segments& segments, Host& host, std::uint32_t index = 0) {
    FakeSegment::Shape shape;
    shape.index = index;
    segments.push_back(std::make_unique<FakeSegment>(
        host.spool.directory, std::string(1, static_cast<char>('a' + index)) + ".ring", shape));
    return *segments.back();
}

void restart(Host& host) {
    host.spool.restart();
    host.start();
}

Story living_rings(Segments& segments) {
    Story story;
    story.name = "drain and commit";
    story.spans = 6;
    story.before = [&segments](Host& host) {
        FakeSegment& segment = add_segment(segments, host);
        for (std::uint64_t i = 1; i <= 6; ++i) segment.put(i <= 4 ? 0 : 1, numbered(i));
    };
    story.daemon = [](Host& host, Progress&) {
        restart(host);
        begin_steps();
        host.round();
        end_steps();
    };
    return story;
}

Story a_start_after_a_death(Segments& segments) {
    Story story = living_rings(segments);
    story.name = "a start after a death between commit and cursor";
    story.long_form_only = true;  // Hundreds of thousands of instructions look at empty rows.
    story.before = [&segments, before = story.before](Host& host) {
        before(host);
        host.die_after_commit();
    };
    story.daemon = [](Host& host, Progress&) {
        begin_steps();
        restart(host);
        host.round();
        end_steps();
    };
    return story;
}

Story a_dead_process(Segments& segments) {
    Story story;
    story.name = "a dead process: drained, its open spans recovered, its two files removed";
    story.spans = story.gone = 6;
    story.recovered = 3;
    story.before = [&segments](Host& host) {
        FakeSegment& first = add_segment(segments, host);
        FakeSegment& second = add_segment(segments, host, 1);
        for (std::uint64_t i = 1; i <= 3; ++i) first.put(0, numbered(i));
        first.open_slot(0, 0, numbered(4));
        first.open_slot(1, 0, numbered(5));
        second.open_slot(0, 0, numbered(6));
        // It had got into the first file's lane: killed before the slot was cleared.
        second.open_slot(1, 0, numbered(3));
        --second.producer(1)->begun;
        second.slot(1, 0)->end_segment = 0;
        second.slot(1, 0)->end_lane = 0;
        second.slot(1, 0)->end_cursor = first.producer(0)->write_cursor;
        first.die();
        second.die();
    };
    story.daemon = [](Host& host, Progress&) {
        restart(host);
        begin_steps();
        host.round();
        host.round();
        end_steps();
    };
    return story;
}

// The next spans of all that were handed over.
void settle(Host& host, Progress& progress, std::uint32_t spans, std::uint32_t rejected = 0) {
    std::uint64_t before = 0;
    for (const ExtentRef& extent : host.handed) {
        const std::uint64_t number = extent.header->spans;
        if (before + number <= progress.settled) {
            before += number;
            continue;
        }
        progress.settling = progress.settled + spans;
        host.spool.settle(extent, 0, spans, rejected, exporters::RejectReason::partial);
        progress.settled = progress.settling.load();
        return;
    }
}

Story settling(Segments& segments) {
    Story story;
    story.name = "settle, free and reuse a block";
    story.spans = 9;
    story.before = [&segments](Host& host) {
        FakeSegment& segment = add_segment(segments, host);
        for (std::uint64_t i = 1; i <= 3; ++i) segment.put(0, numbered(i));
        host.round();
        for (std::uint64_t i = 4; i <= 6; ++i) segment.put(1, numbered(i));
        host.round();
        for (std::uint64_t i = 7; i <= 9; ++i) segment.put(0, numbered(i));
    };
    story.daemon = [](Host& host, Progress& progress) {
        restart(host);
        host.handed = host.spool.spool->left_over();
        begin_steps();
        settle(host, progress, 1);
        settle(host, progress, 2, 1);
        settle(host, progress, 3);
        host.spool.spool->trim();
        host.handed.clear();
        host.round();  // Into the block that was freed.
        end_steps();
    };
    return story;
}

}  // namespace

TEST_CASE("the daemon may die at any instruction") {
    if (!can_step()) return;
    for (const auto& tell : {living_rings, a_start_after_a_death, a_dead_process, settling}) {
        Segments segments;
        const Story story = tell(segments);
        if (story.long_form_only && !long_form()) continue;
        CAPTURE(story.name);
        const Counts counts = die_at_every_instruction(story);
        MESSAGE(story.name, ": ", counts.instructions, " instructions, ", counts.changes,
                " of them changed something, ", counts.deaths, " deaths there");
    }
}
