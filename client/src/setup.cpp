// Rings that a program sets up itself: how large, how many, and whether more may follow.
//
// They are made when the first provider that asks for them is, so that a program that turns growth
// off has opened every file it will ever open by then, and published who it is. A fork's child
// takes the wishes over; without growth it has no ring of its own until it makes such a provider
// itself, because it may be in a sandbox by then where opening a file is deadly.

#include "process.hpp"
#include "segments.hpp"
#include "signals.hpp"

namespace oteld::sdk {
namespace {

constexpr std::size_t lanes_default = 2;
constexpr std::uint64_t lane_bytes_default = 128 << 10;

constinit std::atomic<std::uint64_t> lane_bytes{lane_bytes_default};
constinit std::atomic<bool> growth{true};

std::uint64_t checked_lane_bytes(const RingWishes& wishes) noexcept {
    if (!wishes.lane_bytes) return lane_bytes_default;
    if (*wishes.lane_bytes == 0 || *wishes.lane_bytes > shm::lane_data_bytes_max) {
        warn("lane_size(%zu) is ignored: it must be from 1 to %llu bytes", *wishes.lane_bytes,
             static_cast<unsigned long long>(shm::lane_data_bytes_max));
        return lane_bytes_default;
    }
    std::uint64_t bytes = lane_bytes_min;
    while (bytes < *wishes.lane_bytes) bytes *= 2;
    return bytes;
}

// 0: none now, but with the first span.
std::size_t checked_lanes(const RingWishes& wishes) noexcept {
    const std::size_t unsaid = wishes.growth ? 0 : lanes_default;
    if (!wishes.lanes) return unsaid;
    if (*wishes.lanes == 0 || *wishes.lanes > lanes_per_segment_max) {
        warn("lanes(%zu) is ignored: it must be from 1 to %u", *wishes.lanes,
             lanes_per_segment_max);
        return unsaid;
    }
    return *wishes.lanes;
}

// Called with the mutex held.
void make_lanes(Process& process, std::size_t count) {
    shm::Geometry geometry;
    geometry.lanes = static_cast<std::uint32_t>(count);
    geometry.data_bytes = process.lane_bytes_first;
    const std::uint64_t bytes =
        geometry.file_bytes(static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)));
    const bool made = add_segment(process, geometry, true) != nullptr;
    if (made) return;
    warn("the %zu lanes of %llu KiB were not made: they take %llu KiB, and %llu KiB are allowed%s",
         count, static_cast<unsigned long long>(geometry.data_bytes >> 10),
         static_cast<unsigned long long>(bytes >> 10),
         static_cast<unsigned long long>(process.bytes_max >> 10),
         bytes <= process.bytes_max ? "; is there a ring directory?" : "");
    if (!process.growth.load(std::memory_order_relaxed))
        warn("growth is off: spans are not recorded");
}

}  // namespace

std::uint64_t lane_bytes_wanted() noexcept { return lane_bytes.load(std::memory_order_relaxed); }
bool growth_wanted() noexcept { return growth.load(std::memory_order_relaxed); }

void set_up_rings(const Provider& provider, const RingWishes& wishes) {
    Process* process = this_process();
    if (process == nullptr) return;
    const SignalsBlocked blocked;
    const std::lock_guard lock(process->mutex);
    if (process->set_up)
        return warn(
            "a second provider's lanes, lane size and growth are ignored: rings are the "
            "process's");
    process->set_up = true;
    publish_context(*process, provider, Occasion::rings_set_up);
    process->growth.store(wishes.growth, std::memory_order_relaxed);
    process->lane_bytes_first = checked_lane_bytes(wishes);
    process->bytes_max = ring_bytes_max();
    lane_bytes.store(process->lane_bytes_first, std::memory_order_relaxed);
    growth.store(wishes.growth, std::memory_order_relaxed);
    const std::size_t lanes = checked_lanes(wishes);
    if (lanes == 0) return;
    register_resource(*process, &provider);
    make_lanes(*process, lanes);
}

}  // namespace oteld::sdk
