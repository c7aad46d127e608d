// Ids for log lines: as text without allocating, and in the patterns of spdlog. The lines of whole
// programs: tests/integration/test_logs.py.
#include "ring_fixture.hpp"

#include "oteld/api.hpp"
#include "oteld/oteld.h"
#include "oteld/spdlog.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <cstring>
#include <sstream>
#include <string>

namespace oteld::test {
namespace {

constexpr std::uint8_t trace_id[16] = {0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd,
                                       0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c};
constexpr std::uint8_t span_id[8] = {0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31};
constexpr std::uint8_t no_id[16] = {};
const std::string trace_text = "0af7651916cd43dd8448eb211c80319c";
const std::string span_text = "b7ad6b7169203331";

SpanContext some_span() { return {trace_id, span_id, 3, false}; }

// What a logger with this pattern says about "shipped".
std::string line(const std::string& pattern) {
    std::ostringstream out;
    spdlog::logger logger("test", std::make_shared<spdlog::sinks::ostream_sink_st>(out));
    logger.set_formatter(spdlog_formatter(pattern));
    logger.info("shipped");
    return out.str();
}

}  // namespace

TEST_CASE("ids are texts of lower-case hex, or empty together") {
    const SpanContext span = some_span();
    CHECK(span.trace_id_text().view() == trace_text);
    CHECK(span.trace_id_text().c_str() == span.trace_id_hex());
    CHECK(span.span_id_text().view() == span_text);
    CHECK(span.span_id_text().c_str() == span.span_id_hex());
    CHECK(span.trace_flags_text().view() == "03");
    CHECK(std::strlen(SpanContext(trace_id, span_id, 0, false).trace_flags_text().c_str()) == 2);
    // With one id alone there is no span.
    for (const SpanContext& none : {SpanContext(), SpanContext(no_id, span_id, 1, false)}) {
        CHECK(none.trace_id_text().view().empty());
        CHECK(none.span_id_text().view().empty());
        CHECK(none.trace_flags_text().c_str() == std::string());
    }
}

TEST_CASE("the current ids are those of the span that is current, and none without one") {
    CHECK(current_trace_id_text().view().empty());
    CHECK(current_span_id_text().view().empty());
    CHECK(current_trace_flags_text().view().empty());
    {
        const auto scope = attach(some_span());
        CHECK(current_trace_id_text().view() == trace_text);
        CHECK(current_span_id_text().view() == span_text);
        CHECK(current_trace_flags_text().view() == "03");
    }
    CHECK(current_trace_id_text().view().empty());
}

TEST_CASE("C writes ids into the caller's memory and no further") {
    const auto scope = attach(some_span());
    char trace[35];
    char span[19];
    std::memset(trace, '#', sizeof trace);
    std::memset(span, '#', sizeof span);
    CHECK(oteld_trace_id_text(oteld_current(), trace) == trace);
    CHECK(oteld_span_id_text(oteld_current(), span) == span);
    CHECK(trace == trace_text);
    CHECK(span == span_text);
    CHECK(trace[33] == '#');
    CHECK(span[17] == '#');
    CHECK(oteld_trace_id_text(oteld_context{}, trace) == std::string());
    CHECK(oteld_span_id_text(oteld_context{}, span) == std::string());
    CHECK(oteld_trace_id_text(oteld_current(), nullptr) == std::string());
    CHECK(oteld_span_id_text(oteld_current(), nullptr) == std::string());
}

TEST_CASE("flags of spdlog's patterns are the current ids, padded as spdlog's own") {
    CHECK(line("[%W][%w][%k] %v") == "[][][] shipped\n");
    CHECK(line("[%4W] %v") == "[    ] shipped\n");
    const auto scope = attach(some_span());
    CHECK(line("[%W][%w][%k] %v") == "[" + trace_text + "][" + span_text + "][03] shipped\n");
    // The same as of a flag of spdlog's own with as many characters.
    CHECK(line("[%5k][%-5k][%=5k][%-1!k]%v") == "[   03][03   ][ 03  ][0]shipped\n");
    CHECK(line("[%8!w]") == "[" + span_text.substr(0, 8) + "]\n");
    CHECK(line("%v %5l") == "shipped  info\n");
}

TEST_CASE("a formatter of spdlog's that is cloned keeps the flags, and a letter may be chosen") {
    std::ostringstream out;
    spdlog::logger logger("test", std::make_shared<spdlog::sinks::ostream_sink_st>(out));
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<SpdlogFlag>('j', SpdlogFlag::span_id).set_pattern("%j");
    logger.set_formatter(formatter->clone());
    const auto scope = attach(some_span());
    logger.info("");
    CHECK(out.str() == span_text + "\n");
}

TEST_CASE("a line that another thread formats has no ids, not that thread's") {
    std::ostringstream out;
    auto pool = std::make_shared<spdlog::details::thread_pool>(
        8, 1, [] { thread_local const ContextScope of_the_pool = attach(some_span()); });
    {
        const auto scope = attach(some_span());
        const auto logger = std::make_shared<spdlog::async_logger>(
            "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(out), pool);
        logger->set_formatter(spdlog_formatter("[%W][%w][%k] %v"));
        logger->info("span {}", current_span_id_text().c_str());
    }
    pool.reset();  // Waits for the line.
    CHECK(out.str() == "[][][] span " + span_text + "\n");
}

}  // namespace oteld::test
