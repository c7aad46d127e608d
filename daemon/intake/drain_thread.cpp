#include "daemon/intake/drain_thread.hpp"

#include "daemon/intake/intake_snapshot.hpp"

#include <algorithm>

namespace oteld::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

nanoseconds monotonic() { return std::chrono::steady_clock::now().time_since_epoch(); }

DaemonClock calibrated(const shm::ControlPageFile& control) {
    const shm::ControlAnchor& left = control.earlier_anchor();
    const ClockAnchor recent = read_anchor();
    std::this_thread::sleep_for(milliseconds(5));
    const ClockAnchor now = read_anchor();
    return {now, earlier_anchor({left.ticks, left.monotonic_ns, left.realtime_ns}, recent, now)};
}

constexpr seconds anchor_interval{1};
constexpr seconds snapshot_interval{1};
constexpr seconds trim_after{5};
// Rings that never fall silent do not keep the daemon from stopping.
constexpr seconds closing_max{3};
constexpr nanoseconds closing_nap_max = milliseconds(5);

}  // namespace

DrainThread::DrainThread(const Parts& parts, const config::Shm& settings,
                         std::string_view stop_after)
    : parts_(parts),
      clock_(calibrated(parts.control)),
      settler_(parts.spool),
      intake_(
          parts.directory, settings, parts.control.generation(), parts.spool, clock_,
          [this](std::span<const ExtentRef> extents) { hand_over(extents); }, stop_after) {}

DrainThread::~DrainThread() { stop(); }

void DrainThread::start() {
    const ClockAnchor& anchor = clock_.latest();
    parts_.control.publish_anchor({anchor.ticks, anchor.monotonic_ns, anchor.realtime_ns});
    send_left_over();
    last_turn_ns_.store(monotonic().count(), std::memory_order_relaxed);
    thread_ = std::thread([this] { run(); });
}

void DrainThread::close_intake() noexcept {
    closing_.store(true, std::memory_order_release);
    parts_.control.wake();
}

void DrainThread::stop() {
    if (!thread_.joinable()) return;
    stopping_.store(true, std::memory_order_release);
    parts_.control.wake();
    thread_.join();
}

std::shared_ptr<const status::Snapshot> DrainThread::snapshot() const {
    const std::lock_guard lock(mutex_);
    return snapshot_;
}

void DrainThread::run() {
    for (;;) {
        const std::uint32_t ticket = parts_.control.ticket();
        const bool stopping = stopping_.load(std::memory_order_acquire);
        const Time now = monotonic();
        last_turn_ns_.store(now.count(), std::memory_order_relaxed);
        keep_time(now);
        apply_settlements();
        if (!intake_closed()) take_in(now);
        if (now - last_span_ >= trim_after) parts_.spool.trim();
        if (stopping || intake_closed() || now - last_snapshot_ >= snapshot_interval)
            publish_snapshot(now);
        if (stopping) return;
        const Time nap = nap_.next(now);
        parts_.control.sleep(ticket, closing_.load(std::memory_order_relaxed)
                                         ? std::min(nap, closing_nap_max)
                                         : nap);
    }
}

void DrainThread::keep_time(Time now) {
    parts_.control.beat(static_cast<std::uint64_t>(now.count()));
    if (now - last_anchor_ < anchor_interval) return;
    last_anchor_ = now;
    const ClockAnchor anchor = read_anchor();
    clock_.reanchor(anchor);
    parts_.control.publish_anchor({anchor.ticks, anchor.monotonic_ns, anchor.realtime_ns});
}

void DrainThread::apply_settlements() {
    for (const Settlement& settlement : parts_.inbox.take()) settler_.apply(settlement);
}

void DrainThread::take_in(Time now) {
    const bool closing = closing_.load(std::memory_order_acquire);
    if (closing) intake_.look_soon();
    if (intake_.round(now, nap_) != 0) last_span_ = now;
    if (!closing) return;
    if (rounds_since_closing_++ == 0) closing_since_ = now;
    // Two looks tell a dead process; then it has been drained and its open spans are recovered.
    const bool done =
        rounds_since_closing_ > 3 && intake_.settled_with_the_dead() && !intake_.more_waits();
    if (done || now - closing_since_ >= closing_max)
        intake_closed_.store(true, std::memory_order_release);
}

void DrainThread::send_left_over() {
    for (const auto& worker : parts_.workers) {
        std::vector<Slice> slices;
        for (const ExtentRef& extent : parts_.spool.left_over()) {
            if ((extent.header->exporter_mask >> worker->word() & 1) == 0) continue;
            const std::uint32_t settled = Spool::settled_spans(extent, worker->word());
            if (settled != extent.header->spans) slices.push_back(rest_of(extent, settled));
        }
        worker->enqueue(slices);
    }
    parts_.spool.forget_left_over();
}

void DrainThread::hand_over(std::span<const ExtentRef> extents) {
    if (parts_.workers.empty()) return;
    std::vector<Slice> slices;
    slices.reserve(extents.size());
    for (const ExtentRef& extent : extents) slices.push_back(rest_of(extent, 0));
    for (const auto& worker : parts_.workers) worker->enqueue(slices);
}

void DrainThread::publish_snapshot(Time now) {
    last_snapshot_ = now;
    auto snapshot = std::make_shared<status::Snapshot>();
    fill_intake(*snapshot, intake_, clock_, parts_.spool, parts_.workers);
    const std::lock_guard lock(mutex_);
    snapshot_ = std::move(snapshot);
}

}  // namespace oteld::daemon
