// The resources and scopes of one segment, copied out of its table log and checked.
//
// Used by: segment.cpp. Threads: drain thread only. A record names its scope by an index; the
// client appends the entry before the first record that names it, so an index that is unknown after
// a look is a broken producer. Bounded: what a segment can make the daemon remember is limited,
// whatever its table says.
#pragma once

#include "daemon/spool/extent_writer.hpp"

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace oteld::daemon {

class Scopes {
public:
    static constexpr std::size_t bytes_max = 1 << 20;
    static constexpr std::size_t message_bytes_max = 64 << 10;

    // Reads what has been appended to the table since the last call.
    void read(std::string_view table_untrusted);
    // Null: not (yet) in the table.
    [[nodiscard]] ScopeBytes* find(std::uint16_t index) noexcept {
        return index < scopes_.size() ? scopes_[index].get() : nullptr;
    }
    // The process's first resource; null before there is one.
    [[nodiscard]] const ResourceBytes* first_resource() const noexcept;
    // Entries that were refused.
    [[nodiscard]] std::uint64_t malformed() const noexcept { return malformed_; }

private:
    bool read_entry(std::string_view entry_untrusted);

    std::vector<std::shared_ptr<const ResourceBytes>> resources_;
    std::vector<std::unique_ptr<ScopeBytes>> scopes_;
    std::size_t read_bytes_ = 0;
    std::size_t kept_bytes_ = 0;
    std::uint64_t malformed_ = 0;
    bool damaged_ = false;  // An entry that cannot be stepped over: nothing behind it is read.
};

}  // namespace oteld::daemon
