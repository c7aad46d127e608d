// A thin, owning layer over SQLite: a connection, prepared statements, failures as values.
//
// Used by: the trace store and its queries. Threads: one connection belongs to one thread;
// `interrupt_when` names a flag that any thread may set. Never throws; the first failure of a
// connection is kept until it is taken, and until then nothing else is run: a failed statement may
// have ended its transaction, and what followed would be committed by itself.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace oteld::exporters {

// What went wrong, sorted by what can be done about it.
struct SqliteFailure {
    enum class Kind : std::uint8_t {
        none,
        damaged,
        full,
        busy,
        permission,
        cannot_open,
        interrupted,
        other
    };
    Kind kind = Kind::none;
    int error_number = 0;  // errno, when the operating system refused.
    std::string text;      // SQLite's own words.
};

class SqliteStatement;

class Sqlite {
public:
    Sqlite() = default;
    ~Sqlite() { close(); }
    Sqlite(const Sqlite&) = delete;
    Sqlite& operator=(const Sqlite&) = delete;

    // `uri` as in https://www.sqlite.org/uri.html when it starts with "file:".
    [[nodiscard]] bool open(const std::string& uri, bool read_only);
    void close() noexcept;
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }

    // Waits for locks up to this long, unless the flag is set, which also ends a running statement.
    void interrupt_when(const std::atomic<bool>& flag, int busy_ms);

    // Several statements without results.
    bool run(const char* sql);
    // The first column of the first row; `otherwise` without a row or after a failure.
    [[nodiscard]] std::int64_t number(const char* sql, std::int64_t otherwise = 0);
    [[nodiscard]] std::int64_t changes() const;
    [[nodiscard]] std::int64_t last_row() const;
    // The file's name leads to another file now, or to none.
    [[nodiscard]] bool has_moved() const;
    // Keeps the -wal and -shm files at close, so that a reader without write access to the
    // directory can open it.
    void keep_wal_files();

    [[nodiscard]] bool failed() const noexcept {
        return failure_.kind != SqliteFailure::Kind::none;
    }
    [[nodiscard]] const SqliteFailure& failure() const noexcept { return failure_; }
    [[nodiscard]] SqliteFailure take_failure();

private:
    friend class SqliteStatement;
    bool note(int code);

    sqlite3* handle_ = nullptr;
    SqliteFailure failure_;
    const std::atomic<bool>* flag_ = nullptr;
    int busy_ms_ = 0;
};

// Prepared once, bound and stepped often. Views returned by text() hold until the next step or
// reset.
class SqliteStatement {
public:
    SqliteStatement() = default;
    SqliteStatement(Sqlite& connection, const char* sql);
    ~SqliteStatement();
    SqliteStatement(SqliteStatement&& other) noexcept;
    SqliteStatement& operator=(SqliteStatement&& other) noexcept;

    // Resets and binds in order: integers, then_text, then_blob as their types say.
    SqliteStatement& reset();
    SqliteStatement& bind(std::int64_t number);
    SqliteStatement& bind_text(std::string_view text);
    SqliteStatement& bind_blob(std::string_view bytes);
    SqliteStatement& bind_null();

    // True with a row. False at the end and after a failure, which the connection keeps.
    bool step();
    // For statements without rows: true when it went well.
    bool execute();

    [[nodiscard]] std::int64_t number(int column) const;
    [[nodiscard]] std::string_view text(int column) const;  // Text or blob.
    [[nodiscard]] bool is_null(int column) const;

private:
    Sqlite* connection_ = nullptr;
    sqlite3_stmt* statement_ = nullptr;
    int bound_ = 0;
};

}  // namespace oteld::exporters
