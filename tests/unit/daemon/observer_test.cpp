#include "daemon/status/observer.hpp"

#include "daemon/status/json.hpp"
#include "status_fixture.hpp"

#include <doctest/doctest.h>

namespace oteld::status {
namespace {

TEST_CASE("rates are of the last ten seconds, losses of the last minute") {
    Observer observer;
    Snapshot snapshot;
    snapshot.applications = {orders()};
    snapshot.exporters = {busy().exporters[0]};
    snapshot.exporters[0].state = ExporterState::ok;
    Application& a = snapshot.applications[0];
    Exporter& e = snapshot.exporters[0];
    std::int64_t time = now;
    const auto tick = [&](std::uint64_t started, std::uint64_t lost) {
        a.started += started;
        a.lost += lost;
        e.delivered += started / 2;
        observer.observe(snapshot, time, time);
        time += second;
    };
    tick(0, 0);
    CHECK(a.spans_per_s == 0);
    CHECK(a.lost_recently == 0);  // It is an hour old: what it lost before was not now.
    CHECK(snapshot.verdict == Verdict::healthy);
    for (int i = 0; i < 10; ++i) tick(100, 0);
    CHECK(a.spans_per_s == doctest::Approx(100));
    CHECK(e.delivered_per_s == doctest::Approx(50));
    tick(100, 7);
    CHECK(a.lost_recently == 7);
    CHECK(snapshot.verdict == Verdict::degraded);
    CHECK(has(snapshot.reasons.at(0), "orders (pid 4121) lost 7 spans in the last minute"));
    for (int i = 0; i < 20; ++i) tick(0, 0);
    CHECK(a.spans_per_s == 0);
    CHECK(a.lost_recently == 7);
    for (int i = 0; i < 60; ++i) tick(0, 0);
    CHECK(a.lost_recently == 0);
    CHECK(snapshot.verdict == Verdict::healthy);
}

TEST_CASE("a wall clock that is set moves neither rates nor the last minute") {
    for (const std::int64_t step : {-3600 * second, 3600 * second}) {
        Observer observer;
        Snapshot snapshot;
        snapshot.applications = {orders()};
        Application& a = snapshot.applications[0];
        std::int64_t elapsed = 5 * second;  // Since the machine was started.
        std::int64_t time = now;
        const auto tick = [&](std::uint64_t started, std::uint64_t lost) {
            a.started += started;
            a.lost += lost;
            observer.observe(snapshot, time, elapsed);
            time += second;
            elapsed += second;
        };
        for (int i = 0; i < 11; ++i) tick(100, 0);
        tick(100, 7);
        time += step;
        tick(100, 0);
        CHECK(a.spans_per_s == doctest::Approx(100));
        CHECK(a.lost_recently == 7);
        for (int i = 0; i < 61; ++i) tick(0, 0);
        CHECK(a.spans_per_s == 0);
        CHECK(a.lost_recently == 0);
        CHECK(snapshot.verdict == Verdict::healthy);
    }
}

TEST_CASE("recording that is turned off is said first, and is no fault") {
    Snapshot snapshot;
    snapshot.version = "0.1.0";
    snapshot.recording = false;
    judge(snapshot, 0);
    CHECK(snapshot.verdict == Verdict::healthy);
    REQUIRE(snapshot.reasons.size() == 1);
    CHECK(has(snapshot.reasons[0], "recording is turned off by configuration"));
    const auto back = from_json(to_json(snapshot));
    REQUIRE(back);
    CHECK_FALSE(back->recording);
    const std::string text = render(*back, {});
    CHECK(has(text, "HEALTHY"));
    CHECK(has(text, "recording is turned off by configuration"));
    CHECK_FALSE(has(text, "has written a span yet"));
    snapshot.spool.full = true;
    judge(snapshot, 0);
    CHECK(snapshot.verdict == Verdict::degraded);
    CHECK(has(snapshot.reasons.at(0), "recording is turned off"));
}

TEST_CASE("what a young application lost before it was first seen is recent") {
    Observer observer;
    Snapshot snapshot;
    snapshot.applications = {orders()};
    snapshot.applications[0].since_ns = now - second / 2;
    observer.observe(snapshot, now, now);
    CHECK(snapshot.applications[0].lost_recently == 26);
    CHECK(snapshot.applications[0].spans_per_s == doctest::Approx(2000));
}

TEST_CASE("counters that go back, and applications that come and go, give no false rates") {
    Observer observer;
    Snapshot snapshot;
    snapshot.applications = {orders()};
    observer.observe(snapshot, now, now);
    snapshot.applications[0].started = 10;
    snapshot.applications[0].lost = 0;
    snapshot.applications[0].dropped.clear();
    observer.observe(snapshot, now + second, now + second);
    CHECK(snapshot.applications[0].spans_per_s == 0);
    CHECK(snapshot.applications[0].lost_recently == 0);
    Snapshot empty;
    observer.observe(empty, now + 2 * second, now + 2 * second);
    snapshot.applications = {orders()};
    observer.observe(snapshot, now + 3 * second, now + 3 * second);
    CHECK(snapshot.applications[0].spans_per_s == 0);
}

struct JudgeCase {
    const char* what;
    void (*change)(Snapshot&);
    const char* reason;  // "": healthy
};

TEST_CASE("each fault has its sentence, and nothing else degrades") {
    const JudgeCase cases[] = {
        {"nothing", [](Snapshot&) {}, ""},
        {"idle exporter", [](Snapshot& s) { s.exporters[0].state = ExporterState::idle; }, ""},
        {"a loss long ago", [](Snapshot& s) { s.applications = {orders()}; }, ""},
        {"retrying", [](Snapshot& s) { s.exporters[0] = busy().exporters[0]; },
         "exporter otlp_grpc/tempo has been retrying for 50 s: 503 Service Unavailable, "
         "Retry-After 30 s; 30 spans wait"},
        {"rejecting", [](Snapshot& s) { s.exporters[0].state = ExporterState::rejecting; },
         "loses spans"},
        {"failed", [](Snapshot& s) { s.exporters[0].state = ExporterState::failed; },
         "does not run"},
        {"rejected lately", [](Snapshot& s) { s.exporters[0].rejected_recently = 2; },
         "rejected 2 spans in the last minute"},
        {"full spool", [](Snapshot& s) { s.spool.full = true; }, "the spool is full"},
        {"full ring directory", [](Snapshot& s) { s.directory.full = true; },
         "is full: programs that start now are not recorded"},
        {"no memory for the spool", [](Snapshot& s) { s.spool.file_system_full = true; },
         "make room there, or enlarge it"},
        {"damaged ring",
         [](Snapshot& s) {
             s.rings.quarantined = {{"x.ring", "why"}};
         },
         "x.ring is damaged and not drained any more: why"},
        {"refused ring",
         [](Snapshot& s) {
             s.rings.refused = {{"x.ring", "why"}, {"y.ring", "why"}};
         },
         "x.ring is not drained: why (and 1 more)"},
    };
    for (const JudgeCase& c : cases) {
        CAPTURE(c.what);
        Snapshot snapshot;
        Exporter exporter;
        exporter.name = "x";
        exporter.state = ExporterState::ok;
        snapshot.exporters = {exporter};
        c.change(snapshot);
        judge(snapshot, now);
        if (*c.reason == '\0') {
            CHECK(snapshot.verdict == Verdict::healthy);
            CHECK(snapshot.reasons.empty());
        } else {
            CHECK(snapshot.verdict == Verdict::degraded);
            REQUIRE(snapshot.reasons.size() == 1);
            CAPTURE(snapshot.reasons[0]);
            CHECK(has(snapshot.reasons[0], c.reason));
        }
    }
}

}  // namespace
}  // namespace oteld::status
