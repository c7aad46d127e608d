#include "daemon/notify.hpp"

#include "shm/unique_fd.hpp"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace oteld::daemon {
namespace {

// systemd shows one line; a line break would begin another assignment.
std::string one_line(std::string_view text) {
    std::string line(text);
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
}

}  // namespace

Notifier::Notifier() {
    if (const char* path = ::getenv("NOTIFY_SOCKET"); path != nullptr) socket_ = path;
    const char* interval = ::getenv("WATCHDOG_USEC");
    const char* pid = ::getenv("WATCHDOG_PID");
    const bool for_us = pid == nullptr || std::strtol(pid, nullptr, 10) == ::getpid();
    const long long microseconds = interval == nullptr ? 0 : std::strtoll(interval, nullptr, 10);
    if (for_us && microseconds > 0) watchdog_ = std::chrono::microseconds(microseconds);
}

bool Notifier::send(std::string_view message) const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket_.size() < 2 || socket_.size() > sizeof address.sun_path - 1) return false;
    if (socket_[0] != '/' && socket_[0] != '@') return false;
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    if (socket_[0] == '@') address.sun_path[0] = '\0';  // An abstract name.
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
    const shm::UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!fd) return false;
    // A manager that does not read must not stop the thread that feeds status page and signals.
    constexpr timeval wait_max{.tv_sec = 0, .tv_usec = 100'000};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &wait_max, sizeof wait_max);
    return ::sendto(fd.get(), message.data(), message.size(), MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&address),
                    bytes) == static_cast<ssize_t>(message.size());
}

bool Notifier::ready(std::string_view status) const {
    return send("READY=1\nSTATUS=" + one_line(status));
}
bool Notifier::stopping(std::string_view status) const {
    return send("STOPPING=1\nSTATUS=" + one_line(status));
}
bool Notifier::status(std::string_view status) const { return send("STATUS=" + one_line(status)); }

}  // namespace oteld::daemon
