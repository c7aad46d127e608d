#include "daemon/intake/directory_watch.hpp"

#include "shm/layout.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <cstddef>
#include <ctime>
#include <memory>
#include <string_view>

namespace oteld::daemon {
namespace {

constexpr time_t temporary_seconds_max = 60;
constexpr std::size_t temporary_looks_max = 1000;

bool is_ring(std::string_view name) { return name.ends_with(shm::ring_suffix); }

// A descriptor of its own: closedir() takes it along, and reading moves it.
std::unique_ptr<DIR, int (*)(DIR*)> open_listing(int directory) {
    const int fd = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* listing = fd < 0 ? nullptr : ::fdopendir(fd);
    if (listing == nullptr && fd >= 0) ::close(fd);
    return {listing, ::closedir};
}

}  // namespace

DirectoryWatch::DirectoryWatch(const shm::DirectoryHandle& directory)
    : directory_(directory), listing_(open_listing(directory.fd.get())) {
    watch();
}

void DirectoryWatch::watch() {
    inotify_ = shm::UniqueFd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    missing_ = inotify_ ? nullptr : "instance";
    const std::string path = "/proc/self/fd/" + std::to_string(directory_.fd.get());
    if (inotify_ &&
        ::inotify_add_watch(inotify_.get(), path.c_str(), IN_CREATE | IN_MOVED_TO) < 0) {
        inotify_ = shm::UniqueFd();
        missing_ = "watch";
    }
}

std::vector<RingName> DirectoryWatch::look(Time now, bool may_scan) {
    std::vector<RingName> found;
    alignas(inotify_event) char buffer[4096];
    while (inotify_) {
        const ssize_t bytes = ::read(inotify_.get(), buffer, sizeof buffer);
        if (bytes <= 0) break;
        for (ssize_t at = 0; at < bytes;) {
            const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
            at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
            if ((event->mask & (IN_Q_OVERFLOW | IN_IGNORED)) != 0) next_scan_ = now;
            if (event->len != 0 && is_ring(event->name)) found.push_back({event->name, 0});
        }
    }
    if (!may_scan || now < next_scan_) return found;
    if (!inotify_) watch();  // Before the scan, so that nothing falls between them.
    next_scan_ = now + (inotify_ ? scan_interval : scan_interval_alone);
    return names(shm::ring_suffix);
}

void DirectoryWatch::clean_up() {
    std::vector<RingName> temporary = names(shm::temporary_suffix);
    if (temporary.size() > temporary_looks_max) temporary.resize(temporary_looks_max);
    for (const auto& [name, inode] : temporary) {
        struct stat info {};
        if (::fstatat(directory_.fd.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (!S_ISREG(info.st_mode) || ::time(nullptr) - info.st_mtime < temporary_seconds_max)
            continue;
        (void)::unlinkat(directory_.fd.get(), name.c_str(), 0);
    }
}

std::vector<RingName> DirectoryWatch::names(const char* suffix) {
    std::vector<RingName> found;
    if (!listing_) listing_ = open_listing(directory_.fd.get());
    if (!listing_) return found;
    ::rewinddir(listing_.get());
    while (const dirent* entry = ::readdir(listing_.get()))
        if (std::string_view(entry->d_name).ends_with(suffix))
            found.push_back({entry->d_name, entry->d_ino});
    return found;
}

}  // namespace oteld::daemon
