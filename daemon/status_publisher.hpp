// Puts together what the drain thread, the exporters and the system say, and publishes it as the
// status page.
//
// Used by: daemon.cpp, about once a second. Threads: main thread only. A second in which nothing
// changed writes a heartbeat and no document.
#pragma once

#include "config/settings.hpp"
#include "daemon/pipeline.hpp"
#include "daemon/status/observer.hpp"
#include "daemon/status/page.hpp"

#include <memory>
#include <optional>
#include <string>

namespace oteld::daemon {

class StatusPublisher {
public:
    StatusPublisher(const config::Settings& settings, const shm::DirectoryHandle& directory,
                    const Pipeline& pipeline);

    void publish(status::Phase phase, const std::string& last_words = {});
    // The verdict in a line, for systemd.
    [[nodiscard]] const std::string& line() const noexcept { return line_; }

private:
    [[nodiscard]] status::Snapshot gather(status::Phase phase, const std::string& last_words) const;
    void fill_exporters(status::Snapshot& snapshot) const;
    void fill_directory(status::Snapshot& snapshot) const;
    void fill_resources(status::Snapshot& snapshot) const;

    const config::Settings& settings_;
    const shm::DirectoryHandle& directory_;
    const Pipeline& pipeline_;
    std::optional<status::StatusPage> page_;
    status::Observer observer_;
    std::int64_t started_ns_;
    std::string line_;
    // What the last document was made from, and when.
    status::Snapshot last_facts_;
    std::int64_t last_document_ns_ = 0;
    mutable double last_cpu_seconds_ = 0;
    mutable std::int64_t last_cpu_ns_ = 0;
};

}  // namespace oteld::daemon
