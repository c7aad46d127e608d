// The OTLP-JSON writer: what it writes is what protobuf reads from the same bytes.
//
// The input is a TracesData message. What protobuf's parser understands of it goes through
// append_traces_data in the runs that the daemon would make, and the text is read back and compared
// field by field. Bytes that are no such message go through the writer as well: it walks them and
// must stay inside.
#include "exporters/otlp_json.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/json_judge.hpp"

#include "otlp.pb.h"

#include <google/protobuf/stubs/logging.h>

#include <deque>
#include <vector>

namespace oteld::fuzz {
namespace {

// Runs, and the bytes that they point at.
struct Runs {
    std::string_view keep(std::string text) { return texts.emplace_back(std::move(text)); }
    std::deque<std::string> texts;
    std::vector<exporters::SpanRun> runs;
};

std::string frame_of(const otlp::Span& span) {
    otlp::ScopeSpans one;
    *one.add_spans() = span;
    return one.SerializeAsString();
}

// Neighbours of one resource or one scope would be written as one. They are made different here, so
// that the message keeps its shape.
void tell_apart(otlp::TracesData& traces) {
    for (int i = 0; i < traces.resource_spans_size(); ++i) {
        auto& of_resource = *traces.mutable_resource_spans(i);
        of_resource.mutable_resource()->set_dropped_attributes_count(i + 1);
        for (int j = 0; j < of_resource.scope_spans_size(); ++j)
            of_resource.mutable_scope_spans(j)->mutable_scope()->set_dropped_attributes_count(j +
                                                                                              1);
    }
}

bool has_spans(const otlp::TracesData& traces) {
    for (const auto& of_resource : traces.resource_spans()) {
        if (of_resource.scope_spans_size() == 0) return false;
        for (const auto& of_scope : of_resource.scope_spans())
            if (of_scope.spans_size() == 0) return false;
    }
    return true;
}

Runs runs_of(const otlp::TracesData& traces) {
    Runs runs;
    for (const auto& of_resource : traces.resource_spans())
        for (const auto& of_scope : of_resource.scope_spans()) {
            std::string frames;
            for (const auto& span : of_scope.spans()) frames += frame_of(span);
            runs.runs.push_back({.resource = runs.keep(of_resource.resource().SerializeAsString()),
                                 .resource_schema_url = of_resource.schema_url(),
                                 .scope = runs.keep(of_scope.scope().SerializeAsString()),
                                 .scope_schema_url = of_scope.schema_url(),
                                 .frames = runs.keep(std::move(frames)),
                                 .spans = static_cast<std::uint32_t>(of_scope.spans_size())});
        }
    return runs;
}

std::string json_of(const std::vector<exporters::SpanRun>& runs) {
    std::string json;
    exporters::append_traces_data(json, {.runs = runs, .spans = 0, .bytes = 0});
    return json;
}

void write_whatever(std::string_view bytes) {
    const std::string copy(bytes);  // Of its own, so that a read behind it is seen.
    (void)json_of({{copy, copy, copy, copy, copy, 1}});
    std::string json;
    exporters::append_json_span(json, shm::Span(copy));
}

}  // namespace
}  // namespace oteld::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
    using namespace oteld::fuzz;
    const google::protobuf::LogSilencer silent;  // It has much to say about text that is not UTF-8.
    write_whatever(Input(bytes, count).rest());
    otlp::TracesData traces;
    if (!traces.ParseFromArray(bytes, static_cast<int>(count)) || !has_spans(traces)) return 0;
    traces.DiscardUnknownFields();
    tell_apart(traces);
    expect_json_of(traces, json_of(runs_of(traces).runs));
    return 0;
}
