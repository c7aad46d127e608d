// The built-in samplers and id generators.

#include "oteld/id_generator.hpp"
#include "oteld/sampler.hpp"

#include "provider.hpp"
#include "random.hpp"

#include <cmath>
#include <cstring>
#include <ctime>

namespace oteld {
namespace {

SamplingResult sampled(bool yes) { return {yes ? Decision::record_and_sample : Decision::drop}; }

// Providers look at built_in() and do the same themselves, faster; should_sample() is for samplers
// that ask others.
class Threshold final : public Sampler {
public:
    explicit Threshold(BuiltIn what) noexcept : what_(what) {}

    SamplingResult should_sample(const ReadableSpan& start, const SpanContext& parent) override {
        std::uint64_t id_bytes = 0;
        const SpanContext own = start.context();
        std::memcpy(&id_bytes, own.trace_id() + 8, sizeof id_bytes);
        const sdk::Sampler same{false, what_.parent_based, what_.root_threshold};
        return sampled(same.samples(parent.raw(), !parent.valid(), id_bytes));
    }
    [[nodiscard]] const BuiltIn* built_in() const noexcept override { return &what_; }

private:
    const BuiltIn what_;
};

class ParentBased final : public Sampler {
public:
    ParentBased(SamplerPointer root, ParentSamplers others) noexcept
        : root_(std::move(root)), others_(std::move(others)) {}

    SamplingResult should_sample(const ReadableSpan& start, const SpanContext& parent) override {
        if (!sdk::parent_decides(parent.raw(), !parent.valid()))
            return root_->should_sample(start, parent);
        const SamplerPointer& remote =
            parent.sampled() ? others_.remote_sampled : others_.remote_not_sampled;
        const SamplerPointer& local =
            parent.sampled() ? others_.local_sampled : others_.local_not_sampled;
        const SamplerPointer& one = parent.remote() ? remote : local;
        return one != nullptr ? one->should_sample(start, parent) : sampled(parent.sampled());
    }

private:
    const SamplerPointer root_;
    const ParentSamplers others_;
};

class RandomIds final : public IdGenerator {
public:
    explicit RandomIds(bool xray) noexcept : xray_(xray) {}
    void trace_id(std::uint8_t (&id)[16]) override {
        fill(id);
        if (!xray_) return;
        const auto seconds = __builtin_bswap32(static_cast<std::uint32_t>(std::time(nullptr)));
        std::memcpy(id, &seconds, sizeof seconds);
    }
    void span_id(std::uint8_t (&id)[8]) override { fill(id); }
    [[nodiscard]] bool random() const noexcept override { return true; }

private:
    template <std::size_t size>
    static void fill(std::uint8_t (&id)[size]) noexcept {
        sdk::Random random{};
        random.seed();
        for (std::size_t i = 0; i < size; i += 8) {
            const std::uint64_t word = random.next() | 1U;
            std::memcpy(id + i, &word, sizeof word);
        }
    }
    const bool xray_;
};

}  // namespace

SamplerPointer always_on() {
    return std::make_shared<Threshold>(Sampler::BuiltIn{false, sdk::Sampler::always});
}

SamplerPointer always_off() { return std::make_shared<Threshold>(Sampler::BuiltIn{false, 0}); }

SamplerPointer trace_id_ratio(double ratio) {
    return std::make_shared<Threshold>(Sampler::BuiltIn{false, sdk::ratio_threshold(ratio)});
}

SamplerPointer parent_based(SamplerPointer root, ParentSamplers others) {
    if (root == nullptr) root = always_on();
    const bool plain = others.remote_sampled == nullptr && others.remote_not_sampled == nullptr &&
                       others.local_sampled == nullptr && others.local_not_sampled == nullptr;
    if (const Sampler::BuiltIn* known = root->built_in(); known != nullptr && plain)
        return std::make_shared<Threshold>(Sampler::BuiltIn{true, known->root_threshold});
    return std::make_shared<ParentBased>(std::move(root), std::move(others));
}

IdGeneratorPointer random_ids() {
    static const auto& one = *new IdGeneratorPointer(std::make_shared<RandomIds>(false));
    return one;
}

IdGeneratorPointer xray_ids() {
    static const auto& one = *new IdGeneratorPointer(std::make_shared<RandomIds>(true));
    return one;
}

}  // namespace oteld
