#include "exporters/sqlite.hpp"

#include <sqlite3.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

namespace oteld::exporters {

namespace {

using Kind = SqliteFailure::Kind;

constexpr int busy_sleep_ms = 5;

Kind kind_of(int code, int error_number) {
    switch (code & 0xff) {
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
        case SQLITE_FORMAT: return Kind::damaged;
        case SQLITE_FULL: return Kind::full;
        case SQLITE_BUSY:
        case SQLITE_LOCKED: return Kind::busy;
        case SQLITE_READONLY:
        case SQLITE_PERM:
        case SQLITE_AUTH: return Kind::permission;
        case SQLITE_CANTOPEN: return Kind::cannot_open;
        case SQLITE_INTERRUPT: return Kind::interrupted;
        case SQLITE_IOERR:
            // A file shorter than its header says; a log that ends in the middle of a page.
            if (code == SQLITE_IOERR_SHORT_READ) return Kind::damaged;
            return error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG
                       ? Kind::full
                       : Kind::other;
        default: return Kind::other;
    }
}

int stop_when_set(void* flag) {
    return static_cast<const std::atomic<bool>*>(flag)->load(std::memory_order_relaxed) ? 1 : 0;
}

}  // namespace

bool Sqlite::open(const std::string& uri, bool read_only) {
    close();
    failure_ = {};
    const int flags =
        (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) |
        SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
    const int code = sqlite3_open_v2(uri.c_str(), &handle_, flags, nullptr);
    if (code == SQLITE_OK) {
        sqlite3_extended_result_codes(handle_, 1);
        return true;
    }
    note(code);
    close();
    return false;
}

void Sqlite::close() noexcept {
    sqlite3_close_v2(handle_);  // A statement that outlives it keeps the connection until it ends.
    handle_ = nullptr;
}

void Sqlite::interrupt_when(const std::atomic<bool>& flag, int busy_ms) {
    flag_ = &flag;
    busy_ms_ = busy_ms;
    // SQLite hands the pointer back only in a callback, where it takes no pointer to const.
    sqlite3_progress_handler(handle_, 1000, stop_when_set, const_cast<std::atomic<bool>*>(&flag));
    sqlite3_busy_handler(
        handle_,
        [](void* self, int calls) {
            const auto* connection = static_cast<const Sqlite*>(self);
            if (connection->flag_->load(std::memory_order_relaxed)) return 0;
            if (calls * busy_sleep_ms >= connection->busy_ms_) return 0;
            std::this_thread::sleep_for(std::chrono::milliseconds(busy_sleep_ms));
            return 1;
        },
        this);
}

bool Sqlite::run(const char* sql) {
    return !failed() && note(sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr));
}

std::int64_t Sqlite::number(const char* sql, std::int64_t otherwise) {
    SqliteStatement statement(*this, sql);
    return statement.step() ? statement.number(0) : otherwise;
}

std::int64_t Sqlite::changes() const { return sqlite3_changes64(handle_); }

std::int64_t Sqlite::last_row() const { return sqlite3_last_insert_rowid(handle_); }

bool Sqlite::has_moved() const {
    int moved = 0;
    return sqlite3_file_control(handle_, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved != 0;
}

void Sqlite::keep_wal_files() {
    int keep = 1;
    sqlite3_file_control(handle_, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
}

SqliteFailure Sqlite::take_failure() { return std::exchange(failure_, {}); }

// True when `code` is no failure. Only the first one is kept: what follows is its consequence.
bool Sqlite::note(int code) {
    if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return true;
    if (failed()) return false;
    failure_.error_number = handle_ != nullptr ? sqlite3_system_errno(handle_) : 0;
    failure_.kind = kind_of(code, failure_.error_number);
    failure_.text = handle_ != nullptr ? sqlite3_errmsg(handle_) : sqlite3_errstr(code);
    return false;
}

SqliteStatement::SqliteStatement(Sqlite& connection, const char* sql) : connection_(&connection) {
    connection.note(sqlite3_prepare_v2(connection.handle_, sql, -1, &statement_, nullptr));
}

SqliteStatement::~SqliteStatement() { sqlite3_finalize(statement_); }

SqliteStatement::SqliteStatement(SqliteStatement&& other) noexcept
    : connection_(other.connection_),
      statement_(std::exchange(other.statement_, nullptr)),
      bound_(other.bound_) {}

SqliteStatement& SqliteStatement::operator=(SqliteStatement&& other) noexcept {
    std::swap(connection_, other.connection_);
    std::swap(statement_, other.statement_);
    std::swap(bound_, other.bound_);
    return *this;
}

SqliteStatement& SqliteStatement::reset() {
    sqlite3_reset(statement_);
    bound_ = 0;
    return *this;
}

SqliteStatement& SqliteStatement::bind(std::int64_t number) {
    connection_->note(sqlite3_bind_int64(statement_, ++bound_, number));
    return *this;
}

SqliteStatement& SqliteStatement::bind_text(std::string_view text) {
    const char* data = text.data() != nullptr ? text.data() : "";
    connection_->note(
        sqlite3_bind_text64(statement_, ++bound_, data, text.size(), SQLITE_STATIC, SQLITE_UTF8));
    return *this;
}

SqliteStatement& SqliteStatement::bind_blob(std::string_view bytes) {
    const char* data = bytes.data() != nullptr ? bytes.data() : "";
    connection_->note(sqlite3_bind_blob64(statement_, ++bound_, data, bytes.size(), SQLITE_STATIC));
    return *this;
}

SqliteStatement& SqliteStatement::bind_null() {
    connection_->note(sqlite3_bind_null(statement_, ++bound_));
    return *this;
}

bool SqliteStatement::step() {
    if (statement_ == nullptr || connection_->failed()) return false;
    const int code = sqlite3_step(statement_);
    connection_->note(code);
    return code == SQLITE_ROW;
}

bool SqliteStatement::execute() {
    if (statement_ == nullptr || connection_->failed()) return false;
    const bool good = connection_->note(sqlite3_step(statement_));
    sqlite3_reset(statement_);
    return good;
}

std::int64_t SqliteStatement::number(int column) const {
    return sqlite3_column_int64(statement_, column);
}

std::string_view SqliteStatement::text(int column) const {
    const void* data = sqlite3_column_blob(statement_, column);
    if (data == nullptr) return {};
    return {static_cast<const char*>(data),
            static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

bool SqliteStatement::is_null(int column) const {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

}  // namespace oteld::exporters
