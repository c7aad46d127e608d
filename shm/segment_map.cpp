#include "shm/segment_map.hpp"

#include "oteld/detail/wire.hpp"
#include "shm/file_lock.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace oteld::shm {
namespace {

namespace ipc = boost::interprocess;

constexpr std::uint64_t header_written_once_bytes = 512;
constexpr std::uint64_t lane_slot_bytes_max = 512 << 10;

bool power_of_two(std::uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

struct Extent {
    std::uint64_t offset;
    std::uint64_t bytes;
    [[nodiscard]] bool inside(std::uint64_t whole) const {
        return offset <= whole && bytes <= whole - offset;
    }
    // Both are known to lie inside the file, so the sums do not overflow.
    [[nodiscard]] bool overlaps(const Extent& other) const {
        return offset < other.offset + other.bytes && other.offset < offset + bytes;
    }
};

const char* lane_fault(const SegmentHeader& header) {
    std::uint64_t slots = 0;
    for (std::uint32_t i = 0; i < slot_classes; ++i) {
        const std::uint64_t bytes = header.slot_bytes[i];
        if (header.slot_count[i] > lane_slots_max) return "too many slots";
        if (header.slot_count[i] != 0 &&
            (bytes % 8 != 0 || bytes < sizeof(SlotControl) + sizeof(detail::SpanRecord)))
            return "slots of an impossible size";
        slots += header.slot_count[i];
    }
    if (slots > lane_slots_max) return "too many slots";
    if (slots_bytes(header) > lane_slot_bytes_max) return "slots of an impossible size";
    if (header.data_bytes != 0 && (!power_of_two(header.data_bytes) || header.data_bytes < 4096 ||
                                   header.data_bytes > lane_data_bytes_max))
        return "lanes of an impossible size";
    const Extent data{header.data_offset, header.data_bytes};
    const Extent producer{header.producer_offset, sizeof(LaneProducer)};
    if (!data.inside(header.lane_stride) || !producer.inside(header.lane_stride))
        return "a lane that is larger than its stride";
    if (data.offset % 64 != 0 || producer.offset % 64 != 0 || header.lane_stride % 64 != 0)
        return "lanes that are not aligned";
    const Extent slot_area{0, slots_bytes(header)};
    if (!slot_area.inside(producer.offset) || data.overlaps(producer) ||
        (data.bytes != 0 && slot_area.overlaps(data)))
        return "parts of a lane that overlap";
    const std::uint64_t page = header.lane_stride - producer.offset;
    if (header.lock_offset % 4 != 0 || header.lock_offset > page - sizeof(std::uint32_t))
        return "a lock word outside its page";
    return nullptr;
}

Error open_error(const std::string& name, int error) {
    if (error == ENOENT) return {ErrorCode::not_found, name + " is gone."};
    if (error == ELOOP)
        return {ErrorCode::corrupt, name + " is a symbolic link; it is not followed."};
    if (error == EACCES || error == EPERM)
        return {ErrorCode::permission,
                "No permission to drain " + name +
                    ": its owner is another user. Give the ring directory a group of the "
                    "daemon and the setgid bit (mode 3777)."};
    if (error == EMFILE || error == ENFILE)
        return {ErrorCode::full, "Cannot open " + name +
                                     ": too many open files. Raise LimitNOFILE= (ulimit -n); its "
                                     "spans wait in the ring."};
    return {ErrorCode::io, "Cannot open " + name + ": " + std::strerror(error) + "."};
}

// Rings are what a daemon can have thousands of. The last descriptors are for what delivers their
// spans: connections, files.
bool leaves_descriptors(int fd) {
    constexpr rlim_t reserve_max = 64;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return true;
    return static_cast<rlim_t>(fd) < limit.rlim_cur - std::min(limit.rlim_cur / 3, reserve_max);
}

std::uint64_t address_space_used() {
    const UniqueFd fd(::open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
    char text[64] = {};
    if (!fd || ::read(fd.get(), text, sizeof text - 1) <= 0) return 0;
    return std::strtoull(text, nullptr, 10) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// The same for RLIMIT_AS, which nobody has by default: threads, batches and the spool need some.
bool leaves_address_space(std::uint64_t bytes) {
    constexpr rlim_t reserve_max = 128 << 20;
    rlimit limit{};
    if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return true;
    const rlim_t room = limit.rlim_cur - std::min(limit.rlim_cur / 3, reserve_max);
    return address_space_used() + bytes <= room;
}

Error no_address_space(const std::string& name) {
    return {ErrorCode::full, "Cannot map " + name +
                                 ": the daemon's address space is used up. Raise LimitAS= (ulimit "
                                 "-v); its spans wait in the ring."};
}

std::uint64_t hash_bytes(const void* data, std::size_t bytes) {
    std::uint64_t hash = 0xCBF29CE484222325ULL;  // FNV-1a
    for (std::size_t i = 0; i < bytes; ++i)
        hash = (hash ^ static_cast<const std::uint8_t*>(data)[i]) * 0x100000001B3ULL;
    return hash;
}

}  // namespace

std::uint64_t slots_bytes(const SegmentHeader& header) noexcept {
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i < slot_classes; ++i)
        bytes += std::uint64_t{header.slot_count[i]} * header.slot_bytes[i];
    return bytes;
}

std::uint32_t slot_total(const SegmentHeader& header) noexcept {
    return header.slot_count[0] + header.slot_count[1] + header.slot_count[2];
}

SlotPlace slot_place(const SegmentHeader& header, std::uint32_t index) noexcept {
    std::uint64_t offset = 0;
    for (std::uint32_t i = 0; i < slot_classes; ++i) {
        const std::uint64_t stride = header.slot_bytes[i];
        if (index < header.slot_count[i])
            return {offset + index * stride,
                    header.slot_bytes[i] - std::uint32_t{sizeof(SlotControl)}};
        index -= header.slot_count[i];
        offset += header.slot_count[i] * stride;
    }
    return {};
}

std::string dropped_fields(const SlotControl& control_untrusted) {
    namespace wire = detail::wire;
    constexpr std::uint32_t fields[] = {10, 12, 14};
    std::uint8_t bytes[std::size(fields) * (1 + wire::varint_bytes_max)];
    std::uint8_t* at = bytes;
    for (std::size_t i = 0; i < std::size(fields); ++i) {
        const std::uint32_t count =
            __atomic_load_n(&control_untrusted.dropped[i], __ATOMIC_RELAXED);
        if (count != 0)
            at = wire::put_varint(wire::put_tag(at, fields[i], wire::varint_type), count);
    }
    return {reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(at - bytes)};
}

const char* geometry_fault(const SegmentHeader& header, std::uint64_t file_bytes) noexcept {
    if (header.file_bytes != file_bytes) return "a size that is not its file's";
    if (file_bytes > segment_bytes_max) return "an impossible size";
    if (header.header_bytes < sizeof(SegmentHeader) || header.header_bytes > file_bytes)
        return "a header of an impossible size";
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    if (!power_of_two(header.page_bytes) || header.page_bytes % page != 0)
        return "a page size that is not this machine's";
    if (header.lane_count == 0 || header.lane_count > lanes_max)
        return "an impossible number of lanes";
    if (header.lane_stride > segment_bytes_max) return "an impossible lane stride";
    if (header.clock_kind != static_cast<std::uint32_t>(ClockKind::tsc) &&
        header.clock_kind != static_cast<std::uint32_t>(ClockKind::monotonic))
        return "an unknown clock";

    const Extent parts[] = {{0, header.header_bytes},
                            {header.tables_offset, header.tables_bytes},
                            {header.daemon_offset, header.daemon_bytes},
                            {header.lanes_offset, header.lane_stride * header.lane_count}};
    for (const Extent& part : parts)
        if (!part.inside(file_bytes)) return "parts that lie outside the file";
    for (std::size_t i = 0; i < std::size(parts); ++i)
        for (std::size_t j = i + 1; j < std::size(parts); ++j)
            if (parts[i].overlaps(parts[j])) return "parts that overlap";
    if (header.tables_offset % 8 != 0 || header.lanes_offset % 64 != 0)
        return "parts that are not aligned";
    if (header.daemon_offset % header.page_bytes != 0 ||
        header.daemon_bytes % header.page_bytes != 0)
        return "daemon pages that are not aligned";
    if (header.daemon_bytes < sizeof(DaemonSegment) + sizeof(DaemonLane) * header.lane_count)
        return "too few daemon pages";
    return lane_fault(header);
}

BootId current_boot_id() {
    BootId id{};
    const UniqueFd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
    char text[64] = {};
    if (!fd || ::read(fd.get(), text, sizeof text - 1) <= 0) return id;
    std::size_t digits = 0;
    for (const char* at = text; *at != '\0' && digits < 32; ++at) {
        const int value = *at >= '0' && *at <= '9'   ? *at - '0'
                          : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10
                                                     : -1;
        if (value < 0) continue;
        id[digits / 2] = static_cast<std::uint8_t>(id[digits / 2] << 4 | value);
        ++digits;
    }
    return id;
}

SegmentMap::SegmentMap() = default;
SegmentMap::~SegmentMap() = default;

Result<std::unique_ptr<SegmentMap>> SegmentMap::open(int directory_fd, const std::string& name,
                                                     SegmentAccess access) {
    std::unique_ptr<SegmentMap> map(new SegmentMap);
    map->name_ = name;
    const int mode = access == SegmentAccess::drain ? O_RDWR : O_RDONLY;
    map->fd_ =
        UniqueFd(::openat(directory_fd, name.c_str(), mode | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!map->fd_) return open_error(name, errno);
    if (access == SegmentAccess::drain && !leaves_descriptors(map->fd_.get()))
        return open_error(name, EMFILE);
    struct stat info {};
    if (::fstat(map->fd_.get(), &info) != 0) return open_error(name, errno);
    if (!S_ISREG(info.st_mode)) return Error{ErrorCode::corrupt, name + " is not a regular file."};
    map->owner_ = info.st_uid;
    map->file_bytes_ = static_cast<std::uint64_t>(info.st_size);

    // By pread: until the size is known to fit, a mapping of this file proves nothing.
    SegmentHeader& header = map->header_;
    if (::pread(map->fd_.get(), &header, sizeof header, 0) != static_cast<ssize_t>(sizeof header) ||
        header.magic != segment_magic)
        return Error{ErrorCode::corrupt, name + " is not a ring file."};
    if (header.major != layout_major)
        return Error{ErrorCode::unsupported,
                     name + " has ring layout " + std::to_string(header.major) + "." +
                         std::to_string(header.minor) + "; this oteld reads layout " +
                         std::to_string(layout_major) +
                         ". Install the oteld that belongs to the application."};
    if (const char* fault = geometry_fault(header, map->file_bytes_); fault != nullptr)
        return Error{ErrorCode::corrupt, name + " has " + fault + "; it is not drained."};
    std::memset(reinterpret_cast<std::uint8_t*>(&header) + header_written_once_bytes, 0,
                sizeof header - header_written_once_bytes);
    map->identity_ = {static_cast<std::uint64_t>(info.st_dev),
                      static_cast<std::uint64_t>(info.st_ino),
                      hash_bytes(&header, header_written_once_bytes)};
    if (access == SegmentAccess::drain &&
        !leaves_address_space(map->file_bytes_ + header.daemon_bytes))
        return no_address_space(name);
    // All zero on either side: /proc was out of reach there. That says nothing about the boot.
    const BootId boot = current_boot_id();
    BootId theirs{};
    std::memcpy(theirs.data(), header.boot_id, theirs.size());
    map->other_boot_ = boot != BootId{} && theirs != BootId{} && theirs != boot;

    try {
        const std::string path = "/proc/self/fd/" + std::to_string(map->fd_.get());
        const bool drain = access == SegmentAccess::drain;
        const ipc::file_mapping file(path.c_str(), drain ? ipc::read_write : ipc::read_only);
        map->data_ =
            std::make_unique<ipc::mapped_region>(file, ipc::read_only, 0, map->file_bytes_);
        if (drain)
            map->daemon_pages_ = std::make_unique<ipc::mapped_region>(
                file, ipc::read_write, static_cast<ipc::offset_t>(header.daemon_offset),
                header.daemon_bytes);
    } catch (const ipc::interprocess_exception& error) {
        if (error.get_native_error() == ENOMEM) return no_address_space(name);
        return Error{ErrorCode::io, "Cannot map " + name + ": " + error.what() + "."};
    }
    map->data_guard_ = FaultGuard(map->data_->get_address(), map->data_->get_size());
    if (map->daemon_pages_)
        map->daemon_guard_ =
            FaultGuard(map->daemon_pages_->get_address(), map->daemon_pages_->get_size());
    if (!map->data_guard_.watching() || (map->daemon_pages_ && !map->daemon_guard_.watching()))
        return Error{ErrorCode::full, "Too many ring files are mapped to take " + name + "."};
    return map;
}

LaneView SegmentMap::lane(std::uint32_t index) const noexcept {
    const auto* begin = static_cast<const std::uint8_t*>(data_->get_address()) +
                        header_.lanes_offset + header_.lane_stride * index;
    LaneView view;
    view.slots = begin;
    view.data = header_.data_bytes == 0 ? nullptr : begin + header_.data_offset;
    view.data_bytes = header_.data_bytes;
    view.producer = reinterpret_cast<const LaneProducer*>(begin + header_.producer_offset);
    view.lock_word = reinterpret_cast<const std::uint32_t*>(begin + header_.producer_offset +
                                                            header_.lock_offset);
    view.daemon = reinterpret_cast<DaemonLane*>(reinterpret_cast<std::uint8_t*>(daemon()) +
                                                sizeof(DaemonSegment) + sizeof(DaemonLane) * index);
    return view;
}

DaemonSegment* SegmentMap::daemon() const noexcept {
    if (daemon_pages_) return static_cast<DaemonSegment*>(daemon_pages_->get_address());
    auto* begin = static_cast<std::uint8_t*>(data_->get_address());
    return reinterpret_cast<DaemonSegment*>(begin + header_.daemon_offset);
}

std::string_view SegmentMap::tables_untrusted() const noexcept {
    const auto* begin = static_cast<const std::uint8_t*>(data_->get_address());
    const auto* header = reinterpret_cast<const SegmentHeader*>(begin);
    // Pairs with the client's release when an entry is complete.
    const std::uint64_t end_untrusted = __atomic_load_n(&header->tables_end, __ATOMIC_ACQUIRE);
    const std::uint64_t bytes =
        end_untrusted < header_.tables_bytes ? end_untrusted : header_.tables_bytes;
    return {reinterpret_cast<const char*>(begin) + header_.tables_offset, bytes};
}

std::uint64_t SegmentMap::counter_untrusted(ProcessCounter counter) const noexcept {
    const auto* header = static_cast<const SegmentHeader*>(data_->get_address());
    return __atomic_load_n(&header->counters[static_cast<std::uint32_t>(counter)],
                           __ATOMIC_ACQUIRE);
}

bool SegmentMap::truncated() const noexcept {
    return data_guard_.truncated() || daemon_guard_.truncated();
}

bool SegmentMap::owner_alive() const noexcept {
    if (other_boot_) return false;
    if (header_.mapping_lock != 0 && lock_is_free(fd_.get(), F_OFD_GETLK, mapping_lock_at))
        return false;
    for (std::uint32_t i = 0; i < header_.lane_count; ++i) {
        // Acquire pairs with the kernel's store at death: what the thread wrote before is visible
        // then.
        const std::uint32_t word = __atomic_load_n(lane(i).lock_word, __ATOMIC_ACQUIRE);
        if ((word & lock_tid_mask) != 0) return true;
    }
    return !lock_is_free(fd_.get(), F_GETLK, owner_lock_at);
}

}  // namespace oteld::shm
