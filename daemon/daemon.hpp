// The running daemon: starts the pipeline, obeys signals, publishes the status page, stops within a
// deadline.
//
// Used by: daemon/commands/run.cpp, tests. Threads: run() and everything behind it on the main
// thread (Boost.Asio). SIGTERM and SIGINT drain and stop; a second one stops at once. SIGHUP is
// noted and changes nothing.
#pragma once

#include "config/result.hpp"
#include "config/settings.hpp"

#include <memory>
#include <string>

namespace oteld::daemon {

class Daemon {
public:
    // Takes the ring directory, opens the spool, starts every thread.
    [[nodiscard]] static Result<std::unique_ptr<Daemon>> start(const config::Settings& settings);
    ~Daemon();

    // Until a signal asks to stop, and the stop itself.
    enum class End {
        clean,
        abandoned,  // A thread is in a write that does not come back: this cannot be destroyed.
    };
    [[nodiscard]] End run();

private:
    class Implementation;
    explicit Daemon(std::unique_ptr<Implementation> implementation);
    std::unique_ptr<Implementation> implementation_;
};

}  // namespace oteld::daemon
