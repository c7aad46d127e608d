#include "daemon/batch/ledger.hpp"

#include "daemon/batch/settle.hpp"
#include "fake_spool.hpp"

#include <doctest/doctest.h>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;
using exporters::RejectReason;

namespace {

Slice part(const ExtentRef& extent, std::uint32_t first, std::uint32_t spans) {
    return {extent, first, spans, 0};
}

}  // namespace

TEST_CASE("every span is pending, then delivered or rejected, for each exporter apart") {
    Ledger ledger;
    ledger.committed(3, 0b101, 50);
    CHECK(ledger.share(3, 0).pending == 50);
    CHECK(ledger.share(3, 1).pending == 0);
    CHECK(ledger.share(3, 2).pending == 50);
    CHECK(ledger.pending(3) == 100);
    SettledWord before;
    SettledWord after;
    after.settled = 30;
    after.rejected[1] = 4;
    ledger.settled(3, 2, before, after);
    CHECK(ledger.share(3, 2).pending == 20);
    CHECK(ledger.share(3, 2).delivered == 26);
    CHECK(ledger.share(3, 2).rejected[1] == 4);
    before = after;
    after.settled = 50;
    ledger.settled(3, 2, before, after);
    CHECK(ledger.share(3, 2).delivered == 46);
    CHECK(ledger.share(3, 0).delivered == 0);
}

TEST_CASE("a row that is merged takes its counts along") {
    Ledger ledger;
    ledger.committed(1, 1, 10);
    ledger.committed(2, 1, 5);
    ledger.move_row(1, 2);
    CHECK(ledger.share(1, 0).pending == 0);
    CHECK(ledger.share(2, 0).pending == 15);
}

TEST_CASE("requests of one exporter may end in any order; an extent is settled from the front") {
    FakeSpool spool({"a"});
    const std::uint32_t row = spool.row();
    const auto extent = spool.commit(30, row);
    Settler settler(*spool.spool);
    settler.apply({spool.word(0), {part(*extent, 20, 10)}, 10, RejectReason::refused});
    CHECK(spool.share(row, 0).pending == 30);
    CHECK(settler.waiting() == 1);
    settler.apply({spool.word(0), {part(*extent, 10, 10)}, 0, RejectReason::refused});
    CHECK(settler.waiting() == 2);
    settler.apply({spool.word(0), {part(*extent, 0, 10)}, 0, RejectReason::refused});
    CHECK(settler.waiting() == 0);
    CHECK(spool.share(row, 0).pending == 0);
    CHECK(spool.share(row, 0).delivered == 20);
    CHECK(spool.share(row, 0).rejected[0] == 10);
    CHECK(spool.spool->state().blocks == 0);
}

TEST_CASE("a partial success is charged to the request's extents in order") {
    FakeSpool spool({"a"});
    const std::uint32_t mine = spool.row(1);
    const std::uint32_t other = spool.row(2);
    const auto first = spool.commit(10, mine, 0);
    const auto second = spool.commit(10, other, 1);
    Settler settler(*spool.spool);
    settler.apply(
        {spool.word(0), {part(*first, 0, 10), part(*second, 0, 10)}, 13, RejectReason::partial});
    CHECK(spool.share(mine, 0).rejected[static_cast<std::size_t>(RejectReason::partial)] == 10);
    CHECK(spool.share(other, 0).rejected[static_cast<std::size_t>(RejectReason::partial)] == 3);
    CHECK(spool.share(other, 0).delivered == 7);
}

TEST_CASE("what is posted arrives once and wakes") {
    int woken = 0;
    Inbox inbox([&woken] { ++woken; });
    inbox.post({});
    inbox.post({});
    CHECK(woken == 2);
    CHECK(inbox.take().size() == 2);
    CHECK(inbox.take().empty());
}
