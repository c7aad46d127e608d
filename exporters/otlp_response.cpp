#include "exporters/otlp_response.hpp"

#include "exporters/text.hpp"
#include "oteld/detail/wire.hpp"
#include "shm/span_view.hpp"

#include <algorithm>
#include <limits>

namespace oteld::exporters {

namespace {

namespace wire = oteld::detail::wire;
using std::chrono::milliseconds;

constexpr std::size_t quoted_bytes_max = 300;
constexpr std::string_view retry_info_type = "google.rpc.RetryInfo";
constexpr std::int64_t delay_seconds_max = std::int64_t{24} * 3600;

bool is_message(const shm::WireField& field, std::uint32_t number) {
    return field.field == number && field.type == wire::bytes_type;
}

bool is_varint(const shm::WireField& field, std::uint32_t number) {
    return field.field == number && field.type == wire::varint_type;
}

// google.protobuf.Duration
milliseconds parse_duration(std::string_view bytes) {
    std::int64_t seconds = 0;
    std::int64_t nanoseconds = 0;
    shm::FieldReader fields(bytes);
    for (shm::WireField field; fields.next(field);) {
        if (is_varint(field, 1)) seconds = static_cast<std::int64_t>(field.number);
        if (is_varint(field, 2)) nanoseconds = static_cast<std::int64_t>(field.number);
    }
    seconds = std::clamp<std::int64_t>(seconds, 0, delay_seconds_max);
    nanoseconds = std::clamp<std::int64_t>(nanoseconds, 0, 999'999'999);
    return milliseconds(seconds * 1000 + (nanoseconds + 999'999) / 1'000'000);
}

// google.protobuf.Any: the RetryInfo in it, if it is one that names a delay.
std::optional<milliseconds> parse_retry_info(std::string_view bytes) {
    std::string_view type;
    std::string_view value;
    shm::FieldReader fields(bytes);
    for (shm::WireField field; fields.next(field);) {
        if (is_message(field, 1)) type = field.bytes;
        if (is_message(field, 2)) value = field.bytes;
    }
    if (type.substr(type.rfind('/') + 1) != retry_info_type) return std::nullopt;
    std::optional<milliseconds> delay;
    shm::FieldReader info(value);
    for (shm::WireField field; info.next(field);) {
        if (is_message(field, 1)) delay = parse_duration(field.bytes);
    }
    return delay;
}

}  // namespace

std::optional<PartialSuccess> parse_export_response(std::string_view bytes) noexcept {
    PartialSuccess out;
    shm::FieldReader response(bytes);
    for (shm::WireField outer; response.next(outer);) {
        if (!is_message(outer, 1)) continue;
        shm::FieldReader partial(outer.bytes);
        for (shm::WireField field; partial.next(field);) {
            if (is_varint(field, 1)) {
                const auto count = static_cast<std::int64_t>(field.number);
                out.rejected_spans = static_cast<std::uint32_t>(
                    std::clamp<std::int64_t>(count, 0, std::numeric_limits<std::uint32_t>::max()));
            }
            if (is_message(field, 2)) out.message = field.bytes;
        }
        if (partial.malformed()) return std::nullopt;
    }
    if (response.malformed()) return std::nullopt;
    return out;
}

std::optional<Status> parse_status(std::string_view bytes) noexcept {
    Status out;
    shm::FieldReader fields(bytes);
    for (shm::WireField field; fields.next(field);) {
        if (is_varint(field, 1)) out.code = static_cast<std::int32_t>(field.number);
        if (is_message(field, 2)) out.message = field.bytes;
        if (is_message(field, 3) && !out.retry_delay)
            out.retry_delay = parse_retry_info(field.bytes);
    }
    if (fields.malformed()) return std::nullopt;
    return out;
}

std::string quoted(std::string_view words) {
    std::string out = "\"";
    append_printable(out, words.substr(0, quoted_bytes_max));
    if (words.size() > quoted_bytes_max) out += "...";
    return out + '"';
}

std::string partial_success_text(std::string_view endpoint, const PartialSuccess& partial) {
    const std::string who(endpoint);
    const std::string says = partial.message.empty() ? "" : ": " + quoted(partial.message);
    if (partial.rejected_spans != 0) {
        return who + " rejected " + std::to_string(partial.rejected_spans) + " spans of a request" +
               (says.empty() ? " and did not say why" : says);
    }
    return says.empty() ? "" : who + " took all spans but warns" + says;
}

}  // namespace oteld::exporters
