#include "daemon/daemon.hpp"

#include "daemon/notify.hpp"
#include "daemon/pipeline.hpp"
#include "daemon/status_publisher.hpp"
#include "shm/ring_directory.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>

namespace oteld::daemon {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr seconds publish_interval{1};
constexpr milliseconds stop_look_interval{10};
constexpr seconds drain_hangs_after{10};  // Then the watchdog is no longer fed.
constexpr seconds cancel_patience{2};     // For a request that was cancelled.

std::string spans_text(std::uint64_t spans) {
    return std::to_string(spans) + (spans == 1 ? " span" : " spans");
}

}  // namespace

class Daemon::Implementation {
public:
    Implementation(config::Settings settings, shm::DirectoryHandle directory)
        : settings_(std::move(settings)),
          directory_(std::move(directory)),
          signals_(context_, SIGTERM, SIGINT, SIGHUP),
          timer_(context_) {}

    Result<void> start() {
        auto lock = shm::lock_directory(directory_);
        if (!lock) return lock.error();
        lock_ = std::move(*lock);
        auto built = build_pipeline(settings_, directory_);
        if (!built) return built.error();
        pipeline_ = std::move(*built);
        log_start();  // While nobody else uses the spool.
        for (const auto& worker : pipeline_->workers) worker->start();
        pipeline_->drain->start();
        status_ = std::make_unique<StatusPublisher>(settings_, directory_, *pipeline_);
        return {};
    }

    End run() {
        wait_for_signal();
        publish();
        notifier_.ready(status_->line());
        context_.run();
        return end_;
    }

private:
    void log_start() const {
        spdlog::info("oteld {} drains {} (configuration: {})", OTELD_VERSION, directory_.path,
                     settings_.source);
        if (!directory_.warning.empty()) spdlog::warn("{}", directory_.warning);
        const SpoolState spool = pipeline_->spool->state();
        if (!spool.note.empty()) spdlog::warn("{}", spool.note);
        for (const auto& worker : pipeline_->workers) {
            const std::uint64_t waiting = worker->facts().queue_spans;
            if (waiting != 0)
                spdlog::info("{}: {} from before are sent now", worker->settings().name,
                             spans_text(waiting));
        }
    }

    void wait_for_signal() {
        signals_.async_wait([this](const boost::system::error_code& error, int signal) {
            if (error) return;
            if (signal == SIGHUP) {
                spdlog::info(
                    "SIGHUP: the configuration is read at start only; restart oteld to change it");
            } else if (stopping_) {
                spdlog::warn(
                    "a second signal: stopping at once; what was not delivered stays in the spool");
                deadline_ = steady_clock::now();
            } else {
                begin_stop();
            }
            wait_for_signal();
        });
    }

    void publish() {
        status_->publish(stopping_ ? status::Phase::stopping : status::Phase::running);
        if (notifier_.watchdog_interval() && drain_turns()) notifier_.watchdog();
        if (status_->line() != told_) {
            told_ = status_->line();
            notifier_.status(told_);
        }
        if (stopping_) return;
        auto next = std::chrono::duration_cast<steady_clock::duration>(publish_interval);
        if (const auto watchdog = notifier_.watchdog_interval())
            next = std::min<steady_clock::duration>(next, *watchdog / 2);
        timer_.expires_after(next);
        timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error) publish();
        });
    }

    [[nodiscard]] bool drain_turns() const {
        return steady_clock::now().time_since_epoch() - pipeline_->drain->last_turn() <
               drain_hangs_after;
    }

    void begin_stop() {
        stopping_ = true;
        deadline_ = steady_clock::now() + settings_.shutdown_deadline;
        timer_.cancel();
        notifier_.stopping("draining");
        spdlog::info("stopping: draining for at most {} ms", settings_.shutdown_deadline.count());
        pipeline_->drain->close_intake();
        publish();
        look_at_stop();
    }

    // Until rings and queues are empty, or the deadline.
    void look_at_stop() {
        const bool closed = pipeline_->drain->intake_closed();
        if (closed)
            for (const auto& worker : pipeline_->workers) worker->flush();
        const bool idle = std::all_of(pipeline_->workers.begin(), pipeline_->workers.end(),
                                      [](const auto& worker) { return worker->idle(); });
        if ((closed && idle) || steady_clock::now() >= deadline_) return finish();
        timer_.expires_after(stop_look_interval);
        timer_.async_wait([this](const boost::system::error_code&) { look_at_stop(); });
    }

    void finish() {
        stop_workers();
        pipeline_->drain->stop();
        std::string last_words = "everything was delivered";
        std::string left;
        for (const auto& worker : pipeline_->workers) {
            const unsigned word = worker->word();
            std::uint64_t pending = 0;
            for (std::uint32_t row = 0; row < application_rows_max; ++row)
                pending += pipeline_->spool->ledger().share(row, word).pending;
            if (pending == 0) continue;
            left += (left.empty() ? "" : ", ") + spans_text(pending) + " for " +
                    worker->settings().name;
        }
        if (!left.empty())
            last_words = left + " stay in " + directory_.path + "/" + shm::spool_name +
                         " and are sent by the next oteld";
        status_->publish(status::Phase::stopped, last_words);
        spdlog::info("stopped: {}", last_words);
        // The kernel may keep the process for as long as the write lasts; the next oteld can start.
        if (end_ == End::abandoned) lock_ = {};
        signals_.cancel();
        context_.stop();
    }

    // What they have not settled stays in the spool, which nobody but the drain thread writes.
    void stop_workers() {
        for (const auto& worker : pipeline_->workers) worker->cancel();
        const auto deadline = steady_clock::now() + cancel_patience;
        for (const auto& worker : pipeline_->workers) {
            if (worker->stop_before(deadline)) continue;
            end_ = End::abandoned;
            spdlog::warn(
                "{}: a write has not come back and is not waited for any longer: the disk, or "
                "who reads it, hangs",
                worker->settings().name);
        }
    }

    const config::Settings settings_;
    const shm::DirectoryHandle directory_;
    shm::UniqueFd lock_;
    std::unique_ptr<Pipeline> pipeline_;
    std::unique_ptr<StatusPublisher> status_;
    Notifier notifier_;
    asio::io_context context_{1};
    asio::signal_set signals_;
    asio::steady_timer timer_;
    bool stopping_ = false;
    End end_ = End::clean;
    steady_clock::time_point deadline_;
    std::string told_;
};

Daemon::Daemon(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}
Daemon::~Daemon() = default;

Result<std::unique_ptr<Daemon>> Daemon::start(const config::Settings& settings) {
    auto directory = shm::open_ring_directory(settings.shm.directory, shm::DirectoryUse::daemon);
    if (!directory) return directory.error();
    auto implementation = std::make_unique<Implementation>(settings, std::move(*directory));
    if (auto started = implementation->start(); !started) return started.error();
    return std::unique_ptr<Daemon>(new Daemon(std::move(implementation)));
}

Daemon::End Daemon::run() { return implementation_->run(); }

}  // namespace oteld::daemon
