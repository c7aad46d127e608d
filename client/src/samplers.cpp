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

// "8" of "rv:0123456789abcd;th:8" for "th:"; with no data, not just empty: it is not there.
std::string_view value_of(std::string_view member, std::string_view name) noexcept {
    while (!member.empty()) {
        const std::string_view part = detail::next_part(member, ';');
        if (part.substr(0, name.size()) == name) return part.substr(name.size());
    }
    return {};
}

// Of 56 bits, the left digits of which are given; UINT64_MAX: they are not.
std::uint64_t fraction(std::string_view digits) noexcept {
    if (digits.empty() || digits.size() > 14) return UINT64_MAX;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < 14; ++i) {
        const int digit =
            i < digits.size() ? detail::hex_digit(digits[i], detail::HexCase::lower) : 0;
        if (digit < 0) return UINT64_MAX;
        value = value << 4U | static_cast<unsigned>(digit);
    }
    return value;
}

}  // namespace

namespace sdk {

void check_threshold(abi::Context& context, bool parent_decided, bool sampled) noexcept {
    const SpanContext before(context);
    const std::string_view member = before.trace_state("ot");
    const std::string_view given = value_of(member, "th:");
    if (given.data() == nullptr) return;
    const std::uint64_t threshold = fraction(given);
    if (threshold != UINT64_MAX && parent_decided) {
        const std::string_view explicit_one = value_of(member, "rv:");
        std::uint64_t random = explicit_one.size() == 14 ? fraction(explicit_one) : UINT64_MAX;
        if (random == UINT64_MAX) {
            std::memcpy(&random, context.trace_id + 8, sizeof random);
            random = __builtin_bswap64(random) & 0xFFFFFFFFFFFFFFU;
        }
        if (!sampled || random >= threshold) return;
    }
    char rest[256];
    std::size_t bytes = 0;
    for (std::string_view left = member; !left.empty();) {
        const std::string_view part = detail::next_part(left, ';');
        if (part.empty() || part.substr(0, 3) == "th:" || part.size() >= sizeof rest - bytes)
            continue;
        if (bytes != 0) rest[bytes++] = ';';
        std::memcpy(rest + bytes, part.data(), part.size());
        bytes += part.size();
    }
    const SpanContext after = bytes == 0 ? before.without_trace_state("ot")
                                         : before.with_trace_state("ot", {rest, bytes});
    abi::release(context.trace_state);
    context.trace_state = after.raw().trace_state;
    abi::retain(context.trace_state);
}

}  // namespace sdk

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
