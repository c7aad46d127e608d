// A segment as the daemon sees it: mapped, its geometry copied once and checked, everything else
// untrusted.
//
// Used by: daemon/intake, `oteld rings`. Threads: one at a time; the application writes beside it.
// The file is mapped read-only; only the daemon's own pages are mapped again for writing. Nothing
// that is read here can make the daemon read or write outside its mappings: offsets and sizes come
// from the checked copy. A file that shrinks later sets truncated() instead of killing the process.
#pragma once

#include "config/result.hpp"
#include "shm/fault_guard.hpp"
#include "shm/layout.hpp"
#include "shm/unique_fd.hpp"

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace boost::interprocess {
class mapped_region;
}

namespace oteld::shm {

enum class SegmentAccess { drain, inspect };

using BootId = std::array<std::uint8_t, 16>;
[[nodiscard]] BootId current_boot_id();  // All zero without /proc.

// Who a file is. Device and inode cannot be forged by its owner; `birth` tells an inode's next file
// apart.
struct FileIdentity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t birth = 0;  // Hash of the write-once part of the header.
    friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// One lane: where its parts lie in the mapping. Valid as long as the SegmentMap.
struct LaneView {
    const std::uint8_t* data = nullptr;  // Null in a segment with slots only.
    std::uint64_t data_bytes = 0;        // A power of two, or 0.
    const std::uint8_t* slots = nullptr;
    const LaneProducer* producer = nullptr;
    const std::uint32_t* lock_word = nullptr;
    DaemonLane* daemon = nullptr;  // With SegmentAccess::inspect: read it only.
};

class SegmentMap {
public:
    // Fails with unsupported (layout of the future), permission, corrupt, not_found or io; the
    // message names the file and says what to do.
    [[nodiscard]] static Result<std::unique_ptr<SegmentMap>> open(int directory_fd,
                                                                  const std::string& name,
                                                                  SegmentAccess access);
    ~SegmentMap();
    SegmentMap(const SegmentMap&) = delete;
    SegmentMap& operator=(const SegmentMap&) = delete;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const FileIdentity& identity() const noexcept { return identity_; }
    [[nodiscard]] uid_t owner() const noexcept { return owner_; }
    [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_bytes_; }
    // The checked copy: bytes 0..511 only, the counters behind them are zero here.
    [[nodiscard]] const SegmentHeader& header() const noexcept { return header_; }
    [[nodiscard]] bool other_boot() const noexcept { return other_boot_; }

    [[nodiscard]] std::uint32_t lane_count() const noexcept { return header_.lane_count; }
    [[nodiscard]] LaneView lane(std::uint32_t index) const noexcept;
    [[nodiscard]] DaemonSegment* daemon() const noexcept;

    // The complete part of the table log as of now. Its content is untrusted; its bounds are
    // checked.
    [[nodiscard]] std::string_view tables_untrusted() const noexcept;
    [[nodiscard]] std::uint64_t counter_untrusted(ProcessCounter counter) const noexcept;

    [[nodiscard]] bool truncated() const noexcept;
    // False once no lane's lock word is held and the owner's fcntl lock is gone, once nobody who
    // got the file from its owner has it mapped or open, or after a reboot.
    [[nodiscard]] bool owner_alive() const noexcept;

private:
    SegmentMap();

    std::string name_;
    UniqueFd fd_;
    FileIdentity identity_;
    uid_t owner_ = 0;
    std::uint64_t file_bytes_ = 0;
    bool other_boot_ = false;
    SegmentHeader header_{};
    std::unique_ptr<boost::interprocess::mapped_region> data_;
    std::unique_ptr<boost::interprocess::mapped_region>
        daemon_pages_;  // Null with SegmentAccess::inspect.
    FaultGuard data_guard_;
    FaultGuard daemon_guard_;
};

// Whether a copied header describes a file of `file_bytes` without contradiction: every part lies
// inside the file, aligned, and no two overlap. Returns what is wrong, or null.
[[nodiscard]] const char* geometry_fault(const SegmentHeader& header,
                                         std::uint64_t file_bytes) noexcept;

// Bytes of all slots of a lane with their controls, and where slot `index` (over all classes)
// begins.
[[nodiscard]] std::uint64_t slots_bytes(const SegmentHeader& header) noexcept;
struct SlotPlace {
    std::uint64_t offset = 0;        // Of the SlotControl, from the start of the lane.
    std::uint32_t record_bytes = 0;  // Room for the record behind it.
};
[[nodiscard]] std::uint32_t slot_total(const SegmentHeader& header) noexcept;
[[nodiscard]] SlotPlace slot_place(const SegmentHeader& header, std::uint32_t index) noexcept;
// What the open span in a slot has dropped, as the fields of an OTLP Span that end() would have
// put behind its body. Empty: nothing.
[[nodiscard]] std::string dropped_fields(const SlotControl& control_untrusted);

}  // namespace oteld::shm
