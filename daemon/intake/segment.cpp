#include "daemon/intake/segment.hpp"

namespace oteld::daemon {
namespace {

std::uint64_t load(const std::uint64_t& word_untrusted) noexcept {
    return __atomic_load_n(&word_untrusted, __ATOMIC_RELAXED);
}

std::uint64_t load_acquire(const std::uint64_t& word_untrusted) noexcept {
    return __atomic_load_n(&word_untrusted, __ATOMIC_ACQUIRE);
}

void store(std::uint64_t& word, std::uint64_t value) noexcept {
    __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}

std::uint64_t less(std::uint64_t from, std::uint64_t what) noexcept {
    return from > what ? from - what : 0;
}

}  // namespace

Segment::Segment(std::unique_ptr<shm::SegmentMap> map, const Spool& spool, const DaemonClock& clock,
                 TableMemory& table_memory, std::uint64_t control_generation, bool recording)
    : map_(std::move(map)),
      clock_(map_->header(), map_->other_boot(), clock),
      scopes_(table_memory) {
    lanes_.resize(map_->lane_count());
    for (std::uint32_t i = 0; i < map_->lane_count(); ++i) {
        lanes_[i].view = map_->lane(i);
        restore(lanes_[i], i, spool);
    }
    store(map_->daemon()->control_generation, control_generation);
    __atomic_store_n(&map_->daemon()->recording_off, recording ? 0 : 1, __ATOMIC_RELEASE);
    scopes_.read(map_->tables_untrusted());
    if (__atomic_load_n(&map_->daemon()->quarantined, __ATOMIC_RELAXED) != 0)
        quarantine("an earlier daemon found it damaged");
}

void Segment::restore(Lane& lane, std::uint32_t index, const Spool& spool) {
    const shm::DaemonLane& page = *lane.view.daemon;
    lane.cursor = load(page.read_cursor);
    lane.drained = load(page.drained);
    lane.malformed = load(page.malformed);
    lane.skipped = load(page.skipped);
    lane.recovered = load(page.recovered) != 0;
    const LanePosition* position = spool.lane_position({map_->identity(), index});
    if (position == nullptr) return;
    // An odd cursor: the open slots behind it were recovered. The spool is what counts; the page
    // may be behind.
    const std::uint64_t cursor = position->cursor_to & ~1ULL;
    if (cursor < lane.cursor) return;
    lane.cursor = cursor;
    lane.drained = position->drained;
    lane.malformed = position->malformed;
    lane.skipped = position->skipped;
    lane.recovered = lane.recovered || (position->cursor_to & 1) != 0;
    publish(lane);
    if (lane.recovered) publish_recovered(lane);
}

void Segment::publish(Lane& lane) noexcept {
    shm::DaemonLane& page = *lane.view.daemon;
    store(page.drained, lane.drained);
    store(page.malformed, lane.malformed);
    store(page.skipped, lane.skipped);
    // Release pairs with the writer's acquire in lane_writer.hpp: everything before the cursor has
    // been copied.
    __atomic_store_n(&page.read_cursor, lane.cursor, __ATOMIC_RELEASE);
}

void Segment::publish_recovered(Lane& lane) noexcept {
    lane.recovered = true;
    shm::DaemonLane& page = *lane.view.daemon;
    store(page.drained, lane.drained);
    store(page.malformed, lane.malformed);
    store(page.recovered, 1);
}

void Segment::retire() noexcept { __atomic_store_n(&map_->daemon()->retired, 1, __ATOMIC_RELEASE); }

ProducerCounts Segment::counts_untrusted() const noexcept {
    ProducerCounts counts;
    add_finished_untrusted(counts);
    add_begun_untrusted(counts);
    return counts;
}

void Segment::add_finished_untrusted(ProducerCounts& counts) const noexcept {
    // Acquire pairs with the client's release of `ended` and `dropped`: the `begun` that they
    // follow is seen by whoever looks at it after this.
    for (const Lane& lane : lanes_) {
        const shm::LaneProducer& producer = *lane.view.producer;
        counts.ended += load_acquire(producer.ended);
        for (std::size_t i = 0; i < shm::drop_reasons_max; ++i)
            counts.dropped[i] += load_acquire(producer.dropped[i]);
    }
    const auto no_lane = static_cast<std::size_t>(shm::DropReason::no_lane);
    counts.dropped[no_lane] += map_->counter_untrusted(shm::ProcessCounter::dropped_no_lane);
    counts.dropped[no_lane] += map_->counter_untrusted(shm::ProcessCounter::begun_no_lane);
    counts.dropped[dropped_reclaimed] +=
        map_->counter_untrusted(shm::ProcessCounter::reclaimed_spans);
}

void Segment::add_begun_untrusted(ProducerCounts& counts) const noexcept {
    for (const Lane& lane : lanes_) {
        const shm::LaneProducer& producer = *lane.view.producer;
        counts.begun += load(producer.begun);
        counts.unsampled += load(producer.unsampled);
        counts.heap_spans += load(producer.heap_spans);
        const std::uint32_t word = __atomic_load_n(lane.view.lock_word, __ATOMIC_RELAXED);
        if ((word & shm::lock_tid_mask) != 0) ++counts.lanes_claimed;
        counts.lane_bytes += lane.view.data_bytes;
        const std::uint64_t used = less(load(producer.write_cursor), lane.cursor);
        counts.lane_bytes_used += used < lane.view.data_bytes ? used : lane.view.data_bytes;
    }
    counts.begun += map_->counter_untrusted(shm::ProcessCounter::begun_no_lane);
    // Spans of dead processes that nobody else can count any more: begun there, dropped here.
    counts.begun += map_->counter_untrusted(shm::ProcessCounter::reclaimed_spans);
}

bool Segment::died_holding() const noexcept {
    for (const Lane& lane : lanes_)
        if ((__atomic_load_n(lane.view.lock_word, __ATOMIC_RELAXED) & shm::lock_owner_died) != 0)
            return true;
    return false;
}

bool Segment::drained() const noexcept {
    if (quarantined()) return true;
    // In a lane without room for records cursors mean nothing.
    for (const Lane& lane : lanes_)
        if (lane.view.data_bytes != 0 &&
            load_acquire(lane.view.producer->write_cursor) != lane.cursor)
            return false;
    return true;
}

void Segment::quarantine(std::string why) noexcept {
    if (quarantined()) return;
    quarantine_reason_ = std::move(why);
    __atomic_store_n(&map_->daemon()->quarantined, 1, __ATOMIC_RELAXED);
    for (Lane& lane : lanes_) {
        const std::uint64_t rest =
            less(less(load(lane.view.producer->ended), lane.drained), lane.malformed);
        // No lane holds more records than that, whatever its counter says.
        const std::uint64_t possible = lane.view.data_bytes / sizeof(detail::SpanRecord);
        lane.malformed += rest < possible ? rest : possible;
        abandoned_ += rest < possible ? rest : possible;
        lane.recovered = true;
    }
}

}  // namespace oteld::daemon
