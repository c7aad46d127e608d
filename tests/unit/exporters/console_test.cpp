#include "exporters/console.hpp"

#include "exporters/stream_writer.hpp"
#include "exporters/text.hpp"
#include "tests/unit/exporters/span_builder.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <ctime>

using namespace oteld;
using namespace oteld::exporters;
using namespace oteld::test;

namespace {

using Verbosity = config::Debug::Verbosity;
using Outcome = SendResult::Outcome;

struct Utc {
    Utc() {
        ::setenv("TZ", "UTC", 1);
        ::tzset();
    }
};

BatchOf failed_payment() {
    const std::string scope = bytes_field(1, "shop.orders") + bytes_field(2, "1.4.0");
    BatchOf batch;
    batch.add("orders",
              {span_message({.parent_id = std::string(8, '\x33'),
                             .name = "charge\ncard",
                             .start_ns = 1'700'000'000'123'456'789,
                             .duration_ns = 12'400'000,
                             .status = 2,
                             .status_message = "refused",
                             .more = bytes_field(9, key_value("amount", int_value(5))) +
                                     bytes_field(9, key_value("note", text_value("two words"))) +
                                     varint_field(10, 1) +
                                     bytes_field(11, fixed64_field(1, 1'700'000'000'124'000'000) +
                                                         bytes_field(2, "retry")) +
                                     bytes_field(13, bytes_field(1, std::string(16, '\x44')) +
                                                         bytes_field(2, std::string(8, '\x55')))})},
              scope);
    return batch;
}

std::string read_all(int fd) {
    std::string text;
    char piece[4096];
    for (ssize_t bytes = 0; (bytes = ::read(fd, piece, sizeof piece)) > 0;) {
        text.append(piece, static_cast<std::size_t>(bytes));
    }
    return text;
}

std::string value_text(const std::string& message, std::size_t bytes_max = 0) {
    std::string out;
    append_value(out, shm::AnyValue(message), bytes_max);
    return out;
}

}  // namespace

TEST_CASE("basic is one line per batch with the spans of each service") {
    BatchOf batch;
    batch.add("orders", {span_message({}), span_message({})});
    batch.add("payment", {span_message({})});
    batch.add("orders", {span_message({})});
    batch.add("", {span_message({})});
    const std::string bytes = std::to_string(batch.batch().bytes);
    CHECK(console_text(batch.batch(), Verbosity::basic) ==
          "5 spans, " + bytes + " bytes: (no service) 1, orders 3, payment 1\n");
}

TEST_CASE("normal is one line per span, whatever is in its name") {
    const Utc utc;
    CHECK(console_text(failed_payment().batch(), Verbosity::normal) ==
          "22:13:20.123456   12.4 ms  orders  charge\\ncard  internal  ERROR \"refused\"  "
          "trace=11111111111111111111111111111111 span=2222222222222222 parent=3333333333333333  1 "
          "event  1 link  "
          "amount=5 note=\"two words\"\n");
}

TEST_CASE("detailed has everything") {
    const Utc utc;
    CHECK(
        console_text(failed_payment().batch(), Verbosity::detailed) ==
        "Resource\n"
        "  service.name = orders\n"
        "Scope  shop.orders 1.4.0\n"
        "Span  charge\\ncard  internal  ERROR \"refused\"\n"
        "  trace 11111111111111111111111111111111  span 2222222222222222  parent 3333333333333333\n"
        "  from 2023-11-14 22:13:20.123456789  to 2023-11-14 22:13:20.135856789  12.4 ms\n"
        "  amount = 5\n"
        "  note = \"two words\"\n"
        "  (1 attributes dropped)\n"
        "  Event  retry  2023-11-14 22:13:20.124000000\n"
        "  Link  trace 44444444444444444444444444444444  span 5555555555555555\n");
}

TEST_CASE("a span that died open is marked") {
    BatchOf batch;
    batch.add(
        "a",
        {span_message({.more = bytes_field(9, key_value("oteld.unfinished", bool_value(true)))})});
    CHECK(console_text(batch.batch(), Verbosity::normal).find("  UNFINISHED  ") !=
          std::string::npos);
}

TEST_CASE("text of a span cannot drive a terminal") {
    std::string out;
    append_printable(out, "a\x1b[31m\x7f\n\t\r\xc2\x9b\xe2\x80\xae\xff\xc3(\xe2\x82");
    CHECK(out == "a\\x1b[31m\\x7f\\n\\t\\r\\x9b\\u202e\\xff\\xc3(\\xe2\\x82");
    out.clear();
    append_printable(out, "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    CHECK(out == "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST_CASE("durations have three figures and the unit that fits") {
    CHECK(duration_text(0) == "0 ns");
    CHECK(duration_text(999) == "999 ns");
    CHECK(duration_text(1000) == "1.00 us");
    CHECK(duration_text(9'994) == "9.99 us");
    CHECK(duration_text(9'996) == "10.0 us");
    CHECK(duration_text(999'600) == "1.00 ms");
    CHECK(duration_text(12'400'000) == "12.4 ms");
    CHECK(duration_text(870'000'000) == "870 ms");
    CHECK(duration_text(99'000'000'000) == "99.0 s");
    CHECK(duration_text(187'000'000'000) == "3m 07s");
    CHECK(duration_text(7'500'000'000'000) == "2h 05m");
}

TEST_CASE("values are quoted only where they must be, and cut between characters") {
    CHECK(value_text(text_value("plain")) == "plain");
    CHECK(value_text(text_value("")) == "\"\"");
    CHECK(value_text(text_value("a b")) == "\"a b\"");
    CHECK(value_text(bytes_field(7, "\x01\xff")) == "0x01ff");
    CHECK(value_text(double_value(0.5)) == "0.5");
    const std::string list = bytes_field(1, int_value(1)) + bytes_field(1, bool_value(true));
    CHECK(value_text(bytes_field(5, list)) == "[1, true]");
    CHECK(value_text(bytes_field(6, bytes_field(1, key_value("k", int_value(2))))) == "{k: 2}");
    CHECK(value_text(text_value("abc\xe2\x82\xac"), 4) == "abc…");
}

TEST_CASE("what is sent arrives on the descriptor") {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    auto console = make_console({Verbosity::basic}, ends[1]);
    const BatchOf batch = failed_payment();
    const SendResult result = console->send(batch.batch());
    CHECK(result.outcome == Outcome::delivered);
    ::close(ends[1]);
    CHECK(read_all(ends[0]) == console_text(batch.batch(), Verbosity::basic));
    ::close(ends[0]);
}

TEST_CASE("the rest of a text that was cut comes first the next time: a reader sees whole texts") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_NONBLOCK) == 0);
    REQUIRE(::fcntl(ends[1], F_SETPIPE_SZ, 8192) == 8192);
    StreamWriter writer(ends[1], 1);
    const std::atomic<bool> cancelled{false};
    const std::string text = std::string(10'000, 'x') + "\n";
    CHECK(writer.write(text, cancelled) == ETIMEDOUT);
    const std::string first = read_all(ends[0]);
    CHECK(first.size() == 8192);
    CHECK(writer.write("next\n", cancelled) == 0);
    const bool whole = first + read_all(ends[0]) == text + "next\n";
    CHECK(whole);
    // Of a text that was not begun nothing is kept.
    while (::write(ends[1], "y", 1) == 1) {
    }
    CHECK(writer.write("refused\n", cancelled) == ETIMEDOUT);
    read_all(ends[0]);
    CHECK(writer.write("taken\n", cancelled) == 0);
    CHECK(read_all(ends[0]) == "taken\n");
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("a full device is a reason to retry, and cancel ends it all") {
    const int full = ::open("/dev/full", O_WRONLY);
    REQUIRE(full >= 0);
    auto console = make_console({Verbosity::normal}, full);
    const SendResult result = console->send(failed_payment().batch());
    CHECK(result.outcome == Outcome::retry_after);
    CHECK(result.message.find("full") != std::string::npos);
    console->cancel();
    console->cancel();
    CHECK(console->send(failed_payment().batch()).message.find("Cancelled") != std::string::npos);
    ::close(full);
}
