// The writing end of a lane: a private cursor, a private limit, one release store per span.
//
// Used by: the client's span path; lane_reader.hpp is the other end.
// Threads: the lane's owner only.
// Never: blocks, allocates, or believes the daemon's cursor beyond what it can at most free.
//
// `limit` is not the end of the lane but the next place where something has to be looked at: the
// end of the lap, the end of the known room, or a mark (a half, three quarters) where a sleeping
// daemon is woken. One compare.
#pragma once

#include "oteld/detail/record.hpp"
#include "shm/hardware.hpp"
#include "shm/layout.hpp"

namespace oteld::shm {

template <class Memory>
struct BasicLaneWriter {
    std::uint64_t cursor;  // Where the next record goes; monotonic.
    std::uint64_t limit;
    std::uint8_t* data;
    std::uint64_t bytes;  // A power of two.
    LaneProducer* producer;
    const DaemonLane* daemon;
    std::uint64_t read_seen;  // The daemon's cursor as last believed.
    std::uint64_t bell_at;    // `read_seen` at the time of the last bell ...
    std::uint32_t bells;      // ... and how many marks have been rung since.

    // Continues where an earlier owner stopped. Cursors outlive owners.
    void initialise(std::uint8_t* lane_data, std::uint64_t lane_bytes, LaneProducer* producer_page,
                    const DaemonLane* daemon_lane) noexcept {
        data = lane_data;
        bytes = lane_bytes;
        producer = producer_page;
        daemon = daemon_lane;
        cursor = limit = read_seen = bell_at = 0;
        bells = 0;
    }

    // Where a record of that many bytes (8-aligned) may be written, or null: ask make_room().
    [[nodiscard]] std::uint8_t* claim(std::uint64_t record_bytes) const noexcept {
        if (__builtin_expect(cursor + record_bytes > limit, 0)) return nullptr;
        return data + (cursor & (bytes - 1));
    }

    // Hands the claimed record over. Release: pairs with the acquire in the daemon's
    // lane_reader.hpp.
    void publish(std::uint64_t record_bytes) noexcept {
        cursor += record_bytes;
        Memory::store_release(producer->write_cursor, cursor);
    }

    enum class Room { ok, full };
    // The slow half of claim(): looks at the daemon's cursor, ends the lap, finds the next mark.
    // `ring_bell` is set when the record passes a mark that has not been rung since the daemon last
    // read.
    Room make_room(std::uint64_t record_bytes, bool& ring_bell) noexcept {
        // Acquire: pairs with the daemon's release of its cursor; it has copied what it frees.
        const std::uint64_t read_untrusted = Memory::load_acquire(daemon->read_cursor);
        if (read_untrusted >= read_seen && read_untrusted <= cursor) read_seen = read_untrusted;
        const std::uint64_t lap_left = bytes - (cursor & (bytes - 1));
        const std::uint64_t needed =
            record_bytes > lap_left ? lap_left + record_bytes : record_bytes;
        ring_bell = passes_mark(cursor + needed);
        if (record_bytes > bytes || cursor + needed - read_seen > bytes) return Room::full;
        if (record_bytes > lap_left) put_pad(lap_left);
        const std::uint64_t lap_end = cursor + bytes - (cursor & (bytes - 1));
        limit = lap_end < read_seen + bytes ? lap_end : read_seen + bytes;
        const std::uint64_t mark = next_mark(cursor + record_bytes);
        if (mark < limit) limit = mark;
        return Room::ok;
    }

private:
    [[nodiscard]] std::uint64_t half() const noexcept { return read_seen + bytes / 2; }
    [[nodiscard]] std::uint64_t three_quarters() const noexcept {
        return read_seen + bytes / 4 * 3;
    }
    [[nodiscard]] std::uint64_t next_mark(std::uint64_t after) const noexcept {
        if (after <= half()) return half();
        if (after <= three_quarters()) return three_quarters();
        return ~0ULL;
    }
    bool passes_mark(std::uint64_t after) noexcept {
        if (bell_at != read_seen) {
            bell_at = read_seen;
            bells = 0;
        }
        const std::uint32_t marks = after > three_quarters() ? 2 : after > half() ? 1 : 0;
        if (marks <= bells) return false;
        bells = marks;
        return true;
    }
    void put_pad(std::uint64_t pad_bytes) noexcept {
        const detail::RecordPrefix pad{static_cast<std::uint32_t>(pad_bytes),
                                       static_cast<std::uint8_t>(detail::RecordType::pad), 0,
                                       sizeof(detail::RecordPrefix)};
        Memory::copy_in(data + (cursor & (bytes - 1)), &pad, sizeof pad);
        publish(pad_bytes);
    }
};
using LaneWriter = BasicLaneWriter<Hardware>;

}  // namespace oteld::shm
