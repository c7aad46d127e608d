#include "exporters/delivery.hpp"

#include "exporters/otlp_json_file.hpp"
#include "tests/unit/exporters/span_builder.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

using namespace oteld::exporters;
using namespace std::chrono_literals;

namespace {

using Kind = Delivery::Action::Kind;
using Outcome = SendResult::Outcome;

double no_jitter() { return 0.5; }

Delivery::Answered retry_after(std::optional<std::chrono::milliseconds> wait = {}) {
    SendResult result;
    result.outcome = Outcome::retry_after;
    result.wait = wait;
    result.message = "busy";
    return {result};
}

Delivery::Answered delivered(std::uint32_t rejected = 0, std::string message = "") {
    SendResult result;
    result.rejected_spans = rejected;
    result.message = std::move(message);
    return {result};
}

Delivery::Answered rejected(RejectReason reason) {
    SendResult result;
    result.outcome = Outcome::rejected;
    result.reason = reason;
    result.message = "no";
    return {result};
}

// Answers every try with "later" at once, and returns the waits until it is settled, at most
// `tries`.
std::vector<std::chrono::milliseconds> waits(Delivery& delivery, std::size_t tries,
                                             std::optional<std::chrono::milliseconds> named = {}) {
    std::vector<std::chrono::milliseconds> out;
    Delivery::Time now{1000};
    Delivery::Action action = delivery.resume(Delivery::Begin{}, now);
    while (out.size() < tries && action.kind == Kind::send) {
        action = delivery.resume(retry_after(named), now);
        if (action.kind != Kind::wait) break;
        out.push_back(action.wake_at - now);
        now = action.wake_at;
        action = delivery.resume(Delivery::Woke{}, now);
    }
    return out;
}

}  // namespace

TEST_CASE("a batch is sent, and what the backend takes is delivered") {
    Delivery delivery(10, {}, no_jitter);
    CHECK(delivery.resume(Delivery::Begin{}, 0ms).kind == Kind::send);
    const auto action = delivery.resume(delivered(), 1ms);
    CHECK(action.kind == Kind::settle);
    CHECK(action.delivered == 10);
    CHECK(action.rejected == 0);
    CHECK(action.message.empty());
}

TEST_CASE("a batch without spans is never sent") {
    Delivery delivery(0, {}, no_jitter);
    const auto action = delivery.resume(Delivery::Begin{}, 0ms);
    CHECK(action.kind == Kind::settle);
    CHECK(action.delivered == 0);
    CHECK(action.rejected == 0);
    CHECK(delivery.attempts() == 0);
}

TEST_CASE("a partial success is not tried again, its rejected spans are counted") {
    struct Case {
        std::uint32_t says;
        std::uint32_t delivered;
        std::uint32_t rejected;
    };
    for (const Case& c : {Case{0, 10, 0}, {3, 7, 3}, {10, 0, 10}, {4'000'000'000U, 0, 10}}) {
        CAPTURE(c.says);
        Delivery delivery(10, {}, no_jitter);
        (void)delivery.resume(Delivery::Begin{}, 0ms);
        const auto action = delivery.resume(delivered(c.says, "warning"), 1ms);
        CHECK(action.kind == Kind::settle);
        CHECK(action.delivered == c.delivered);
        CHECK(action.rejected == c.rejected);
        CHECK(action.reason == RejectReason::partial);
        CHECK(action.message == "warning");
    }
}

TEST_CASE("a rejected batch is settled at once with the exporter's reason") {
    for (const RejectReason reason : {RejectReason::refused, RejectReason::too_large}) {
        Delivery delivery(7, {}, no_jitter);
        (void)delivery.resume(Delivery::Begin{}, 0ms);
        const auto action = delivery.resume(rejected(reason), 1ms);
        CHECK(action.kind == Kind::settle);
        CHECK(action.delivered == 0);
        CHECK(action.rejected == 7);
        CHECK(action.reason == reason);
        CHECK(action.message == "no");
    }
}

TEST_CASE("the wait grows from 5 s by half to 30 s, and after 300 s the batch is given up") {
    Delivery delivery(1, {}, no_jitter);
    const auto got = waits(delivery, 100);
    const std::vector<std::chrono::milliseconds> first{5000ms,  7500ms,  11250ms, 16875ms,
                                                       25312ms, 30000ms, 30000ms};
    REQUIRE(got.size() >= first.size());
    CHECK(std::vector(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(first.size())) ==
          first);
    Delivery::Time sum{0};
    for (const auto wait : got) sum += wait;
    CHECK(sum <= 300s);
    CHECK(sum + 30s > 300s);
    const auto last = delivery.resume(Delivery::Woke{}, 0ms);
    CHECK(last.kind == Kind::settle);
    CHECK(last.rejected == 1);
    CHECK(last.reason == RejectReason::expired);
    CHECK(last.message.find("busy") == 0);
    CHECK(last.message.find("max_elapsed_time") != std::string::npos);
}

TEST_CASE("jitter spreads the wait by the factor and no further") {
    struct Case {
        double random;
        double factor;
        std::chrono::milliseconds wait;
    };
    for (const Case& c : {Case{0.0, 0.5, 2500ms},
                          {0.5, 0.5, 5000ms},
                          {0.999999, 0.5, 7499ms},
                          {0.0, 0.0, 5000ms},
                          {0.999, 0.0, 5000ms}}) {
        CAPTURE(c.random);
        CAPTURE(c.factor);
        oteld::config::Retry retry;
        retry.randomization_factor = c.factor;
        Delivery delivery(1, retry, [&] { return c.random; });
        CHECK(waits(delivery, 1).at(0) == c.wait);
    }
}

TEST_CASE("the wait is the longer of back-off and what the backend named, and grows from it") {
    Delivery longer(1, {}, no_jitter);
    (void)longer.resume(Delivery::Begin{}, 0ms);
    CHECK(longer.resume(retry_after(12s), 0ms).wake_at == 12s);
    (void)longer.resume(Delivery::Woke{}, 12s);
    CHECK(longer.resume(retry_after(), 12s).wake_at == 12s + 18s);

    Delivery shorter(1, {}, no_jitter);
    (void)shorter.resume(Delivery::Begin{}, 0ms);
    CHECK(shorter.resume(retry_after(1s), 0ms).wake_at == 5s);
    (void)shorter.resume(Delivery::Woke{}, 5s);
    CHECK(shorter.resume(retry_after(0s), 5s).wake_at == 5s + 7500ms);

    Delivery negative(1, {}, no_jitter);
    (void)negative.resume(Delivery::Begin{}, 0ms);
    CHECK(negative.resume(retry_after(-9s), 0ms).wake_at == 5s);
}

TEST_CASE("a time named beyond the limit gives the batch up without waiting for it") {
    Delivery delivery(4, {}, no_jitter);
    (void)delivery.resume(Delivery::Begin{}, 0ms);
    const auto action = delivery.resume(retry_after(301s), 0ms);
    CHECK(action.kind == Kind::settle);
    CHECK(action.rejected == 4);
    CHECK(action.reason == RejectReason::expired);
}

TEST_CASE("the time that requests themselves take counts against the limit") {
    Delivery delivery(1, {}, no_jitter);
    (void)delivery.resume(Delivery::Begin{}, 0ms);
    CHECK(delivery.resume(retry_after(), 296s).reason == RejectReason::expired);
}

TEST_CASE("without a limit it is tried for ever") {
    oteld::config::Retry retry;
    retry.max_elapsed_time = 0ms;
    Delivery delivery(1, retry, no_jitter);
    CHECK(waits(delivery, 500).size() == 500);
    CHECK(delivery.attempts() == 501);
}

// The file exporter on a disk that is full: /dev/full, behind a link, until there is room.
TEST_CASE("a full disk is waited out, for however long, where a backend would be given up") {
    using oteld::config::ExporterSettings;
    char directory[] = "/tmp/oteld-delivery-XXXXXX";
    REQUIRE(::mkdtemp(directory) != nullptr);
    const std::filesystem::path path = std::filesystem::path(directory) / "spans.jsonl";
    std::filesystem::create_symlink("/dev/full", path);
    ExporterSettings settings;
    settings.what = oteld::config::File{.path = path.string()};
    auto exporter = make_otlp_json_file(settings);
    REQUIRE(exporter);
    oteld::test::BatchOf spans;
    spans.add("shop", {oteld::test::span_message({})});

    struct Case {
        ExporterSettings::Kind kind;
        bool gives_up;
    };
    for (const Case& c :
         {Case{ExporterSettings::Kind::otlp_grpc, true}, Case{ExporterSettings::Kind::file, false},
          Case{ExporterSettings::Kind::trace_store, false}}) {
        CAPTURE(static_cast<int>(c.kind));
        Delivery delivery(1, oteld::config::default_retry(c.kind), no_jitter);
        Delivery::Time now{0};
        Delivery::Action action = delivery.resume(Delivery::Begin{}, now);
        while (action.kind == Kind::send && now < 48h) {
            const SendResult result = (*exporter)->send(spans.batch());
            REQUIRE(result.outcome == Outcome::retry_after);
            REQUIRE(result.message.find("is full: free some space") != std::string::npos);
            action = delivery.resume(Delivery::Answered{result}, now);
            if (action.kind != Kind::wait) break;
            CHECK(action.wake_at - now <= 30s);
            now = action.wake_at;
            action = delivery.resume(Delivery::Woke{}, now);
        }
        CHECK((action.kind == Kind::settle) == c.gives_up);
        if (c.gives_up) {
            CHECK(action.reason == RejectReason::expired);
            continue;
        }
        CHECK(now >= 48h);
        std::filesystem::remove(path);  // Room: the next try makes a file of its own.
        action = delivery.resume(Delivery::Answered{(*exporter)->send(spans.batch())}, now);
        CHECK(action.kind == Kind::settle);
        CHECK(action.delivered == 1);
        std::filesystem::remove(path);
        std::filesystem::create_symlink("/dev/full", path);
    }
    std::filesystem::remove_all(directory);
}

TEST_CASE("with retrying off the first failure settles the batch") {
    oteld::config::Retry retry;
    retry.enabled = false;
    Delivery delivery(3, retry, no_jitter);
    (void)delivery.resume(Delivery::Begin{}, 0ms);
    const auto action = delivery.resume(retry_after(), 1ms);
    CHECK(action.kind == Kind::settle);
    CHECK(action.rejected == 3);
    CHECK(action.reason == RejectReason::expired);
    CHECK(action.message.find("retry_on_failure") != std::string::npos);
}

TEST_CASE("waking too early waits on") {
    Delivery delivery(1, {}, no_jitter);
    (void)delivery.resume(Delivery::Begin{}, 0ms);
    (void)delivery.resume(retry_after(), 0ms);
    const auto action = delivery.resume(Delivery::Woke{}, 4999ms);
    CHECK(action.kind == Kind::wait);
    CHECK(action.wake_at == 5s);
    CHECK(delivery.attempts() == 1);
    CHECK(delivery.resume(Delivery::Woke{}, 5s).kind == Kind::send);
}

TEST_CASE("stopping keeps the batch in every state but settled") {
    Delivery sending(1, {}, no_jitter);
    (void)sending.resume(Delivery::Begin{}, 0ms);
    CHECK(sending.resume(Delivery::Stopped{}, 0ms).kind == Kind::keep);

    Delivery waiting(1, {}, no_jitter);
    (void)waiting.resume(Delivery::Begin{}, 0ms);
    (void)waiting.resume(retry_after(), 0ms);
    CHECK(waiting.resume(Delivery::Stopped{}, 0ms).kind == Kind::keep);
    CHECK(waiting.resume(Delivery::Woke{}, 1h).kind == Kind::keep);

    Delivery fresh(1, {}, no_jitter);
    CHECK(fresh.resume(Delivery::Stopped{}, 0ms).kind == Kind::keep);
    CHECK(fresh.resume(Delivery::Begin{}, 0ms).kind == Kind::keep);

    Delivery settled(2, {}, no_jitter);
    (void)settled.resume(Delivery::Begin{}, 0ms);
    (void)settled.resume(delivered(), 0ms);
    const auto action = settled.resume(Delivery::Stopped{}, 0ms);
    CHECK(action.kind == Kind::settle);
    CHECK(action.delivered == 2);
}

TEST_CASE("an event that does not fit the state changes nothing") {
    Delivery delivery(2, {}, no_jitter);
    (void)delivery.resume(Delivery::Begin{}, 0ms);
    CHECK(delivery.resume(Delivery::Woke{}, 1h).kind == Kind::send);
    CHECK(delivery.resume(Delivery::Begin{}, 1h).kind == Kind::send);
    CHECK(delivery.attempts() == 1);
    (void)delivery.resume(retry_after(), 0ms);
    CHECK(delivery.resume(delivered(), 0ms).kind == Kind::wait);
    CHECK(delivery.resume(Delivery::Begin{}, 1h).kind == Kind::wait);
}
