// The file of a trace store: begun, opened, checked for its version, and set aside when it is
// damaged; and sentences for people about what is wrong with it.
//
// Used by: trace_store.cpp. Threads: one at a time. Knows the tables only as a whole.
#pragma once

#include "config/result.hpp"
#include "exporters/sqlite.hpp"

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

namespace oteld::exporters {

class TraceStoreFile {
public:
    explicit TraceStoreFile(std::string path) : path_(std::move(path)) {}

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] Sqlite& connection() noexcept { return db_; }

    // Empty when the store is open, else what to do. The flag ends what waits or runs.
    [[nodiscard]] std::string open(const std::atomic<bool>& cancelled);
    void close() noexcept { db_.close(); }

    // Somebody's read transaction keeps the write-ahead log from being emptied.
    [[nodiscard]] bool log_is_held();

    // Closes, and moves a damaged file out of the way; its new name. The error says what to do.
    [[nodiscard]] Result<std::string> set_aside(std::uint64_t unix_ms);

    [[nodiscard]] std::string failure_text(const SqliteFailure& failure) const;

private:
    std::string create();
    std::string prepare();
    void remove_older_damaged() const;
    [[nodiscard]] bool at_file_size_limit() const;

    std::string path_;
    Sqlite db_;
};

}  // namespace oteld::exporters
