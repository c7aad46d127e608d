// Builds the daemon's path from settings: the one function to read to know what is connected to
// what.
//
// Used by: daemon.cpp. Threads: the main thread, at start; the parts have threads of their own once
// started.
#pragma once

#include "config/result.hpp"
#include "config/settings.hpp"
#include "daemon/intake/drain_thread.hpp"

#include <memory>
#include <string>
#include <vector>

namespace oteld::daemon {

// Members are destroyed from the last to the first: the drain before the spool that it writes. It
// stays where it was built: its parts know each other.
struct Pipeline {
    Pipeline() = default;
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    std::unique_ptr<shm::ControlPageFile> control;
    std::unique_ptr<Spool> spool;
    std::unique_ptr<Inbox> inbox;
    std::vector<std::unique_ptr<ExportWorker>> workers;
    std::unique_ptr<DrainThread> drain;
};

[[nodiscard]] Result<std::unique_ptr<Pipeline>> build_pipeline(
    const config::Settings& settings, const shm::DirectoryHandle& directory);

// `modules/` beside the binary, or `../lib/oteld` when it is installed.
[[nodiscard]] std::string modules_directory();

}  // namespace oteld::daemon
