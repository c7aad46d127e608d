#include "daemon/status/json.hpp"

#include "daemon/status/observer.hpp"
#include "status_fixture.hpp"

#include <doctest/doctest.h>

namespace oteld::status {
namespace {

TEST_CASE("the document has the promised names and reads back equal") {
    Snapshot snapshot = busy();
    judge(snapshot, now);
    const std::string document = to_json(snapshot);
    CHECK(document.find("{\"schema_version\":1,\"verdict\":\"degraded\",\"reasons\":[") == 0);
    CHECK(has(document, R"("service":"orders","process":4121,)"));
    CHECK(has(
        document,
        R"("started":1000,"unsampled":100,"open":4,"lost":1,"dropped":{"ring_full":20,"too_large":5},"in_ring":10,)"));
    CHECK(has(
        document,
        R"("exporters":[{"name":"otlp_grpc/tempo","filtered":{"rule-1":50},"in_daemon":30,"delivered":773,)"
        R"("rejected":{"partial":3,"refused":4},"balance":0}])"));
    CHECK(document.find('\n') == std::string::npos);
    const auto back = from_json(document);
    REQUIRE(back);
    CHECK(to_json(*back) == document);
    CHECK(text_of(*back) == text_of(snapshot));
    const auto indented = from_json(indent_json(document));
    REQUIRE(indented);
    CHECK(to_json(*indented) == document);
}

TEST_CASE("every enumerator survives the document") {
    Snapshot snapshot = busy();
    for (const Verdict verdict :
         {Verdict::healthy, Verdict::degraded, Verdict::not_running, Verdict::cannot_tell}) {
        for (const Phase phase :
             {Phase::starting, Phase::running, Phase::stopping, Phase::stopped}) {
            snapshot.verdict = verdict;
            snapshot.phase = phase;
            const auto back = from_json(to_json(snapshot));
            REQUIRE(back);
            CHECK(back->verdict == verdict);
            CHECK(back->phase == phase);
        }
    }
    for (const Life life : {Life::alive, Life::ended, Life::crashed, Life::merged}) {
        snapshot.applications[0].life = life;
        CHECK(from_json(to_json(snapshot))->applications[0].life == life);
    }
    for (const ExporterState state :
         {ExporterState::idle, ExporterState::ok, ExporterState::retrying, ExporterState::rejecting,
          ExporterState::failed}) {
        snapshot.exporters[0].state = state;
        CHECK(from_json(to_json(snapshot))->exporters[0].state == state);
    }
}

TEST_CASE("hostile names stay inside their string of the document") {
    Snapshot snapshot = busy();
    snapshot.applications[0].service = "a\"},\n{\"service\":\"\xff\033";
    const auto back = from_json(to_json(snapshot));
    REQUIRE(back);
    REQUIRE(back->applications.size() == 1);
    CHECK(back->applications[0].service == "a\"}, {\"service\":\"? ");
}

TEST_CASE("documents that cannot be read are refused; fields that are missing or strange are not") {
    CHECK(from_json("").error().code == ErrorCode::corrupt);
    CHECK(from_json("[]").error().code == ErrorCode::corrupt);
    CHECK(from_json("{}").error().code == ErrorCode::unsupported);
    CHECK(from_json(R"({"schema_version":2})").error().code == ErrorCode::unsupported);
    const auto odd = from_json(
        R"({"schema_version":1,"new":[1],"pid":"x","applications":[7,{"started":-1,"dropped":[],"exporters":{}}]})");
    REQUIRE(odd);
    CHECK(odd->pid == 0);
    REQUIRE(odd->applications.size() == 1);
    CHECK(odd->applications[0].started == 0);
}

TEST_CASE("a document beyond its bound keeps the applications that were seen last, and says so") {
    Snapshot snapshot = busy();
    for (int i = 1; i <= 100; ++i) {
        Application a = orders();
        a.service = "old-" + std::to_string(i);
        a.last_seen_ns = now - i * second;
        snapshot.applications.push_back(a);
    }
    constexpr std::size_t bound = 20'000;
    const std::string document = to_json(snapshot, bound);
    CHECK(document.size() <= bound);
    const auto back = from_json(document);
    REQUIRE(back);
    REQUIRE_FALSE(back->applications.empty());
    CHECK(back->applications.size() < 101);
    CHECK(back->applications[0].service == "orders");
    CHECK(has(back->notes.back(), "are shown of 101"));
}

}  // namespace
}  // namespace oteld::status
