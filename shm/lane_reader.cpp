#include "shm/lane_reader.hpp"

#include <cstring>

namespace oteld::shm {

using detail::RecordPrefix;
using detail::RecordType;

LaneRange look_at_lane(const LaneView& lane, std::uint64_t read_cursor) noexcept {
    // Acquire pairs with the producer's release when a record is complete (lane_writer.hpp).
    const std::uint64_t write_untrusted =
        __atomic_load_n(&lane.producer->write_cursor, __ATOMIC_ACQUIRE);
    if (write_untrusted == read_cursor) return {LaneState::empty, read_cursor, read_cursor};
    // Monotonic cursors: a difference beyond the lane, also a negative one, is no state that a
    // producer reaches.
    const std::uint64_t waiting = write_untrusted - read_cursor;
    if (waiting > lane.data_bytes || (write_untrusted | read_cursor) % 8 != 0)
        return {LaneState::corrupt, read_cursor, write_untrusted};
    return {LaneState::ready, read_cursor, write_untrusted};
}

LaneRecord LaneReader::next() noexcept {
    while (cursor_ != to_) {
        const std::uint64_t offset = cursor_ & mask_;
        RecordPrefix prefix_untrusted;
        copy_untrusted(&prefix_untrusted, data_ + offset, sizeof prefix_untrusted);
        const std::uint32_t length = prefix_untrusted.length;
        // A record never wraps, so both the range and the lap bound it.
        const std::uint64_t lap_rest = mask_ + 1 - offset;
        const std::uint64_t range_rest = to_ - cursor_;
        if (length < sizeof(RecordPrefix) || length % 8 != 0 || length > lap_rest ||
            length > range_rest)
            return {LaneRecord::Kind::corrupt, nullptr, 0};
        const auto type = static_cast<RecordType>(prefix_untrusted.type);
        if (type == RecordType::span && length < sizeof(detail::SpanRecord))
            return {LaneRecord::Kind::corrupt, nullptr, 0};
        cursor_ += length;
        if (type == RecordType::pad) continue;
        const auto kind =
            type == RecordType::span ? LaneRecord::Kind::span : LaneRecord::Kind::unknown;
        return {kind, data_ + offset, length};
    }
    return {};
}

}  // namespace oteld::shm
