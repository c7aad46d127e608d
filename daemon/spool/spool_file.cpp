#include "daemon/spool/spool_file.hpp"

#include "shm/layout.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace oteld::daemon {
namespace {

constexpr char damaged_name[] = "spool.damaged";

Error spool_error(const shm::DirectoryHandle& directory, const char* what, int error) {
    std::string message = std::string("Cannot ") + what + " " + directory.path + "/" +
                          shm::spool_name + ": " + std::strerror(error) + ".";
    if (error == ENOSPC)
        message +=
            " Make room in " + directory.path +
            ", or enlarge its file system to 4 MiB at least (mount -o remount,size=; docker: "
            "--shm-size).";
    if (error == EFBIG)
        message += " Raise LimitFSIZE= (ulimit -f), or lower receivers.shm.spool_size.";
    return {error == ENOSPC ? ErrorCode::full : ErrorCode::io, message};
}

}  // namespace

Result<std::unique_ptr<SpoolFile>> SpoolFile::open(const shm::DirectoryHandle& directory,
                                                   std::uint32_t blocks) {
    for (int attempt = 0;; ++attempt) {
        auto opened = shm::open_daemon_file(directory, shm::spool_name, 0600);
        if (!opened) return opened.error();
        std::unique_ptr<SpoolFile> file(new SpoolFile);
        file->fd_ = std::move(opened->fd);
        struct stat info {};
        if (::fstat(file->fd_.get(), &info) != 0) return spool_error(directory, "open", errno);
        const auto old_bytes = static_cast<std::uint64_t>(info.st_size);
        const bool fresh = old_bytes == 0;
        // A spool that was larger stays as large until its blocks are free: they may hold spans.
        const std::uint64_t old_blocks =
            old_bytes > spool_header_bytes ? (old_bytes - spool_header_bytes) / block_bytes : 0;
        file->blocks_ = std::max(
            blocks, static_cast<std::uint32_t>(std::min<std::uint64_t>(old_blocks, blocks_max)));
        file->bytes_ = spool_header_bytes + file->blocks_ * block_bytes;
        if (file->bytes_ > old_bytes &&
            ::ftruncate(file->fd_.get(), static_cast<off_t>(file->bytes_)) != 0)
            return spool_error(directory, "size", errno);
        if (const int error = ::posix_fallocate(file->fd_.get(), 0, sizeof(SpoolHeader));
            error != 0)
            return spool_error(directory, "allocate", error);
        void* memory =
            ::mmap(nullptr, file->bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd_.get(), 0);
        if (memory == MAP_FAILED) return spool_error(directory, "map", errno);
        file->memory_ = static_cast<std::uint8_t*>(memory);
        file->memory_of_.assign(file->blocks_, Memory::unknown);

        SpoolHeader& header = file->header();
        if (fresh || header.magic == 0) {
            header.major = spool_major;
            header.header_bytes = spool_header_bytes;
            // Release: a daemon that dies here leaves a file without a magic, which is begun anew.
            __atomic_store_n(&header.magic, spool_magic, __ATOMIC_RELEASE);
        }
        if (file->sound()) {
            header.blocks = file->blocks_;
            if (attempt != 0)
                file->note_ = directory.path + "/" + damaged_name +
                              " is a spool of another version or damaged; it was set aside.";
            return file;
        }
        if (attempt != 0 ||
            ::renameat(directory.fd.get(), shm::spool_name, directory.fd.get(), damaged_name) != 0)
            return spool_error(directory, "set aside", errno);
    }
}

SpoolFile::~SpoolFile() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

bool SpoolFile::sound() const noexcept {
    const SpoolHeader& header = *reinterpret_cast<const SpoolHeader*>(memory_);
    return header.magic == spool_magic && header.major == spool_major &&
           header.header_bytes == spool_header_bytes && header.blocks <= blocks_;
}

bool SpoolFile::allocate(std::uint32_t block) noexcept {
    if (memory_of_[block] == Memory::allocated) return true;
    const auto offset = static_cast<off_t>(spool_header_bytes + block * block_bytes);
    if (::posix_fallocate(fd_.get(), offset, static_cast<off_t>(block_bytes)) != 0) return false;
    memory_of_[block] = Memory::allocated;
    return true;
}

void SpoolFile::punch(std::uint32_t block) noexcept {
    if (memory_of_[block] == Memory::none) return;
    const auto offset = static_cast<off_t>(spool_header_bytes + block * block_bytes);
    // Where that is not to be had, it is not to be had a moment later either.
    (void)::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                      static_cast<off_t>(block_bytes));
    memory_of_[block] = Memory::none;
}

}  // namespace oteld::daemon
