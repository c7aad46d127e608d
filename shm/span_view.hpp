// Reads OTLP messages (Span, Resource, InstrumentationScope and what is in them) where they lie, in
// protobuf wire format, without decoding them into objects.
//
// Used by: exporters and `oteld traces`; the daemon's frame walks. Threads: immutable views of the
// caller's bytes. Never allocates, throws or reads outside the view that it was given, whatever the
// bytes are: a field that does not fit ends its message there, and the rest counts as absent.
// Strings are returned as they are: UTF-8 was checked when the span was drained. Like protobuf: of
// a scalar given twice the last one wins, an unknown field or one of the wrong type is skipped, an
// absent one reads as zero or empty. Unlike it: of an array or map given twice the last one wins
// (protobuf would join them; nothing writes that).
// https://github.com/open-telemetry/opentelemetry-proto (trace.proto, common.proto, resource.proto,
// v1)
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace oteld::shm {

// Deeper messages are refused by protobuf's own parsers. Whoever recurses into values stops here.
inline constexpr int nesting_max = 100;

// One field as it was met. `number` keeps varints and fixed widths (fixed32 zero-extended), `bytes`
// a payload.
struct WireField {
    std::uint32_t field = 0;
    std::uint32_t type = 0;  // detail::wire::Type
    std::uint64_t number = 0;
    std::string_view bytes;
};

// Walks the fields of one message. `next` is false at the end and at the first thing that is no
// field.
class FieldReader {
public:
    explicit FieldReader(std::string_view message) noexcept : rest_(message) {}

    [[nodiscard]] bool next(WireField& field) noexcept;
    [[nodiscard]] bool malformed() const noexcept { return malformed_; }
    [[nodiscard]] std::string_view rest() const noexcept { return rest_; }

private:
    bool fail() noexcept;

    std::string_view rest_;
    bool malformed_ = false;
};

// One `ScopeSpans.spans` field of SpanRun::frames.
struct Frame {
    std::string_view bytes;  // {0x12, varint length, Span}: what an exporter copies or slices.
    std::string_view span;   // The Span message in it.
};

// Walks frames. `next` is false at the end and at the first thing that is no frame.
class FrameReader {
public:
    explicit FrameReader(std::string_view frames) noexcept : fields_(frames) {}

    [[nodiscard]] bool next(Frame& frame) noexcept;
    [[nodiscard]] bool malformed() const noexcept { return malformed_ || fields_.malformed(); }

private:
    FieldReader fields_;
    bool malformed_ = false;
};

// The occurrences of one repeated message field, in order, as `View`: for (const Attribute& a :
// span.attributes()).
template <class View>
class Repeated {
public:
    struct End {};
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = View;
        using difference_type = std::ptrdiff_t;
        using pointer = const View*;
        using reference = const View&;

        Iterator(std::string_view message, std::uint32_t field) noexcept
            : fields_(message), wanted_(field), done_(false) {
            ++*this;
        }
        Iterator() noexcept = default;

        reference operator*() const noexcept { return view_; }
        pointer operator->() const noexcept { return &view_; }
        Iterator& operator++() noexcept {
            WireField met;
            while (fields_.next(met)) {
                if (met.field == wanted_ && met.type == 2) {
                    view_ = View(met.bytes);
                    return *this;
                }
            }
            done_ = true;
            return *this;
        }
        bool operator!=(End) const noexcept { return !done_; }

    private:
        FieldReader fields_{{}};
        std::uint32_t wanted_ = 0;
        bool done_ = true;
        View view_{};
    };

    Repeated() noexcept = default;
    Repeated(std::string_view message, std::uint32_t field) noexcept
        : message_(message), field_(field) {}

    [[nodiscard]] Iterator begin() const noexcept { return Iterator(message_, field_); }
    [[nodiscard]] End end() const noexcept { return {}; }
    [[nodiscard]] bool empty() const noexcept { return !(begin() != end()); }
    [[nodiscard]] std::size_t count() const noexcept {
        std::size_t met = 0;
        for (auto at = begin(); at != end(); ++at) ++met;
        return met;
    }

private:
    std::string_view message_;
    std::uint32_t field_ = 0;
};

class Attribute;

// AnyValue. `kind` says which accessor has the value; `none` is an AnyValue without one.
class AnyValue {
public:
    enum class Kind : std::uint8_t { none, string, boolean, integer, floating, array, map, bytes };

    AnyValue() noexcept = default;
    explicit AnyValue(std::string_view message) noexcept { merge(message); }
    void merge(std::string_view message) noexcept;

    [[nodiscard]] Kind kind() const noexcept { return kind_; }
    [[nodiscard]] std::string_view text() const noexcept { return bytes_; }  // string, bytes
    [[nodiscard]] bool boolean() const noexcept { return number_ != 0; }
    [[nodiscard]] std::int64_t integer() const noexcept {
        return static_cast<std::int64_t>(number_);
    }
    [[nodiscard]] double floating() const noexcept;
    [[nodiscard]] Repeated<AnyValue> array() const noexcept { return {bytes_, 1}; }
    [[nodiscard]] Repeated<Attribute> map() const noexcept { return {bytes_, 1}; }

private:
    Kind kind_ = Kind::none;
    std::uint64_t number_ = 0;
    std::string_view bytes_;
};

// KeyValue.
class Attribute {
public:
    Attribute() noexcept = default;
    explicit Attribute(std::string_view message) noexcept;

    std::string_view key;
    AnyValue value;
};

class Event {
public:
    Event() noexcept = default;
    explicit Event(std::string_view message) noexcept;

    [[nodiscard]] Repeated<Attribute> attributes() const noexcept { return {message_, 3}; }

    std::uint64_t time_unix_ns = 0;
    std::string_view name;
    std::uint32_t dropped_attributes_count = 0;

private:
    std::string_view message_;
};

class Link {
public:
    Link() noexcept = default;
    explicit Link(std::string_view message) noexcept;

    [[nodiscard]] Repeated<Attribute> attributes() const noexcept { return {message_, 4}; }

    std::string_view
        trace_id;  // As written: 16 bytes, unless the producer was broken. So with every id here.
    std::string_view span_id;
    std::string_view trace_state;
    std::uint32_t dropped_attributes_count = 0;
    std::uint32_t flags = 0;

private:
    std::string_view message_;
};

class Span {
public:
    Span() noexcept = default;
    explicit Span(std::string_view message) noexcept;

    [[nodiscard]] Repeated<Attribute> attributes() const noexcept { return {message_, 9}; }
    [[nodiscard]] Repeated<Event> events() const noexcept { return {message_, 11}; }
    [[nodiscard]] Repeated<Link> links() const noexcept { return {message_, 13}; }
    // The value of the last attribute with this key; kind none when there is none.
    [[nodiscard]] AnyValue attribute(std::string_view key) const noexcept;
    [[nodiscard]] bool malformed() const noexcept { return malformed_; }

    std::string_view trace_id;
    std::string_view span_id;
    std::string_view trace_state;
    std::string_view parent_span_id;
    std::string_view name;
    std::uint32_t flags = 0;
    std::int32_t kind = 0;  // SpanKind; unknown numbers are kept.
    std::uint64_t start_unix_ns = 0;
    std::uint64_t end_unix_ns = 0;
    std::uint32_t dropped_attributes_count = 0;
    std::uint32_t dropped_events_count = 0;
    std::uint32_t dropped_links_count = 0;
    bool has_status = false;       // A Status message is there, empty or not.
    std::int32_t status_code = 0;  // 0 unset, 1 ok, 2 error.
    std::string_view status_message;

private:
    void read_status(std::string_view message) noexcept;

    std::string_view message_;
    bool malformed_ = false;
};

class Resource {
public:
    Resource() noexcept = default;
    explicit Resource(std::string_view message) noexcept;

    [[nodiscard]] Repeated<Attribute> attributes() const noexcept { return {message_, 1}; }
    [[nodiscard]] AnyValue attribute(std::string_view key) const noexcept;

    std::uint32_t dropped_attributes_count = 0;

private:
    std::string_view message_;
};

class Scope {
public:
    Scope() noexcept = default;
    explicit Scope(std::string_view message) noexcept;

    [[nodiscard]] Repeated<Attribute> attributes() const noexcept { return {message_, 3}; }

    std::string_view name;
    std::string_view version;
    std::uint32_t dropped_attributes_count = 0;

private:
    std::string_view message_;
};

}  // namespace oteld::shm
