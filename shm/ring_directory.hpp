// Where rings, spool, control page and status page lie, and who may serve that place.
//
// Used by: `oteld run` (DirectoryUse::daemon) and the verbs that only look (DirectoryUse::inspect).
// Threads: any; nothing here is shared.
// $OTELD_DIR, else /run/oteld, else /dev/shm/oteld-<uid>. Only a daemon creates a directory, and
// only its own. Never follows a symlink to a daemon's file, never trusts a file that a third user
// put there.
#pragma once

#include "config/result.hpp"
#include "shm/unique_fd.hpp"

#include <sys/types.h>

#include <optional>
#include <string>

namespace oteld::shm {

enum class DirectoryUse { daemon, inspect };

struct DirectoryHandle {
    std::string path;
    UniqueFd fd;
    uid_t owner = 0;
    mode_t mode = 0;      // Permission bits, sticky and setgid included.
    bool tmpfs = true;    // false works, with a warning: files then outlive a reboot.
    std::string warning;  // What a person should know about this directory; may be empty.
};

// `configured` beats the search when it is not empty (receivers.shm.directory).
[[nodiscard]] Result<DirectoryHandle> open_ring_directory(const std::string& configured,
                                                          DirectoryUse use);

// What open_ring_directory would open. inspect prefers /run/oteld when it exists, because that is
// where the system's daemon is; a daemon takes it only when it may manage the files of others in
// it.
[[nodiscard]] std::string ring_directory_path(const std::string& configured, DirectoryUse use);

// Whether a file of this owner may be taken for a daemon's: ours, the directory owner's or root's.
[[nodiscard]] bool trusted_owner(const DirectoryHandle& directory, uid_t owner) noexcept;

// Opens a file of the daemon's own (`control`, `spool`, `lock`, `status`) for reading and writing,
// creating it empty when it is missing. A file of a third user is removed when we may, otherwise
// refused and named.
struct DaemonFile {
    UniqueFd fd;
    bool created = false;
};
[[nodiscard]] Result<DaemonFile> open_daemon_file(const DirectoryHandle& directory,
                                                  const char* name, mode_t mode);

// One daemon per directory: an open-file-description lock on `lock`, held as long as the returned
// descriptor.
[[nodiscard]] Result<UniqueFd> lock_directory(const DirectoryHandle& directory);

// Whether some daemon holds the lock, and the pid that it wrote down (in its own pid namespace).
struct LockHolder {
    pid_t pid = 0;  // 0: unknown.
};
[[nodiscard]] std::optional<LockHolder> directory_lock_holder(const DirectoryHandle& directory);

}  // namespace oteld::shm
