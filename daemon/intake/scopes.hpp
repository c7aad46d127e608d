// The resources and scopes of one segment, copied out of its table log and checked.
//
// Used by: segment.cpp. Threads: drain thread only. A record names its scope by an index; the
// client appends the entry before the first record that names it, so an index that is unknown after
// a look is a broken producer. Bounded: what a segment, and all segments of a user, can make the
// daemon remember is limited, whatever their tables say; what is beyond stays unknown.
#pragma once

#include "daemon/spool/extent_writer.hpp"
#include "shm/layout.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace oteld::daemon {

// Heap that the tables of one user's segments take. Outlives their Scopes.
struct TableMemory {
    static constexpr std::size_t bytes_max = 64 << 20;
    std::size_t bytes = 0;
};

class Scopes {
public:
    static constexpr std::size_t bytes_max = 2 << 20;  // Twice what a table of all scopes takes.
    static constexpr std::size_t message_bytes_max = 64 << 10;

    explicit Scopes(TableMemory& user) : user_(user) {}
    ~Scopes() { user_.bytes -= kept_bytes_; }
    Scopes(const Scopes&) = delete;
    Scopes& operator=(const Scopes&) = delete;

    // Reads what has been appended to the table since the last call.
    void read(std::string_view table_untrusted);
    // Null: not (yet) in the table.
    [[nodiscard]] ScopeBytes* find(std::uint16_t index) noexcept {
        if (index >= shm::scopes_max || !pages_[index / page_scopes]) return nullptr;
        return (*pages_[index / page_scopes])[index % page_scopes].get();
    }
    // The process's first resource; null before there is one.
    [[nodiscard]] const ResourceBytes* first_resource() const noexcept;
    // Entries that were refused.
    [[nodiscard]] std::uint64_t malformed() const noexcept { return malformed_; }

private:
    // One entry must not cost the room of all that there may be.
    static constexpr std::size_t page_scopes = 64;
    using Page = std::array<std::unique_ptr<ScopeBytes>, page_scopes>;

    [[nodiscard]] bool read_entry(std::string_view entry_untrusted);
    [[nodiscard]] bool keep_resource(std::size_t index, std::string message,
                                     std::string schema_url);
    [[nodiscard]] bool keep_scope(const shm::TableEntry& entry, std::string message,
                                  std::string schema_url);
    // False: it would be too much.
    [[nodiscard]] bool charge(std::size_t bytes) noexcept;

    TableMemory& user_;
    std::array<std::shared_ptr<const ResourceBytes>, shm::resources_max> resources_;
    std::array<std::unique_ptr<Page>, shm::scopes_max / page_scopes> pages_;
    std::size_t read_bytes_ = 0;
    std::size_t kept_bytes_ = 0;     // On the heap.
    std::size_t refused_bytes_ = 0;  // Of entries that were looked at and refused.
    std::uint64_t malformed_ = 0;
    bool damaged_ = false;  // An entry that cannot be stepped over: nothing behind it is read.
};

}  // namespace oteld::daemon
