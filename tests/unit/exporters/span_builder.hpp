// Builds OTLP messages in wire format for tests, field by field, so that a test says exactly which
// bytes it means.
#pragma once

#include "exporters/exporter.hpp"
#include "oteld/detail/wire.hpp"

#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace oteld::test {

namespace wire = oteld::detail::wire;

inline std::string varint_field(std::uint32_t field, std::uint64_t value) {
    std::uint8_t buffer[24];
    std::uint8_t* end = wire::put_varint(wire::put_tag(buffer, field, wire::varint_type), value);
    return {buffer, end};
}

inline std::string fixed64_field(std::uint32_t field, std::uint64_t value) {
    std::uint8_t buffer[24];
    std::uint8_t* end = wire::put_fixed64(wire::put_tag(buffer, field, wire::fixed64_type), value);
    return {buffer, end};
}

inline std::string fixed32_field(std::uint32_t field, std::uint32_t value) {
    std::uint8_t buffer[24];
    std::uint8_t* end = wire::put_fixed32(wire::put_tag(buffer, field, wire::fixed32_type), value);
    return {buffer, end};
}

inline std::string bytes_field(std::uint32_t field, std::string_view bytes) {
    std::string out(wire::bytes_field_bytes(field, bytes.size()), '\0');
    wire::put_bytes(reinterpret_cast<std::uint8_t*>(out.data()), field, bytes.data(), bytes.size());
    return out;
}

inline std::string double_field(std::uint32_t field, double value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return fixed64_field(field, bits);
}

// AnyValue messages.
inline std::string text_value(std::string_view text) { return bytes_field(1, text); }
inline std::string bool_value(bool value) { return varint_field(2, value ? 1 : 0); }
inline std::string int_value(std::int64_t value) {
    return varint_field(3, static_cast<std::uint64_t>(value));
}
inline std::string double_value(double value) { return double_field(4, value); }

// A KeyValue message; as an attribute it still needs its field number.
inline std::string key_value(std::string_view key, std::string_view any_value) {
    return bytes_field(1, key) + bytes_field(2, any_value);
}

struct SpanSpec {
    std::string trace_id = std::string(16, '\x11');
    std::string span_id = std::string(8, '\x22');
    std::string parent_id;
    std::string name = "work";
    std::uint64_t start_ns = 1'700'000'000'000'000'000;
    std::uint64_t duration_ns = 1'000'000;
    std::int32_t status = 0;
    std::string status_message;
    std::string more;  // Further fields.
};

inline std::string span_message(const SpanSpec& spec) {
    std::string out = bytes_field(1, spec.trace_id) + bytes_field(2, spec.span_id);
    if (!spec.parent_id.empty()) out += bytes_field(4, spec.parent_id);
    out += bytes_field(5, spec.name) + varint_field(6, 1) + fixed64_field(7, spec.start_ns) +
           fixed64_field(8, spec.start_ns + spec.duration_ns) + spec.more;
    if (spec.status == 0) return out;
    std::string status = varint_field(3, static_cast<std::uint64_t>(spec.status));
    if (!spec.status_message.empty()) status += bytes_field(2, spec.status_message);
    return out + bytes_field(15, status);
}

inline std::string resource_message(std::string_view service) {
    return bytes_field(1, key_value("service.name", text_value(service)));
}

// A batch that owns its bytes.
class BatchOf {
public:
    // A run of spans of one service.
    BatchOf& add(std::string_view service, const std::vector<std::string>& spans,
                 std::string_view scope = {}) {
        const auto keep = [this](std::string bytes) {
            return std::string_view(bytes_.emplace_back(std::move(bytes)));
        };
        std::string frames;
        for (const std::string& span : spans) frames += bytes_field(2, span);
        runs_.push_back(
            {.resource = service.empty() ? std::string_view() : keep(resource_message(service)),
             .resource_schema_url = {},
             .scope = keep(std::string(scope)),
             .scope_schema_url = {},
             .frames = keep(std::move(frames)),
             .spans = static_cast<std::uint32_t>(spans.size())});
        return *this;
    }
    exporters::SpanRun& last() { return runs_.back(); }

    [[nodiscard]] exporters::Batch batch() const {
        exporters::Batch out{.runs = runs_, .spans = 0, .bytes = 0};
        for (const exporters::SpanRun& run : runs_) {
            out.spans += run.spans;
            out.bytes += run.frames.size();
        }
        return out;
    }

private:
    std::deque<std::string> bytes_;
    std::vector<exporters::SpanRun> runs_;
};

}  // namespace oteld::test
