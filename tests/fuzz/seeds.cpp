// Writes the seeds: small inputs of each target, made from valid data.
//
// Used by people who add one: build/tests/fuzz_seeds tests/fuzz/seeds. Files that are there and are
// not made here (tests/fuzz/seeds/config) stay as they are.
#include "tests/fuzz/input.hpp"
#include "tests/unit/daemon/fake_segment.hpp"

#include "otlp.pb.h"

#include <filesystem>
#include <fstream>
#include <limits>

using namespace oteld;
using namespace oteld::test;
namespace otlp = oteld::fuzz::otlp;

namespace {

std::filesystem::path seeds;

void write(const std::string& target, const std::string& name, const std::string& input) {
    std::filesystem::create_directories(seeds / target);
    std::ofstream(seeds / target / name, std::ios::binary) << input;
}

// ---- Spans ----

otlp::AnyValue value_of(const std::string& text) {
    otlp::AnyValue value;
    value.set_string_value(text);
    return value;
}

void add(otlp::KeyValue& to, const std::string& key, otlp::AnyValue value) {
    to.set_key(key);
    *to.mutable_value() = std::move(value);
}

// One attribute of each type, one of them in another.
void add_every_type(otlp::Span& span) {
    otlp::AnyValue value;
    value.set_bool_value(true);
    add(*span.add_attributes(), "bool", value);
    value.set_int_value(std::numeric_limits<std::int64_t>::min());
    add(*span.add_attributes(), "int", value);
    value.set_double_value(-0.0);
    add(*span.add_attributes(), "double", value);
    value.set_double_value(std::numeric_limits<double>::quiet_NaN());
    add(*span.add_attributes(), "nan", value);
    value.set_bytes_value(std::string("\0\xff\x01\x02", 4));
    add(*span.add_attributes(), "bytes", value);
    *value.mutable_array_value()->add_values() = value_of("\u00e4\"\\\n");
    value.mutable_array_value()->add_values();
    add(*span.add_attributes(), "array", value);
    otlp::AnyValue map;
    add(*map.mutable_kvlist_value()->add_values(), "inner", value);
    add(*span.add_attributes(), "map", map);
    span.add_attributes()->set_key("none");
}

otlp::Span small_span(std::uint8_t number) {
    otlp::Span span;
    span.set_trace_id(std::string(16, static_cast<char>(number)));
    span.set_span_id(std::string(8, static_cast<char>(number)));
    span.set_name("work");
    span.set_kind(1);
    span.set_start_time_unix_nano(1'700'000'000'000'000'000);
    span.set_end_time_unix_nano(1'700'000'000'001'000'000);
    return span;
}

otlp::Span full_span() {
    otlp::Span span = small_span(9);
    span.set_parent_span_id("parents!");
    span.set_trace_state("vendor=1");
    span.set_flags(0x301);
    add_every_type(span);
    auto& event = *span.add_events();
    event.set_name("exception");
    event.set_time_unix_nano(1'700'000'000'000'500'000);
    add(*event.add_attributes(), "exception.type", value_of("timeout"));
    event.set_dropped_attributes_count(1);
    auto& link = *span.add_links();
    link.set_trace_id(std::string(16, 'l'));
    link.set_span_id("linklink");
    link.set_trace_state("a=b");
    link.set_flags(1);
    add(*link.add_attributes(), "k", value_of("v"));
    span.set_dropped_attributes_count(1);
    span.set_dropped_events_count(2);
    span.set_dropped_links_count(3);
    span.mutable_status()->set_code(2);
    span.mutable_status()->set_message("refused");
    return span;
}

otlp::AnyValue nested(int levels) {
    otlp::AnyValue value = value_of("deep");
    for (int i = 0; i < levels; ++i) {
        otlp::AnyValue outer;
        *outer.mutable_array_value()->add_values() = value;
        value = outer;
    }
    return value;
}

// What a record's body holds of a span.
std::string body_of(otlp::Span span) {
    span.clear_trace_id();
    span.clear_span_id();
    span.clear_parent_span_id();
    span.clear_kind();
    span.clear_start_time_unix_nano();
    span.clear_end_time_unix_nano();
    span.clear_status();
    span.clear_flags();
    return span.SerializeAsString();
}

Record full_record() {
    Record record;
    record.parent_id = {7, 8, 9};
    record.kind = 3;
    record.status = 2;
    record.flags = detail::record_parent_known | detail::record_parent_remote;
    record.body = body_of(full_span());
    record.description = "refused";
    return record;
}

Record twice_the_same_key() {
    Record record;
    record.flags = detail::record_duplicate_keys;
    record.body = name_and_attribute("work", "k", 1) + name_and_attribute("again", "k", 2) +
                  name_and_attribute("other", "l", 3);
    return record;
}

Record not_utf8() {
    Record record;
    record.body = name_and_attribute("caf\xe9 \xc3\xa9 \xed\xa0\x80", "k\xff");
    record.description = "\xf0\x9f\x98";
    return record;
}

Record deep() {
    otlp::Span span;
    add(*span.add_attributes(), "deep", nested(28));
    Record record;
    record.body = body_of(span);
    return record;
}

Record in_ticks() {
    Record record;
    record.start |= detail::time_is_ticks;
    record.end |= detail::time_is_ticks;
    record.body = Bytes().field(11, Bytes().fixed64(1, detail::time_is_ticks | 5).text).text;
    return record;
}

otlp::Resource resource_of(const std::string& service) {
    otlp::Resource resource;
    add(*resource.add_attributes(), "service.name", value_of(service));
    return resource;
}

otlp::InstrumentationScope scope_of(const std::string& name) {
    otlp::InstrumentationScope scope;
    scope.set_name(name);
    scope.set_version("1.0");
    add(*scope.add_attributes(), "k", value_of("v"));
    return scope;
}

void validate() {
    const std::string record(1, '\0');
    write("validate", "record", record + Record().bytes());
    write("validate", "record_full", record + full_record().bytes());
    write("validate", "record_twice_the_same_key", record + twice_the_same_key().bytes());
    write("validate", "record_not_utf8", record + not_utf8().bytes());
    write("validate", "record_deep", record + deep().bytes());
    write("validate", "record_in_ticks", record + in_ticks().bytes());
    write("validate", "resource", '\1' + resource_of("orders").SerializeAsString());
    write("validate", "scope", '\2' + scope_of("lib").SerializeAsString());
}

void otlp_json() {
    otlp::TracesData traces;
    auto& of_resource = *traces.add_resource_spans();
    *of_resource.mutable_resource() = resource_of("orders");
    of_resource.set_schema_url("https://opentelemetry.io/schemas/1.0");
    auto& of_scope = *of_resource.add_scope_spans();
    *of_scope.mutable_scope() = scope_of("lib");
    of_scope.set_schema_url("https://example.org");
    *of_scope.add_spans() = full_span();
    write("otlp_json", "full", traces.SerializeAsString());
    *of_scope.add_spans() = small_span(1);
    *of_resource.add_scope_spans()->add_spans() = small_span(2);
    *traces.add_resource_spans()->add_scope_spans()->add_spans() = small_span(3);
    write("otlp_json", "several", traces.SerializeAsString());
    traces.Clear();
    auto& span = *traces.add_resource_spans()->add_scope_spans()->add_spans();
    add(*span.add_attributes(), "deep", nested(28));
    span.mutable_status();
    write("otlp_json", "deep", traces.SerializeAsString());
}

// ---- Segments: see fuzz_drain.cpp for the form ----

struct Drain {
    std::uint8_t options = 0;
    std::string table;
    std::string records;
    std::string patches;
    std::uint8_t patch_count = 0;

    Drain& patch(std::uint16_t part, std::uint16_t offset, std::uint64_t value) {
        ++patch_count;
        patches += number(static_cast<std::uint16_t>(part << 13 | offset)) + number(value);
        return *this;
    }
    template <class Number>
    static std::string number(Number value) {
        return {reinterpret_cast<const char*>(&value), sizeof value};
    }
    [[nodiscard]] std::string input() const {
        return number(options) + number(patch_count) + patches +
               number(static_cast<std::uint16_t>(table.size())) + table + records;
    }
};

std::string table_entry(shm::TableKind kind, std::uint16_t index, const std::string& message) {
    shm::TableEntry entry{};
    entry.kind = static_cast<std::uint16_t>(kind);
    entry.index = index;
    entry.message_bytes = static_cast<std::uint32_t>(message.size());
    entry.bytes = static_cast<std::uint32_t>((sizeof entry + message.size() + 7) / 8 * 8);
    std::string all(reinterpret_cast<const char*>(&entry), sizeof entry);
    all += message;
    all.resize(entry.bytes);
    return all;
}

void drain() {
    constexpr std::uint8_t dead = 1, known = 2, truncated = 4, late = 8, left_open = 16;
    constexpr std::uint16_t producer_0 = 4, header = 0;
    const std::string one = Record().bytes();
    Record other_scope = numbered(5);
    other_scope.scope = 1;
    const std::string pad("\x10\0\0\0\0\0\x08\0________", 16);
    const std::string future("\x10\0\0\0\x09\0\x08\0________", 16);
    const std::string several = one + pad + full_record().bytes() + future + not_utf8().bytes();
    write("drain", "one", Drain{.records = one}.input());
    write("drain", "several_late", Drain{.options = late, .records = several}.input());
    write("drain", "known_then_dead",
          Drain{.options = known | dead | left_open, .records = several}.input());
    write("drain", "truncated", Drain{.options = known | truncated, .records = several}.input());
    write("drain", "two_scopes",
          Drain{.table = table_entry(shm::TableKind::resource, 1,
                                     resource_of("other").SerializeAsString()) +
                         table_entry(shm::TableKind::scope, 1, scope_of("b").SerializeAsString()),
                .records = one + other_scope.bytes() + one}
              .input());
    write("drain", "lying_cursor", Drain{.records = one}.patch(producer_0, 0, 1ULL << 40).input());
    write(
        "drain", "lying_geometry",
        Drain{.records = one}.patch(header, offsetof(shm::SegmentHeader, lane_stride), 64).input());
}

// ---- Steps: see fuzz_spool.cpp ----

void spool() {
    const std::string commit("\0\x47\x01", 3), settle("\2\x01\x40", 3), other("\2\x01\x41", 3);
    const std::string restart("\4\3", 2), with_others("\4\x0d", 2);
    const std::string large("\0\xf3\x80", 3);
    write("spool", "commit_and_restart", commit + commit + restart + settle + restart);
    write("spool", "settle_all", commit + settle + other + restart + commit);
    write("spool", "full", large + large + large + large + settle + other + large + "\3" + restart);
    write("spool", "other_exporters", commit + settle + with_others + commit + settle + restart);
    write("spool", "lost_page",
          commit + commit + "\6" + Drain::number<std::uint16_t>(257) + commit);
    write("spool", "cut", commit + large + "\7" + Drain::number<std::uint16_t>(260) + commit);
    const auto patch = [](std::uint8_t part, std::uint16_t place, std::uint64_t value) {
        return "\5" + Drain::number(part) + Drain::number(place) + Drain::number(value);
    };
    write("spool", "extent_patched", commit + commit + patch(5, 8, 0x200) + commit);
    write("spool", "journal_patched", commit + patch(1, 0, 64) + patch(0, 128, 1) + commit);
    write("spool", "block_patched", commit + patch(3, 8, 0x10000) + settle + commit);
    write("spool", "folded_patched", commit + commit + patch(3, 16, 0x180) + settle + other);
}

// ---- Questions: see fuzz_traces.cpp ----

std::string question(std::uint8_t options, std::uint8_t limit,
                     const std::vector<std::string>& texts, const std::string& spans = {}) {
    std::string input = Drain::number(options) + Drain::number(limit);
    for (const std::string& text : texts)
        input += Drain::number(static_cast<std::uint8_t>(text.size())) + text;
    return input + spans;
}

void traces() {
    constexpr std::uint8_t errors = 1, json = 2, own_spans = 4;
    write("traces", "all", question(0, 0, {}));
    write("traces", "filtered",
          question(errors, 5, {"payment", "1ms", "2023-11-14T00:00:00Z", ""}));
    write("traces", "hostile_service", question(json, 20, {"' OR 1=1 --", "", "", ""}));
    write("traces", "ago", question(json, 1, {"", "0.5us", "1h30m", ""}));
    write("traces", "one", question(0, 0, {"", "", "", "01010101"}));
    write("traces", "one_json", question(json, 0, {"", "", "", "28"}));
    otlp::TracesData data;
    auto& of_resource = *data.add_resource_spans();
    *of_resource.mutable_resource() = resource_of("orders");
    auto& of_scope = *of_resource.add_scope_spans();
    *of_scope.add_spans() = full_span();
    *of_scope.add_spans() = small_span(9);
    const std::string spans = data.SerializeAsString();
    write("traces", "own_list", question(own_spans, 0, {"orders", "", "", "09"}, spans));
    write("traces", "own_tree", question(own_spans, 0, {"", "", "", "0909"}, spans));
    write("traces", "own_json", question(own_spans | json, 0, {"", "", "", "09"}, spans));
}

// ---- Headers: see fuzz_propagation.cpp ----

void propagation() {
    const std::string trace = "0af7651916cd43dd8448eb211c80319c";
    const std::string span = "b7ad6b7169203331";
    const auto formats = [](std::initializer_list<char> list) {
        std::string text(8, '\0');
        std::copy(list.begin(), list.end(), text.begin());
        return text;
    };
    const std::string w3c = formats({1, 2});
    const std::string parent = "traceparent: 00-" + trace + "-" + span + "-01\n";
    write("propagation", "traceparent", w3c + parent);
    write("propagation", "state", w3c + parent + "tracestate: a=1 , b@c=2\ntracestate: ,d=3\n");
    write("propagation", "baggage", w3c + "baggage: a=%C3%A4;p=1;q, b = 2\nbaggage: c=%ff%\n");
    write("propagation", "b3", formats({3, 4}) + "b3: " + trace + "-" + span + "-d-" + span);
    write("propagation", "b3_decision", formats({3, 4}) + "b3: 0");
    write("propagation", "b3_multi",
          formats({4}) + "X-B3-TraceId: 8448eb211c80319c\nX-B3-SpanId: " + span +
              "\nX-B3-Sampled: 1\nX-B3-Flags: 1");
    write("propagation", "jaeger",
          formats({5}) + "uber-trace-id: 1%3A2:0:3\nuberctx-key: v%20\nUberctx-other: 2");
    write("propagation", "xray",
          formats({7, 1}) + "X-Amzn-Trace-Id: Root=1-0af76519-16cd43dd8448eb211c80319c; Parent=" +
              span + ";Sampled=?;Lineage=a:1|b:2;");
    write("propagation", "xray_root",
          formats({7, 3}) + "X-Amzn-Trace-Id: Self=1;Root=1-0af76519-16cd43dd8448eb211c80319c");
    write("propagation", "all",
          formats({6, 5, 4, 3, 2, 1}) + parent + "b3: 1\nuber-trace-id: 1:2:3:4\n");
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: fuzz_seeds DIRECTORY\n");
        return 2;
    }
    seeds = arguments[1];
    drain();
    validate();
    spool();
    otlp_json();
    propagation();
    traces();
    return 0;
}
