#include "told.hpp"

#include "daemon/intake/recover_slots.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>

namespace oteld::test {
namespace {

std::string key_of(std::uint32_t attribute) { return "a" + std::to_string(attribute); }

std::string text_of(std::uint32_t attribute, std::size_t bytes) {
    return std::to_string(bytes) + ":" +
           std::string(bytes, static_cast<char>('a' + attribute % 26));
}

struct Found {
    bool unfinished = false;
    std::uint32_t attributes = 0;
    std::uint32_t events = 0;
    std::string wrong;
};

Found take_apart(const shm::Span& span) {
    Found found;
    if (span.malformed()) found.wrong = "malformed";
    for (const shm::Attribute& attribute : span.attributes()) {
        if (attribute.key == daemon::unfinished_attribute) {
            found.unfinished = true;
            continue;
        }
        const std::string text(attribute.value.text());
        const std::size_t bytes = std::strtoul(text.c_str(), nullptr, 10);
        if (attribute.key != key_of(found.attributes) || text != text_of(found.attributes, bytes))
            found.wrong = "attribute " + std::string(attribute.key) + " is \"" + text + '"';
        ++found.attributes;
    }
    for (const shm::Event& event : span.events()) {
        if (event.name != "event") found.wrong = "an event";
        ++found.events;
    }
    found.attributes += span.dropped_attributes_count;
    return found;
}

bool one_of(std::uint32_t value, std::uint32_t known, bool under_way) {
    return value == known || (under_way && value == known + 1);
}

std::string compare(const ToldSpan& told, const std::vector<Found>& found) {
    const Stage stage = told.stage;
    if (stage == Stage::nothing) return found.empty() ? "" : "had not begun";
    if (found.size() > 1) return "there " + std::to_string(found.size()) + " times";
    if (found.empty()) return stage == Stage::beginning ? "" : "missing";
    const Found& one = found.front();
    if (!one.wrong.empty()) return one.wrong;
    if (one.unfinished && stage == Stage::ended) return "had ended, is unfinished";
    if (!one.unfinished && stage < Stage::ending) return "is finished, had not ended";
    // The thread may be inside set() or event().
    const bool open = stage == Stage::begun;
    if (!one_of(one.attributes, told.attributes, open)) return "not its attributes";
    if (!one_of(one.events, told.events, open)) return "not its events";
    return "";
}

}  // namespace

Told& new_told() {
    void* memory =
        ::mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    return *static_cast<Told*>(memory);
}

Span Script::begin(unsigned number) {
    const std::string name = std::to_string(number);
    told_[number].stage = Stage::beginning;
    Span span = tracer_.span(name);
    told_[number].stage = Stage::begun;
    return span;
}

void Script::set(unsigned number, Span& span, std::size_t bytes) {
    const std::uint32_t attribute = told_[number].attributes;
    const std::string key = key_of(attribute);
    const std::string text = text_of(attribute, bytes);
    span.set(key, text);
    told_[number].attributes = attribute + 1;
}

void Script::event(unsigned number, Span& span) {
    span.event("event", {{"key", 1}});
    ++told_[number].events;
}

void Script::end(unsigned number, Span& span) {
    told_[number].stage = Stage::ending;
    span.end();
    told_[number].stage = Stage::ended;
}

void Script::whole(unsigned number, unsigned attributes, std::size_t bytes) {
    Span span = begin(number);
    for (unsigned i = 0; i < attributes; ++i) set(number, span, bytes);
    end(number, span);
}

std::string judge(const Told& told, const std::vector<shm::Span>& recovered) {
    std::map<std::string, std::vector<Found>> found;
    for (const shm::Span& span : recovered)
        found[std::string(span.name)].push_back(take_apart(span));
    std::string wrong;
    for (std::size_t i = 0; i < told.size(); ++i) {
        const std::string name = std::to_string(i);
        const std::string what = compare(told[i], found[name]);
        if (!what.empty())
            wrong.append("span ").append(name).append(": ").append(what).append("; ");
        found.erase(name);
    }
    for (const auto& [name, spans] : found)
        wrong.append("\"").append(name).append("\" was never begun; ");
    return wrong;
}

std::uint64_t beginning(const Told& told) {
    return static_cast<std::uint64_t>(
        std::count_if(told.begin(), told.end(),
                      [](const ToldSpan& span) { return span.stage.load() == Stage::beginning; }));
}

}  // namespace oteld::test
