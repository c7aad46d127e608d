#include "exporters/trace_store_file.hpp"

#include "tests/unit/child.hpp"
#include "tests/unit/exporters/trace_store_fixture.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

using namespace oteld;
using namespace oteld::exporters;
using namespace oteld::test;

using Outcome = SendResult::Outcome;

TEST_CASE("a damaged file is set aside, said, and the batch goes into a new one") {
    struct Case {
        const char* what;
        void (*damage)(const std::string&);
    };
    const Case cases[] = {
        {"no database at all",
         [](const std::string& path) {
             std::ofstream(path, std::ios::trunc) << std::string(8192, 'z');
         }},
        {"a header of zeros",
         [](const std::string& path) {
             std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
             file.write(std::string(100, '\0').data(), 100);
         }},
        {"pages overwritten behind the header",
         [](const std::string& path) {
             const auto size = std::filesystem::file_size(path);
             std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
             file.seekp(4096);
             const std::string noise(size - 4096, '\xa5');
             file.write(noise.data(), static_cast<std::streamsize>(noise.size()));
         }},
        {"cut off in the middle",
         [](const std::string& path) {
             std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2 / 4096 * 4096);
         }},
    };
    for (const Case& c : cases) {
        CAPTURE(c.what);
        const Directory directory;
        auto store = store_in(directory);
        BatchOf many;
        for (std::uint32_t i = 0; i < 500; ++i)
            many.add("a", {span_message({.trace_id = trace_id_of(i)})});
        expect_delivered(store->send(many.batch()));
        store = nullptr;
        std::filesystem::remove(directory.store() + "-wal");
        std::filesystem::remove(directory.store() + "-shm");
        c.damage(directory.store());

        store = store_in(directory);
        const BatchOf batch = order_batch();
        const SendResult result = store->send(batch.batch());
        expect_delivered(result);
        CHECK(result.message.find("set aside") != std::string::npos);
        CHECK(directory.damaged_files() == 1);
        CHECK(list(directory).size() == 1);
        CHECK(store->send(batch.batch()).message.empty());  // Said once.
    }
}

TEST_CASE("a file that is damaged again and again leaves a bounded number of files behind") {
    const Directory directory;
    for (int i = 0; i < 5; ++i) {
        ++clock_ms;
        std::filesystem::remove(directory.store() + "-wal");
        std::filesystem::remove(directory.store() + "-shm");
        std::ofstream(directory.store(), std::ios::trunc) << std::string(8192, 'z');
        auto store = store_in(directory);
        expect_delivered(store->send(order_batch().batch()));
    }
    CHECK(directory.damaged_files() == 2);
}

TEST_CASE("a store that was removed while it was open is begun anew") {
    const Directory directory;
    auto store = store_in(directory);
    expect_delivered(store->send(order_batch().batch()));
    for (const char* suffix : {"", "-wal", "-shm"})
        std::filesystem::remove(directory.store() + suffix);
    BatchOf batch;
    batch.add("a", {span_message({.trace_id = trace_id_of(1), .name = "after"})});
    expect_delivered(store->send(batch.batch()));
    CHECK(names(list(directory)) == std::vector<std::string>{"after"});
}

TEST_CASE(
    "what is not a store of this version is left alone, with a sentence that says what to do") {
    const Directory directory;
    SUBCASE("another program's database") {
        sqlite3* db = raw_open(directory.store());
        REQUIRE(sqlite3_exec(db, "CREATE TABLE theirs(x)", nullptr, nullptr, nullptr) == SQLITE_OK);
        sqlite3_close(db);
    }
    SUBCASE("a store of the future") {
        expect_delivered(store_in(directory)->send(order_batch().batch()));
        sqlite3* db = raw_open(directory.store());
        REQUIRE(sqlite3_exec(db, "PRAGMA user_version=99", nullptr, nullptr, nullptr) == SQLITE_OK);
        sqlite3_close(db);
    }
    SUBCASE("a directory") { std::filesystem::create_directory(directory.store()); }
    auto store = store_in(directory);
    for (int i = 0; i < 2; ++i) {
        const SendResult result = store->send(order_batch().batch());
        CHECK(result.outcome == Outcome::retry_after);
        CHECK(result.message.find(directory.store()) != std::string::npos);
    }
    CHECK(directory.damaged_files() == 0);
    CHECK_FALSE(TraceQuery::open(directory.store()));
}

TEST_CASE("a missing directory is a reason to retry, and the store begins when it is there") {
    const Directory directory;
    config::TraceStore settings;
    const std::string path = directory.path + "/later/traces.db";
    auto store = make_trace_store(settings, path, [] { return clock_ms; });
    const SendResult result = store->send(order_batch().batch());
    CHECK(result.outcome == Outcome::retry_after);
    CHECK(result.message.find("create it") != std::string::npos);
    std::filesystem::create_directory(directory.path + "/later");
    expect_delivered(store->send(order_batch().batch()));
}

TEST_CASE("at a file-size limit the batch is refused whole, and goes in once there is room") {
    const Directory directory;
    // In a child: the limit and the ignored signal belong to a process.
    const int status = status_of_child([&] {
        std::signal(SIGXFSZ, SIG_IGN);
        rlimit limit{};
        ::getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = 200U << 10;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        config::TraceStore settings;
        auto store = make_trace_store(settings, directory.store(), [] { return clock_ms; });
        BatchOf small;
        small.add("a", {span_message({.trace_id = trace_id_of(1), .name = "small"})});
        BatchOf large;
        for (std::uint32_t i = 0; i < 2000; ++i) {
            large.add(
                "a",
                {span_message({.trace_id = trace_id_of(100 + i), .name = std::string(200, 'x')})});
        }
        if (store->send(small.batch()).outcome != Outcome::delivered) ::_exit(1);
        const SendResult refused = store->send(large.batch());
        if (refused.outcome != Outcome::retry_after) ::_exit(2);
        if (refused.message.find("limit") == std::string::npos) ::_exit(3);
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        if (store->send(large.batch()).outcome != Outcome::delivered) ::_exit(4);
    });
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(list(directory, {.limit = 0}).size() == 2001);
}

TEST_CASE("wherever in a batch the room ends, nothing of it stays") {
    // A failed statement ends its transaction: one that ran after it would be committed by itself.
    for (rlim_t limit_kib = 100; limit_kib < 400; limit_kib += 13) {
        CAPTURE(limit_kib);
        const Directory directory;
        const int status = status_of_child([&] {
            std::signal(SIGXFSZ, SIG_IGN);
            rlimit limit{};
            ::getrlimit(RLIMIT_FSIZE, &limit);
            limit.rlim_cur = limit_kib << 10;
            ::setrlimit(RLIMIT_FSIZE, &limit);
            // Kept in memory until its cache is full: then any statement may be the one that
            // writes.
            auto store = make_trace_store({}, directory.store(), [] { return clock_ms; });
            BatchOf large;
            for (std::uint32_t i = 0; i < 12'000; ++i)
                large.add("a", {span_message({.trace_id = trace_id_of(i)})});
            ::_exit(store->send(large.batch()).outcome == Outcome::retry_after ? 0 : 1);
        });
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 0);
        Sqlite db;
        REQUIRE(db.open(directory.store(), true));
        CHECK(db.number("SELECT count(*) FROM spans") == 0);
        CHECK(db.number("SELECT count(*) FROM traces") == 0);
        CHECK_FALSE(db.failed());
    }
}

TEST_CASE("spans of a store are for its owner and group only") {
    const Directory directory;
    ::umask(0);
    auto store = store_in(directory);
    expect_delivered(store->send(order_batch().batch()));
    ::umask(022);
    for (const char* suffix : {"", "-wal", "-shm"}) {
        struct stat status {};
        REQUIRE(::stat((directory.store() + suffix).c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0640);
    }
}
