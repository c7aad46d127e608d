#include "oteld/testing.hpp"

#include "hooks.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace oteld::testing {
namespace {

std::string known_names(const std::vector<RecordedSpan>& spans) {
    std::string names;
    for (const RecordedSpan& span : spans) names += (names.empty() ? "" : ", ") + span.name;
    return names.empty() ? "there are none" : "there are: " + names;
}

bool is_child(const RecordedSpan& of, const RecordedSpan& child) noexcept {
    return std::memcmp(child.parent.span_id(), of.context.span_id(), 8) == 0 &&
           std::memcmp(child.context.trace_id(), of.context.trace_id(), 16) == 0;
}

// With quotes around texts, as within an array.
std::string in_quotes(const RecordedValue& value) {
    const std::string text = RecordedValue(RecordedValue::Array{value}).text();
    return text.substr(1, text.size() - 2);
}

void put_line(std::string& out, const RecordedSpan& span, std::size_t depth) {
    out.append(depth * 2, ' ');
    out += span.name;
    if (span.status == Status::ok) out += "  OK";
    if (span.status == Status::error) out += "  ERROR";
    if (!span.status_description.empty()) out += ' ' + in_quotes(span.status_description);
    for (const RecordedAttribute& attribute : span.attributes)
        out += "  " + attribute.key + '=' + in_quotes(attribute.value);
    out += '\n';
}

using Spans = std::vector<const RecordedSpan*>;

// Takes the span and those below it out of `left`.
void put_tree(std::string& out, Spans& left, std::size_t at, std::size_t depth) {
    const RecordedSpan& span = *std::exchange(left[at], nullptr);
    put_line(out, span, depth);
    for (std::size_t i = 0; i < left.size(); ++i)
        if (left[i] != nullptr && is_child(span, *left[i])) put_tree(out, left, i, depth + 1);
}

}  // namespace

Recorder::Recorder(Settings settings)
    : kept_(std::make_shared<InMemoryExporter>()),
      provider_(settings.processor(kept_), true),
      before_(sdk::known_global_provider()) {
    provider_.make_global();
}

Recorder::~Recorder() {
    sdk::set_global_provider(static_cast<const sdk::Provider*>(before_));
    provider_.shutdown(std::chrono::nanoseconds(0));
    kept_->clear();
}

RecordedSpan Recorder::find(std::string_view name) const {
    std::vector<RecordedSpan> all = spans();
    for (RecordedSpan& span : all)
        if (span.name == name) return std::move(span);
    throw std::out_of_range("no span \"" + std::string(name) + "\" was recorded; " +
                            known_names(all));
}

std::string Recorder::tree() const {
    const std::vector<RecordedSpan> all = spans();
    Spans left;
    for (const RecordedSpan& span : all) left.push_back(&span);
    std::sort(left.begin(), left.end(),
              [](const RecordedSpan* a, const RecordedSpan* b) { return a->start < b->start; });
    std::string out;
    // A span whose parent is not there (it is open, or of elsewhere) is drawn as a root.
    for (std::size_t i = 0; i < left.size(); ++i) {
        if (left[i] == nullptr) continue;
        const bool below = std::any_of(all.begin(), all.end(), [&](const RecordedSpan& other) {
            return is_child(other, *left[i]);
        });
        if (!below) put_tree(out, left, i, 0);
    }
    return out;
}

}  // namespace oteld::testing
