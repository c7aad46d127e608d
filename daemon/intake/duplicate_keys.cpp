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

}  // namespace

std::size_t remove_duplicate_keys(std::uint8_t* body, std::size_t bytes, std::uint32_t& removed) {
    auto pieces = attributes_of({reinterpret_cast<const char*>(body), bytes});
    if (pieces.size() > duplicate_keys_attributes_max) return bytes;
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
        return a.key != b.key ? a.key < b.key : a.begin < b.begin;
    });
    for (std::size_t i = 0; i + 1 < pieces.size(); ++i)
        pieces[i].keep = pieces[i].key != pieces[i + 1].key;
    std::sort(pieces.begin(), pieces.end(),
              [](const Piece& a, const Piece& b) { return a.begin < b.begin; });

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
