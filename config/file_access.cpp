#include "config/file_access.hpp"

#include "config/problem.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>

namespace oteld::config {
namespace {

class Descriptor {
public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    [[nodiscard]] int number() const { return number_; }

private:
    int number_;
};

std::string reason(int error) {
    switch (error) {
        case ENOENT: return "there is no such file";
        case EACCES: return "the user of this process may not read it";
        case EISDIR: return "it is a directory";
        default: return std::strerror(error);
    }
}

ErrorCode code(int error) {
    if (error == ENOENT) return ErrorCode::not_found;
    return error == EACCES ? ErrorCode::permission : ErrorCode::io;
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.number() < 0) return Error{code(errno), "cannot be read: " + reason(errno)};
    std::string text;
    char buffer[16384];
    while (true) {
        const ssize_t count = ::read(file.number(), buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return Error{code(errno), "cannot be read: " + reason(errno)};
        if (count == 0) return text;
        text.append(buffer, static_cast<std::size_t>(count));
        if (text.size() > bytes_max) {
            return Error{ErrorCode::invalid_config,
                         "is larger than " + std::to_string(bytes_max >> 10) +
                             " KiB; this is not a configuration of oteld"};
        }
    }
}

std::string why_unreadable(const std::string& path) {
    // O_NONBLOCK: a pipe in the place of a certificate must not hold up the check.
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.number() < 0) return quoted(path) + " cannot be read: " + reason(errno);
    struct stat facts {};
    if (::fstat(file.number(), &facts) != 0) return quoted(path) + ": " + reason(errno);
    if (S_ISDIR(facts.st_mode)) return quoted(path) + " cannot be read: it is a directory";
    if (!S_ISREG(facts.st_mode)) return quoted(path) + " is not a regular file";
    if (facts.st_size == 0) return quoted(path) + " is empty";
    return {};
}

}  // namespace oteld::config
