#include "exporters/encode.hpp"

#include "oteld/detail/wire.hpp"
#include "shm/span_view.hpp"

#include <cstddef>
#include <string>
#include <unordered_map>

namespace oteld::exporters {

namespace {

namespace wire = oteld::detail::wire;

constexpr std::uint32_t request_resource_spans = 1;
constexpr std::uint32_t resource_spans_resource = 1;
constexpr std::uint32_t resource_spans_scope_spans = 2;
constexpr std::uint32_t resource_spans_schema_url = 3;
constexpr std::uint32_t scope_spans_scope = 1;
constexpr std::uint32_t scope_spans_schema_url = 3;

// What encloses spans: a message and its schema URL. Two are the same when their bytes are.
struct Envelope {
    std::string_view message;
    std::string_view schema_url;
    bool operator==(const Envelope&) const = default;
};

struct EnvelopeHash {
    std::size_t operator()(const Envelope& envelope) const noexcept {
        const std::hash<std::string_view> hash;
        return hash(envelope.message) * 31 + hash(envelope.schema_url);
    }
};

struct ScopeGroup {
    Envelope scope;
    std::vector<std::string_view> frames;
    std::uint64_t content_bytes = 0;  // Of the ScopeSpans message.
};

struct ResourceGroup {
    Envelope resource;
    std::vector<ScopeGroup> scopes;
    std::unordered_map<Envelope, std::size_t, EnvelopeHash> index;
    std::uint64_t content_bytes = 0;  // Of the ResourceSpans message.
};

std::size_t optional_field_bytes(std::uint32_t field, std::string_view value) {
    return value.empty() ? 0 : wire::bytes_field_bytes(field, value.size());
}

std::uint8_t* put_optional(std::uint8_t* at, std::uint32_t field, std::string_view value) {
    return value.empty() ? at : wire::put_bytes(at, field, value.data(), value.size());
}

std::size_t field_head_bytes(std::uint32_t field, std::uint64_t content_bytes) {
    return wire::varint_bytes(wire::tag(field, wire::bytes_type)) +
           wire::varint_bytes(content_bytes);
}

std::uint8_t* put_field_head(std::uint8_t* at, std::uint32_t field, std::uint64_t content_bytes) {
    return wire::put_varint(wire::put_tag(at, field, wire::bytes_type), content_bytes);
}

std::size_t scope_header_bytes(const Envelope& scope) {
    return optional_field_bytes(scope_spans_scope, scope.message) +
           optional_field_bytes(scope_spans_schema_url, scope.schema_url);
}

std::size_t resource_header_bytes(const Envelope& resource) {
    return optional_field_bytes(resource_spans_resource, resource.message) +
           optional_field_bytes(resource_spans_schema_url, resource.schema_url);
}

// Sorts runs into groups, in the order in which each group first appears.
class Groups {
public:
    void add(const SpanRun& run) {
        if (run.frames.empty()) return;  // No empty envelopes.
        ScopeGroup& group = scope_of(resource_of({run.resource, run.resource_schema_url}),
                                     {run.scope, run.scope_schema_url});
        group.content_bytes += run.frames.size();
        if (!group.frames.empty() && adjacent(group.frames.back(), run.frames)) {
            const std::string_view last = group.frames.back();
            group.frames.back() = {last.data(), last.size() + run.frames.size()};
        } else {
            group.frames.push_back(run.frames);
        }
    }

    // Adds the enclosing messages' own bytes, innermost first. Returns how many bytes the headers
    // need.
    std::size_t measure() {
        std::size_t headers = 0;
        for (ResourceGroup& resource : resources_) {
            resource.content_bytes = resource_header_bytes(resource.resource);
            headers += resource.content_bytes;
            for (ScopeGroup& scope : resource.scopes) {
                const std::size_t own = scope_header_bytes(scope.scope);
                scope.content_bytes += own;
                const std::size_t head =
                    field_head_bytes(resource_spans_scope_spans, scope.content_bytes);
                headers += own + head;
                resource.content_bytes += head + scope.content_bytes;
            }
            headers += field_head_bytes(request_resource_spans, resource.content_bytes);
        }
        return headers;
    }

    void write(Encoded& out, std::size_t header_bytes) const {
        out.headers = std::make_unique<std::uint8_t[]>(header_bytes);
        std::uint8_t* at = out.headers.get();
        const std::uint8_t* from = at;
        for (const ResourceGroup& resource : resources_) {
            at = put_field_head(at, request_resource_spans, resource.content_bytes);
            at = put_optional(at, resource_spans_resource, resource.resource.message);
            at = put_optional(at, resource_spans_schema_url, resource.resource.schema_url);
            for (const ScopeGroup& scope : resource.scopes) {
                at = put_field_head(at, resource_spans_scope_spans, scope.content_bytes);
                at = put_optional(at, scope_spans_scope, scope.scope.message);
                at = put_optional(at, scope_spans_schema_url, scope.scope.schema_url);
                add_slice(out, {reinterpret_cast<const char*>(from),
                                static_cast<std::size_t>(at - from)});
                from = at;
                for (const std::string_view frames : scope.frames) add_slice(out, frames);
            }
        }
    }

private:
    static bool adjacent(std::string_view first, std::string_view second) {
        return first.data() + first.size() == second.data();
    }

    static void add_slice(Encoded& out, std::string_view slice) {
        out.slices.push_back(slice);
        out.bytes += slice.size();
    }

    ResourceGroup& resource_of(const Envelope& resource) {
        // Nearly always the same as for the run before.
        if (last_ < resources_.size() && resources_[last_].resource == resource) {
            return resources_[last_];
        }
        const auto [place, is_new] = index_.try_emplace(resource, resources_.size());
        if (is_new) resources_.push_back({.resource = resource, .scopes = {}, .index = {}});
        last_ = place->second;
        return resources_[last_];
    }

    static ScopeGroup& scope_of(ResourceGroup& resource, const Envelope& scope) {
        const auto [place, is_new] = resource.index.try_emplace(scope, resource.scopes.size());
        if (is_new) resource.scopes.push_back({.scope = scope, .frames = {}});
        return resource.scopes[place->second];
    }

    std::vector<ResourceGroup> resources_;
    std::unordered_map<Envelope, std::size_t, EnvelopeHash> index_;
    std::size_t last_ = 0;
};

// More than the enclosing messages of a run can need if it shares them with no other run.
std::uint64_t enclosing_bytes_max(const SpanRun& run) {
    return run.resource.size() + run.resource_schema_url.size() + run.scope.size() +
           run.scope_schema_url.size() + 6 * (1 + wire::varint_bytes_max);
}

// Collects runs and parts of runs up to a limit, then hands them on as a batch.
class Divider {
public:
    Divider(std::uint64_t limit, const std::function<void(const Batch&)>& each)
        : limit_(limit), each_(each) {}

    void add(const SpanRun& run) {
        const std::uint64_t enclosing = enclosing_bytes_max(run);
        if (bytes_ + enclosing + run.frames.size() <= limit_) {
            take(run, enclosing);
        } else {
            add_frame_by_frame(run, enclosing);
        }
    }

    void flush() {
        if (batch_.spans != 0) {
            batch_.runs = runs_;
            each_(batch_);
        }
        runs_.clear();
        batch_ = {};
        bytes_ = 0;
    }

private:
    void add_frame_by_frame(const SpanRun& run, std::uint64_t enclosing) {
        SpanRun part = run;
        part.frames = run.frames.substr(0, 0);
        part.spans = 0;
        shm::FrameReader frames(run.frames);
        for (shm::Frame frame; frames.next(frame);) {
            if (bytes_ + enclosing + part.frames.size() + frame.bytes.size() > limit_) {
                if (part.spans != 0) take(part, enclosing);
                flush();
                part.frames = {frame.bytes.data(), 0};
                part.spans = 0;
            }
            part.frames = {part.frames.data(), part.frames.size() + frame.bytes.size()};
            ++part.spans;
        }
        if (part.spans != 0) take(part, enclosing);
    }

    void take(const SpanRun& run, std::uint64_t enclosing) {
        runs_.push_back(run);
        batch_.spans += run.spans;
        batch_.bytes += run.frames.size();
        bytes_ += enclosing + run.frames.size();
    }

    std::uint64_t limit_;
    const std::function<void(const Batch&)>& each_;
    std::vector<SpanRun> runs_;
    Batch batch_{};
    std::uint64_t bytes_ = 0;
};

}  // namespace

Encoded encode(const Batch& batch) {
    Groups groups;
    for (const SpanRun& run : batch.runs) groups.add(run);
    Encoded out;
    if (const std::size_t header_bytes = groups.measure(); header_bytes != 0) {
        groups.write(out, header_bytes);
    }
    return out;
}

void divide(const Batch& batch, std::uint64_t request_bytes_max,
            const std::function<void(const Batch&)>& each) {
    if (batch.spans == 0) return;
    std::uint64_t most = 0;
    for (const SpanRun& run : batch.runs) most += enclosing_bytes_max(run) + run.frames.size();
    // The bound counts what encloses each run, the request only what encloses each group: so look
    // again.
    if (most <= request_bytes_max || encode(batch).bytes <= request_bytes_max) {
        each(batch);
        return;
    }
    Divider divider(request_bytes_max, each);
    for (const SpanRun& run : batch.runs) divider.add(run);
    divider.flush();
}

}  // namespace oteld::exporters
