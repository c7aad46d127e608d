#include "daemon/status/render.hpp"

#include <doctest/doctest.h>

#include <sstream>
#include <string>

#include "daemon/status/json.hpp"
#include "daemon/status/observer.hpp"
#include "daemon/status/table.hpp"
#include "daemon/status/words.hpp"

namespace oteld::status {
namespace {

constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t now = 1'800'000'000 * second;

Application orders() {
    Application a;
    a.id = "a1";
    a.service = "orders";
    a.process = 4121;
    a.uid = 1000;
    a.executable = "orders-server";
    a.since_ns = now - 3600 * second;
    a.last_seen_ns = now;
    a.started = 1000;
    a.unsampled = 100;
    a.open = 4;
    a.lost = 1;
    a.dropped = {{"ring_full", 20}, {"too_large", 5}};
    a.in_ring = 10;
    a.recovered_open = 2;
    a.not_crash_visible = 3;
    a.skipped_records = 6;
    a.ring_bytes = 1 << 20;
    a.ring_used = 1 << 18;
    ExporterShare share;
    share.name = "otlp_grpc/tempo";
    share.filtered = {{"rule-1", 50}};
    share.in_daemon = 30;
    share.delivered = 773;
    share.rejected = {{"refused", 4}, {"partial", 3}};
    a.exporters.push_back(share);
    return a;
}

Snapshot busy() {
    Snapshot s;
    s.version = "1.2.3";
    s.pid = 99;
    s.started_ns = now - 90 * second;
    s.config_source = "embedded default";
    s.applications.push_back(orders());
    Exporter e;
    e.name = "otlp_grpc/tempo";
    e.kind = "otlp_grpc";
    e.destination = "tempo:4317";
    e.state = ExporterState::retrying;
    e.words = "503 Service Unavailable, Retry-After 30 s";
    e.last_ok_ns = now - 60 * second;
    e.failing_since_ns = now - 50 * second;
    e.attempts = 3;
    e.last_error = "503";
    e.errors = 7;
    e.queue_spans = 30;
    e.queue_bytes = 7000;
    e.requests = 11;
    e.sent_bytes = 123'456;
    e.delivered = 773;
    e.rejected = {{"refused", 4}, {"partial", 3}};
    e.warnings = {"be gentle"};
    s.exporters.push_back(e);
    s.spool = {64 << 20, 1 << 20, 1, 64, true};
    s.rings.segments = 1;
    s.rings.lanes = 2;
    s.rings.bytes = 400'000;
    s.rings.bus_errors = 3;
    s.clocks = {1, 2, 5};
    s.rings.quarantined = {{"bad.ring", "its cursors contradict each other"}};
    s.rings.refused = {{"new.ring", "layout 2"}};
    s.directory = {"/run/oteld", false,   false,
                   03777,        1 << 30, {"only your own programs can be drained"}};
    s.resources = {9 << 20, 70 << 20, 0.015, 12.5, 31, 6};
    s.last_errors = {{now - 5 * second, "otlp_grpc/tempo", "503", 7}};
    s.notes = {"a note"};
    s.last_words = "bye";
    s.phase = Phase::stopping;
    return s;
}

std::string text_of(const Snapshot& snapshot, std::size_t width = 100, bool colour = false) {
    RenderOptions options;
    options.width = width;
    options.colour = colour;
    options.now_ns = now;
    return render(snapshot, options);
}

// Text with line breaks and indentation folded into single blanks.
std::string folded(const std::string& text) {
    std::istringstream stream(text);
    std::string all;
    for (std::string word; stream >> word;) all += (all.empty() ? "" : " ") + word;
    return all;
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

TEST_CASE("numbers have separators, units and sensible precision") {
    CHECK(count_words(0) == "0");
    CHECK(count_words(999) == "999");
    CHECK(count_words(1000) == "1,000");
    CHECK(count_words(1'271'120'004) == "1,271,120,004");
    CHECK(count_words(18'446'744'073'709'551'615U) == "18,446,744,073,709,551,615");
    CHECK(spans_words(1) == "1 span");
    CHECK(spans_words(0) == "0 spans");
    CHECK(bytes_words(1023) == "1023 B");
    CHECK(bytes_words(1024) == "1 KiB");
    CHECK(bytes_words(1536) == "1.5 KiB");
    CHECK(bytes_words((1 << 20) - 1) == "1 MiB");
    CHECK(bytes_words(123 << 20) == "123 MiB");
    CHECK(rate_words(0) == "0");
    CHECK(rate_words(0.44) == "0.4");
    CHECK(rate_words(9.97) == "10");
    CHECK(rate_words(12'410.3) == "12,410");
    CHECK(duration_words(900) == "900 ns");
    CHECK(duration_words(1999) == "1 us");
    CHECK(duration_words(1'500'000) == "1 ms");
    CHECK(duration_words(59 * second) == "59 s");
    CHECK(duration_words(252 * second) == "4 min 12 s");
    CHECK(duration_words(7260 * second) == "2 h 1 min");
    CHECK(duration_words(90'000 * second) == "1 d 1 h");
    CHECK(ago_words(0, now) == "never");
    CHECK(ago_words(now, now) == "now");
    CHECK(ago_words(now + 5, now) == "now");
    CHECK(ago_words(now - 3 * second, now) == "3 s ago");
}

TEST_CASE("foreign text can neither forge a line nor drive a terminal") {
    CHECK(clean_text("plain") == "plain");
    CHECK(clean_text("gr\xc3\xbc\xc3\x9f") == "gr\xc3\xbc\xc3\x9f");
    CHECK(clean_text("a\nb\tc\x7f") == "a b c ");
    CHECK(clean_text("\033[31mred") == " [31mred");
    CHECK(clean_text("\xc2\x9b"
                     "31m") == " 31m");  // C1: another way to write ESC [
    CHECK(clean_text("\xe2\x80\xae"
                     "evil") == " evil");        // turns the direction of what follows
    CHECK(clean_text("\xff\xc3") == "??");       // not UTF-8
    CHECK(clean_text("\xed\xa0\x80") == "???");  // a surrogate
    CHECK(clean_text("\xc0\x80") == "??");       // an overlong form
}

TEST_CASE("width counts columns, and cutting keeps characters whole") {
    CHECK(text_width("gr\xc3\xbc\xc3\x9f") == 4);
    CHECK(text_width("\xe6\x97\xa5\xe6\x9c\xac") == 4);
    CHECK(clip_text("short", 5) == "short");
    CHECK(clip_text("a longer text", 8) == "a lon...");
    CHECK(clip_text("\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac", 6) == "\xe6\x97\xa5...");
}

TEST_CASE("wrapping breaks at blanks, not at solid ones, and indents what follows") {
    CHECK(wrap("one two three", 8, 2) == "one two\n  three");
    CHECK(wrap(std::string("one two") + solid_blank + "three", 9, 2) == "one\n  two three");
    CHECK(wrap("  indented", 80, 4) == "  indented");
    CHECK(wrap("unbreakable", 5, 2) == "unbreakable");
}

TEST_CASE("a table that is too wide cuts elastic text, then leaves out spare columns") {
    Table table({{"name", false, 0, true}, {"count", true}, {"spare", true, 1}});
    table.row({{"a-name-that-is-far-too-long-to-be-shown"}, {"12"}, {"345"}});
    const Painter painter(false);
    CHECK(has(table.print(80, painter), "a-name-that-is-far-too-long-to-be-shown     12    345"));
    CHECK(has(table.print(45, painter), "345"));
    CHECK(has(table.print(45, painter), "..."));
    const std::string narrow = table.print(35, painter);
    CHECK_FALSE(has(narrow, "spare"));
    CHECK(has(narrow, "12"));
}

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
