#include "daemon/status/render.hpp"

#include "daemon/status/json.hpp"
#include "daemon/status/observer.hpp"
#include "daemon/status/words.hpp"
#include "status_fixture.hpp"

#include <doctest/doctest.h>

namespace oteld::status {
namespace {

TEST_CASE("the balance is what is left of the started spans") {
    const Application a = orders();
    CHECK(balance(a, a.exporters[0]) == 0);
    Application moved = a;
    moved.started += 3;
    CHECK(balance(moved, moved.exporters[0]) == 3);
    moved.started -= 5;
    CHECK(balance(moved, moved.exporters[0]) == -2);
}

TEST_CASE("the verdict comes first, with reasons, then everything else in its order") {
    Snapshot snapshot = busy();
    judge(snapshot, now);
    const std::string text = text_of(snapshot);
    CHECK(text.find(
              "oteld 1.2.3  DEGRADED, STOPPING  pid 99, up 1 min 30 s, config: embedded default") ==
          0);
    std::size_t at = 0;
    for (const char* heading : {"has been retrying", "\nAPPLICATIONS", "\nPIPELINE", "\nLOSSES",
                                "\nLEDGER", "\nRESOURCES", "\nLAST ERRORS", "\nNEXT"}) {
        CAPTURE(heading);
        const std::size_t found = text.find(heading, at);
        REQUIRE(found != std::string::npos);
        at = found;
    }
}

TEST_CASE("losses are listed by reason, zeros included, and the ledger is an equation") {
    const std::string text = folded(text_of(busy()));
    CHECK(has(text,
              "dropped ring_full 20 | too_large 5 | no_memory 0 | reentrant 0 | orphaned 0 | "
              "no_lane 0 | malformed 0"));
    CHECK(
        has(text, "otlp_grpc/tempo refused 4 | partial 3 | expired 0 | too_large 0 | discarded 0"));
    CHECK(has(text, "filtered by rule rule-1 50"));
    CHECK(has(text,
              "orders 4121 > otlp_grpc/tempo: 1,000 started = 100 unsampled + 4 open + 10 in ring "
              "+ 50 filtered + 30 in "
              "daemon + 773 delivered + 1 lost + 25 dropped + 7 rejected, balance 0"));
    CHECK(has(text, "balance 0: every started span is accounted for"));
    Snapshot moving = busy();
    moving.applications[0].started += 3;
    CHECK(has(folded(text_of(moving)), "balance +3"));
    CHECK(has(folded(text_of(moving)), "it must be 0 when nothing moves"));
}

TEST_CASE("what a person needs to know is said in words") {
    const std::string text = folded(text_of(busy()));
    for (const char* part :
         {"to tempo:4317", "503 Service Unavailable, Retry-After 30 s (attempt 3, for 50 s)",
          "warning: be gentle", "DAMAGED bad.ring: its cursors contradict each other",
          "REFUSED new.ring: layout 2", "FULL: draining has stopped", "on disk", "STOPPING",
          "last words: bye", "note: only your own programs can be drained", "note: a note",
          "3 spans outgrew", "6 records of a kind", "503 (x7)", "9 MiB", "1.5% of a core"}) {
        CAPTURE(part);
        CHECK(has(text, part));
    }
    Snapshot crashed = busy();
    crashed.applications[0].life = Life::crashed;
    CHECK(has(folded(text_of(crashed)), "2 recovered and exported as unfinished, 1 lost with it"));
}

TEST_CASE("lines fit the width, from 60 columns on") {
    Snapshot snapshot = busy();
    snapshot.applications[0].service =
        "a-service-with-a-name-that-was-generated-by-a-program-and-is-long";
    snapshot.exporters[0].name = "otlp_http/with-a-rather-long-name-too";
    snapshot.applications[0].exporters[0].name = snapshot.exporters[0].name;
    judge(snapshot, now);
    for (const std::size_t width : {60, 72, 80, 100, 132, 200}) {
        CAPTURE(width);
        std::istringstream text(text_of(snapshot, width));
        for (std::string row; std::getline(text, row);) {
            CAPTURE(row);
            CHECK(text_width(row) <= width);
            CHECK((row.empty() || row.back() != ' '));
        }
    }
}

TEST_CASE("colour is there when asked for and changes no word") {
    Snapshot snapshot = busy();
    judge(snapshot, now);
    const std::string plain = text_of(snapshot, 100, false);
    std::string coloured = text_of(snapshot, 100, true);
    CHECK_FALSE(has(plain, "\033"));
    CHECK(has(coloured, "\033[1;33mDEGRADED"));
    for (std::size_t at = coloured.find('\033'); at != std::string::npos;
         at = coloured.find('\033')) {
        coloured.erase(at, coloured.find('m', at) - at + 1);
    }
    CHECK(coloured == plain);
}

TEST_CASE("without anything to read only the verdict and its reason are shown") {
    Snapshot snapshot;
    snapshot.verdict = Verdict::not_running;
    snapshot.reasons = {"no oteld serves /run/oteld"};
    CHECK(text_of(snapshot) == "oteld  NOT RUNNING\n  no oteld serves /run/oteld\n");
}

TEST_CASE("applications beyond the limit are counted, those that lose spans are shown first") {
    Snapshot snapshot = busy();
    for (int i = 0; i < 50; ++i) {
        Application a = orders();
        a.service = "quiet-" + std::to_string(i);
        snapshot.applications.insert(snapshot.applications.begin(), a);
    }
    snapshot.applications.back().lost_recently = 5;
    const std::string text = text_of(snapshot);
    CHECK(has(text, "... and 31 more"));
    CHECK(text.find("orders ") < text.find("quiet-"));
}

}  // namespace
}  // namespace oteld::status
