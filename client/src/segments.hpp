// The segments of a process: making one, the tables that it carries, and the daemon's control page.
//
// Used by: process.cpp, lanes.cpp, setup.cpp. Threads: under the process mutex, with signals
// blocked; liveness_word() any.
#pragma once

#include "process.hpp"

#include <unistd.h>

#include <cstdlib>

namespace oteld::sdk {

inline constexpr std::uint32_t lanes_per_segment_max = 256;
inline constexpr std::uint64_t lane_bytes_min = 16 << 10;   // That is asked for.
inline constexpr std::uint64_t lane_bytes_least = 8 << 10;  // Of thousands of threads.

class Directory {
public:
    Directory() noexcept : error(shm::open_ring_directory(facts, secure_getenv("OTELD_DIR"))) {}
    ~Directory() {
        if (facts.fd >= 0) close(facts.fd);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    shm::RingDirectory facts;
    shm::CreateError error;
};

// The tables name them from here on, in every segment; one that does not fit is counted.
void register_resource(Process& process, const Provider* provider);
void register_scope(Process& process, Scope& scope, const Provider* provider);

// A further segment, visible to the daemon, its lanes ready to be claimed. Null: a cap, a limit or
// a full file system, said once on standard error; or recording is off and `while_off` is not said.
// May throw std::bad_alloc.
SegmentEntry* add_segment(Process& process, shm::Geometry geometry, bool while_off = false);

// Bytes that all segments of the process may take now.
[[nodiscard]] std::uint64_t bytes_allowed(const Process& process) noexcept;

// The robust mutex by which the daemon sees the death of the lane's owner.
[[nodiscard]] pthread_mutex_t* liveness_word(const Lane& lane) noexcept;
void close_inherited(const Process& parent) noexcept;
void map_control(Process& process, const shm::RingDirectory& directory) noexcept;
// The kill switch, by the daemon's page or, where that is not known, by its word in our segment.
[[nodiscard]] bool recording_off(const Process& process) noexcept;
[[nodiscard]] bool same_generation(const Process& process) noexcept;

}  // namespace oteld::sdk
