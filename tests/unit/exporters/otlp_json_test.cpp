// Golden text of OTLP's JSON form
// (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding), and the file that takes it.
#include "exporters/otlp_json.hpp"

#include "exporters/otlp_json_file.hpp"
#include "tests/unit/exporters/span_builder.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <thread>

using namespace oteld;
using namespace oteld::exporters;
using namespace oteld::test;

namespace {

using Outcome = SendResult::Outcome;

std::string json_of(const Batch& batch) {
    std::string out;
    append_traces_data(out, batch);
    return out;
}

std::string json_of_span(const std::string& message) {
    std::string out;
    append_json_span(out, shm::Span(message));
    return out;
}

std::string json_of_value(const std::string& any_value) {
    const std::string span = json_of_span(bytes_field(9, key_value("k", any_value)));
    constexpr std::string_view before = R"({"attributes":[{"key":"k","value":)";
    REQUIRE(span.starts_with(before));
    return span.substr(before.size(), span.size() - before.size() - 3);
}

struct Directory {
    Directory() {
        char name[] = "/tmp/oteld-file-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
    }
    ~Directory() { std::filesystem::remove_all(path); }
    [[nodiscard]] std::string file() const { return path + "/traces.jsonl"; }
    [[nodiscard]] std::set<std::string> names() const {
        std::set<std::string> out;
        for (const auto& entry : std::filesystem::directory_iterator(path))
            out.insert(entry.path().filename());
        return out;
    }
    std::string path;
};

std::string text_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

std::unique_ptr<Exporter> file_exporter(const std::string& path, std::uint64_t bytes_max = 0,
                                        std::uint32_t backups_max = 100) {
    config::ExporterSettings settings;
    settings.name = "file";
    settings.kind = config::ExporterSettings::Kind::file;
    settings.what = config::File{path, bytes_max, backups_max};
    auto made = make_otlp_json_file(settings);
    REQUIRE(made);
    return std::move(*made);
}

BatchOf one_span(std::string_view name = "work") {
    BatchOf batch;
    batch.add("shop", {span_message({.name = std::string(name)})});
    return batch;
}

// What a batch of one_span() is as a line.
std::string line_of(std::string_view name = "work") {
    const BatchOf batch = one_span(name);
    return json_of(batch.batch()) + "\n";
}

void expect_delivered(const SendResult& result) {
    if (result.outcome != Outcome::delivered) MESSAGE(result.message);
    CHECK(result.outcome == Outcome::delivered);
}

// Runs `body` in a child whose files end at `bytes`; the limit and the ignored signal belong to a
// process.
template <class Body>
int run_with_file_limit(rlim_t bytes, Body body) {
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        rlimit limit{};
        ::getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = bytes;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        ::_exit(body([&limit] {
            limit.rlim_cur = limit.rlim_max;
            ::setrlimit(RLIMIT_FSIZE, &limit);
        }));
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("a span with every field is one object, in OTLP's JSON form") {
    const std::string attribute = key_value("a", int_value(-7));
    const std::string message =
        bytes_field(1, "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef") +
        bytes_field(2, "\xde\xad\xbe\xef\x12\x34\x56\x78") + bytes_field(3, "v=1") +
        bytes_field(4, "12345678") + bytes_field(5, "n\"a\\m\ne\x01") + varint_field(6, 3) +
        fixed64_field(7, 1'700'000'000'000'000'001) +
        fixed64_field(8, std::numeric_limits<std::uint64_t>::max()) + bytes_field(9, attribute) +
        varint_field(10, 1) +
        bytes_field(11, fixed64_field(1, 5) + bytes_field(2, "e") + bytes_field(3, attribute) +
                            varint_field(4, 2)) +
        varint_field(12, 3) +
        bytes_field(13, bytes_field(1, std::string(16, '\xaa')) +
                            bytes_field(2, std::string(8, '\xbb')) + bytes_field(3, "w=2") +
                            bytes_field(4, attribute) + varint_field(5, 4) +
                            fixed32_field(6, 0x301)) +
        varint_field(14, 5) + bytes_field(15, bytes_field(2, "bad") + varint_field(3, 2)) +
        fixed32_field(16, 0x101);
    const std::string attributes = R"("attributes":[{"key":"a","value":{"intValue":"-7"}}])";
    CHECK(
        json_of_span(message) ==
        R"({"traceId":"0123456789abcdef0123456789abcdef","spanId":"deadbeef12345678","traceState":"v=1",)"
        R"("parentSpanId":"3132333435363738","flags":257,"name":"n\"a\\m\ne\u0001","kind":3,)"
        R"("startTimeUnixNano":"1700000000000000001","endTimeUnixNano":"18446744073709551615",)" +
            attributes +
            R"(,"droppedAttributesCount":1,"events":[{"timeUnixNano":"5","name":"e",)" +
            attributes +
            R"(,"droppedAttributesCount":2}],"droppedEventsCount":3,)"
            R"("links":[{"traceId":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","spanId":"bbbbbbbbbbbbbbbb",)"
            R"("traceState":"w=2",)" +
            attributes +
            R"(,"droppedAttributesCount":4,"flags":769}],"droppedLinksCount":5,)"
            R"("status":{"message":"bad","code":2}})");
}

TEST_CASE("fields with their default value are left out, messages that are there are not") {
    CHECK(json_of_span("") == "{}");
    CHECK(json_of_span(varint_field(6, 0) + bytes_field(5, "")) == "{}");
    CHECK(json_of_span(bytes_field(15, "")) == R"({"status":{}})");
    CHECK(json_of_span(bytes_field(11, "") + bytes_field(13, "")) ==
          R"({"events":[{}],"links":[{}]})");
}

TEST_CASE("values have the form that protobuf's JSON mapping gives them") {
    CHECK(json_of_value(text_value("")) == R"({"stringValue":""})");
    CHECK(json_of_value(text_value("h\xc3\xa9\t\xe2\x82\xac/")) ==
          "{\"stringValue\":\"h\xc3\xa9\\t\xe2\x82\xac/\"}");
    CHECK(json_of_value(bool_value(false)) == R"({"boolValue":false})");
    CHECK(json_of_value(int_value(0)) == R"({"intValue":"0"})");
    CHECK(json_of_value(int_value(std::numeric_limits<std::int64_t>::min())) ==
          R"({"intValue":"-9223372036854775808"})");
    CHECK(json_of_value(double_value(0.1)) == R"({"doubleValue":0.1})");
    CHECK(json_of_value(double_value(-0.0)) == R"({"doubleValue":-0.0})");
    CHECK(json_of_value(double_value(1e300)) == R"({"doubleValue":1e+300})");
    CHECK(json_of_value(double_value(5e-324)) == R"({"doubleValue":5e-324})");
    CHECK(json_of_value(double_value(std::numeric_limits<double>::quiet_NaN())) ==
          R"({"doubleValue":"NaN"})");
    CHECK(json_of_value(double_value(std::numeric_limits<double>::infinity())) ==
          R"({"doubleValue":"Infinity"})");
    CHECK(json_of_value(double_value(-std::numeric_limits<double>::infinity())) ==
          R"({"doubleValue":"-Infinity"})");
    CHECK(json_of_value("") == "{}");
    const auto bytes = [](std::string_view content) {
        return json_of_value(bytes_field(7, content));
    };
    CHECK(bytes("") == R"({"bytesValue":""})");
    CHECK(bytes("\xff") == R"({"bytesValue":"/w=="})");
    CHECK(bytes("\xff\xfe") == R"({"bytesValue":"//4="})");
    CHECK(bytes("\xff\xfe\xfd") == R"({"bytesValue":"//79"})");
    CHECK(bytes("abcd") == R"({"bytesValue":"YWJjZA=="})");
    CHECK(json_of_value(bytes_field(5, "")) == R"({"arrayValue":{}})");
    CHECK(json_of_value(bytes_field(6, "")) == R"({"kvlistValue":{}})");
    const std::string inner = bytes_field(6, bytes_field(1, key_value("deep", text_value("x"))));
    CHECK(json_of_value(bytes_field(5, bytes_field(1, int_value(1)) + bytes_field(1, inner))) ==
          R"({"arrayValue":{"values":[{"intValue":"1"},)"
          R"({"kvlistValue":{"values":[{"key":"deep","value":{"stringValue":"x"}}]}}]}})");
}

TEST_CASE("runs that follow each other share the envelopes of what they have in common") {
    const std::string scope = bytes_field(1, "lib") + bytes_field(2, "1.0");
    BatchOf batch;
    batch.add("a", {bytes_field(5, "1"), bytes_field(5, "2")}, scope);
    batch.add("a", {bytes_field(5, "3")}, scope);
    batch.add("a", {bytes_field(5, "4")});
    batch.add("b", {bytes_field(5, "5")});
    batch.last().resource_schema_url = "https://r";
    batch.last().scope_schema_url = "https://s";
    const auto resource = [](const char* service) {
        return std::string(
                   R"({"resource":{"attributes":[{"key":"service.name","value":{"stringValue":")") +
               service + R"("}}]},"scopeSpans":[)";
    };
    CHECK(
        json_of(batch.batch()) ==
        R"({"resourceSpans":[)" + resource("a") +
            R"({"scope":{"name":"lib","version":"1.0"},"spans":[{"name":"1"},{"name":"2"},{"name":"3"}]},)"
            R"({"spans":[{"name":"4"}]}]},)" +
            resource("b") +
            R"({"spans":[{"name":"5"}],"schemaUrl":"https://s"}],"schemaUrl":"https://r"}]})");
}

TEST_CASE("values nested beyond the limit end instead of the stack") {
    std::string value = int_value(1);
    for (int depth = 0; depth < 3000; ++depth) value = bytes_field(5, bytes_field(1, value));
    CHECK(json_of_value(value).size() < 10000);
}

TEST_CASE("each batch is a line of its own") {
    const Directory directory;
    auto exporter = file_exporter(directory.file());
    const BatchOf first = one_span("first");
    const BatchOf second = one_span("second\nline");
    const SendResult result = exporter->send(first.batch());
    expect_delivered(result);
    CHECK(result.request_bytes == line_of("first").size());
    expect_delivered(exporter->send(second.batch()));
    CHECK(text_of(directory.file()) == line_of("first") + line_of("second\nline"));
    struct stat status {};
    REQUIRE(::stat(directory.file().c_str(), &status) == 0);
    CHECK((status.st_mode & 0007) == 0);  // Spans are not for the world.
}

TEST_CASE("lines are appended to what is there") {
    const Directory directory;
    expect_delivered(file_exporter(directory.file())->send(one_span("a").batch()));
    expect_delivered(file_exporter(directory.file())->send(one_span("b").batch()));
    CHECK(text_of(directory.file()) == line_of("a") + line_of("b"));
}

TEST_CASE(
    "the torn line of a killed daemon is cut off, and a stranger's unended line is only ended") {
    const Directory directory;
    struct Case {
        std::string before;
        std::string after;
    };
    const std::string big = line_of(std::string(200'000, 'x'));
    for (const Case& c :
         {Case{line_of("a") + line_of("b").substr(0, 40), line_of("a")},
          Case{line_of("a") + "{\"res", line_of("a")}, Case{line_of("b").substr(0, 40), ""},
          Case{line_of("a") + big.substr(0, 150'000), line_of("a")},
          Case{"notes of somebody", "notes of somebody\n"}, Case{line_of("a"), line_of("a")}}) {
        std::ofstream(directory.file(), std::ios::trunc | std::ios::binary) << c.before;
        expect_delivered(file_exporter(directory.file())->send(one_span("new").batch()));
        CHECK(text_of(directory.file()) == c.after + line_of("new"));
    }
}

TEST_CASE("a file at its limit is set aside under its time, and the oldest of those go") {
    const Directory directory;
    const std::uint64_t bytes_max = line_of("n").size() * 2 + 1;
    auto exporter = file_exporter(directory.file(), bytes_max, 3);
    std::ofstream(directory.path + "/traces-notes.jsonl") << "not ours";
    for (int i = 0; i < 12; ++i) {
        const BatchOf batch = one_span("n");
        expect_delivered(exporter->send(batch.batch()));
    }
    const auto names = directory.names();
    CHECK(names.size() == 5);  // The file, three backups, and what only looks like one.
    CHECK(names.contains("traces-notes.jsonl"));
    for (const std::string& name : names) {
        if (name == "traces-notes.jsonl") continue;
        CHECK(text_of(directory.path + "/" + name) == line_of("n") + line_of("n"));
        CHECK(name.ends_with(".jsonl"));
    }
}

TEST_CASE("a line larger than the limit stands alone") {
    const Directory directory;
    auto exporter = file_exporter(directory.file(), 10, 100);
    for (int i = 0; i < 3; ++i) expect_delivered(exporter->send(one_span().batch()));
    CHECK(directory.names().size() == 3);
    CHECK(text_of(directory.file()) == line_of());
}

TEST_CASE("a file that was moved or removed is begun anew") {
    const Directory directory;
    auto exporter = file_exporter(directory.file());
    expect_delivered(exporter->send(one_span("a").batch()));
    std::filesystem::rename(directory.file(), directory.path + "/moved");
    expect_delivered(exporter->send(one_span("b").batch()));
    CHECK(text_of(directory.path + "/moved") == line_of("a"));
    CHECK(text_of(directory.file()) == line_of("b"));
    std::filesystem::remove(directory.file());
    expect_delivered(exporter->send(one_span("c").batch()));
    CHECK(text_of(directory.file()) == line_of("c"));
}

TEST_CASE("a directory that is missing or becomes one is a reason to retry, with a sentence") {
    const Directory directory;
    const std::string path = directory.path + "/later/traces.jsonl";
    auto exporter = file_exporter(path);
    const SendResult result = exporter->send(one_span().batch());
    CHECK(result.outcome == Outcome::retry_after);
    CHECK(result.message.find("create it") != std::string::npos);
    std::filesystem::create_directory(directory.path + "/later");
    expect_delivered(exporter->send(one_span().batch()));
    std::filesystem::remove_all(directory.path + "/later");
    CHECK(exporter->send(one_span().batch()).outcome == Outcome::retry_after);
    CHECK(file_exporter(directory.path)->send(one_span().batch()).outcome == Outcome::retry_after);
}

TEST_CASE("a full device is a reason to retry") {
    auto exporter = file_exporter("/dev/full");
    const SendResult result = exporter->send(one_span().batch());
    CHECK(result.outcome == Outcome::retry_after);
    CHECK(result.message.find("/dev/full is full") != std::string::npos);
}

TEST_CASE("a line that does not fit is cut off again, and goes in whole once there is room") {
    const Directory directory;
    const std::string big_name(20'000, 'x');
    const int code = run_with_file_limit(10'000, [&](auto lift) {
        auto exporter = file_exporter(directory.file());
        if (exporter->send(one_span("small").batch()).outcome != Outcome::delivered) return 1;
        const SendResult refused = exporter->send(one_span(big_name).batch());
        if (refused.outcome != Outcome::retry_after) return 2;
        if (refused.message.find("LimitFSIZE") == std::string::npos) return 3;
        if (text_of(directory.file()) != line_of("small")) return 4;
        lift();
        return exporter->send(one_span(big_name).batch()).outcome == Outcome::delivered ? 0 : 5;
    });
    CHECK(code == 0);
    CHECK(text_of(directory.file()) == line_of("small") + line_of(big_name));
}

TEST_CASE("a file that another process writes is left to it") {
    const Directory directory;
    auto first = file_exporter(directory.file());
    expect_delivered(first->send(one_span().batch()));
    const SendResult result = file_exporter(directory.file())->send(one_span().batch());
    CHECK(result.outcome == Outcome::retry_after);
    CHECK(result.message.find("another process") != std::string::npos);
    CHECK(text_of(directory.file()) == line_of());
}

TEST_CASE(
    "a pipe gets whole lines, also when it is read slowly, and cancel ends a send that waits") {
    const Directory directory;
    const std::string fifo = directory.path + "/fifo";
    REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
    const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
    REQUIRE(reader >= 0);
    auto exporter = file_exporter(fifo);
    const std::string big_name(300'000, 'x');  // More than a pipe holds.
    const BatchOf batch = one_span(big_name);
    std::atomic<bool> done{false};
    SendResult result;
    std::thread sender([&] {
        result = exporter->send(batch.batch());
        done.store(true, std::memory_order_release);
    });
    std::string got;
    char piece[65536];
    const auto read_some = [&] {
        const ssize_t bytes = ::read(reader, piece, sizeof piece);
        if (bytes > 0) got.append(piece, static_cast<std::size_t>(bytes));
        return bytes > 0;
    };
    while (!done.load(std::memory_order_acquire)) read_some();
    sender.join();
    while (read_some()) {
    }
    expect_delivered(result);
    CHECK(got == line_of(big_name));

    std::thread stuck([&] { result = exporter->send(batch.batch()); });
    while (got.size() == line_of(big_name).size()) read_some();  // It has begun.
    exporter->cancel();
    stuck.join();
    CHECK(result.outcome == Outcome::retry_after);
    ::close(reader);
}

TEST_CASE("an exporter without a path is refused at once") {
    config::ExporterSettings settings;
    settings.name = "file/x";
    settings.what = config::File{};
    const auto made = make_otlp_json_file(settings);
    REQUIRE_FALSE(made);
    CHECK(made.error().message.find("file/x") != std::string::npos);
}
