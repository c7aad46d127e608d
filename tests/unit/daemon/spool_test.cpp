#include "daemon/spool/spool.hpp"

#include "daemon/spool/extent_reader.hpp"
#include "fake_spool.hpp"

#include <doctest/doctest.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <csignal>
#include <random>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;
using exporters::RejectReason;

TEST_CASE("what was committed can be read: resource, scope and whole frames") {
    FakeSpool spool;
    const auto extent = spool.commit(3, spool.row());
    REQUIRE(extent);
    ExtentReader reader(*extent->header);
    exporters::SpanRun run;
    REQUIRE(reader.next(run));
    CHECK(run.spans == 3);
    CHECK(run.resource == "RES");
    CHECK(run.resource_schema_url == "res-url");
    CHECK(run.scope == "SCOPE");
    CHECK(run.scope_schema_url == "scope-url");
    CHECK(run.frames.size() % 3 == 0);
    CHECK_FALSE(reader.next(run));
}

TEST_CASE("a block is free when every exporter has settled everything in it, and not before") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    const auto first = spool.commit(10, row);
    const auto second = spool.commit(5, row);
    CHECK(spool.spool->state().blocks == 1);
    spool.settle(*first, 0, 10);
    spool.settle(*second, 0, 5);
    spool.settle(*first, 1, 4);
    spool.settle(*first, 1, 6, 2, RejectReason::partial);
    CHECK(spool.spool->state().blocks == 1);
    CHECK(spool.share(row, 1).pending == 5);
    spool.settle(*second, 1, 5, 5, RejectReason::expired);
    CHECK(spool.spool->state().blocks == 0);
    CHECK(spool.share(row, 0).delivered == 15);
    CHECK(spool.share(row, 1).delivered == 8);
    CHECK(spool.share(row, 1).rejected[static_cast<std::size_t>(RejectReason::partial)] == 2);
    CHECK(spool.share(row, 1).rejected[static_cast<std::size_t>(RejectReason::expired)] == 5);
    CHECK(spool.share(row, 1).pending == 0);
    // The totals are in the file now.
    spool.restart();
    CHECK(spool.share(row, 1).delivered == 8);
    CHECK(spool.share(row, 0).delivered == 15);
    CHECK(spool.spool->rows().row(row).drained == 15);
}

TEST_CASE("the word holds the largest counts that an extent can have") {
    SettledWord counts;
    counts.settled = extent_spans_max;
    for (std::uint32_t& rejected : counts.rejected) rejected = extent_spans_max;
    const SettledWord again = SettledWord::unpack(counts.pack());
    CHECK(again.settled == extent_spans_max);
    for (const std::uint32_t rejected : again.rejected) CHECK(rejected == extent_spans_max);
    SettledWord few;
    few.settled = 10;
    few.rejected[1] = 3;
    few.rejected[4] = 1;
    CHECK(SettledWord::unpack(few.pack()).delivered() == 6);
}

TEST_CASE("a full spool refuses, and takes again when something was settled") {
    FakeSpool spool({"a"}, 3 << 20);
    const std::uint32_t row = spool.row();
    std::vector<ExtentRef> extents;
    while (auto extent = spool.commit(100, row, 0, 1000)) extents.push_back(*extent);
    CHECK(spool.spool->state().full);
    CHECK(spool.spool->state().blocks == 3);
    const std::uint64_t held = spool.share(row, 0).pending;
    CHECK(held == extents.size() * 100);
    // One slow extent pins its own block only.
    for (std::size_t i = 1; i < extents.size(); ++i) spool.settle(extents[i], 0, 100);
    CHECK(spool.spool->state().blocks <= 2);
    CHECK(spool.commit(100, row, 0, 1000));
    CHECK_FALSE(spool.spool->state().full);
}

TEST_CASE("a restart queues what was not settled, in order, with how far each exporter had come") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    const auto first = spool.commit(10, row, 0);
    const auto second = spool.commit(20, row, 1);
    spool.settle(*first, 0, 10);
    spool.settle(*first, 1, 10);
    spool.settle(*second, 1, 7, 3, RejectReason::refused);
    spool.restart();
    REQUIRE(spool.spool->left_over().size() == 1);
    const ExtentRef left = spool.spool->left_over()[0];
    CHECK(Spool::settled_spans(left, spool.word(0)) == 0);
    CHECK(Spool::settled_spans(left, spool.word(1)) == 7);
    CHECK(spool.share(row, 0).pending == 20);
    CHECK(spool.share(row, 1).pending == 13);
    CHECK(spool.share(row, 1).delivered == 14);
    const LanePosition* position = spool.spool->lane_position({spool.file, 1});
    REQUIRE(position != nullptr);
    CHECK(position->drained == 20);
    CHECK(position->cursor_to == spool.positions[1].cursor_to);
    CHECK(spool.spool->lane_position({spool.file, 7}) == nullptr);
    CHECK(spool.spool->lane_position({{1, 2, 4}, 1}) == nullptr);  // The inode's next file.
    spool.settle(left, 0, 20);
    spool.settle(left, 1, 13);
    CHECK(spool.spool->state().blocks == 0);
    spool.restart();
    CHECK(spool.spool->left_over().empty());
    CHECK(spool.share(row, 1).delivered == 27);
}

TEST_CASE(
    "an exporter that is gone settles as discarded; one that is new gets nothing from before") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    spool.commit(10, row);
    spool.exporters = {"b", "c"};
    spool.restart();
    REQUIRE(spool.spool->left_over().size() == 1);
    CHECK(spool.share(row, 0).pending == 10);
    CHECK(spool.share(row, 1).absent == 10);
    CHECK(spool.share(row, 1).pending == 0);
    spool.settle(spool.spool->left_over()[0], 0, 10);
    CHECK(spool.spool->state().blocks == 0);
    spool.commit(3, row);
    CHECK(spool.share(row, 1).pending == 3);
    spool.exporters = {"a"};
    spool.restart();
    CHECK(spool.share(row, 0).rejected[static_cast<std::size_t>(RejectReason::discarded)] == 10);
    CHECK(spool.spool->left_over().empty());
}

TEST_CASE("exporters may come and go more often than there are words") {
    FakeSpool spool({"first"});
    const std::uint32_t row = spool.row();
    std::uint64_t drained = 0;
    for (int i = 0; i < 40; ++i) {
        spool.exporters = {"exporter-" + std::to_string(i)};
        spool.restart();
        CHECK(spool.share(row, 0).absent == drained);
        CHECK(spool.share(row, 0).delivered == 0);
        const auto extent = spool.commit(5, row);
        spool.settle(*extent, 0, 5);
        drained += 5;
        CHECK(spool.share(row, 0).delivered == 5);
    }
}

TEST_CASE("more exporters than words are refused with a sentence") {
    FakeSpool spool({"a"});
    std::vector<std::string> names;
    for (unsigned i = 0; i <= spool_exporters_max; ++i) names.push_back("e" + std::to_string(i));
    spool.spool.reset();
    auto opened = Spool::open(spool.handle, spool.spool_bytes, names);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().message.find("e16") != std::string::npos);
}

TEST_CASE("a kill at any word of a commit leaves all of it or nothing") {
    // The journal is the only thing that changes several words: replay it from every point at which
    // it may stop.
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    spool.commit(10, row);
    SpoolHeader header{};
    std::memset(static_cast<void*>(&header), 0, sizeof header);
    Journal journal(header);
    header.commit_seq = 5;
    header.rows[0].drained = 100;
    header.block[3].end = 64;
    journal.set(header.commit_seq, 6);
    journal.set(header.rows[0].drained, 110);
    journal.set(header.block[3].end, 128);
    // Before the store of the count: nothing happened.
    auto before = std::make_unique<SpoolHeader>(header);
    CHECK(Journal(*before).replay());
    CHECK(before->commit_seq == 5);
    // After it, with any number of words already applied: everything happens.
    for (int applied = 0; applied <= 3; ++applied) {
        auto after = std::make_unique<SpoolHeader>(header);
        after->journal_count = 3;
        if (applied > 0) after->commit_seq = 6;
        if (applied > 1) after->rows[0].drained = 110;
        if (applied > 2) after->block[3].end = 128;
        CHECK(Journal(*after).replay());
        CHECK(after->commit_seq == 6);
        CHECK(after->rows[0].drained == 110);
        CHECK(after->block[3].end == 128);
        CHECK(after->journal_count == 0);
    }
    auto broken = std::make_unique<SpoolHeader>(header);
    broken->journal_count = 3;
    broken->journal[1].offset = sizeof(SpoolHeader);
    CHECK_FALSE(Journal(*broken).replay());
}

TEST_CASE("a daemon killed at random moments loses, repeats and miscounts nothing") {
    // A child commits and settles as fast as it can and is killed; what it says about itself must
    // always add up.
    FakeSpool spool({"a", "b"}, 4 << 20);
    std::mt19937 random(4711);
    const std::uint32_t row = spool.row();
    for (int round = 0; round < 60; ++round) {
        spool.spool.reset();
        const pid_t child = ::fork();
        if (child == 0) {
            spool.restart();
            std::vector<ExtentRef> open(spool.spool->left_over());
            std::mt19937 own(static_cast<unsigned>(round));
            const auto settle_some = [&](const ExtentRef& extent) {
                for (std::size_t e = 0; e < 2; ++e) {
                    const std::uint32_t rest =
                        extent.header->spans - Spool::settled_spans(extent, spool.word(e));
                    if (rest != 0) spool.settle(extent, e, rest, rest / 3, RejectReason::refused);
                }
            };
            for (;;) {
                if (auto extent = spool.commit(1 + own() % 50, row, 0, own() % 3000))
                    open.push_back(*extent);
                while (!open.empty() && own() % 3 != 0) {
                    settle_some(open.back());
                    open.pop_back();
                }
                if (open.size() > 30) {
                    for (const ExtentRef& extent : open) settle_some(extent);
                    open.clear();
                }
            }
        }
        ::usleep(1000 + random() % 8000);  // Not for order: any moment is as good as another.
        ::kill(child, SIGKILL);
        REQUIRE(::waitpid(child, nullptr, 0) == child);
        spool.restart();
        const ApplicationRow& counts = spool.spool->rows().row(row);
        for (std::size_t e = 0; e < 2; ++e) {
            const Ledger::Share& share = spool.share(row, e);
            std::uint64_t rejected = 0;
            for (const std::uint64_t spans : share.rejected) rejected += spans;
            REQUIRE(counts.drained == share.pending + share.delivered + rejected);
            std::uint64_t left = 0;
            for (const ExtentRef& extent : spool.spool->left_over())
                left += extent.header->spans - Spool::settled_spans(extent, spool.word(e));
            REQUIRE(left == share.pending);
        }
        if (const LanePosition* position = spool.spool->lane_position({spool.file, 0}))
            spool.positions[0] = *position;
    }
    CHECK(spool.spool->rows().row(row).drained > 0);
}

TEST_CASE("a file that is no spool, or one of another version, is set aside and named") {
    FakeSpool spool;
    spool.commit(1, spool.row());
    spool.spool.reset();
    const std::string path = spool.directory.path + "/spool";
    const int fd = ::open(path.c_str(), O_RDWR);
    const std::uint16_t future = 99;
    REQUIRE(::pwrite(fd, &future, 2, offsetof(SpoolHeader, major)) == 2);
    ::close(fd);
    spool.restart();
    CHECK(spool.spool->state().note.find("spool.damaged") != std::string::npos);
    CHECK(std::filesystem::exists(spool.directory.path + "/spool.damaged"));
    CHECK(spool.spool->left_over().empty());
}

TEST_CASE("damage in a block cuts it off where it begins; what lies before is still sent") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    spool.commit(5, row);
    const auto second = spool.commit(5, row);
    const auto third = spool.commit(5, row);
    const_cast<ExtentHeader*>(second->header)->bytes = 12345;
    (void)third;
    spool.restart();
    REQUIRE(spool.spool->left_over().size() == 1);
    CHECK(spool.spool->left_over()[0].header->spans == 5);
    CHECK(spool.spool->state().note.find("damaged") != std::string::npos);
}

TEST_CASE("damage in what was folded already, or at the very beginning, frees the block") {
    for (const std::uint64_t damaged : {0, 2}) {
        FakeSpool spool({"a"}, 4 << 20);
        const std::uint32_t row = spool.row();
        for (int i = 0; i < 5; ++i) spool.commit(5, row);
        const unsigned word = spool.word(0);
        spool.spool.reset();
        // As if killed in the middle of folding a settled block: all extents but the last are in
        // the row's totals.
        const int fd = ::open((spool.directory.path + "/spool").c_str(), O_RDWR);
        const auto entry_at = static_cast<off_t>(offsetof(SpoolHeader, block));
        BlockEntry entry{};
        REQUIRE(::pread(fd, &entry, sizeof entry, entry_at) == sizeof entry);
        const std::uint64_t extent_bytes = entry.end / 5;
        entry.folded = 4 * extent_bytes;
        REQUIRE(::pwrite(fd, &entry, sizeof entry, entry_at) == sizeof entry);
        const auto edit = [&](std::uint64_t extent, std::size_t field, std::uint64_t value) {
            const auto at = static_cast<off_t>(spool_header_bytes + extent * extent_bytes + field);
            REQUIRE(::pwrite(fd, &value, sizeof value, at) == sizeof value);
        };
        for (std::uint64_t i = 0; i < 5; ++i)
            edit(i, offsetof(ExtentHeader, words) + std::uint64_t{word} * 8,
                 SettledWord{5, {}}.pack());
        edit(damaged, offsetof(ExtentHeader, bytes), 12345);
        spool.restart();
        CHECK(spool.spool->state().blocks == 0);
        CHECK(spool.spool->left_over().empty());
        REQUIRE(::pread(fd, &entry, sizeof entry, entry_at) == sizeof entry);
        CHECK(entry.end == 0);
        CHECK(entry.live_from == 0);
        CHECK(entry.folded == 0);
        ::close(fd);
        spool.positions = {};
        REQUIRE(spool.commit(5, row));
        spool.restart();
        CHECK(spool.spool->left_over().size() == 1);
    }
}

TEST_CASE("memory that an earlier daemon's spans took is given back, also beyond a smaller spool") {
    FakeSpool spool({"a"}, 8 << 20);
    const std::uint32_t row = spool.row();
    std::vector<ExtentRef> extents;
    extents.reserve(60);
    for (int i = 0; i < 60; ++i) extents.push_back(*spool.commit(100, row, 0, 1000));
    const auto allocated = [&] {
        struct stat info {};
        REQUIRE(::stat((spool.directory.path + "/spool").c_str(), &info) == 0);
        return static_cast<std::uint64_t>(info.st_blocks) * 512;
    };
    for (const ExtentRef& extent : extents) spool.settle(extent, 0, 100);
    CHECK(allocated() > 6 << 20);
    SUBCASE("the same size") { spool.restart(); }
    SUBCASE("a smaller one") {
        spool.spool_bytes = 2 << 20;
        spool.restart();
    }
    SUBCASE("a smaller one, with spans in the blocks beyond it") {
        extents.clear();
        spool.positions = {};
        for (int i = 0; i < 60; ++i) extents.push_back(*spool.commit(100, row, 0, 1000));
        spool.spool_bytes = 2 << 20;
        spool.restart();
        const auto left = spool.spool->left_over();
        REQUIRE(left.size() == 60);
        for (const ExtentRef& extent : left) spool.settle(extent, 0, 100);
    }
    spool.spool->trim();
    CHECK(allocated() < 3 << 20);
    REQUIRE(spool.commit(100, row, 0, 1000));
}

TEST_CASE("an idle spool gives its memory back and takes it again") {
    FakeSpool spool({"a"}, 8 << 20);
    const std::uint32_t row = spool.row();
    std::vector<ExtentRef> extents;
    extents.reserve(60);
    for (int i = 0; i < 60; ++i) extents.push_back(*spool.commit(100, row, 0, 1000));
    const auto allocated = [&] {
        struct stat info {};
        REQUIRE(::stat((spool.directory.path + "/spool").c_str(), &info) == 0);
        return static_cast<std::uint64_t>(info.st_blocks) * 512;
    };
    const std::uint64_t full = allocated();
    CHECK(full > 6 << 20);
    spool.spool->trim();  // Not while something is in it.
    CHECK(allocated() == full);
    for (const ExtentRef& extent : extents) spool.settle(extent, 0, 100);
    spool.spool->trim();
    CHECK(allocated() < 3 << 20);
    for (int i = 0; i < 60; ++i) REQUIRE(spool.commit(100, row, 0, 1000));
}

TEST_CASE("steps without spans cost no exporter anything and do not fill the spool") {
    FakeSpool spool({"a"}, 2 << 20);
    const std::uint32_t row = spool.row();
    for (int i = 0; i < 20000; ++i) REQUIRE(spool.commit(0, row, 0, 10, 1));
    CHECK(spool.spool->rows().row(row).malformed == 20000);
    CHECK(spool.spool->unsettled_extents() == 0);
    spool.restart();
    CHECK(spool.spool->left_over().empty());
    CHECK(spool.spool->rows().row(row).malformed == 20000);
}

TEST_CASE(
    "rows: one a process; when the table is full the oldest are merged by service, and no count is "
    "lost") {
    FakeSpool spool({"a"}, 2 << 20);
    std::uint64_t committed = 0;
    for (std::uint32_t process = 0; process < 600; ++process) {
        ApplicationFacts facts;
        facts.uid = 1000;
        std::memcpy(facts.process_id, &process, sizeof process);
        facts.process_id[15] = 1;
        facts.service = process % 2 == 0 ? "even" : "odd";
        const std::uint32_t row = spool.spool->rows().find_or_add(facts, process);
        CHECK(spool.spool->rows().find_or_add(facts, process) == row);
        const auto extent = spool.commit(2, row);
        REQUIRE(extent);
        spool.settle(*extent, 0, 2, process % 3 == 0 ? 1 : 0, RejectReason::refused);
        committed += 2;
    }
    const auto total = [&] {
        std::uint64_t drained = 0;
        std::uint64_t accounted = 0;
        for (std::uint32_t i = 0; i < application_rows_max; ++i) {
            if (!spool.spool->rows().used(i)) continue;
            drained += spool.spool->rows().row(i).drained;
            accounted += spool.share(i, 0).delivered + spool.share(i, 0).rejected[0];
        }
        CHECK(drained == accounted);
        return drained;
    };
    CHECK(total() == committed);
    spool.restart();
    CHECK(total() == committed);
}

TEST_CASE("processes beyond a table full of the living share the last row") {
    FakeSpool spool({"a"});
    std::uint32_t last = 0;
    for (std::uint32_t process = 0; process < 300; ++process) {
        ApplicationFacts facts;
        std::memcpy(facts.process_id, &process, sizeof process);
        facts.process_id[15] = 1;
        facts.service = "s";
        last = spool.spool->rows().find_or_add(facts, process);
        spool.spool->rows().hold(last);
    }
    CHECK(last == application_rows_max - 1);
    CHECK(spool.spool->rows().row(last).state == static_cast<std::uint64_t>(RowState::overflow));
}

TEST_CASE("a segment's counters are folded once, however often the daemon is killed around it") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    ApplicationRow difference{};
    difference.gone_begun = 10;
    difference.gone_dropped[2] = 3;
    spool.spool->fold_segment(row, spool.file, difference);
    spool.restart();
    CHECK(spool.spool->folded(spool.file));
    CHECK_FALSE(spool.spool->folded({1, 2, 9}));
    CHECK(spool.spool->rows().row(row).gone_begun == 10);
    spool.spool->forget_folded();
    spool.restart();
    CHECK_FALSE(spool.spool->folded(spool.file));
    CHECK(spool.spool->rows().row(row).gone_begun == 10);
    CHECK(spool.spool->rows().row(row).gone_dropped[2] == 3);
}
