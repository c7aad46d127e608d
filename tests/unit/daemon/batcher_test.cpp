#include "daemon/batch/batcher.hpp"

#include "batch_fixture.hpp"
#include "shm/span_view.hpp"

#include <doctest/doctest.h>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;
using namespace std::chrono_literals;
using Kind = Batcher::Plan::Kind;

namespace {

std::uint64_t bytes_in(const std::vector<Slice>& batch) {
    std::uint64_t bytes = 0;
    for (const Slice& slice : batch) bytes += slice.bytes;
    return bytes;
}

}  // namespace

TEST_CASE(
    "a batch is sent when enough spans wait, or the oldest has waited long enough, or it is asked "
    "for") {
    FakeSpool spool;
    const auto extent = spool.commit(10, spool.row());
    Batcher batcher(queue(20, 1000));
    CHECK(batcher.plan(0s, true).kind == Kind::idle);
    batcher.add(rest_of(*extent, 0), 1s);
    Batcher::Plan plan = batcher.plan(1s, false);
    CHECK(plan.kind == Kind::wait);
    CHECK(plan.at == 1200ms);
    CHECK(batcher.plan(1199ms, false).kind == Kind::wait);
    CHECK(batcher.plan(1200ms, false).kind == Kind::send);
    CHECK(batcher.plan(1s, true).kind == Kind::send);
    batcher.add(rest_of(*extent, 0), 1100ms);
    CHECK(batcher.plan(1100ms, false).kind == Kind::send);
    CHECK(spans_in(batcher.take()) == 20);
    CHECK(batcher.plan(9s, true).kind == Kind::idle);
    CHECK(batcher.spans() == 0);
    CHECK(batcher.bytes() == 0);
}

TEST_CASE("bytes alone make a batch, and bound it") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    const auto extent = spool.commit(100, row, 0, 100);
    const Slice whole = rest_of(*extent, 0);
    const std::uint64_t span_bytes = whole.bytes / 100;
    Batcher batcher(queue(100000, 100000, span_bytes * 7));
    batcher.add(whole, 0s);
    CHECK(batcher.plan(0s, false).kind == Kind::send);
    std::uint32_t next = 0;
    while (batcher.spans() != 0) {
        const auto batch = batcher.take();
        CHECK(bytes_in(batch) <= span_bytes * 7);
        CHECK(batch.front().first == next);
        next += spans_in(batch);
    }
    CHECK(next == 100);
}

TEST_CASE("extents are split at the span limit and keep their order") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    const auto first = spool.commit(10, row);
    const auto second = spool.commit(25, row);
    Batcher batcher(queue(1, 12));
    batcher.add(rest_of(*first, 3), 0s);
    batcher.add(rest_of(*second, 0), 0s);
    auto batch = batcher.take();
    REQUIRE(batch.size() == 2);
    CHECK(batch[0].first == 3);
    CHECK(batch[0].spans == 7);
    CHECK(batch[1].spans == 5);
    batch = batcher.take();
    REQUIRE(batch.size() == 1);
    CHECK(batch[0].first == 5);
    CHECK(batch[0].spans == 12);
    CHECK(spans_in(batcher.take()) == 8);
    CHECK(batcher.plan(9s, true).kind == Kind::idle);
}

TEST_CASE("one span above the byte limit is a batch of its own") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    const auto small = spool.commit(2, row, 0, 10);
    const auto large = spool.commit(1, row, 0, 5000);
    Batcher batcher(queue(1, 1000, 1000));
    batcher.add(rest_of(*small, 0), 0s);
    batcher.add(rest_of(*large, 0), 0s);
    batcher.add(rest_of(*small, 0), 0s);
    CHECK(spans_in(batcher.take()) == 2);
    const auto batch = batcher.take();
    CHECK(spans_in(batch) == 1);
    CHECK(bytes_in(batch) > 5000);
    CHECK(spans_in(batcher.take()) == 2);
}

TEST_CASE("the runs of a slice are its spans: cut at both ends, across scopes") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    // Two scopes by turns: runs of 3, 2, 3, 2 ...
    ScopeBytes other{spool.scope.resource, "OTHER", ""};
    other.measure();
    const auto place = spool.spool->place(64 << 10);
    ExtentWriter writer(place.payload, place.room, 999);
    for (std::uint64_t i = 0; i < 20; ++i) {
        const std::string bytes = numbered(i + 1).bytes();
        SpanFrame frame;
        TickConverter clock;
        REQUIRE(write_span_frame(writer.frame(i % 5 < 3 ? spool.scope : other),
                                 reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                 static_cast<std::uint32_t>(bytes.size()), clock,
                                 frame) == Refusal::none);
        writer.written(frame.bytes);
    }
    ExtentDraft draft;
    draft.lane = {spool.file, 0};
    draft.row = row;
    draft.spans = 20;
    draft.payload_bytes = writer.finish();
    const ExtentRef extent = spool.spool->commit(draft);

    const auto ids = [](const std::vector<exporters::SpanRun>& runs) {
        std::vector<std::uint64_t> found;
        for (const exporters::SpanRun& run : runs) {
            shm::FrameReader frames(run.frames);
            shm::Frame frame;
            std::uint32_t spans = 0;
            while (frames.next(frame)) {
                std::uint64_t id;
                std::memcpy(&id, frame.span.data() + 20, 8);
                CHECK(run.scope == ((id - 1) % 5 < 3 ? "SCOPE" : "OTHER"));
                found.push_back(id);
                ++spans;
            }
            CHECK(spans == run.spans);
        }
        return found;
    };
    for (std::uint32_t first = 0; first < 20; ++first) {
        for (std::uint32_t spans = 1; spans <= 20 - first; ++spans) {
            Slice slice = beginning_of(rest_of(extent, first), spans, ~0ULL);
            CHECK(slice.spans == spans);
            std::vector<exporters::SpanRun> runs;
            append_runs(slice, runs);
            const auto found = ids(runs);
            REQUIRE(found.size() == spans);
            for (std::uint32_t i = 0; i < spans; ++i) REQUIRE(found[i] == first + i + 1);
            std::uint64_t bytes = 0;
            for (const auto& run : runs) bytes += run.frames.size();
            CHECK(bytes == slice.bytes);
        }
    }
}
