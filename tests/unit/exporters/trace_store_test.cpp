#include "exporters/trace_store.hpp"

#include "exporters/trace_query.hpp"
#include "shm/span_view.hpp"
#include "tests/unit/exporters/span_builder.hpp"

#include <doctest/doctest.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

using namespace oteld;
using namespace oteld::exporters;
using namespace oteld::test;

namespace {

using Outcome = SendResult::Outcome;

struct Directory {
    Directory() {
        char name[] = "/tmp/oteld-store-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
    }
    ~Directory() {
        std::filesystem::permissions(path, std::filesystem::perms::owner_all);
        std::filesystem::remove_all(path);
    }
    [[nodiscard]] std::string store() const { return path + "/traces.db"; }
    [[nodiscard]] std::size_t damaged_files() const {
        std::size_t count = 0;
        for (const auto& entry : std::filesystem::directory_iterator(path)) {
            const std::string name = entry.path().filename();
            if (name.find(".damaged-") != std::string::npos && name.ends_with("Z")) ++count;
        }
        return count;
    }
    std::string path;
};

std::uint64_t clock_ms = 1'700'000'000'000;

std::unique_ptr<Exporter> store_in(const Directory& directory,
                                   std::uint64_t bytes_max = 64ULL << 20) {
    config::TraceStore settings;
    settings.bytes_max = bytes_max;
    return make_trace_store(settings, directory.store(), [] { return clock_ms; });
}

std::string trace_id_of(std::uint32_t number) {
    std::string id(16, '\x10');
    for (int i = 0; i < 4; ++i) id[12 + i] = static_cast<char>(number >> (8 * (3 - i)));
    return id;
}

std::string span_id_of(std::uint32_t number) { return trace_id_of(number).substr(8); }

std::vector<TraceSummary> list(const Directory& directory, const TraceFilter& filter = {}) {
    auto query = TraceQuery::open(directory.store());
    if (!query) MESSAGE(query.error().message);
    REQUIRE(query);
    auto traces = query->list(filter);
    if (!traces) MESSAGE(traces.error().message);
    REQUIRE(traces);
    return *traces;
}

std::vector<std::string> names(const std::vector<TraceSummary>& traces) {
    std::vector<std::string> out;
    for (const TraceSummary& trace : traces) out.push_back(trace.name);
    return out;
}

void expect_delivered(const SendResult& result) {
    if (result.outcome != Outcome::delivered) MESSAGE(result.message);
    CHECK(result.outcome == Outcome::delivered);
}

// An order with a payment that failed in another service and a span that died.
BatchOf order_batch() {
    BatchOf batch;
    batch.add(
        "orders",
        {span_message({.name = "POST /checkout", .duration_ns = 9'000'000}),
         span_message({.span_id = span_id_of(7),
                       .parent_id = std::string(8, '\x22'),
                       .name = "reserve",
                       .more = bytes_field(9, key_value("oteld.unfinished", bool_value(true)))})});
    batch.add("payment", {span_message({.span_id = span_id_of(8),
                                        .parent_id = std::string(8, '\x22'),
                                        .name = "charge",
                                        .start_ns = 1'700'000'000'001'000'000,
                                        .duration_ns = 9'000'000,
                                        .status = 2,
                                        .status_message = "refused"})});
    return batch;
}

sqlite3* raw_open(const std::string& path) {
    sqlite3* db = nullptr;
    REQUIRE(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
    return db;
}

std::int64_t raw_number(const std::string& path, const char* sql) {
    sqlite3* db = raw_open(path);
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) == SQLITE_OK);
    REQUIRE(sqlite3_step(statement) == SQLITE_ROW);
    const std::int64_t number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return number;
}

}  // namespace

TEST_CASE("a stored batch is listed as one trace with its services, errors and unfinished spans") {
    const Directory directory;
    auto store = store_in(directory);
    const BatchOf batch = order_batch();
    expect_delivered(store->send(batch.batch()));

    const auto traces = list(directory);
    REQUIRE(traces.size() == 1);
    const TraceSummary& trace = traces[0];
    CHECK(trace.trace_id == std::string(16, '\x11'));
    CHECK(trace.name == "POST /checkout");
    CHECK(trace.has_root);
    CHECK(trace.service == "orders");
    CHECK(trace.services == std::vector<std::string>{"orders", "payment"});
    CHECK(trace.spans == 3);
    CHECK(trace.errors == 1);
    CHECK(trace.unfinished == 1);
    CHECK(trace.pruned == 0);
    CHECK(trace.start_unix_ns == 1'700'000'000'000'000'000);
    CHECK(trace.duration_ns == 10'000'000);
}

TEST_CASE("spans come back as the bytes that were stored, by start time") {
    const Directory directory;
    auto store = store_in(directory);
    const BatchOf batch = order_batch();
    expect_delivered(store->send(batch.batch()));
    auto query = TraceQuery::open(directory.store());
    REQUIRE(query);
    const auto spans = query->spans(std::string(16, '\x11'), 100);
    REQUIRE(spans);
    REQUIRE((*spans).size() == 3);
    shm::FrameReader frames(batch.batch().runs[0].frames);
    shm::Frame first;
    REQUIRE(frames.next(first));
    CHECK((*spans)[0].message == first.span);
    CHECK((*spans)[0].service == "orders");
    CHECK((*spans)[0].resource == batch.batch().runs[0].resource);
    CHECK((*spans)[2].service == "payment");
    CHECK((*query->spans(std::string(16, '\x11'), 2)).size() == 2);
}

TEST_CASE("the same batch again changes nothing, also after a restart") {
    const Directory directory;
    const BatchOf batch = order_batch();
    auto store = store_in(directory);
    expect_delivered(store->send(batch.batch()));
    const SendResult again = store->send(batch.batch());
    expect_delivered(again);
    CHECK(again.rejected_spans == 0);
    store = nullptr;
    store = store_in(directory);
    expect_delivered(store->send(batch.batch()));
    const auto traces = list(directory);
    REQUIRE(traces.size() == 1);
    CHECK(traces[0].spans == 3);
    CHECK(traces[0].errors == 1);
    store = nullptr;
    CHECK(raw_number(directory.store(), "SELECT sum(spans) FROM origins") == 3);
}

TEST_CASE("another span with the ids of a stored one is rejected and counted") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf first;
    first.add("a", {span_message({.name = "one"})});
    BatchOf second;
    second.add("a", {span_message({.name = "two"}),
                     span_message({.span_id = span_id_of(3), .name = "three"})});
    expect_delivered(store->send(first.batch()));
    const SendResult result = store->send(second.batch());
    expect_delivered(result);
    CHECK(result.rejected_spans == 1);
    CHECK(result.reason == RejectReason::partial);
    CHECK_FALSE(result.message.empty());
    CHECK(list(directory)[0].spans == 2);
}

TEST_CASE("a finished span takes the place of the unfinished one that was recovered before it") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf open;
    open.add(
        "a",
        {span_message({.name = "work",
                       .status = 2,
                       .more = bytes_field(9, key_value("oteld.unfinished", bool_value(true)))})});
    BatchOf finished;
    finished.add("a", {span_message({.name = "work"})});
    expect_delivered(store->send(open.batch()));
    CHECK(list(directory)[0].unfinished == 1);
    const SendResult result = store->send(finished.batch());
    CHECK(result.rejected_spans == 0);
    // And not the other way round.
    CHECK(store->send(open.batch()).rejected_spans == 1);
    const auto traces = list(directory);
    CHECK(traces[0].spans == 1);
    CHECK(traces[0].unfinished == 0);
    CHECK(traces[0].errors == 0);
}

TEST_CASE("a trace is named after its root, whenever that comes in") {
    const Directory directory;
    auto store = store_in(directory);
    const auto send = [&](const SpanSpec& spec, std::string_view service) {
        BatchOf batch;
        batch.add(service, {span_message(spec)});
        expect_delivered(store->send(batch.batch()));
    };
    send({.span_id = span_id_of(1),
          .parent_id = span_id_of(9),
          .name = "late child",
          .start_ns = 500},
         "b");
    send({.span_id = span_id_of(2),
          .parent_id = span_id_of(9),
          .name = "early child",
          .start_ns = 400},
         "c");
    CHECK(list(directory)[0].name == "early child");
    CHECK_FALSE(list(directory)[0].has_root);
    send({.span_id = span_id_of(9), .name = "root", .start_ns = 450}, "a");
    send({.span_id = span_id_of(3),
          .parent_id = span_id_of(9),
          .name = "earliest child",
          .start_ns = 100},
         "d");
    const auto traces = list(directory);
    CHECK(traces[0].name == "root");
    CHECK(traces[0].service == "a");
    CHECK(traces[0].has_root);
    CHECK(traces[0].services == std::vector<std::string>{"a", "b", "c", "d"});
}

TEST_CASE(
    "a list is filtered by service, errors, duration and time, newest first, up to the limit") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf batch;
    for (std::uint32_t i = 1; i <= 5; ++i) {
        batch.add(i % 2 == 0 ? "even" : "odd", {span_message({.trace_id = trace_id_of(i),
                                                              .name = std::to_string(i),
                                                              .start_ns = i * 1000,
                                                              .duration_ns = i * 10,
                                                              .status = i == 3 ? 2 : 0})});
    }
    expect_delivered(store->send(batch.batch()));
    using Names = std::vector<std::string>;
    CHECK(names(list(directory)) == Names{"5", "4", "3", "2", "1"});
    CHECK(names(list(directory, {.service = "even"})) == Names{"4", "2"});
    CHECK(names(list(directory, {.service = "eve"})).empty());
    CHECK(names(list(directory, {.errors = true})) == Names{"3"});
    CHECK(names(list(directory, {.duration_ns_min = 40})) == Names{"5", "4"});
    CHECK(names(list(directory, {.since_unix_ns = 2001})) == Names{"5", "4", "3"});
    CHECK(names(list(directory, {.limit = 2})) == Names{"5", "4"});
    CHECK(names(list(directory, {.limit = 0})).size() == 5);
}

TEST_CASE("a trace is found by the first digits of its id") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf batch;
    for (const char* id : {"\xab\x01", "\xab\x0f", "\xab\xff", "\xff\xff"}) {
        batch.add("a", {span_message({.trace_id = id + std::string(14, '\x01'), .name = "n"})});
    }
    expect_delivered(store->send(batch.batch()));
    auto query = TraceQuery::open(directory.store());
    REQUIRE(query);
    const auto found = [&](const char* prefix) { return (*query->find(prefix, 10)).size(); };
    CHECK(found("ab") == 3);
    CHECK(found("AB0") == 2);
    CHECK(found("ab0f") == 1);
    CHECK(found("abff") == 1);
    CHECK(found("ff") == 1);
    CHECK(found("f") == 1);
    CHECK(found("ab010101010101010101010101010101") == 1);
    CHECK(found("ac") == 0);
    CHECK(found("") == 4);
    CHECK((*query->find("ab", 2)).size() == 2);
    const auto wrong = query->find("xyz", 10);
    REQUIRE_FALSE(wrong);
    CHECK(wrong.error().code == ErrorCode::invalid_argument);
}

TEST_CASE(
    "beyond its size the traces that grew longest ago go, whole, and the file stays within its "
    "bound") {
    const Directory directory;
    constexpr std::uint64_t bytes_max = 2ULL << 20;
    auto store = store_in(directory, bytes_max);
    constexpr std::uint32_t traces_sent = 600;
    for (std::uint32_t i = 0; i < traces_sent; ++i) {
        BatchOf batch;
        ++clock_ms;
        std::vector<std::string> spans;
        for (std::uint32_t j = 0; j < 10; ++j) {
            const std::string padding =
                bytes_field(9, key_value("padding", text_value(std::string(1000, 'x'))));
            spans.push_back(span_message({.trace_id = trace_id_of(i),
                                          .span_id = span_id_of(j),
                                          .name = std::to_string(i),
                                          .start_ns = 1000 + i,
                                          .more = padding}));
        }
        batch.add("service " + std::to_string(i), spans);
        expect_delivered(store->send(batch.batch()));
    }
    store = nullptr;
    const auto traces = list(directory, {.limit = 0});
    REQUIRE_FALSE(traces.empty());
    CHECK(traces.size() < traces_sent);
    CHECK(traces.size() > 50);
    for (std::size_t i = 0; i < traces.size(); ++i) {
        CHECK(traces[i].name == std::to_string(traces_sent - 1 - i));  // The newest, without a gap.
        CHECK(traces[i].spans == 10);
    }
    CHECK(std::filesystem::file_size(directory.store()) <= bytes_max + (128U << 10));
    // Nothing is left of the pruned ones.
    const auto kept = static_cast<std::int64_t>(traces.size());
    CHECK(raw_number(directory.store(), "SELECT count(*) FROM spans") == kept * 10);
    CHECK(raw_number(directory.store(), "SELECT count(*) FROM origins") == kept);
    CHECK(raw_number(directory.store(), "SELECT count(*) FROM trace_services") == kept);
    CHECK(raw_number(directory.store(), "SELECT sum(spans) FROM origins") == kept * 10);
}

TEST_CASE("one trace larger than the store loses its first spans and says how many") {
    const Directory directory;
    auto store = store_in(directory, 1ULL << 20);
    std::uint32_t sent = 0;
    for (std::uint32_t i = 0; i < 30; ++i) {
        BatchOf batch;
        std::vector<std::string> spans;
        for (std::uint32_t j = 0; j < 1000; ++j)
            spans.push_back(span_message({.span_id = span_id_of(++sent), .status = 2}));
        batch.add("a", spans);
        expect_delivered(store->send(batch.batch()));
    }
    const auto traces = list(directory);
    REQUIRE(traces.size() == 1);
    CHECK(traces[0].pruned > 0);
    CHECK(traces[0].spans + traces[0].pruned == sent);
    CHECK(traces[0].errors == traces[0].spans);
    store = nullptr;
    CHECK(raw_number(directory.store(), "SELECT count(*) FROM spans") ==
          static_cast<std::int64_t>(traces[0].spans));
}

TEST_CASE("a trace that has not grown for age_max goes with the next batch") {
    const Directory directory;
    config::TraceStore settings;
    settings.age_max = std::chrono::seconds(60);
    auto store = make_trace_store(settings, directory.store(), [] { return clock_ms; });
    const auto send = [&](std::uint32_t number) {
        BatchOf batch;
        batch.add("a", {span_message({.trace_id = trace_id_of(number),
                                      .span_id = span_id_of(clock_ms & 0xffff),
                                      .name = std::to_string(number)})});
        expect_delivered(store->send(batch.batch()));
    };
    send(1);
    send(2);
    clock_ms += 59'000;
    send(2);
    clock_ms += 2'000;
    send(3);
    const auto traces = names(list(directory));
    CHECK(traces.size() == 2);
    CHECK(std::find(traces.begin(), traces.end(), "1") == traces.end());
}

TEST_CASE("a store whose bound was lowered shrinks") {
    const Directory directory;
    const std::string padding =
        bytes_field(9, key_value("padding", text_value(std::string(4000, 'x'))));
    const auto batch_of = [&](std::uint32_t from) {
        BatchOf batch;
        for (std::uint32_t i = 0; i < 1000; ++i) {
            batch.add("a", {span_message({.trace_id = trace_id_of(from + i), .more = padding})});
        }
        return batch;
    };
    auto store = store_in(directory);
    expect_delivered(store->send(batch_of(0).batch()));
    store = store_in(directory, 1ULL << 20);
    expect_delivered(store->send(batch_of(5000).batch()));
    store = nullptr;
    CHECK(std::filesystem::file_size(directory.store()) <= (1ULL << 20));
}

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
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
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
        ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(list(directory, {.limit = 0}).size() == 2001);
}

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
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        config::TraceStore settings;
        auto store = make_trace_store(settings, directory.store(), [] { return clock_ms; });
        if (store->send(order_batch().batch()).outcome != Outcome::delivered) ::_exit(1);
        ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(list(directory).size() == 1);
    CHECK(list(directory)[0].spans == 3);
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

TEST_CASE("hostile spans are stored and read without harm") {
    const Directory directory;
    auto store = store_in(directory);
    BatchOf batch;
    batch.add("", {std::string(), std::string("\xff\xff\xff", 3), bytes_field(1, "short"),
                   fixed64_field(7, ~0ULL) + fixed64_field(8, 1),
                   bytes_field(5, std::string("a\0b'\"", 5))});
    batch.last().resource = "\x0a\xff\xff";
    batch.last().scope = "\x0a\x7f";
    const SendResult result = store->send(batch.batch());
    expect_delivered(result);
    CHECK(result.rejected_spans == 3);  // Several without any id: they are one span to the store.
    CHECK(list(directory).size() == 2);
}

TEST_CASE("no store, and an empty file, are told apart from a store") {
    const Directory directory;
    auto missing = TraceQuery::open(directory.store());
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == ErrorCode::not_found);
    std::ofstream(directory.store()).flush();
    auto empty = TraceQuery::open(directory.store());
    REQUIRE_FALSE(empty);
    CHECK(empty.error().code == ErrorCode::not_found);
    std::ofstream(directory.store(), std::ios::trunc) << std::string(8192, 'z');
    auto damaged = TraceQuery::open(directory.store());
    REQUIRE_FALSE(damaged);
    CHECK(damaged.error().code == ErrorCode::corrupt);
}

TEST_CASE("a path with characters that mean something in a URI is read") {
    const Directory directory;
    const std::string path = directory.path + "/a?b#c%20d.db";
    auto store = make_trace_store(config::TraceStore{}, path, [] { return clock_ms; });
    expect_delivered(store->send(order_batch().batch()));
    auto query = TraceQuery::open(path);
    REQUIRE(query);
    CHECK((*query->list({})).size() == 1);
}
