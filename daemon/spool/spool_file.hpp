// The spool's file and mapping: blocks get memory before they are used and give it back when the
// daemon idles.
//
// Used by: spool.cpp. Threads: drain thread only.
// A block is allocated (fallocate) before its first byte is written: on a full tmpfs that is an
// error here and not a SIGBUS later. Never truncates while it is mapped.
#pragma once

#include "config/result.hpp"
#include "daemon/spool/layout.hpp"
#include "shm/ring_directory.hpp"

#include <memory>
#include <string>
#include <vector>

namespace oteld::daemon {

class SpoolFile {
public:
    // Maps `spool`, creating or growing it to `blocks`. A file that is no spool of this layout is
    // set aside as `spool.damaged` and named in note().
    [[nodiscard]] static Result<std::unique_ptr<SpoolFile>> open(
        const shm::DirectoryHandle& directory, std::uint32_t blocks);
    ~SpoolFile();
    SpoolFile(const SpoolFile&) = delete;
    SpoolFile& operator=(const SpoolFile&) = delete;

    [[nodiscard]] SpoolHeader& header() const noexcept {
        return *reinterpret_cast<SpoolHeader*>(memory_);
    }
    [[nodiscard]] std::uint32_t blocks() const noexcept { return blocks_; }
    [[nodiscard]] std::uint8_t* block(std::uint32_t index) const noexcept {
        return memory_ + spool_header_bytes + index * block_bytes;
    }
    // False: the file system is full.
    [[nodiscard]] bool allocate(std::uint32_t block) noexcept;
    // Gives the block's memory back.
    void punch(std::uint32_t block) noexcept;
    [[nodiscard]] const std::string& note() const noexcept { return note_; }

private:
    SpoolFile() = default;
    [[nodiscard]] bool sound() const noexcept;

    shm::UniqueFd fd_;
    std::uint8_t* memory_ = nullptr;
    std::uint64_t bytes_ = 0;
    std::uint32_t blocks_ = 0;
    // What an earlier daemon left in a block is not known: it may be whole, a hole or neither.
    enum class Memory : std::uint8_t { unknown, allocated, none };
    std::vector<Memory> memory_of_;
    std::string note_;
};

}  // namespace oteld::daemon
