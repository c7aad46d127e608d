// The locks of fcntl(2) on a ring file: layout.hpp says where they lie and what they mean.
//
// Used by: segment_create.cpp (takes them), segment_map.cpp (asks). Threads: any; no state. An open
// file description's lock (F_OFD_*) is one of kernel 3.15 or later.
#pragma once

#include <fcntl.h>

#include <cstdint>

namespace oteld::shm {

inline struct flock byte_lock(std::int64_t at) noexcept {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = at;
    lock.l_len = 1;
    return lock;
}

// `command`: F_SETLK or F_OFD_SETLK.
inline bool take_lock(int fd, int command, std::int64_t at) noexcept {
    struct flock lock = byte_lock(at);
    return ::fcntl(fd, command, &lock) == 0;
}

// Nobody else holds it; `command`: F_GETLK or F_OFD_GETLK. False also when that is not to be found
// out.
inline bool lock_is_free(int fd, int command, std::int64_t at) noexcept {
    struct flock lock = byte_lock(at);
    return ::fcntl(fd, command, &lock) == 0 && lock.l_type == F_UNLCK;
}

}  // namespace oteld::shm
