#include "exporters/stream_writer.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace oteld::exporters {

namespace {

constexpr int poll_ms = 50;  // How long a cancel may go unseen.
// A pipe that is ready takes this much without blocking; a larger write would hold the thread past
// a cancel.
constexpr std::size_t piece_bytes = 4096;

}  // namespace

int StreamWriter::write(std::string_view text, const std::atomic<bool>& cancelled) {
    if (!kept_.empty()) {
        std::string_view kept = kept_;
        const int error = write_some(kept, cancelled);
        kept_.erase(0, kept_.size() - kept.size());
        if (error != 0) return error;
    }
    std::string_view rest = text;
    const int error = write_some(rest, cancelled);
    if (error != 0 && rest.size() < text.size()) kept_ = rest;
    return error;
}

int StreamWriter::write_some(std::string_view& text, const std::atomic<bool>& cancelled) const {
    int waited_ms = 0;
    while (!text.empty()) {
        if (cancelled.load(std::memory_order_relaxed)) return ECANCELED;
        pollfd ready{fd_, POLLOUT, 0};
        const int events = ::poll(&ready, 1, poll_ms);
        if (events < 0 && errno != EINTR) return errno;
        if (events <= 0) {
            waited_ms += poll_ms;
            if (waited_ms >= patience_ms_) return ETIMEDOUT;
            continue;
        }
        waited_ms = 0;
        const ssize_t written = ::write(fd_, text.data(), std::min(text.size(), piece_bytes));
        if (written >= 0) {
            text.remove_prefix(static_cast<std::size_t>(written));
        } else if (errno != EINTR && errno != EAGAIN) {
            return errno;
        }
    }
    return 0;
}

std::string write_error_text(const std::string& what, int error) {
    switch (error) {
        case ENOSPC: return "The disk of " + what + " is full: free some space; the spans wait.";
        case EDQUOT:
            return "The disk quota for " + what + " is used up: free some space; the spans wait.";
        case EFBIG:
            return what +
                   " reached the file-size limit of the daemon: raise LimitFSIZE= (ulimit -f), or "
                   "set "
                   "rotation.max_megabytes.";
        case EACCES:
        case EPERM:
            return what +
                   " cannot be written: permission denied. Give the daemon's user write access to "
                   "it and to "
                   "its directory (systemd: ReadWritePaths=).";
        case EROFS:
            return what +
                   " is on a read-only file system: mount it writable or choose another path "
                   "(systemd: ReadWritePaths=); the spans wait.";
        case ENOENT:
        case ENOTDIR: return "The directory of " + what + " does not exist: create it.";
        case EISDIR: return what + " is a directory: name a file.";
        case EPIPE: return "Nobody reads " + what + " any more: start its reader again.";
        case ETIMEDOUT:
            return "Whoever reads " + what +
                   " has taken nothing for a while: let it read on; the spans wait.";
        case EMFILE:
        case ENFILE:
            return what + " cannot be opened: too many open files. Raise LimitNOFILE= (ulimit -n).";
        case ELOOP: return what + " is a symbolic link that leads nowhere: name the file itself.";
        case ECANCELED: return "Cancelled while writing to " + what + ".";
        default: return what + " cannot be written: " + std::strerror(error) + ".";
    }
}

}  // namespace oteld::exporters
