#include "shm/ring_directory.hpp"

#include "shm/layout.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace oteld::shm {
namespace {

constexpr char system_directory[] = "/run/oteld";

std::string personal_directory() { return "/dev/shm/oteld-" + std::to_string(::geteuid()); }

std::string errno_text(int error) { return std::strerror(error); }

bool usable_system_directory(DirectoryUse use) {
    struct stat info {};
    if (::stat(system_directory, &info) != 0 || !S_ISDIR(info.st_mode)) return false;
    // Removing the files of others in a sticky directory takes its owner or root.
    return use == DirectoryUse::inspect || info.st_uid == ::geteuid() || ::geteuid() == 0;
}

bool is_personal(const std::string& path) { return path == personal_directory(); }

Error cannot_open(const std::string& path, int error, DirectoryUse use) {
    if (error == ENOENT && use == DirectoryUse::inspect)
        return {ErrorCode::not_found, "There is no ring directory " + path +
                                          ". Start `oteld run`, or name "
                                          "another directory with OTELD_DIR."};
    if (error == EACCES || error == EPERM)
        return {ErrorCode::permission,
                "No permission to use the ring directory " + path +
                    ". Run as its owner, or name another one with OTELD_DIR."};
    return {ErrorCode::io,
            "Cannot use the ring directory " + path + ": " + errno_text(error) + "."};
}

std::string directory_warning(const DirectoryHandle& directory) {
    if (!directory.tmpfs)
        return directory.path +
               " is not a tmpfs: spans are written to a disk, and rings outlive a reboot.";
    const bool shared = (directory.mode & (S_IWGRP | S_IWOTH)) != 0;
    if (shared && (directory.mode & S_ISVTX) == 0)
        return directory.path +
               " is writable by others and not sticky: any of them can remove rings. "
               "chmod +t it.";
    if (shared && (directory.mode & S_ISGID) == 0)
        return directory.path +
               " is shared but not setgid: only applications of this daemon's own user can be "
               "drained. chmod g+s it.";
    return {};
}

std::string directory_file(const DirectoryHandle& directory, const char* name) {
    return directory.path + "/" + name;
}

}  // namespace

bool trusted_owner(const DirectoryHandle& directory, uid_t owner) noexcept {
    return owner == ::geteuid() || owner == directory.owner || owner == 0;
}

std::string ring_directory_path(const std::string& configured, DirectoryUse use) {
    if (!configured.empty()) return configured;
    if (const char* named = ::secure_getenv("OTELD_DIR"); named != nullptr && *named != '\0')
        return named;
    if (usable_system_directory(use)) return system_directory;
    return personal_directory();
}

Result<DirectoryHandle> open_ring_directory(const std::string& configured, DirectoryUse use) {
    DirectoryHandle directory;
    directory.path = ring_directory_path(configured, use);
    if (use == DirectoryUse::daemon && ::mkdir(directory.path.c_str(), 0700) != 0 &&
        errno != EEXIST)
        return cannot_open(directory.path, errno, use);

    const int nofollow = is_personal(directory.path) ? O_NOFOLLOW : 0;
    directory.fd =
        UniqueFd(::open(directory.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | nofollow));
    if (!directory.fd) return cannot_open(directory.path, errno, use);

    struct stat info {};
    struct statfs file_system {};
    if (::fstat(directory.fd.get(), &info) != 0 || ::fstatfs(directory.fd.get(), &file_system) != 0)
        return cannot_open(directory.path, errno, use);
    directory.owner = info.st_uid;
    directory.mode = info.st_mode & 07777;
    directory.tmpfs = file_system.f_type == TMPFS_MAGIC;
    if (is_personal(directory.path) && (info.st_uid != ::geteuid() || directory.mode != 0700))
        return Error{ErrorCode::permission,
                     directory.path +
                         " must belong to this user with mode 0700, and does "
                         "not. Remove it, or name another directory with OTELD_DIR."};
    if (use == DirectoryUse::daemon &&
        ::faccessat(directory.fd.get(), ".", W_OK | X_OK, AT_EACCESS) != 0)
        return cannot_open(directory.path, errno, use);
    directory.warning = directory_warning(directory);
    return directory;
}

Result<DaemonFile> open_daemon_file(const DirectoryHandle& directory, const char* name,
                                    mode_t mode) {
    // Twice at most: a stranger's file may have to be removed first.
    for (int attempt = 0; attempt < 2; ++attempt) {
        // Without O_CREAT first: under fs.protected_regular even root may not pass it for another's
        // file.
        DaemonFile file;
        const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        file.fd = UniqueFd(::openat(directory.fd.get(), name, flags));
        if (!file.fd && errno == ENOENT) {
            file.fd = UniqueFd(::openat(directory.fd.get(), name, flags | O_CREAT | O_EXCL, mode));
            file.created = static_cast<bool>(file.fd);
            if (file.created)
                (void)::fchmod(file.fd.get(), mode);  // The umask of a service must not decide.
        }
        const int open_error = errno;
        struct stat info {};
        const bool looked = ::fstatat(directory.fd.get(), name, &info, AT_SYMLINK_NOFOLLOW) == 0;
        if (file.fd && ::fstat(file.fd.get(), &info) == 0 && S_ISREG(info.st_mode) &&
            trusted_owner(directory, info.st_uid))
            return file;
        const bool strange =
            looked && (!S_ISREG(info.st_mode) || !trusted_owner(directory, info.st_uid));
        if (!strange)
            return Error{ErrorCode::io, "Cannot open " + directory_file(directory, name) + ": " +
                                            errno_text(open_error) + "."};
        if (::unlinkat(directory.fd.get(), name, 0) != 0) break;
    }
    return Error{ErrorCode::permission,
                 directory_file(directory, name) +
                     " was put there by another user and is not used. Remove it."};
}

Result<UniqueFd> lock_directory(const DirectoryHandle& directory) {
    auto file = open_daemon_file(directory, lock_name, 0644);
    if (!file) return file.error();
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(file->fd.get(), F_OFD_SETLK, &lock) != 0) {
        const auto holder = directory_lock_holder(directory);
        const std::string pid =
            holder && holder->pid != 0 ? " (pid " + std::to_string(holder->pid) + ")" : "";
        return Error{ErrorCode::busy,
                     "Another oteld" + pid + " already serves " + directory.path +
                         ". Stop it, or give this one a directory of its own with OTELD_DIR."};
    }
    const std::string pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(file->fd.get(), 0) != 0 ||
        ::pwrite(file->fd.get(), pid.data(), pid.size(), 0) < 0) {
        // The pid is for people only; a full file system must not keep the daemon from draining it.
    }
    return std::move(file->fd);
}

std::optional<LockHolder> directory_lock_holder(const DirectoryHandle& directory) {
    const UniqueFd fd(
        ::openat(directory.fd.get(), lock_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd) return std::nullopt;
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (::fcntl(fd.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return std::nullopt;
    char text[16] = {};
    if (::pread(fd.get(), text, sizeof text - 1, 0) <= 0) return LockHolder{};
    return LockHolder{static_cast<pid_t>(std::strtol(text, nullptr, 10))};
}

}  // namespace oteld::shm
