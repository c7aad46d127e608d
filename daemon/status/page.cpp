#include "daemon/status/page.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

#include "shm/layout.hpp"
#include "shm/segment_map.hpp"
#include "shm/unique_fd.hpp"

namespace oteld::status {
namespace {

constexpr int read_attempts_max = 200;  // A reader retries when it meets a half-written page.
constexpr std::uint64_t reserved_bytes =
    32 << 10;  // Per half, so that a full file system leaves the page alive.

std::uint64_t checksum(const void* data, std::size_t bytes) noexcept {  // FNV-1a
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (std::size_t i = 0; i < bytes; ++i) {
        hash = (hash ^ static_cast<const std::uint8_t*>(data)[i]) * 0x100000001b3ULL;
    }
    return hash;
}

std::int64_t now_ns(clockid_t clock) noexcept {
    timespec now{};
    clock_gettime(clock, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

bool write_all(int fd, const void* data, std::size_t bytes, std::uint64_t offset) noexcept {
    const auto* at = static_cast<const char*>(data);
    while (bytes != 0) {
        const ssize_t written = pwrite(fd, at, bytes, static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        at += written;
        bytes -= static_cast<std::size_t>(written);
        offset += static_cast<std::uint64_t>(written);
    }
    return true;
}

bool read_all(int fd, void* data, std::size_t bytes, std::uint64_t offset) noexcept {
    auto* at = static_cast<char*>(data);
    while (bytes != 0) {
        const ssize_t got = pread(fd, at, bytes, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        bytes -= static_cast<std::size_t>(got);
        offset += static_cast<std::uint64_t>(got);
    }
    return true;
}

Error failed(ErrorCode code, const std::string& path, const char* what) {
    return {code, path + ": " + what + " (" + std::strerror(errno) + ")"};
}

std::string random_name() {
    std::uint64_t word = 0;
    if (getrandom(&word, sizeof word, GRND_NONBLOCK) != sizeof word) {
        word = static_cast<std::uint64_t>(now_ns(CLOCK_MONOTONIC)) ^
               static_cast<std::uint64_t>(getpid());
    }
    char name[32];
    std::snprintf(name, sizeof name, "status.%016llx", static_cast<unsigned long long>(word));
    return name;
}

}  // namespace

StatusPage::StatusPage(std::string directory, std::string temporary_name, shm::UniqueFd fd)
    : directory_(std::move(directory)),
      temporary_name_(std::move(temporary_name)),
      fd_(std::move(fd)) {
    header_.magic = page_magic;
    header_.major = page_major;
    header_.pid = static_cast<std::uint32_t>(getpid());
    header_.half_bytes = page_half_bytes;
    const shm::BootId boot_id = shm::current_boot_id();
    std::memcpy(header_.boot_id, boot_id.data(), boot_id.size());
}

StatusPage::StatusPage(StatusPage&& other) noexcept
    : directory_(std::move(other.directory_)),
      temporary_name_(std::exchange(other.temporary_name_, {})),
      fd_(std::move(other.fd_)),
      header_(other.header_) {}

StatusPage& StatusPage::operator=(StatusPage&& other) noexcept {
    std::swap(directory_, other.directory_);
    std::swap(temporary_name_, other.temporary_name_);
    std::swap(fd_, other.fd_);
    std::swap(header_, other.header_);
    return *this;
}

StatusPage::~StatusPage() {
    if (!temporary_name_.empty()) unlink((directory_ + "/" + temporary_name_).c_str());
}

Result<StatusPage> StatusPage::create(const std::string& directory) {
    std::string name = random_name();
    const std::string path = directory + "/" + name;
    shm::UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return failed(ErrorCode::io, path, "cannot create the status page");
    StatusPage page(directory, std::move(name), std::move(fd));
    // Allocated up front: with a full file system the heartbeat and a document of the usual size
    // still go in.
    for (const std::uint64_t offset :
         {std::uint64_t{0}, page_halves_offset, page_halves_offset + page_half_bytes}) {
        const auto bytes = static_cast<off_t>(offset == 0 ? page_halves_offset : reserved_bytes);
        errno = posix_fallocate(page.fd_.get(), static_cast<off_t>(offset), bytes);
        if (errno != 0) return failed(ErrorCode::full, path, "no room for the status page");
    }
    if (fchmod(page.fd_.get(), 0644) != 0)
        return failed(ErrorCode::io, path, "cannot make the status page readable");
    return page;
}

Result<void> StatusPage::write_header() {
    header_.heartbeat_ns = now_ns(CLOCK_REALTIME);
    header_.heartbeat_monotonic_ns = now_ns(CLOCK_MONOTONIC);
    header_.heartbeats += 1;
    header_.header_checksum = checksum(&header_, offsetof(PageHeader, header_checksum));
    if (!write_all(fd_.get(), &header_, sizeof header_, 0)) {
        return failed(ErrorCode::io, directory_ + "/" + shm::status_name,
                      "cannot write the heartbeat");
    }
    return {};
}

Result<void> StatusPage::beat() { return write_header(); }

Result<void> StatusPage::publish(std::string_view document) {
    const std::string path = directory_ + "/" + shm::status_name;
    const std::uint64_t half = 1 - header_.active;
    errno = EFBIG;
    if (document.size() > page_half_bytes ||
        !write_all(fd_.get(), document.data(), document.size(),
                   page_halves_offset + half * page_half_bytes)) {
        const Error error = failed(ErrorCode::full, path, "cannot write the status page");
        header_.documents_unwritten += 1;
        static_cast<void>(beat());
        return error;
    }
    header_.active = half;
    header_.document_bytes = document.size();
    header_.document_checksum = checksum(document.data(), document.size());
    header_.document_ns = now_ns(CLOCK_REALTIME);
    header_.documents_unwritten = 0;
    if (auto written = beat(); !written) return written;
    if (temporary_name_.empty()) return {};
    if (rename((directory_ + "/" + temporary_name_).c_str(), path.c_str()) != 0) {
        return failed(ErrorCode::io, path,
                      "cannot put the status page in its place; remove what is there");
    }
    temporary_name_.clear();
    return {};
}

namespace {

// In a sticky directory anybody may create a file of this name: only the directory's owner, root
// and the reader himself are believed.
Result<void> check_owner(int fd, const std::string& directory, const std::string& path) {
    struct stat file {};
    struct stat folder {};
    if (fstat(fd, &file) != 0 || stat(directory.c_str(), &folder) != 0) {
        return failed(ErrorCode::io, path, "cannot look at the status page");
    }
    if (!S_ISREG(file.st_mode))
        return Error{ErrorCode::corrupt, path + ": is not a regular file; remove it"};
    if (file.st_uid != folder.st_uid && file.st_uid != 0 && file.st_uid != geteuid()) {
        return Error{ErrorCode::permission,
                     path + ": belongs to uid " + std::to_string(file.st_uid) +
                         ", who does not own the directory; it is not the daemon's"};
    }
    return {};
}

enum class Read { whole, torn, wrong, future };

Read read_once(int fd, PageHeader& header, std::string& document) {
    if (!read_all(fd, &header, sizeof header, 0)) return Read::torn;
    if (header.magic != page_magic) return Read::wrong;
    if (header.major != page_major) return Read::future;
    if (header.header_checksum != checksum(&header, offsetof(PageHeader, header_checksum)))
        return Read::torn;
    if (header.active > 1 || header.half_bytes > page_half_bytes ||
        header.document_bytes > header.half_bytes) {
        return Read::wrong;
    }
    document.resize(header.document_bytes);
    const std::uint64_t offset = page_halves_offset + header.active * header.half_bytes;
    if (!read_all(fd, document.data(), document.size(), offset)) return Read::torn;
    return checksum(document.data(), document.size()) == header.document_checksum ? Read::whole
                                                                                  : Read::torn;
}

}  // namespace

std::int64_t heartbeat_age(std::int64_t by_wall_clock, std::int64_t by_monotonic,
                           bool other_boot) noexcept {
    if (other_boot) return std::max<std::int64_t>(by_wall_clock, 0);
    if (by_monotonic < 0) return std::max<std::int64_t>(by_wall_clock, 0);
    return by_wall_clock < 0 ? by_monotonic : std::min(by_wall_clock, by_monotonic);
}

namespace {

PageView make_view(const PageHeader& header, std::string document) {
    PageView view;
    view.document = std::move(document);
    view.pid = header.pid;
    view.heartbeat_ns = header.heartbeat_ns;
    view.document_ns = header.document_ns;
    view.documents_unwritten = header.documents_unwritten;
    const shm::BootId boot_id = shm::current_boot_id();
    view.other_boot = std::memcmp(boot_id.data(), header.boot_id, boot_id.size()) != 0;
    view.heartbeat_age_ns =
        heartbeat_age(now_ns(CLOCK_REALTIME) - header.heartbeat_ns,
                      now_ns(CLOCK_MONOTONIC) - header.heartbeat_monotonic_ns, view.other_boot);
    return view;
}

}  // namespace

Result<PageView> read_page(const std::string& directory) {
    const std::string path = directory + "/" + shm::status_name;
    const shm::UniqueFd file(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file) {
        const ErrorCode code = errno == ENOENT || errno == ENOTDIR ? ErrorCode::not_found
                               : errno == EACCES || errno == EPERM ? ErrorCode::permission
                                                                   : ErrorCode::io;
        return failed(code, path, "cannot open the status page");
    }
    if (auto owner = check_owner(file.get(), directory, path); !owner) return owner.error();
    PageHeader header{};
    std::string document;
    for (int attempt = 0; attempt < read_attempts_max; ++attempt) {
        switch (read_once(file.get(), header, document)) {
            case Read::whole: return make_view(header, std::move(document));
            case Read::wrong:
                return Error{ErrorCode::corrupt, path + ": is not a status page of oteld"};
            case Read::future:
                return Error{ErrorCode::unsupported,
                             path + ": was written by another version of oteld (page layout " +
                                 std::to_string(header.major) + ", this one reads " +
                                 std::to_string(page_major) +
                                 "); use that version's `oteld status`"};
            case Read::torn:
                break;  // The daemon was writing just now; or died in the middle, which lasts.
        }
        const timespec pause{0, 1'000'000};
        nanosleep(&pause, nullptr);
    }
    return Error{
        ErrorCode::corrupt,
        path + ": is damaged (its checksum does not match); restart oteld to have it rewritten"};
}

}  // namespace oteld::status
