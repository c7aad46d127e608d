// The drain thread: sole owner of spool, segments and ledger once it runs.
//
// Used by: pipeline.cpp (makes it), daemon.cpp (starts, stops, asks for the snapshot). Threads: the
// public functions from any other thread; everything else happens on its own thread. It sleeps on
// the control page's bell for as long as the nap says, and is woken by producers, by settlements
// and by stop. It never blocks on anything else.
#pragma once

#include "daemon/batch/export_worker.hpp"
#include "daemon/intake/intake.hpp"
#include "daemon/status/snapshot.hpp"
#include "shm/control_page.hpp"

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace oteld::daemon {

class DrainThread {
public:
    struct Parts {
        const shm::DirectoryHandle& directory;
        shm::ControlPageFile& control;
        Spool& spool;
        Inbox& inbox;
        const std::vector<std::unique_ptr<ExportWorker>>& workers;
    };
    DrainThread(const Parts& parts, const config::Shm& settings, std::string_view stop_after);
    ~DrainThread();

    void start();
    // Takes what lies in the rings now and from then on only settles. Returns at once.
    void close_intake() noexcept;
    [[nodiscard]] bool intake_closed() const noexcept {
        return intake_closed_.load(std::memory_order_acquire);
    }
    // Applies what was settled until now and ends the thread. Safe twice.
    void stop();

    // Applications, rings and spool as of at most about a second ago; null before the first.
    [[nodiscard]] std::shared_ptr<const status::Snapshot> snapshot() const;
    // Monotonic time of the last turn of the loop: the watchdog's question.
    [[nodiscard]] std::chrono::nanoseconds last_turn() const noexcept {
        return std::chrono::nanoseconds(last_turn_ns_.load(std::memory_order_relaxed));
    }

private:
    using Time = std::chrono::nanoseconds;

    void run();
    void send_left_over();
    void apply_settlements();
    void keep_time(Time now);
    void take_in(Time now);
    void publish_snapshot(Time now);
    void hand_over(std::span<const ExtentRef> extents);

    Parts parts_;
    DaemonClock clock_;
    Settler settler_;
    Intake intake_;
    Nap nap_;
    std::thread thread_;
    std::atomic<bool> closing_{false};
    std::atomic<bool> intake_closed_{false};
    std::atomic<bool> stopping_{false};
    std::atomic<std::int64_t> last_turn_ns_{0};
    int rounds_since_closing_ = 0;
    Time closing_since_{0};
    Time last_anchor_{0};
    Time last_snapshot_{0};
    Time last_span_{0};
    mutable std::mutex mutex_;
    std::shared_ptr<const status::Snapshot> snapshot_;  // Guarded by mutex_.
};

}  // namespace oteld::daemon
