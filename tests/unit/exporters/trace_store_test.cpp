#include "exporters/trace_store.hpp"

#include "tests/unit/child.hpp"
#include "tests/unit/exporters/trace_store_fixture.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

using namespace oteld;
using namespace oteld::exporters;
using namespace oteld::test;

using Outcome = SendResult::Outcome;

TEST_CASE("a store locked by another program is a reason to retry") {
    const Directory directory;
    auto store = store_in(directory);
    expect_delivered(store->send(order_batch().batch()));
    sqlite3* other = raw_open(directory.store());
    REQUIRE(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK);
    BatchOf batch;
    batch.add("a", {span_message({.trace_id = trace_id_of(1)})});
    const SendResult result = store->send(batch.batch());
    CHECK(result.outcome == Outcome::retry_after);
    CHECK(result.message.find("locked") != std::string::npos);
    CHECK(list(directory).size() == 1);  // A reader is not locked out.
    sqlite3_exec(other, "ROLLBACK", nullptr, nullptr, nullptr);
    sqlite3_close(other);
    expect_delivered(store->send(batch.batch()));
    CHECK(list(directory).size() == 2);
}

TEST_CASE("after cancel nothing is sent any more") {
    const Directory directory;
    auto store = store_in(directory);
    store->cancel();
    store->cancel();
    CHECK(store->send(order_batch().batch()).outcome == Outcome::retry_after);
    CHECK_FALSE(std::filesystem::exists(directory.store()));
}

TEST_CASE("a batch that was stored survives the death of the process at once") {
    const Directory directory;
    const int status = status_of_child([&] {
        config::TraceStore settings;
        auto store = make_trace_store(settings, directory.store(), [] { return clock_ms; });
        if (store->send(order_batch().batch()).outcome != Outcome::delivered) ::_exit(1);
        ::kill(::getpid(), SIGKILL);
    });
    CHECK(WIFSIGNALED(status));
    CHECK(list(directory).size() == 1);
    CHECK(list(directory)[0].spans == 3);
}
