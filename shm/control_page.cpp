#include "shm/control_page.hpp"

#include "shm/segment_map.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

namespace oteld::shm {
namespace {

constexpr char temporary_name[] = "control.new";

Error io_error(const DirectoryHandle& directory, const char* what) {
    const bool full = errno == ENOSPC;
    std::string message = std::string("Cannot ") + what + " " + directory.path + "/" +
                          control_name + ": " + std::strerror(errno) + ".";
    if (full) message += " Make room in " + directory.path + " or give it more memory.";
    return {full ? ErrorCode::full : ErrorCode::io, std::move(message)};
}

bool is_current(int fd) {
    struct stat info {};
    ControlPage page;
    return ::fstat(fd, &info) == 0 &&
           static_cast<std::uint64_t>(info.st_size) == control_file_bytes &&
           ::pread(fd, &page, sizeof page, 0) == static_cast<ssize_t>(sizeof page) &&
           page.magic == control_magic && page.major == layout_major && page.active <= 1;
}

// Written whole under another name, so that no client ever sees half of it.
Result<UniqueFd> create(const DirectoryHandle& directory) {
    (void)::unlinkat(directory.fd.get(), temporary_name, 0);
    UniqueFd fd(::openat(directory.fd.get(), temporary_name,
                         O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!fd) return io_error(directory, "create");
    const auto page = std::make_unique<ControlPage>();
    page->magic = control_magic;
    page->major = layout_major;
    page->minor = layout_minor;
    page->header_bytes = sizeof(ControlPage);
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    page->generation = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                       static_cast<std::uint64_t>(now.tv_nsec);
    page->content[0].enabled = 1;
    page->content[1].enabled = 1;
    if (::pwrite(fd.get(), page.get(), sizeof *page, 0) != static_cast<ssize_t>(sizeof *page) ||
        ::fchmod(fd.get(), 0644) != 0 ||
        ::renameat(directory.fd.get(), temporary_name, directory.fd.get(), control_name) != 0) {
        const Error error = io_error(directory, "write");
        (void)::unlinkat(directory.fd.get(), temporary_name, 0);
        return error;
    }
    return fd;
}

long futex(std::uint32_t* word, int operation, std::uint32_t value, const timespec* timeout) {
    return ::syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
}

}  // namespace

Result<std::unique_ptr<ControlPageFile>> ControlPageFile::open(const DirectoryHandle& directory) {
    UniqueFd fd(
        ::openat(directory.fd.get(), control_name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat info {};
    const bool usable = fd && ::fstat(fd.get(), &info) == 0 && S_ISREG(info.st_mode) &&
                        trusted_owner(directory, info.st_uid) && is_current(fd.get());
    if (!usable) {
        auto created = create(directory);
        if (!created) return created.error();
        fd = std::move(*created);
    }
    void* memory =
        ::mmap(nullptr, sizeof(ControlPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (memory == MAP_FAILED) return io_error(directory, "map");
    auto* page = static_cast<ControlPage*>(memory);
    std::unique_ptr<ControlPageFile> file(new ControlPageFile(page));
    const BootId boot = current_boot_id();
    if (std::memcmp(page->boot_id, boot.data(), boot.size()) == 0)
        file->earlier_anchor_ = {page->anchor_ticks, page->anchor_monotonic_ns,
                                 page->anchor_realtime_ns};
    std::memcpy(page->boot_id, boot.data(), boot.size());
    __atomic_store_n(&page->daemon_pid, static_cast<std::uint32_t>(::getpid()), __ATOMIC_RELAXED);
    __atomic_store_n(&page->sleeping, 0, __ATOMIC_RELAXED);
    return file;
}

ControlPageFile::~ControlPageFile() {
    // Nobody sleeps any more: a bell would be a system call for nothing.
    __atomic_store_n(&page_->sleeping, 0, __ATOMIC_RELAXED);
    ::munmap(page_, sizeof *page_);
}

void ControlPageFile::publish_recording(bool on) noexcept {
    const std::uint32_t active = __atomic_load_n(&page_->active, __ATOMIC_RELAXED) & 1U;
    const std::uint32_t next = active ^ 1U;
    ControlContent content = page_->content[active];
    content.enabled = on ? 1 : 0;
    std::memcpy(&page_->content[next], &content, sizeof content);
    // Release: pairs with the client's acquire.
    __atomic_store_n(&page_->active, next, __ATOMIC_RELEASE);
}

void ControlPageFile::publish_anchor(const ControlAnchor& anchor) noexcept {
    // For people and for the next daemon: no reader needs the three to belong together to the
    // nanosecond.
    __atomic_store_n(&page_->anchor_ticks, anchor.ticks, __ATOMIC_RELAXED);
    __atomic_store_n(&page_->anchor_monotonic_ns, anchor.monotonic_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&page_->anchor_realtime_ns, anchor.realtime_ns, __ATOMIC_RELAXED);
}

void ControlPageFile::beat(std::uint64_t monotonic_ns) noexcept {
    __atomic_store_n(&page_->heartbeat_monotonic_ns, monotonic_ns, __ATOMIC_RELAXED);
}

std::uint32_t ControlPageFile::ticket() const noexcept {
    return __atomic_load_n(&page_->bell, __ATOMIC_ACQUIRE);  // Pairs with wake().
}

void ControlPageFile::sleep(std::uint32_t ticket, std::chrono::nanoseconds at_most) noexcept {
    timespec timeout{};
    timeout.tv_sec = static_cast<time_t>(at_most.count() / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(at_most.count() % 1'000'000'000);
    __atomic_store_n(&page_->sleeping, 1,
                     __ATOMIC_RELEASE);  // Pairs with the producer's look before a bell.
    (void)futex(&page_->bell, FUTEX_WAIT, ticket, &timeout);
    __atomic_store_n(&page_->sleeping, 0, __ATOMIC_RELEASE);
}

void ControlPageFile::wake() noexcept {
    __atomic_fetch_add(&page_->bell, 1, __ATOMIC_RELEASE);
    (void)futex(&page_->bell, FUTEX_WAKE, INT_MAX, nullptr);
}

}  // namespace oteld::shm
