#include "daemon/intake/duplicate_keys.hpp"

#include "shm/span_view.hpp"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

namespace oteld::daemon {
namespace {

struct Piece {
    std::string_view key;
    std::size_t begin;
    std::size_t end;
    bool keep;
};

// Most keys differ in their first eight bytes or in size, and integers are cheap to compare.
struct Place {
    std::uint64_t prefix;
    std::uint32_t size;
    std::uint32_t index;  // Of the piece.
};

std::string_view key_of(std::string_view key_value) {
    shm::FieldReader fields(key_value);
    shm::WireField field;
    std::string_view key;
    while (fields.next(field))
        if (field.field == 1) key = field.bytes;
    return key;
}

// Stops when there are too many.
std::vector<Piece> attributes_of(std::string_view body) {
    std::vector<Piece> pieces;
    shm::FieldReader fields(body);
    shm::WireField field;
    std::size_t begin = 0;
    while (pieces.size() <= duplicate_keys_attributes_max && fields.next(field)) {
        const std::size_t end = body.size() - fields.rest().size();
        if (field.field == 9) pieces.push_back({key_of(field.bytes), begin, end, true});
        begin = end;
    }
    return pieces;
}

std::uint64_t prefix_of(std::string_view key) {
    std::uint64_t prefix = 0;
    key.copy(reinterpret_cast<char*>(&prefix), sizeof prefix);
    return prefix;
}

std::vector<Place> sorted(const std::vector<Piece>& pieces) {
    std::vector<Place> places;
    places.reserve(pieces.size());
    for (const Piece& piece : pieces)
        places.push_back({prefix_of(piece.key), static_cast<std::uint32_t>(piece.key.size()),
                          static_cast<std::uint32_t>(places.size())});
    std::sort(places.begin(), places.end(), [&](const Place& a, const Place& b) {
        if (a.prefix != b.prefix) return a.prefix < b.prefix;
        if (a.size != b.size) return a.size < b.size;
        const int order =
            a.size <= sizeof a.prefix ? 0 : pieces[a.index].key.compare(pieces[b.index].key);
        return order != 0 ? order < 0 : a.index < b.index;
    });
    return places;
}

}  // namespace

std::size_t remove_duplicate_keys(std::uint8_t* body, std::size_t bytes, std::uint32_t& removed) {
    auto pieces = attributes_of({reinterpret_cast<const char*>(body), bytes});
    if (pieces.size() > duplicate_keys_attributes_max) return bytes;
    // Equal keys side by side, in the order in which they were set.
    const std::vector<Place> places = sorted(pieces);
    for (std::size_t i = 0; i + 1 < places.size(); ++i) {
        Piece& piece = pieces[places[i].index];
        piece.keep = piece.key != pieces[places[i + 1].index].key;
    }

    std::size_t to = 0;
    std::size_t from = 0;
    const auto keep_up_to = [&](std::size_t end) {
        std::memmove(body + to, body + from, end - from);
        to += end - from;
    };
    for (const Piece& piece : pieces) {
        if (piece.keep) continue;
        keep_up_to(piece.begin);
        from = piece.end;
        ++removed;
    }
    keep_up_to(bytes);
    return to;
}

}  // namespace oteld::daemon
