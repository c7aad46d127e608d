// Tells systemd how the daemon is: READY, STOPPING, STATUS, WATCHDOG. Speaks the protocol itself,
// without libsystemd.
//
// Used by: daemon.cpp. Threads: any; no state but the socket's address. Without $NOTIFY_SOCKET it
// does nothing. https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace oteld::daemon {

class Notifier {
public:
    // Reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID.
    Notifier();

    // Lines of KEY=value. False: nobody listens.
    bool send(std::string_view message) const;
    bool ready(std::string_view status) const;
    bool stopping(std::string_view status) const;
    bool status(std::string_view status) const;
    bool watchdog() const { return send("WATCHDOG=1"); }

    // How often systemd wants to hear from us; empty: it does not watch.
    [[nodiscard]] std::optional<std::chrono::microseconds> watchdog_interval() const {
        return watchdog_;
    }

private:
    std::string socket_;
    std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace oteld::daemon
