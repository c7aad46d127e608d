// Records random spans, several open at once, and prints what it recorded (recorded.hpp).
//
//   random_spans [--seed N] [--spans N]
//
// The seed is printed on standard error, so that a failure can be repeated; without one it is
// random. What must arrive is worked out here from the specification: limits, keys set twice,
// statuses, text that is not UTF-8. Exit code 1: nothing is being recorded, or spans were not safe
// with the daemon within a minute.

#include "recorded.hpp"

#include <algorithm>
#include <random>
#include <thread>

#include <unistd.h>

namespace {

using namespace recorded;

// Small, so that they are met often.
constexpr std::size_t attributes_max = 16, events_max = 6, links_max = 5, event_attributes_max = 4,
                      link_attributes_max = 3;
constexpr std::size_t characters_max = 1000;
constexpr std::size_t open_max = 50;  // More than the slots of one lane.

void set_environment() {
    for (const auto& [name, value] : {std::pair{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", attributes_max},
                                      {"OTEL_SPAN_EVENT_COUNT_LIMIT", events_max},
                                      {"OTEL_SPAN_LINK_COUNT_LIMIT", links_max},
                                      {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", event_attributes_max},
                                      {"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", link_attributes_max},
                                      {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", characters_max}}) {
        setenv(name, std::to_string(value).c_str(), 1);
    }
}

// Bytes that no UTF-8 text has become '?'.
std::string clean(std::string text) {
    std::replace(text.begin(), text.end(), '\xff', '?');
    return text;
}

std::string first_characters(const std::string& text) {
    std::size_t at = 0;
    for (std::size_t seen = 0; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xC0U) != 0x80U && seen++ == characters_max)
            break;
    }
    return text.substr(0, at);
}

// What arrives of a value.
Any kept(Any any) {
    if (any.kind == Any::Kind::string) any.text = clean(first_characters(any.text));
    if (any.kind == Any::Kind::bytes) any.text = any.text.substr(0, characters_max);
    for (Any& item : any.items) item = kept(item);
    for (Pair& pair : any.pairs) pair.value = kept(pair.value);
    return any;
}

class Dice {
public:
    explicit Dice(std::uint64_t seed) : engine_(seed) {}

    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool one_in(std::uint64_t n) { return below(n) == 0; }
    template <class Id>
    void fill(Id& id) {
        for (std::uint8_t& byte : id) byte = static_cast<std::uint8_t>(1 + below(255));
    }

    std::string text(std::size_t characters) {
        static constexpr const char* alphabet[] = {
            "a", "Z", "0", " ", "\"", "\\", "\n", "\x7f", "é", "ж", "字", "\U0001F980", "\xff"};
        std::string out;
        while (characters-- > 0) out += alphabet[below(std::size(alphabet))];
        return out;
    }
    std::string any_length() {
        if (one_in(12)) return text(below(3000));
        return text(below(40));
    }
    std::string key() { return "key " + std::to_string(below(30)) + (one_in(3) ? " é" : ""); }

    Any value(int depth = 0) {
        switch (below(depth < 4 ? 7 : 5)) {
            case 0: return any_bool(one_in(2));
            case 1:
                return any_int(static_cast<std::int64_t>(engine_() >> below(64)) *
                               (one_in(2) ? 1 : -1));
            case 2: return any_real(real());
            case 3: return any_text(any_length());
            case 4: return any_bytes(any_length());
            case 5: {
                std::vector<Any> items(below(5));
                for (Any& item : items) item = value(depth + 1);
                return any_array(std::move(items));
            }
            default: return any_map(distinct(below(5), depth + 1));
        }
    }
    double real() {
        std::uint64_t bits = engine_();
        double value;
        std::memcpy(&value, &bits, sizeof value);
        // JSON has one NaN.
        return std::isnan(value) ? std::nan("") : value;
    }

    // No key twice.
    Pairs distinct(std::size_t count, int depth = 0) {
        Pairs out;
        for (std::size_t i = 0; i < count; ++i)
            out.push_back({"k" + std::to_string(i), value(depth)});
        return out;
    }

    oteld::SpanContext remote_context() {
        std::uint8_t trace[16], span[8];
        fill(trace), fill(span);
        static constexpr const char* states[] = {"", "a=1",
                                                 "vendor=00f067aa0ba902b7,other@sys=t61rcWkgMzE"};
        return {trace, span, static_cast<std::uint8_t>(one_in(2) ? 1 : 3), true, states[below(3)]};
    }

private:
    std::mt19937_64 engine_;
};

// Keeps the first `limit`; the last value of a key counts (there are repetitions only below the
// limit).
Pairs limited(const Pairs& pairs, std::size_t limit, std::uint32_t& dropped) {
    Pairs out;
    for (const Pair& pair : pairs) {
        const auto same = std::find_if(out.begin(), out.end(),
                                       [&](const Pair& other) { return other.key == pair.key; });
        if (same != out.end())
            same->value = kept(pair.value);
        else if (pair.key.empty() || out.size() == limit)
            ++dropped;
        else
            out.push_back({pair.key, kept(pair.value)});
    }
    return out;
}

// A span under construction, and what must arrive of it.
class Subject {
public:
    Subject(Dice& dice, const std::vector<std::pair<oteld::Tracer, Scope>>& tracers,
            const std::vector<oteld::SpanContext>& known)
        : dice_(&dice) {
        const auto& [tracer, scope] = tracers[dice_->below(tracers.size())];
        it_.scope = &scope;
        it_.kind = static_cast<oteld::Kind>(1 + dice_->below(5));
        if (dice_->one_in(3))
            it_.parent = dice_->remote_context();
        else if (!known.empty() && !dice_->one_in(4))
            it_.parent = known[dice_->below(known.size())];
        const std::string name = dice_->any_length();
        it_.name = clean(name);
        if (dice_->one_in(2))
            it_.start = 1'600'000'000'000'000'000 + dice_->below(100'000'000'000'000'000);
        Pairs given;
        for (std::size_t count = dice_->below(4); count > 0; --count)
            given.push_back({dice_->key(), dice_->value()});
        Values values;
        const auto& attributes = values.attributes(given);
        const std::uint64_t before = unix_ns(std::chrono::system_clock::now());
        span_ = tracer.start(name, attributes.data(), attributes.size(), it_.kind,
                             oteld::parent(it_.parent),
                             oteld::start_time(it_.start == 0 ? oteld::Time() : at(it_.start)));
        if (it_.start == 0)
            it_.between["startTimeUnixNano"] = {before, unix_ns(std::chrono::system_clock::now())};
        for (const Pair& pair : given) note(pair);
        it_.context = span_.context();
    }

    void act() {
        switch (dice_->below(8)) {
            case 0: add_event(); break;
            case 1: add_link(); break;
            case 2: set_status(); break;
            case 3: {
                const std::string name = dice_->any_length();
                span_.name(name);
                it_.name = clean(name);
                break;
            }
            default: set(); break;
        }
    }

    Span end() {
        if (it_.start != 0 && dice_->one_in(2)) it_.end = it_.start + dice_->below(1'000'000'000);
        const oteld::Time time = it_.end == 0 ? oteld::Time() : at(it_.end);
        const std::uint64_t before = unix_ns(std::chrono::system_clock::now());
        if (dice_->one_in(20))
            std::thread([this, time] { span_.end(time); }).join();
        else
            span_.end(time);
        if (it_.end == 0)
            it_.between["endTimeUnixNano"] = {before, unix_ns(std::chrono::system_clock::now())};
        return std::move(it_);
    }

    [[nodiscard]] const oteld::SpanContext& context() const { return it_.context; }

private:
    void note(const Pair& pair) { it_.attributes = merged(pair); }
    Pairs merged(const Pair& pair) {
        Pairs all = std::move(it_.attributes);
        const auto same = std::find_if(all.begin(), all.end(),
                                       [&](const Pair& other) { return other.key == pair.key; });
        if (same != all.end())
            same->value = kept(pair.value);
        else if (pair.key.empty() || all.size() == attributes_max)
            ++it_.dropped_attributes;
        else
            all.push_back({pair.key, kept(pair.value)});
        return all;
    }

    void set() {
        const Pair pair{dice_->one_in(40) ? "" : dice_->key(), dice_->value()};
        const Any& any = pair.value;
        // Each type by its own overload, or as a Value.
        if (any.kind == Any::Kind::boolean)
            span_.set(pair.key, any.integer != 0);
        else if (any.kind == Any::Kind::integer)
            span_.set(pair.key, any.integer);
        else if (any.kind == Any::Kind::real)
            span_.set(pair.key, any.number);
        else if (any.kind == Any::Kind::string && dice_->one_in(2))
            span_.set(pair.key, any.text);
        else {
            Values values;
            span_.set(pair.key, values.value(any));
        }
        note(pair);
    }

    Pairs some(std::size_t limit) {
        Pairs pairs = dice_->distinct(dice_->below(limit + 3));
        if (!pairs.empty() && pairs.size() <= limit && dice_->one_in(2))
            pairs.push_back({pairs[0].key, dice_->value()});
        return pairs;
    }

    void add_event() {
        Event event{dice_->any_length(),
                    dice_->one_in(2) ? 1'600'000'000'000'000'000 + dice_->below(1'000'000'000) : 0,
                    {},
                    0};
        const Pairs given = some(event_attributes_max);
        event.attributes = limited(given, event_attributes_max, event.dropped);
        Values values;
        const auto& attributes = values.attributes(given);
        const std::uint64_t before = unix_ns(std::chrono::system_clock::now());
        span_.event(event.name, attributes.data(), attributes.size(),
                    event.time == 0 ? oteld::Time() : at(event.time));
        event.name = clean(event.name);
        if (it_.events.size() == events_max) {
            ++it_.dropped_events;
            return;
        }
        if (event.time == 0) {
            it_.between["events." + std::to_string(it_.events.size()) + ".timeUnixNano"] = {
                before, unix_ns(std::chrono::system_clock::now())};
        }
        it_.events.push_back(event);
    }

    void add_link() {
        Link link{dice_->remote_context(), {}, 0};
        const Pairs given = some(link_attributes_max);
        link.attributes = limited(given, link_attributes_max, link.dropped);
        Values values;
        const auto& attributes = values.attributes(given);
        span_.link(link.context, attributes.data(), attributes.size());
        if (it_.links.size() == links_max)
            ++it_.dropped_links;
        else
            it_.links.push_back(link);
    }

    void set_status() {
        const auto code =
            static_cast<oteld::Status>(dice_->below(10) == 0 ? 1 : 2 * dice_->below(2));
        const std::string description = dice_->any_length();
        span_.status(code, description);
        if (code == oteld::Status::unset || it_.status == oteld::Status::ok) return;
        it_.status = code;
        it_.description = code == oteld::Status::error ? clean(description) : "";
    }

    Dice* dice_;
    oteld::Span span_;
    Span it_;
};

bool safe() {
    if (oteld::force_flush(std::chrono::minutes(1)) && oteld::spans_dropped() == 0) return true;
    std::fprintf(stderr,
                 "random_spans: the spans are not safe with a daemon (is OTELD_DIR right?)\n");
    return false;
}

int run(std::uint64_t seed, std::uint64_t spans) {
    Dice dice(seed);
    const oteld::TracerProvider provider{
        oteld::Settings{}.service("random spans").resource("service.instance.id", "the one")};
    const Resource resource{{{"service.name", any_text("random spans")},
                             {"service.instance.id", any_text("the one")},
                             {"telemetry.sdk.name", any_text("oteld")},
                             {"telemetry.sdk.language", any_text("cpp")},
                             {"telemetry.sdk.version", any_text(OTELD_VERSION)},
                             {"process.executable.name", any_text("random_spans")},
                             {"process.pid", any_int(getpid())}},
                            ""};
    std::vector<std::pair<oteld::Tracer, Scope>> tracers;
    for (const char* name : {"first", "second", "третий"}) {
        const Scope scope{
            name, name[0] == 's' ? "2.0" : "", name[0] == 'f' ? "https://example.com/s" : "", {}};
        tracers.emplace_back(provider.tracer(scope.name, scope.version, scope.schema_url), scope);
    }
    std::vector<Subject> open;
    std::vector<Span> done;
    std::vector<oteld::SpanContext> known;
    std::uint64_t started = 0;
    while (done.size() < spans) {
        if (started < spans && open.size() < open_max && dice.one_in(4)) {
            open.emplace_back(dice, tracers, known);
            known.push_back(open.back().context());
            ++started;
        } else if (!open.empty()) {
            const std::size_t chosen = dice.below(open.size());
            if (!dice.one_in(started == spans ? 4 : 20)) {
                open[chosen].act();
                continue;
            }
            done.push_back(open[chosen].end());
            std::swap(open[chosen], open.back());
            open.pop_back();
            // What the lanes can hold is another test's subject.
            if (done.size() % 50 == 0 && !safe()) return 1;
        }
    }
    if (!safe()) return 1;
    for (const Span& span : done) print(resource, span);
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    std::uint64_t seed = std::random_device{}();
    std::uint64_t spans = 100;
    for (int i = 1; i + 1 < count; i += 2) {
        if (std::strcmp(arguments[i], "--seed") == 0)
            seed = std::strtoull(arguments[i + 1], nullptr, 10);
        else if (std::strcmp(arguments[i], "--spans") == 0)
            spans = std::strtoull(arguments[i + 1], nullptr, 10);
        else
            return std::fprintf(stderr, "usage: random_spans [--seed N] [--spans N]\n"), 2;
    }
    std::fprintf(stderr, "random_spans: --seed %llu --spans %llu\n",
                 static_cast<unsigned long long>(seed), static_cast<unsigned long long>(spans));
    set_environment();
    return run(seed, spans);
}
