// The record validator: whatever it lets into the spool, protobuf's own parser reads, and so does
// every exporter.
//
// The input is one byte that says what follows, a span record as it lies in a lane, a Resource or
// an InstrumentationScope.
#include "daemon/intake/validate.hpp"
#include "exporters/otlp_json.hpp"
#include "oteld/detail/wire.hpp"
#include "shm/span_view.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/fuzz/json_judge.hpp"

#include "otlp.pb.h"

#include <memory>
#include <set>
#include <vector>

namespace oteld::fuzz {
namespace {

using daemon::Refusal;
using detail::SpanRecord;

// As the lane reader hands it over: aligned, its length a multiple of eight and at least a header.
std::vector<std::uint64_t> record_of(std::string_view bytes) {
    std::vector<std::uint64_t> record(std::max((bytes.size() + 7) / 8, sizeof(SpanRecord) / 8));
    std::memcpy(record.data(), bytes.data(), bytes.size());
    return record;
}

// The whole request as a backend parses it, with protobuf's usual limit on nesting.
otlp::Span parse_in_request(std::string_view frame) {
    otlp::TracesData traces;
    const auto wrap = [](std::uint32_t field, std::string_view inner) {
        std::string out(detail::wire::bytes_field_bytes(field, inner.size()), '\0');
        detail::wire::put_bytes(reinterpret_cast<std::uint8_t*>(out.data()), field, inner.data(),
                                inner.size());
        return out;
    };
    OTELD_EXPECT(traces.ParseFromString(wrap(1, wrap(2, frame))));
    OTELD_EXPECT(traces.resource_spans_size() == 1 &&
                 traces.resource_spans(0).scope_spans_size() == 1 &&
                 traces.resource_spans(0).scope_spans(0).spans_size() == 1);
    return traces.resource_spans(0).scope_spans(0).spans(0);
}

std::string json_of(const std::string& span) {
    std::string json;
    exporters::append_json_span(json, shm::Span(span));
    return json;
}

// Of the span itself: a client marks a record in which it saw a key again, and then only one stays.
bool has_key_twice(const otlp::Span& span) {
    std::set<std::string> keys;
    for (const auto& attribute : span.attributes())
        if (!keys.insert(attribute.key()).second) return true;
    return false;
}

void expect_sound(std::string_view frame_bytes, const SpanRecord& record) {
    shm::FrameReader frames(frame_bytes);
    shm::Frame frame;
    OTELD_EXPECT(frames.next(frame) && frame.bytes == frame_bytes);
    const otlp::Span span = parse_in_request(frame_bytes);
    OTELD_EXPECT(span.trace_id() ==
                 std::string_view(reinterpret_cast<const char*>(record.trace_id), 16));
    OTELD_EXPECT(span.span_id() ==
                 std::string_view(reinterpret_cast<const char*>(record.span_id), 8));
    OTELD_EXPECT(span.kind() >= 0 && span.kind() <= 5);
    OTELD_EXPECT(span.status().code() >= 0 && span.status().code() <= 2);
    for (const auto& link : span.links())
        OTELD_EXPECT((link.trace_id().empty() || link.trace_id().size() == 16) &&
                     (link.span_id().empty() || link.span_id().size() == 8));
    if ((record.prefix.flags & detail::record_duplicate_keys) != 0)
        OTELD_EXPECT(span.attributes_size() > 4096 || !has_key_twice(span));
    // What our own reader sees is what protobuf sees, also after protobuf has written it anew.
    expect_json_of(span, json_of(std::string(frame.span)));
    expect_json_of(span, json_of(span.SerializeAsString()));
}

void validate_record(std::string_view bytes) {
    auto words = record_of(bytes);
    const auto length = static_cast<std::uint32_t>(words.size() * 8);
    SpanRecord record;
    std::memcpy(&record, words.data(), sizeof record);
    const std::size_t room = daemon::frame_room(length);
    const auto to = std::make_unique<std::uint8_t[]>(room);
    daemon::TickConverter clock;
    daemon::SpanFrame frame;
    const Refusal refusal = daemon::write_span_frame(
        to.get(), reinterpret_cast<const std::uint8_t*>(words.data()), length, clock, frame);
    OTELD_EXPECT(!to_string(refusal).empty() && to_string(refusal) != "unknown");
    if (refusal != Refusal::none) return;
    OTELD_EXPECT(frame.bytes + daemon::utf8_slack <= room && frame.scope == record.scope);
    expect_sound({reinterpret_cast<const char*>(to.get()), frame.bytes}, record);
}

template <class Message>
void validate_table(daemon::TableMessage kind, std::string_view bytes) {
    std::vector<std::uint8_t> copy(bytes.size() + daemon::utf8_slack);
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    std::uint32_t repaired = 0;
    if (validate_table_message(kind, copy.data(), bytes.size(), repaired) != Refusal::none) return;
    OTELD_EXPECT(repaired <= bytes.size());
    Message message;
    OTELD_EXPECT(message.ParseFromArray(copy.data(), static_cast<int>(bytes.size())));
    OTELD_EXPECT(message.GetReflection()->GetUnknownFields(message).empty());
}

}  // namespace
}  // namespace oteld::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
    using namespace oteld;
    fuzz::Input input(bytes, count);
    switch (input.number<std::uint8_t>() % 3) {
        case 0: fuzz::validate_record(input.rest()); break;
        case 1:
            fuzz::validate_table<fuzz::otlp::Resource>(daemon::TableMessage::resource,
                                                       input.rest());
            break;
        default:
            fuzz::validate_table<fuzz::otlp::InstrumentationScope>(daemon::TableMessage::scope,
                                                                   input.rest());
    }
    return 0;
}
