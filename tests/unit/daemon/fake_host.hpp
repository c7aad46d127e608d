// A ring directory with a spool in it, and an intake that can be killed and begun again.
//
// Used by: tests/unit/daemon, tests/chaos. Threads: one. Time passes only as the test says.
#pragma once

#include "daemon/intake/intake.hpp"
#include "fake_spool.hpp"
#include "shm/span_view.hpp"
#include "tests/unit/child.hpp"

#include <cstring>
#include <memory>
#include <set>
#include <vector>

namespace oteld::test {

struct Host {
    using Time = daemon::Intake::Time;

    explicit Host(std::uint64_t spool_bytes = 4 << 20) : spool({"a"}, spool_bytes) { start(); }

    void start(std::string_view stop_after = {}) {
        clock = std::make_unique<daemon::DaemonClock>(daemon::read_anchor(), daemon::ClockAnchor{});
        intake = std::make_unique<daemon::Intake>(
            spool.handle, settings, 1, *spool.spool, *clock,
            [this](std::span<const daemon::ExtentRef> some) {
                handed.insert(handed.end(), some.begin(), some.end());
            },
            stop_after);
    }
    // As after a kill: nothing is told to anybody, the files are all there is.
    void restart() {
        handed.clear();
        die();
        spool.restart();
        start();
    }
    void die() {
        intake.reset();
        spool.spool.reset();
    }
    // A daemon begins, and is killed between its first commit and the lane's cursor.
    void die_after_commit() {
        die();
        const int status = status_of_child([this] {
            spool.restart();
            start("spool_commit:kill");
            round();
        });
        REQUIRE(WIFSIGNALED(status));
    }
    std::uint64_t round() {
        intake->look_soon();
        return intake->round(now += std::chrono::seconds(11), nap);  // Far enough for a scan.
    }
    void settle_all() {
        for (const daemon::ExtentRef& extent : handed)
            spool.settle(
                extent, 0,
                extent.header->spans - daemon::Spool::settled_spans(extent, spool.word(0)));
        handed.clear();
    }
    [[nodiscard]] std::vector<shm::Span> spans() const {
        std::vector<shm::Span> found;
        for (const daemon::ExtentRef& extent : handed) {
            std::vector<exporters::SpanRun> runs;
            const std::uint32_t settled = daemon::Spool::settled_spans(extent, spool.word(0));
            daemon::append_runs(daemon::rest_of(extent, settled), runs);
            for (const auto& run : runs) {
                shm::FrameReader frames(run.frames);
                shm::Frame frame;
                while (frames.next(frame)) found.emplace_back(frame.span);
            }
        }
        return found;
    }
    [[nodiscard]] std::multiset<std::uint64_t> numbers() const {
        std::multiset<std::uint64_t> found;
        for (const shm::Span& span : spans()) {
            std::uint64_t number = 0;
            std::memcpy(&number, span.span_id.data(), 8);
            found.insert(number);
        }
        return found;
    }
    [[nodiscard]] const daemon::ApplicationRow& row() const { return spool.spool->rows().row(0); }

    FakeSpool spool;
    config::Shm settings;
    std::unique_ptr<daemon::DaemonClock> clock;
    std::vector<daemon::ExtentRef> handed;
    std::unique_ptr<daemon::Intake> intake;
    daemon::Nap nap;
    Time now{0};
};

}  // namespace oteld::test
