// The status page: the file `status` in the ring directory, written by the daemon, readable by
// every user.
//
// Used by: daemon.cpp (StatusPage, main thread), `oteld status` (read_page). Threads: each object
// on one thread. Never mapped: pwrite answers a full file system with ENOSPC where a mapping would
// answer with SIGBUS, and the last page of a daemon that died stays readable. Nobody has to answer
// for it to be read, so it works while the daemon hangs.
//
//   0       PageHeader, rewritten as one piece with its own checksum
//   4096    half 0: one JSON document (json.hpp)
//   4096+N  half 1: the next one; the header names the half that is whole
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "config/result.hpp"
#include "shm/unique_fd.hpp"

namespace oteld::status {

inline constexpr std::uint64_t page_magic = 0x315441'54534F44ULL;
inline constexpr std::uint16_t page_major = 1;  // Unknown major: `oteld status` cannot tell.
inline constexpr std::uint64_t page_halves_offset = 4096;
inline constexpr std::uint64_t page_half_bytes =
    4ULL << 20;  // Apart in the file; only what is written takes memory.
inline constexpr std::int64_t page_hangs_after_ns =
    5'000'000'000;  // The heartbeat comes each second.

struct PageHeader {
    std::uint64_t magic;
    std::uint16_t major;
    std::uint16_t minor;
    std::uint32_t pid;                    // of the daemon, as it sees itself
    std::uint8_t boot_id[16];             // 16
    std::uint64_t half_bytes;             // 32
    std::uint64_t active;                 // 40  0 or 1
    std::uint64_t document_bytes;         // 48  of the active half; 0: none yet
    std::uint64_t document_checksum;      // 56
    std::int64_t document_ns;             // 64  Unix time of the active document
    std::int64_t heartbeat_ns;            // 72  Unix time: for people
    std::int64_t heartbeat_monotonic_ns;  // 80  for its age
    std::uint64_t heartbeats;             // 88
    std::uint64_t documents_unwritten;    // 96  since the active one: the file system is full
    std::uint64_t reserved_0[2];
    std::uint64_t header_checksum;  // 120 of the bytes before it
};
static_assert(sizeof(PageHeader) == 128);

class StatusPage {
public:
    // Makes a new page; it takes the place of the previous daemon's with the first publish(), whose
    // last words stay readable until then.
    static Result<StatusPage> create(const std::string& directory);
    StatusPage(StatusPage&& other) noexcept;
    StatusPage& operator=(StatusPage&& other) noexcept;
    StatusPage(const StatusPage&) = delete;
    StatusPage& operator=(const StatusPage&) = delete;
    ~StatusPage();  // Leaves the file: its last document is the daemon's last words.

    // Publishes a document and beats. When it could not be written the previous one stays whole and
    // the page says that it is old.
    Result<void> publish(std::string_view document);
    // Only the heartbeat: for a second in which nothing changed.
    Result<void> beat();

private:
    StatusPage(std::string directory, std::string temporary_name, shm::UniqueFd fd);
    Result<void> write_header();

    std::string directory_;
    std::string temporary_name_;  // Empty once the file is called `status`.
    shm::UniqueFd fd_;
    PageHeader header_{};
};

struct PageView {
    std::string document;
    std::uint32_t pid = 0;
    std::int64_t heartbeat_ns = 0;  // Unix time
    std::int64_t heartbeat_age_ns = 0;
    std::int64_t document_ns = 0;
    std::uint64_t documents_unwritten = 0;
    bool other_boot = false;  // written before this machine was started
};

// How old a heartbeat is, by the two clocks that it carries. In another time namespace
// CLOCK_MONOTONIC is shifted, either way; the wall clock may have been set, either way, and goes on
// while the machine sleeps. Both would have to be wrong to make a living daemon look dead.
[[nodiscard]] std::int64_t heartbeat_age(std::int64_t by_wall_clock, std::int64_t by_monotonic,
                                         bool other_boot) noexcept;

// Fails with not_found (no page), permission, corrupt, or unsupported (a layout of the future).
// Whether its writer lives is for shm::directory_lock_holder to say.
Result<PageView> read_page(const std::string& directory);

}  // namespace oteld::status
