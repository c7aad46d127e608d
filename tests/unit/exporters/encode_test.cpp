#include "exporters/encode.hpp"
#include "oteld/detail/wire.hpp"
#include "shm/span_view.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <string>
#include <tuple>
#include <vector>

using namespace oteld::exporters;
namespace wire = oteld::detail::wire;
namespace shm = oteld::shm;

namespace {

std::string frame(const std::string& span) {
    std::string out(wire::bytes_field_bytes(2, span.size()), '\0');
    wire::put_bytes(reinterpret_cast<std::uint8_t*>(out.data()), 2, span.data(), span.size());
    return out;
}

// Owns what a batch points to, each run's bytes apart from the others.
class Runs {
public:
    void add(const std::string& resource, const std::string& scope,
             const std::vector<std::string>& spans, const std::string& resource_url = "",
             const std::string& scope_url = "") {
        std::string frames;
        for (const std::string& span : spans) frames += frame(span);
        runs_.push_back({keep(resource), keep(resource_url), keep(scope), keep(scope_url),
                         keep(frames), static_cast<std::uint32_t>(spans.size())});
    }
    Batch batch() const {
        Batch out{runs_, 0, 0};
        for (const SpanRun& run : runs_) {
            out.spans += run.spans;
            out.bytes += run.frames.size();
        }
        return out;
    }

private:
    std::string_view keep(const std::string& text) { return kept_.emplace_back(text); }

    std::deque<std::string> kept_;
    std::vector<SpanRun> runs_;
};

std::string joined(const Encoded& encoded) {
    std::string out;
    for (const std::string_view slice : encoded.slices) out += slice;
    return out;
}

// One span as a receiver finds it, with what encloses it.
struct Found {
    std::string resource, resource_url, scope, scope_url, span;
    bool operator==(const Found&) const = default;
    bool operator<(const Found& other) const {
        return std::tie(resource, resource_url, scope, scope_url, span) <
               std::tie(other.resource, other.resource_url, other.scope, other.scope_url,
                        other.span);
    }
};

struct Decoded {
    std::vector<Found> spans;
    int resources = 0;
    int scopes = 0;
    int empty_envelopes = 0;
};

void decode_scope(std::string_view bytes, Found found, Decoded& out) {
    ++out.scopes;
    std::vector<std::string> spans;
    shm::FieldReader fields(bytes);
    for (shm::WireField field; fields.next(field);) {
        if (field.field == 1) found.scope = field.bytes;
        if (field.field == 2) spans.emplace_back(field.bytes);
        if (field.field == 3) found.scope_url = field.bytes;
    }
    CHECK_FALSE(fields.malformed());
    if (spans.empty()) ++out.empty_envelopes;
    for (const std::string& span : spans) {
        found.span = span;
        out.spans.push_back(found);
    }
}

Decoded decode(const std::string& request) {
    Decoded out;
    shm::FieldReader fields(request);
    for (shm::WireField outer; fields.next(outer);) {
        CHECK(outer.field == 1);
        ++out.resources;
        Found found;
        std::vector<std::string_view> scopes;
        shm::FieldReader resource(outer.bytes);
        for (shm::WireField field; resource.next(field);) {
            if (field.field == 1) found.resource = field.bytes;
            if (field.field == 2) scopes.push_back(field.bytes);
            if (field.field == 3) found.resource_url = field.bytes;
        }
        CHECK_FALSE(resource.malformed());
        if (scopes.empty()) ++out.empty_envelopes;
        for (const std::string_view scope : scopes) decode_scope(scope, found, out);
    }
    CHECK_FALSE(fields.malformed());
    return out;
}

bool is_part_of(std::string_view part, std::string_view whole) {
    return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

}  // namespace

TEST_CASE("an empty batch has no request") {
    const Encoded encoded = encode(Batch{});
    CHECK(encoded.slices.empty());
    CHECK(encoded.bytes == 0);
}

TEST_CASE("runs without spans leave no envelope") {
    Runs runs;
    runs.add("r1", "s1", {});
    CHECK(encode(runs.batch()).slices.empty());
    runs.add("r2", "s2", {"span"});
    runs.add("r2", "s3", {});
    const Decoded decoded = decode(joined(encode(runs.batch())));
    CHECK(decoded.resources == 1);
    CHECK(decoded.scopes == 1);
    CHECK(decoded.empty_envelopes == 0);
    CHECK(decoded.spans == std::vector<Found>{{"r2", "", "s2", "", "span"}});
}

TEST_CASE("a request is exactly these bytes") {
    Runs runs;
    runs.add("R", "S", {"ab"}, "u", "v");
    CHECK(joined(encode(runs.batch())) == std::string("\x0a\x12"   // resource_spans
                                                      "\x0a\x01R"  // resource
                                                      "\x1a\x01u"  // schema_url
                                                      "\x12\x0a"   // scope_spans
                                                      "\x0a\x01S"  // scope
                                                      "\x1a\x01v"  // schema_url
                                                      "\x12\x02"
                                                      "ab"));  // spans
}

TEST_CASE("the same bytes are one group, also when they do not follow each other") {
    Runs runs;
    runs.add("r1", "s1", {"a"});
    runs.add("r2", "s1", {"b"});
    runs.add("r1", "s2", {"c"});
    runs.add("r1", "s1", {"d"});
    runs.add("r2", "s1", {"e"});
    const Decoded decoded = decode(joined(encode(runs.batch())));
    CHECK(decoded.resources == 2);
    CHECK(decoded.scopes == 3);
    CHECK(decoded.spans == std::vector<Found>{{"r1", "", "s1", "", "a"},
                                              {"r1", "", "s1", "", "d"},
                                              {"r1", "", "s2", "", "c"},
                                              {"r2", "", "s1", "", "b"},
                                              {"r2", "", "s1", "", "e"}});
}

TEST_CASE("schema URLs tell groups apart") {
    Runs runs;
    runs.add("r", "s", {"a"}, "u1", "v1");
    runs.add("r", "s", {"b"}, "u2", "v1");
    runs.add("r", "s", {"c"}, "u1", "v2");
    // Concatenated they would be the same.
    runs.add("ru", "s", {"d"}, "1", "v1");
    const Decoded decoded = decode(joined(encode(runs.batch())));
    CHECK(decoded.resources == 3);
    CHECK(decoded.scopes == 4);
    CHECK(decoded.spans.size() == 4);
}

TEST_CASE("spans are not copied: their slices lie in the batch's own memory") {
    Runs runs;
    runs.add("r", "s", {std::string(1000, 'x'), std::string(2000, 'y')});
    runs.add("r", "s2", {std::string(3000, 'z')});
    const Batch batch = runs.batch();
    const Encoded encoded = encode(batch);
    std::uint64_t lent = 0;
    for (const std::string_view slice : encoded.slices) {
        for (const SpanRun& run : batch.runs) {
            if (is_part_of(slice, run.frames)) lent += slice.size();
        }
    }
    CHECK(lent == batch.bytes);
    CHECK(encoded.bytes == joined(encoded).size());
}

TEST_CASE("runs that lie one behind the other share a slice") {
    const std::string memory = frame("one") + frame("two");
    const std::string_view both = memory;
    const std::size_t middle = frame("one").size();
    const SpanRun runs[] = {{"r", "", "s", "", both.substr(0, middle), 1},
                            {"r", "", "s", "", both.substr(middle), 1}};
    const Encoded encoded = encode({runs, 2, both.size()});
    REQUIRE(encoded.slices.size() == 2);
    CHECK(encoded.slices[1] == both);
}

TEST_CASE("a moved request still points to its own bytes") {
    Runs runs;
    runs.add("r", "s", {"a"});
    Encoded encoded = encode(runs.batch());
    const std::string before = joined(encoded);
    const Encoded moved = std::move(encoded);
    CHECK(joined(moved) == before);
}

TEST_CASE("random batches come out with every span in its envelope, and divided ones fit") {
    std::mt19937 random(20241124);
    const auto pick = [&](int below) {
        return static_cast<int>(random() % static_cast<unsigned>(below));
    };
    for (int round = 0; round < 200; ++round) {
        CAPTURE(round);
        Runs runs;
        std::vector<Found> expected;
        int serial = 0;
        for (int run = pick(20); run >= 0; --run) {
            const std::string resource =
                "resource " + std::to_string(pick(3)) + std::string(pick(2) == 0 ? 0 : 150, 'r');
            const std::string scope = pick(5) == 0 ? "" : "scope " + std::to_string(pick(3));
            const std::string resource_url =
                pick(2) == 0 ? "" : "https://a/" + std::to_string(pick(2));
            const std::string scope_url =
                pick(2) == 0 ? "" : "https://b/" + std::to_string(pick(2));
            std::vector<std::string> spans;
            for (int i = pick(4); i > 0; --i) {
                spans.push_back(std::to_string(++serial) + std::string(pick(400), 'x'));
                expected.push_back({resource, resource_url, scope, scope_url, spans.back()});
            }
            runs.add(resource, scope, spans, resource_url, scope_url);
        }
        std::sort(expected.begin(), expected.end());
        const Batch batch = runs.batch();

        Decoded whole = decode(joined(encode(batch)));
        std::sort(whole.spans.begin(), whole.spans.end());
        CHECK(whole.spans == expected);
        CHECK(whole.empty_envelopes == 0);

        const std::uint64_t limit = 700 + static_cast<std::uint64_t>(pick(3000));
        std::vector<Found> parts;
        std::uint32_t spans = 0;
        divide(batch, limit, [&](const Batch& part) {
            CHECK(part.spans > 0);
            spans += part.spans;
            const Encoded encoded = encode(part);
            CHECK((encoded.bytes <= limit || part.spans == 1));
            const Decoded decoded = decode(joined(encoded));
            CHECK(decoded.spans.size() == part.spans);
            parts.insert(parts.end(), decoded.spans.begin(), decoded.spans.end());
        });
        CHECK(spans == batch.spans);
        std::sort(parts.begin(), parts.end());
        CHECK(parts == expected);
    }
}

TEST_CASE("a batch that fits is not divided") {
    Runs runs;
    for (int i = 0; i < 50; ++i)
        runs.add("r", "s" + std::to_string(i % 2), {std::string(100, 'x')});
    const Batch batch = runs.batch();
    int calls = 0;
    divide(batch, encode(batch).bytes, [&](const Batch& part) {
        ++calls;
        CHECK(part.runs.data() == batch.runs.data());
    });
    CHECK(calls == 1);
    divide(Batch{}, 1000, [&](const Batch&) { ++calls; });
    CHECK(calls == 1);
}

TEST_CASE(
    "dividing keeps the order, so that parts settle as a prefix, and isolates the too large") {
    Runs runs;
    runs.add("r", "s", {"1" + std::string(300, 'x'), "2" + std::string(5000, 'x'), "3"});
    runs.add("r", "t", {"4" + std::string(300, 'x'), "5"});
    std::vector<std::vector<char>> parts;
    divide(runs.batch(), 600, [&](const Batch& part) {
        auto& spans = parts.emplace_back();
        for (const Found& found : decode(joined(encode(part))).spans)
            spans.push_back(found.span[0]);
    });
    CHECK(parts == std::vector<std::vector<char>>{{'1'}, {'2'}, {'3', '4', '5'}});
}
