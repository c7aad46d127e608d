// Samplers: which spans are recorded, and which of them leave the process.
//
// Example:
//     class NoHealthChecks : public oteld::Sampler {
//         oteld::SamplingResult should_sample(const oteld::ReadableSpan& start,
//                                             const oteld::SpanContext&) override {
//             const bool drop = start["url.path"] == "/health";
//             return {drop ? oteld::Decision::drop : oteld::Decision::record_and_sample};
//         }
//     };
//
//     const auto sampler = oteld::parent_based(std::make_shared<NoHealthChecks>());
//     oteld::TracerProvider provider{oteld::Settings{}.sampler(sampler)};
//
// Used by: client.hpp's Settings. Needs the client.
// Threads: should_sample() is called on any thread, on several at once, where a span starts. An
// exception that leaves it is counted (hook_failures()) and the span dropped. A span that a sampler
// starts itself under the same provider is sampled by the provider's built-in sampler.
// The built-in samplers cost what the default does. An own one costs each span of its provider a
// look at what it starts with, and nothing to other providers.
// https://opentelemetry.io/docs/specs/otel/trace/sdk/#sampler
#pragma once

#include "oteld/readable_span.hpp"

#include <memory>
#include <optional>

namespace oteld {

enum class Decision : std::uint8_t {
    drop,              // Not recorded: recording() is false.
    record_only,       // For this process's processors; not sampled, not delivered.
    record_and_sample  // Delivered, and the children of other services are asked to be.
};

struct SamplingResult {
    Decision decision = Decision::drop;
    RecordedAttributes attributes = {};  // Added to the span's.
    // Absent: the parent's stays.
    std::optional<std::string> trace_state = std::nullopt;
};

class Sampler {
public:
    // For the client: what a built-in sampler amounts to.
    struct BuiltIn {
        bool parent_based;
        std::uint64_t root_threshold;  // Compared with the low half of the trace id; ~0: always.
    };

    Sampler() = default;
    Sampler(const Sampler&) = delete;
    Sampler& operator=(const Sampler&) = delete;
    virtual ~Sampler() = default;

    // `start` has the name, kind, trace id, attributes and links that the span starts with; its own
    // sampled flag is not set. `parent` is invalid for a root.
    virtual SamplingResult should_sample(const ReadableSpan& start, const SpanContext& parent) = 0;
    [[nodiscard]] virtual const BuiltIn* built_in() const noexcept { return nullptr; }
};
using SamplerPointer = std::shared_ptr<Sampler>;

#define OTELD_EXPORT_FUNCTION __attribute__((visibility("default")))
OTELD_EXPORT_FUNCTION SamplerPointer always_on();
OTELD_EXPORT_FUNCTION SamplerPointer always_off();
// By the last eight bytes of the trace id: services with equal ratios agree. Outside of 0 to 1 the
// nearer of the two.
OTELD_EXPORT_FUNCTION SamplerPointer trace_id_ratio(double ratio);

// What decides for spans with a parent: always_on() where the parent was sampled, else
// always_off(). Null: that default.
struct ParentSamplers {
    SamplerPointer remote_sampled = nullptr, remote_not_sampled = nullptr;
    SamplerPointer local_sampled = nullptr, local_not_sampled = nullptr;
};
OTELD_EXPORT_FUNCTION SamplerPointer parent_based(SamplerPointer root, ParentSamplers others = {});
#undef OTELD_EXPORT_FUNCTION

}  // namespace oteld
