#include "daemon/batch/export_worker.hpp"

#include "exporters/encode.hpp"

#include <chrono>
#include <random>

namespace oteld::daemon {
namespace {

using exporters::Delivery;
using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using Kind = Delivery::Action::Kind;

constexpr std::int64_t writing_hangs_after_ns = 2'000'000'000;

nanoseconds now() { return steady_clock::now().time_since_epoch(); }
Delivery::Time now_ms() { return duration_cast<milliseconds>(now()); }
std::int64_t unix_ns() {
    return std::chrono::system_clock::now().time_since_epoch() / nanoseconds(1);
}

}  // namespace

ExportWorker::ExportWorker(config::ExporterSettings settings, unsigned word,
                           std::vector<std::unique_ptr<exporters::Exporter>> consumers,
                           Inbox& inbox)
    : settings_(std::move(settings)),
      word_(word),
      inbox_(inbox),
      consumers_(std::move(consumers)),
      batcher_(settings_.queue) {}

ExportWorker::~ExportWorker() { stop(); }

void ExportWorker::start() {
    for (const auto& exporter : consumers_)
        threads_.emplace_back([this, &exporter = *exporter] { consume(exporter); });
}

void ExportWorker::enqueue(std::span<const Slice> slices) {
    using Plan = Batcher::Plan::Kind;
    bool wake = false;
    {
        const std::lock_guard lock(mutex_);
        const nanoseconds time = now();
        // Else somebody wakes up by himself when the oldest span has waited long enough.
        wake = batcher_.plan(time, flushing_).kind == Plan::idle;
        for (const Slice& slice : slices) batcher_.add(slice, time);
        wake = wake || batcher_.plan(time, flushing_).kind == Plan::send;
    }
    // All: there may be several batches in it, and one who waits to try again would swallow the
    // only word.
    if (wake) changed_.notify_all();
}

void ExportWorker::flush() {
    {
        const std::lock_guard lock(mutex_);
        flushing_ = true;
    }
    changed_.notify_all();
}

bool ExportWorker::idle() const {
    const std::lock_guard lock(mutex_);
    return batcher_.spans() == 0 && facts_.in_flight_spans == 0;
}

void ExportWorker::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    for (const auto& exporter : consumers_) exporter->cancel();
    for (std::thread& thread : threads_)
        if (thread.joinable()) thread.join();
}

ExporterFacts ExportWorker::facts() const {
    const std::lock_guard lock(mutex_);
    ExporterFacts facts = facts_;
    facts.queue_spans = batcher_.spans() + facts_.in_flight_spans;
    facts.queue_bytes = batcher_.bytes();
    const std::int64_t writing_since = writing_since_ns_.load(std::memory_order_relaxed);
    if (writing_since == 0 || unix_ns() - writing_since < writing_hangs_after_ns) return facts;
    // What goes over the network has a time limit; a write to a disk may never come back.
    facts.state = ExporterFacts::State::retrying;
    facts.failing_since_ns = writing_since;
    facts.words =
        "a write has not come back: the disk, or who reads it, hangs or is slow; look at it "
        "(dmesg, iostat) or name another path";
    return facts;
}

void ExportWorker::consume(exporters::Exporter& exporter) {
    // One for the thread, not one a batch: random_device asks which processor this is, and in a
    // virtual machine that question goes to the host.
    std::mt19937_64 engine{std::random_device{}()};
    const Delivery::Random random = [&engine] {
        return std::uniform_real_distribution<double>(0, 1)(engine);
    };
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        const Batcher::Plan plan = batcher_.plan(now(), flushing_);
        if (plan.kind == Batcher::Plan::Kind::idle) {
            changed_.wait(lock);
            continue;
        }
        if (plan.kind == Batcher::Plan::Kind::wait) {
            changed_.wait_until(
                lock, steady_clock::time_point(duration_cast<steady_clock::duration>(plan.at)));
            continue;
        }
        std::vector<Slice> slices = batcher_.take();
        std::uint32_t spans = 0;
        for (const Slice& slice : slices) spans += slice.spans;
        facts_.in_flight_spans += spans;
        lock.unlock();
        deliver(exporter, std::move(slices), random);
        lock.lock();
        facts_.in_flight_spans -= spans;
    }
}

void ExportWorker::deliver(exporters::Exporter& exporter, std::vector<Slice> slices,
                           const Delivery::Random& random) {
    std::vector<exporters::SpanRun> runs;
    exporters::Batch batch{};
    for (const Slice& slice : slices) {
        append_runs(slice, runs);
        batch.spans += slice.spans;
        batch.bytes += slice.bytes;
    }
    batch.runs = runs;
    const auto* otlp = std::get_if<config::Otlp>(&settings_.what);
    if (otlp == nullptr) return (void)deliver_part(exporter, batch, std::move(slices), random);
    // Nearly always one part: the batch itself. Its parts settle in order, as a prefix of it.
    bool kept = false;
    exporters::divide(batch, otlp->request_bytes_max, [&](const exporters::Batch& part) {
        if (!kept) kept = !deliver_part(exporter, part, take_front(slices, part.spans), random);
    });
}

// False: the daemon stops, and what is left stays in the spool; the next daemon sends it.
bool ExportWorker::deliver_part(exporters::Exporter& exporter, const exporters::Batch& batch,
                                std::vector<Slice> slices, const Delivery::Random& random) {
    Delivery delivery(batch.spans, settings_.retry, random);
    Delivery::Action action = delivery.resume(Delivery::Begin{}, now_ms());
    for (;;) {
        switch (action.kind) {
            case Kind::send: {
                exporters::SendResult result = send(exporter, batch);
                note_answer(result, delivery.attempts());
                action = delivery.resume(Delivery::Answered{std::move(result)}, now_ms());
                break;
            }
            case Kind::wait:
                action = sleep_until(action.wake_at)
                             ? delivery.resume(Delivery::Woke{}, now_ms())
                             : delivery.resume(Delivery::Stopped{}, now_ms());
                break;
            case Kind::settle: settle(std::move(slices), action); return true;
            case Kind::keep: return false;
        }
    }
}

exporters::SendResult ExportWorker::send(exporters::Exporter& exporter,
                                         const exporters::Batch& batch) {
    const bool network = std::holds_alternative<config::Otlp>(settings_.what);
    if (!network) writing_since_ns_.store(unix_ns(), std::memory_order_relaxed);
    exporters::SendResult result = exporter.send(batch);
    writing_since_ns_.store(0, std::memory_order_relaxed);
    return result;
}

// False: the daemon stops.
bool ExportWorker::sleep_until(Delivery::Time at) {
    std::unique_lock lock(mutex_);
    const steady_clock::time_point until(duration_cast<steady_clock::duration>(at));
    return !changed_.wait_until(lock, until, [this] { return stopping_; });
}

void ExportWorker::note_answer(const exporters::SendResult& result, std::uint32_t attempts) {
    using Outcome = exporters::SendResult::Outcome;
    const std::lock_guard lock(mutex_);
    ++facts_.requests;
    facts_.sent_bytes += result.request_bytes;
    facts_.words = result.message;
    if (result.outcome == Outcome::delivered) {
        facts_.state = ExporterFacts::State::ok;
        facts_.last_ok_ns = unix_ns();
        facts_.failing_since_ns = 0;
        facts_.attempts = 0;
        if (!result.message.empty()) facts_.warning = result.message;
        return;
    }
    if (stopping_ && result.outcome == Outcome::retry_after) return;  // We cancelled it ourselves.
    facts_.state = result.outcome == Outcome::retry_after ? ExporterFacts::State::retrying
                                                          : ExporterFacts::State::rejecting;
    facts_.attempts = attempts;
    facts_.last_error = result.message;
    facts_.last_error_ns = unix_ns();
    if (facts_.failing_since_ns == 0) facts_.failing_since_ns = facts_.last_error_ns;
    ++facts_.errors;
}

void ExportWorker::settle(std::vector<Slice> slices, const Delivery::Action& action) {
    {
        const std::lock_guard lock(mutex_);
        facts_.delivered += action.delivered;
        facts_.rejected[static_cast<std::size_t>(action.reason)] += action.rejected;
        if (action.rejected != 0 && action.reason != exporters::RejectReason::partial) {
            facts_.state = ExporterFacts::State::rejecting;
            // More than the last answer: after how many tries and how long it was given up.
            facts_.words = facts_.last_error = action.message;
        }
    }
    inbox_.post({word_, std::move(slices), action.rejected, action.reason});
}

}  // namespace oteld::daemon
