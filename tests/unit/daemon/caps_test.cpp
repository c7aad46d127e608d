// What one user may take of the daemon: files, bytes, spans in the spool.
#include "daemon/intake/intake.hpp"

#include "fake_host.hpp"

#include <doctest/doctest.h>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;

TEST_CASE("another user's ids are no way into a process: owner and process id name it together") {
    Host host;
    FakeSegment first(host.spool.directory, "a.ring");
    FakeSegment::Shape shape;
    shape.process = 8;
    FakeSegment other(host.spool.directory, "b.ring", shape);
    host.round();
    CHECK(host.intake->processes().size() == 2);
}

TEST_CASE("a user beyond the caps is refused by name, the files within them are drained") {
    Host host;
    host.settings.user_files_max = 2;
    host.start();
    std::vector<std::unique_ptr<FakeSegment>> segments;
    for (int i = 0; i < 4; ++i) {
        FakeSegment::Shape shape;
        shape.process = static_cast<std::uint8_t>(i + 1);
        segments.push_back(std::make_unique<FakeSegment>(
            host.spool.directory, std::string(1, static_cast<char>('a' + i)) + ".ring", shape));
        segments.back()->put(0, numbered(static_cast<std::uint64_t>(i) + 1));
    }
    CHECK(host.round() == 2);
    CHECK(host.intake->refused().size() == 2);
    CHECK(host.intake->refused()[0].why.find("ring files") != std::string::npos);
    for (const auto& segment : segments) segment->die();
    for (int i = 0; i < 6; ++i) host.round();
    CHECK(host.numbers().size() == 4);
    CHECK(host.intake->refused().empty());
}

TEST_CASE("refused files beyond those that are named are counted") {
    Host host;
    host.settings.user_files_max = 1;
    host.start();
    std::vector<std::unique_ptr<FakeSegment>> segments;
    for (std::uint8_t i = 0; i < 70; ++i) {
        FakeSegment::Shape shape;
        shape.process = i;
        segments.push_back(std::make_unique<FakeSegment>(host.spool.directory,
                                                         std::to_string(i) + ".ring", shape));
        segments.back()->put(0, numbered(i + 1U));
    }
    for (int i = 0; i < 3; ++i) {
        host.round();
        CHECK(host.intake->refused().size() == 64);
        CHECK(host.intake->refused_unnamed() == 5);
    }
    for (const auto& segment : segments) segment->die();
    for (int i = 0; i < 300; ++i) host.round();
    CHECK(host.numbers().size() == 70);
    CHECK(host.intake->refused().empty());
    CHECK(host.intake->refused_unnamed() == 0);
}

TEST_CASE("a user with too many spans in the spool is not drained until some are settled") {
    Host host;
    host.settings.user_spans_max = 10;
    host.start();
    FakeSegment segment(host.spool.directory, "a.ring");
    for (std::uint64_t i = 1; i <= 30; ++i) segment.put(i % 2, numbered(i));
    const auto refused = [&host] {
        REQUIRE(host.intake->users().size() == 1);
        const UserSpans& user = host.intake->users().front();
        CHECK(user.uid == ::geteuid());
        return user.refused ? user.spans : 0;
    };
    CHECK(host.round() == 15);  // What one step took: the cap is looked at before each.
    CHECK(refused() == 15);
    CHECK(host.round() == 0);
    CHECK(refused() == 15);
    // A restart counts again what is in the spool.
    host.restart();
    CHECK(host.round() == 0);
    CHECK(refused() == 15);
    for (const ExtentRef& extent : host.spool.spool->left_over())
        host.spool.settle(extent, 0, extent.header->spans);
    CHECK(host.round() == 15);
    CHECK(host.row().drained == 30);
    host.settle_all();
    CHECK(host.round() == 0);
    CHECK(host.intake->users().empty());
}
