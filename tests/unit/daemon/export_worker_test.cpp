#include "daemon/batch/export_worker.hpp"
#include "batch_fixture.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <thread>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;
using namespace std::chrono_literals;
using exporters::SendResult;

namespace {

// Answers what it is told to, and lets the test wait for a call.
class FakeExporter final : public exporters::Exporter {
public:
    SendResult send(const exporters::Batch& batch) override {
        std::unique_lock lock(mutex);
        ++calls;
        last_spans = batch.spans;
        changed.notify_all();
        changed.wait(lock, [this] { return !hold || (cancelled && !deaf); });
        if (cancelled) {
            SendResult result;
            result.outcome = SendResult::Outcome::retry_after;
            return result;
        }
        if (out_of_memory > 0 && out_of_memory-- > 0) throw std::bad_alloc();
        if (answers.empty()) return {};
        SendResult answer = std::move(answers.front());
        answers.erase(answers.begin());
        return answer;
    }
    void cancel() noexcept override {
        const std::lock_guard lock(mutex);
        cancelled = true;
        changed.notify_all();
    }
    void wait_for_calls(int wanted) {
        std::unique_lock lock(mutex);
        REQUIRE(changed.wait_for(lock, 60s, [&] { return calls >= wanted; }));
    }
    void let_go() {
        const std::lock_guard lock(mutex);
        hold = false;
        changed.notify_all();
    }

    std::mutex mutex;
    std::condition_variable changed;
    std::vector<SendResult> answers;
    int calls = 0;
    std::uint32_t last_spans = 0;
    int out_of_memory = 0;
    bool hold = false;
    bool cancelled = false;
    bool deaf = false;  // A cancel does not end a call: it is in the kernel.
};

struct Worker {
    explicit Worker(FakeSpool& spool, std::size_t exporter = 0,
                    std::uint64_t request_bytes_max = 64 << 20, std::size_t consumer_count = 1,
                    std::chrono::milliseconds retry_interval = 1ms)
        : fake(new FakeExporter), fakes{fake} {
        config::ExporterSettings settings;
        settings.kind = config::ExporterSettings::Kind::otlp_http;
        settings.what = config::Otlp{};
        std::get<config::Otlp>(settings.what).request_bytes_max = request_bytes_max;
        settings.name = spool.exporters[exporter];
        settings.queue = queue(1, 1000);
        settings.retry.initial_interval = retry_interval;
        settings.retry.max_interval = 2 * retry_interval;
        settings.retry.max_elapsed_time = 0ms;
        std::vector<std::unique_ptr<exporters::Exporter>> consumers;
        consumers.emplace_back(fake);
        while (consumers.size() < consumer_count)
            consumers.emplace_back(fakes.emplace_back(new FakeExporter));
        worker = std::make_unique<ExportWorker>(settings, spool.word(exporter),
                                                std::move(consumers), inbox);
    }
    // The next settlement, waited for.
    Settlement settlement() {
        std::unique_lock lock(mutex);
        REQUIRE(posted.wait_for(lock, 60s, [this] { return posts != 0; }));
        --posts;
        if (waiting.empty()) waiting = inbox.take();
        Settlement first = std::move(waiting.front());
        waiting.erase(waiting.begin());
        return first;
    }

    FakeExporter* fake;  // The first of:
    std::vector<FakeExporter*> fakes;
    std::mutex mutex;
    std::condition_variable posted;
    int posts = 0;
    std::vector<Settlement> waiting;
    Inbox inbox{[this] {
        const std::lock_guard lock(mutex);
        ++posts;
        posted.notify_all();
    }};
    std::unique_ptr<ExportWorker> worker;
};

// Under a watchdog.
void wait_until(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + 60s;
    while (!condition()) {
        REQUIRE(std::chrono::steady_clock::now() < deadline);
        std::this_thread::yield();
    }
}

SendResult answer(SendResult::Outcome outcome, std::uint32_t rejected = 0) {
    SendResult result;
    result.outcome = outcome;
    result.rejected_spans = rejected;
    result.message = "told so";
    return result;
}

}  // namespace

TEST_CASE("a delivered batch is settled with its slices") {
    FakeSpool spool;
    const auto extent = spool.commit(10, spool.row());
    Worker worker(spool);
    worker.worker->start();
    const Slice slice = rest_of(*extent, 0);
    worker.worker->enqueue({&slice, 1});
    const Settlement settlement = worker.settlement();
    CHECK(settlement.exporter == spool.word(0));
    CHECK(settlement.rejected == 0);
    REQUIRE(settlement.slices.size() == 1);
    CHECK(settlement.slices[0].spans == 10);
    worker.worker->stop();
    const ExporterFacts facts = worker.worker->facts();
    CHECK(facts.delivered == 10);
    CHECK(facts.state == ExporterFacts::State::ok);
    CHECK(facts.queue_spans == 0);
}

TEST_CASE("a batch is tried again until it is taken; a partial success counts what was refused") {
    FakeSpool spool;
    const auto extent = spool.commit(10, spool.row());
    Worker worker(spool);
    worker.fake->answers = {answer(SendResult::Outcome::retry_after),
                            answer(SendResult::Outcome::retry_after),
                            answer(SendResult::Outcome::delivered, 4)};
    worker.worker->start();
    const Slice slice = rest_of(*extent, 0);
    worker.worker->enqueue({&slice, 1});
    const Settlement settlement = worker.settlement();
    CHECK(settlement.rejected == 4);
    CHECK(settlement.reason == exporters::RejectReason::partial);
    worker.worker->stop();
    const ExporterFacts facts = worker.worker->facts();
    CHECK(facts.requests == 3);
    CHECK(facts.errors == 2);
    CHECK(facts.last_error == "told so");
    CHECK(facts.delivered == 6);
    CHECK(facts.rejected[static_cast<std::size_t>(exporters::RejectReason::partial)] == 4);
}

TEST_CASE("an exporter that is out of memory tries again") {
    FakeSpool spool;
    const auto extent = spool.commit(10, spool.row());
    Worker worker(spool);
    worker.fake->out_of_memory = 2;
    worker.worker->start();
    const Slice slice = rest_of(*extent, 0);
    worker.worker->enqueue({&slice, 1});
    CHECK(worker.settlement().rejected == 0);
    worker.worker->stop();
    const ExporterFacts facts = worker.worker->facts();
    CHECK(facts.errors == 2);
    CHECK(facts.delivered == 10);
    CHECK(facts.last_error.find("out of memory: raise LimitDATA=") != std::string::npos);
}

TEST_CASE("all consumers send at once, whether their batches come together or one by one") {
    for (const bool together : {true, false}) {
        CAPTURE(together);
        FakeSpool spool;
        const std::uint32_t row = spool.row();
        Worker worker(spool, 0, 64 << 20, 4);
        for (FakeExporter* fake : worker.fakes) fake->hold = true;
        worker.worker->start();
        std::vector<Slice> slices;
        for (std::uint64_t i = 0; i < 4; ++i)
            slices.push_back(rest_of(*spool.commit(1000, row, i, 20), 0));
        if (together) {
            worker.worker->enqueue(slices);
        } else {
            for (const Slice& slice : slices) worker.worker->enqueue({&slice, 1});
        }
        for (FakeExporter* fake : worker.fakes) fake->wait_for_calls(1);
        CHECK(worker.worker->facts().in_flight_spans == 4000);
        for (FakeExporter* fake : worker.fakes) fake->let_go();
        for (int i = 0; i < 4; ++i) (void)worker.settlement();
        worker.worker->stop();
        CHECK(worker.worker->facts().delivered == 4000);
    }
}

TEST_CASE("a consumer that waits to try again does not take the word that was for an idle one") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    Worker worker(spool, 0, 64 << 20, 2, 1h);
    for (FakeExporter* fake : worker.fakes)
        fake->answers = {answer(SendResult::Outcome::retry_after)};
    worker.worker->start();
    const Slice first = rest_of(*spool.commit(10, row, 0), 0);
    worker.worker->enqueue({&first, 1});
    const auto calls = [&worker] {
        int sum = 0;
        for (FakeExporter* fake : worker.fakes) {
            const std::lock_guard lock(fake->mutex);
            sum += fake->calls;
        }
        return sum;
    };
    wait_until([&] { return worker.worker->facts().errors == 1; });
    // The one waits an hour, and was the last to fall asleep; the other has to take this.
    const Slice second = rest_of(*spool.commit(10, row, 1), 0);
    worker.worker->enqueue({&second, 1});
    wait_until([&] { return calls() == 2; });
    CHECK(worker.worker->facts().errors <= 2);
    worker.worker->stop();
}

TEST_CASE("a batch above the request limit is sent and settled in parts, in order") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    const auto first = spool.commit(10, row, 0, 1000);
    const auto second = spool.commit(10, row, 1, 1000);
    Worker worker(spool, 0, 4000);
    worker.fake->answers = {answer(SendResult::Outcome::delivered),
                            answer(SendResult::Outcome::rejected)};
    worker.worker->start();
    const Slice slices[] = {rest_of(*first, 0), rest_of(*second, 0)};
    worker.worker->enqueue(slices);
    Settler settler(*spool.spool);
    for (std::uint32_t settled = 0; settled < 20;) {
        const Settlement settlement = worker.settlement();
        CHECK(spans_in(settlement.slices) <= 4);
        settled += spans_in(settlement.slices);
        settler.apply(settlement);
        CHECK(settler.waiting() == 0);
    }
    worker.worker->stop();
    CHECK(worker.fake->calls >= 6);
    CHECK(spool.share(row, 0).pending == 0);
    CHECK(spool.share(row, 0).rejected[0] > 0);
    CHECK(spool.share(row, 0).rejected[0] <= 4);
}

TEST_CASE("a refused batch is settled as rejected") {
    FakeSpool spool;
    const auto extent = spool.commit(10, spool.row());
    Worker worker(spool);
    worker.fake->answers = {answer(SendResult::Outcome::rejected)};
    worker.worker->start();
    const Slice slice = rest_of(*extent, 0);
    worker.worker->enqueue({&slice, 1});
    CHECK(worker.settlement().rejected == 10);
    worker.worker->stop();
    CHECK(worker.worker->facts().state == ExporterFacts::State::rejecting);
}

TEST_CASE("stopping cancels what hangs, and what was not settled stays in the spool") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    const auto extent = spool.commit(10, row);
    Worker worker(spool);
    worker.fake->hold = true;
    worker.worker->start();
    const Slice slice = rest_of(*extent, 0);
    worker.worker->enqueue({&slice, 1});
    worker.fake->wait_for_calls(1);
    CHECK_FALSE(worker.worker->idle());
    worker.worker->stop();
    worker.worker->stop();  // Safe twice.
    CHECK(worker.inbox.take().empty());
    CHECK(spool.share(row, 0).pending == 10);
    CHECK(worker.worker->facts().errors ==
          0);  // The cancelled call is not the destination's fault.
    spool.restart();
    CHECK(spool.spool->left_over().size() == 1);
}

TEST_CASE("what does not come back is not waited for beyond the deadline") {
    FakeSpool spool;
    const std::uint32_t row = spool.row();
    const auto extent = spool.commit(10, row);
    Worker worker(spool, 0, 64 << 20, 2);
    for (FakeExporter* fake : worker.fakes) fake->hold = fake->deaf = true;
    worker.worker->start();
    const Slice slice = rest_of(*extent, 0);
    worker.worker->enqueue({&slice, 1});
    wait_until([&] { return worker.worker->facts().in_flight_spans == 10; });
    using Clock = std::chrono::steady_clock;
    CHECK_FALSE(worker.worker->stop_before(Clock::now()));
    CHECK_FALSE(worker.worker->stop_before(Clock::now() + 20ms));  // Safe twice.
    CHECK(worker.inbox.take().empty());
    CHECK(spool.share(row, 0).pending == 10);
    for (FakeExporter* fake : worker.fakes) fake->let_go();
    CHECK(worker.worker->stop_before(Clock::now() + 60s));
    CHECK(worker.worker->stop_before(Clock::now()));
}

TEST_CASE("a slow exporter does not delay another") {
    FakeSpool spool;
    const auto extent = spool.commit(10, spool.row());
    Worker slow(spool, 0);
    Worker fast(spool, 1);
    slow.fake->hold = true;
    slow.worker->start();
    fast.worker->start();
    const Slice slice = rest_of(*extent, 0);
    slow.worker->enqueue({&slice, 1});
    slow.fake->wait_for_calls(1);
    for (int i = 0; i < 20; ++i) {
        fast.worker->enqueue({&slice, 1});
        CHECK(fast.settlement().slices[0].spans == 10);
    }
    CHECK(slow.inbox.take().empty());
    slow.fake->let_go();
    CHECK(slow.settlement().rejected == 0);
    slow.worker->stop();
    fast.worker->stop();
}
