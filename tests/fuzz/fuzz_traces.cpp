// `oteld traces`: whatever is asked of whatever is stored, the answer is the one that plain code
// over all traces gives. What people type reaches SQL as a bound value only: a service named
// "' OR 1=1 --" is found if there is one, and nothing else is.
//
//   options  u8       bits, below
//   limit    u8
//   service, duration, since, id     each a byte of length and the text
//   spans             with own_spans: a TracesData message, stored beforehand; else a store that is
//                     made once is asked
#include "daemon/commands/traces.hpp"
#include "exporters/trace_query.hpp"
#include "exporters/trace_store.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/unit/daemon/fake_segment.hpp"

#include "otlp.pb.h"

#include <google/protobuf/stubs/logging.h>
#include <sys/mman.h>
#include <nlohmann/json.hpp>

#include <deque>
#include <filesystem>
#include <optional>

namespace oteld::fuzz {
namespace {

using exporters::TraceFilter;
using exporters::TraceQuery;
using exporters::TraceSummary;

enum Option : std::uint8_t { errors = 1, json = 2, own_spans = 4 };

struct Question {
    TracesOptions options;
    TraceFilter filter;
    bool understood = true;  // Duration and since are what they have to be.
};

Question take_question(Input& input, std::uint8_t bits) {
    Question question;
    question.options.errors = (bits & errors) != 0;
    question.options.json = (bits & json) != 0;
    question.options.limit = input.number<std::uint8_t>();
    question.options.service = input.text();
    question.options.min_duration = input.text();
    question.options.since = input.text();
    question.options.trace = input.text();
    question.filter = {.service = question.options.service,
                       .errors = question.options.errors,
                       .limit = question.options.limit};
    if (!question.options.min_duration.empty()) {
        const auto duration = parse_span_duration(question.options.min_duration);
        question.understood = question.understood && duration.has_value();
        question.filter.duration_ns_min = duration.value_or(0);
    }
    if (!question.options.since.empty()) {
        const auto since = parse_since(question.options.since, 1'700'000'000'000'000'000);
        question.understood = question.understood && since.has_value();
        question.filter.since_unix_ns = since.value_or(0);
    }
    return question;
}

// ---- The store ----

void store(const std::string& path, const otlp::TracesData& traces) {
    auto exporter = exporters::make_trace_store(config::TraceStore{}, path,
                                                [] { return std::uint64_t{1'700'000'000'000}; });
    std::deque<std::string> texts;
    std::vector<exporters::SpanRun> runs;
    const auto keep = [&texts](std::string text) -> std::string_view {
        return texts.emplace_back(std::move(text));
    };
    for (const auto& of_resource : traces.resource_spans())
        for (const auto& of_scope : of_resource.scope_spans()) {
            otlp::ScopeSpans frames;
            *frames.mutable_spans() = of_scope.spans();
            runs.push_back({.resource = keep(of_resource.resource().SerializeAsString()),
                            .resource_schema_url = of_resource.schema_url(),
                            .scope = keep(of_scope.scope().SerializeAsString()),
                            .scope_schema_url = of_scope.schema_url(),
                            .frames = keep(frames.SerializeAsString()),
                            .spans = static_cast<std::uint32_t>(of_scope.spans_size())});
        }
    const auto sent = exporter->send({.runs = runs, .spans = 0, .bytes = 0});
    OTELD_EXPECT(sent.outcome == exporters::SendResult::Outcome::delivered);
}

otlp::Span* add_span(otlp::TracesData& traces, const std::string& service, std::uint8_t number) {
    auto& of_resource = *traces.add_resource_spans();
    auto& attribute = *of_resource.mutable_resource()->add_attributes();
    attribute.set_key("service.name");
    attribute.mutable_value()->set_string_value(service);
    otlp::Span* span = of_resource.add_scope_spans()->add_spans();
    span->set_trace_id(std::string(15, static_cast<char>(number)) + 't');
    span->set_span_id(std::string(7, static_cast<char>(number)) +
                      static_cast<char>('a' + traces.resource_spans_size()));
    span->set_name("work \x1b[31m \"quoted\" \n");
    span->set_start_time_unix_nano(1'700'000'000'000'000'000 + number * 1'000'000'000ULL);
    span->set_end_time_unix_nano(span->start_time_unix_nano() + number * 1'000'000ULL);
    return span;
}

// Services that would be something else if they were pasted into a statement.
otlp::TracesData hostile_traces() {
    otlp::TracesData traces;
    std::uint8_t number = 0;
    for (const std::string& service :
         {std::string("orders"), std::string("' OR 1=1 --"), std::string("a\0b", 3), std::string(),
          std::string("%"), std::string("?4"), std::string("\u00e4\u00f6")})
        add_span(traces, service, ++number);
    add_span(traces, "payment", 1)->mutable_status()->set_code(2);
    otlp::Span* alone = add_span(traces, "orders", 40);
    alone->set_parent_span_id("somebody");
    auto& unfinished = *alone->add_attributes();
    unfinished.set_key("oteld.unfinished");
    unfinished.mutable_value()->set_bool_value(true);
    for (const std::uint64_t time : {0ULL, 1ULL, ~0ULL, 1ULL << 63, (1ULL << 63) - 1}) {
        otlp::Span* span = add_span(traces, "times", 0x30 + ++number);
        span->set_start_time_unix_nano(time);
        span->set_end_time_unix_nano(~time);
    }
    return traces;
}

class Store {
public:
    explicit Store(const otlp::TracesData& traces) { store(path(), traces); }
    [[nodiscard]] std::string path() const { return directory_.path + "/traces.db"; }

private:
    test::TemporaryDirectory directory_;
};

// ---- The same answers by plain code ----

// The store keeps times of 63 bits: a later one stands at the end of these.
constexpr std::uint64_t stored_max = INT64_MAX;

bool matches(const TraceSummary& trace, const TraceFilter& filter) {
    return (filter.service.empty() || std::find(trace.services.begin(), trace.services.end(),
                                                filter.service) != trace.services.end()) &&
           (!filter.errors || trace.errors > 0) && trace.duration_ns >= filter.duration_ns_min &&
           trace.start_unix_ns >= std::min(filter.since_unix_ns, stored_max);
}

std::string hex_of(const std::string& bytes) {
    std::string out;
    for (const char c : bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
        out += digits;
    }
    return out;
}

bool begins_with(const std::string& id, const std::string& typed) {
    const std::string digits = hex_of(id);
    return digits.size() >= typed.size() &&
           std::equal(typed.begin(), typed.end(), digits.begin(), [](char a, char b) {
               return std::tolower(static_cast<unsigned char>(a)) == b;
           });
}

bool is_hex(const std::string& text) {
    return text.find_first_not_of("0123456789abcdefABCDEF") == text.npos;
}

std::vector<std::string> ids(const std::vector<TraceSummary>& traces) {
    std::vector<std::string> out;
    out.reserve(traces.size());
    for (const TraceSummary& trace : traces) out.push_back(trace.trace_id);
    return out;
}

// Lists are by start; among equals, find() promises no order.
std::vector<std::string> sorted(std::vector<std::string> all) {
    std::sort(all.begin(), all.end());
    return all;
}

std::vector<TraceSummary> all_traces(TraceQuery& query) {
    auto all = query.list({.limit = 0});
    OTELD_EXPECT(all);
    for (const TraceSummary& trace : *all) {
        OTELD_EXPECT(trace.spans > 0 && trace.errors <= trace.spans &&
                     trace.unfinished <= trace.spans);
        const auto spans = query.spans(trace.trace_id, 10'000);
        OTELD_EXPECT(spans && (*spans).size() == trace.spans);
    }
    return *all;
}

void expect_same_list(TraceQuery& query, const std::vector<TraceSummary>& all,
                      const TraceFilter& filter) {
    std::vector<TraceSummary> expected;
    for (const TraceSummary& trace : all)
        if (matches(trace, filter) && (filter.limit == 0 || expected.size() < filter.limit))
            expected.push_back(trace);
    const auto found = query.list(filter);
    OTELD_EXPECT(found && ids(*found) == ids(expected));
}

void expect_same_find(TraceQuery& query, const std::vector<TraceSummary>& all,
                      const std::string& typed) {
    const auto found = query.find(typed, 1000);
    OTELD_EXPECT(static_cast<bool>(found) == is_hex(typed));
    if (!found) return;
    std::vector<TraceSummary> expected;
    for (const TraceSummary& trace : all)
        if (begins_with(trace.trace_id, typed)) expected.push_back(trace);
    OTELD_EXPECT(sorted(ids(*found)) == sorted(ids(expected)));
}

// ---- The command ----

// Where the command's text goes, instead of the terminal. Its complaints go nowhere.
class StandardOutput {
public:
    StandardOutput() : memory_(::memfd_create("stdout", MFD_CLOEXEC)) {
        OTELD_EXPECT(::dup2(memory_, STDOUT_FILENO) == STDOUT_FILENO);
        // The stream alone: sanitizers write to the descriptor.
        stderr = std::fopen("/dev/null", "w");
        OTELD_EXPECT(stderr != nullptr);
    }
    std::string take() {
        std::string text;
        char buffer[4096];
        (void)::lseek(memory_, 0, SEEK_SET);
        for (ssize_t got; (got = ::read(memory_, buffer, sizeof buffer)) > 0;)
            text.append(buffer, static_cast<std::size_t>(got));
        OTELD_EXPECT(::ftruncate(memory_, 0) == 0);
        (void)::lseek(memory_, 0, SEEK_SET);
        return text;
    }

private:
    int memory_;
};

void expect_printed(const Question& question, int exit_code, const std::string& text) {
    OTELD_EXPECT(exit_code >= 0 && exit_code <= 2);
    OTELD_EXPECT(exit_code != 2 || !question.understood || !is_hex(question.options.trace));
    OTELD_EXPECT(question.understood || exit_code == 2);
    OTELD_EXPECT(exit_code != 0 || !text.empty());
    if (question.options.json && !text.empty()) {
        const auto parsed = nlohmann::json::parse(text, nullptr, false);
        OTELD_EXPECT(parsed.is_object() && parsed.value("schema_version", 0) == 1);
    } else {
        // Names of spans and services must not speak to the terminal.
        for (const char c : text)
            OTELD_EXPECT(c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f));
    }
}

void run_command(Question question, const std::string& path) {
    static StandardOutput output;
    question.options.store = path;
    const int exit_code = traces_command(question.options);
    expect_printed(question, exit_code, output.take());
}

void ask(const Question& question, const std::string& path) {
    auto query = TraceQuery::open(path);
    OTELD_EXPECT(query);
    const std::vector<TraceSummary> all = all_traces(*query);
    expect_same_list(*query, all, question.filter);
    expect_same_find(*query, all, question.options.trace);
    (void)query->spans(question.options.trace, question.options.limit);
    run_command(question, path);
}

void run(Input input) {
    const auto bits = input.number<std::uint8_t>();
    const Question question = take_question(input, bits);
    if ((bits & own_spans) == 0) {
        static const Store prepared(hostile_traces());
        return ask(question, prepared.path());
    }
    const google::protobuf::LogSilencer silent;
    otlp::TracesData traces;
    if (!traces.ParseFromString(std::string(input.rest()))) return;
    const Store own(traces);
    ask(question, own.path());
}

}  // namespace
}  // namespace oteld::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
    oteld::fuzz::run(oteld::fuzz::Input(bytes, count));
    return 0;
}
