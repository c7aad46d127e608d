#include "exporters/trace_store_file.hpp"

#include "exporters/trace_store_schema.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <vector>

namespace oteld::exporters {

namespace {

using Kind = SqliteFailure::Kind;

constexpr int busy_ms = 2000;
constexpr std::uint64_t wal_bytes_max = 64ULL << 20;
constexpr std::size_t damaged_files_kept = 2;

// "20261124T201204.123Z"
std::string stamp_of(std::uint64_t unix_ms) {
    const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char stamp[32];
    std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", &parts);
    return std::string(stamp) + "." + std::to_string(1000 + unix_ms % 1000).substr(1) + "Z";
}

}  // namespace

std::string TraceStoreFile::open(const std::atomic<bool>& cancelled) {
    if (std::string problem = create(); !problem.empty()) return problem;
    if (!db_.open(path_, false)) return failure_text(db_.failure());
    db_.interrupt_when(cancelled, busy_ms);
    return prepare();
}

// Made here and not by SQLite, for its mode: spans are for the daemon's group, not for the world.
std::string TraceStoreFile::create() {
    const int fd =
        ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    const int error = errno;
    if (fd >= 0) {
        struct stat status {};
        const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
        ::close(fd);
        return regular ? std::string()
                       : path_ + " is no regular file: move it away or set trace_store.path.";
    }
    if (error == ENOENT || error == ENOTDIR) {
        return "The directory of the trace store " + path_ +
               " does not exist: create it, or set trace_store.path.";
    }
    SqliteFailure failure;
    failure.error_number = error;
    failure.text = std::strerror(error);
    failure.kind = error == ENOSPC || error == EDQUOT                    ? Kind::full
                   : error == EACCES || error == EPERM || error == EROFS ? Kind::permission
                                                                         : Kind::cannot_open;
    return failure_text(failure);
}

std::string TraceStoreFile::prepare() {
    // auto_vacuum must come before the first table; both pragmas are no-ops on a file that has
    // tables.
    db_.run(
        "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
        "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-2048; PRAGMA journal_size_limit=8388608;");
    db_.keep_wal_files();
    const std::int64_t version = db_.number("PRAGMA user_version");
    if (db_.failed()) return failure_text(db_.failure());
    if (version == trace_store_version) return {};
    if (version != 0) {
        close();
        return path_ + " was written by another version of oteld (store version " +
               std::to_string(version) + ", this one writes " +
               std::to_string(trace_store_version) + "): move it away.";
    }
    if (db_.number("SELECT count(*) FROM sqlite_master") != 0) {
        close();
        return path_ + " is another program's database: move it away or set trace_store.path.";
    }
    const std::string marks = "PRAGMA application_id=" + std::to_string(trace_store_application) +
                              "; PRAGMA user_version=" + std::to_string(trace_store_version) +
                              "; COMMIT;";
    const bool begun =
        db_.run("BEGIN IMMEDIATE") && db_.run(trace_store_schema) && db_.run(marks.c_str());
    return begun ? std::string() : failure_text(db_.failure());
}

bool TraceStoreFile::log_is_held() {
    struct stat status {};
    if (::stat((path_ + "-wal").c_str(), &status) != 0) return false;
    if (static_cast<std::uint64_t>(status.st_size) <= wal_bytes_max) return false;
    const bool held = db_.number("PRAGMA wal_checkpoint(TRUNCATE)", 1) != 0;
    (void)db_.take_failure();
    return held;
}

Result<std::string> TraceStoreFile::set_aside(std::uint64_t unix_ms) {
    close();
    const std::string kept = path_ + ".damaged-" + stamp_of(unix_ms);
    if (::rename(path_.c_str(), kept.c_str()) != 0) {
        return Error{ErrorCode::io, "The trace store " + path_ +
                                        " is damaged and cannot be set aside (" +
                                        std::strerror(errno) + "): move it away."};
    }
    ::rename((path_ + "-wal").c_str(), (kept + "-wal").c_str());
    ::unlink((path_ + "-shm").c_str());
    remove_older_damaged();
    return kept;
}

// Never more than a few of them, or a bad disk fills itself.
void TraceStoreFile::remove_older_damaged() const {
    std::vector<std::filesystem::path> damaged;
    const std::string prefix = std::filesystem::path(path_).filename().string() + ".damaged-";
    std::error_code ignored;
    const std::filesystem::path directory = std::filesystem::path(path_).parent_path();
    for (auto at =
             std::filesystem::directory_iterator(directory.empty() ? "." : directory, ignored);
         !ignored && at != std::filesystem::directory_iterator(); at.increment(ignored)) {
        const std::string name = at->path().filename().string();
        if (name.starts_with(prefix) && name.ends_with("Z")) damaged.push_back(at->path());
    }
    std::sort(damaged.begin(), damaged.end());
    for (std::size_t i = 0; i + damaged_files_kept < damaged.size(); ++i) {
        std::filesystem::remove(damaged[i], ignored);
        std::filesystem::remove(damaged[i].string() + "-wal", ignored);
    }
}

std::string TraceStoreFile::failure_text(const SqliteFailure& failure) const {
    const std::string store = "The trace store " + path_;
    if (failure.error_number == EFBIG || at_file_size_limit()) {
        return store + " reached the file-size limit of the daemon: raise LimitFSIZE= (ulimit -f).";
    }
    if (failure.error_number == EROFS) {
        return store +
               " is on a read-only file system: mount it writable or set trace_store.path "
               "(systemd: StateDirectory=, ReadWritePaths=); the spans wait.";
    }
    switch (failure.kind) {
        case Kind::full:
            return "The disk of the trace store " + path_ +
                   " is full: free some space, or lower max_size of the trace store; the spans "
                   "wait.";
        case Kind::busy:
            return store + " is locked by another program: close it (fuser " + path_ +
                   " names it).";
        case Kind::permission:
            return store + " cannot be written (" + failure.text +
                   "): give the daemon's user write access to the file and its directory (systemd: "
                   "StateDirectory=, ReadWritePaths=).";
        case Kind::cannot_open:
            return store + " cannot be opened (" + failure.text +
                   "): look at its directory, or set trace_store.path.";
        case Kind::damaged: return store + " is damaged (" + failure.text + ").";
        case Kind::interrupted: return "Cancelled while writing to the trace store.";
        case Kind::none:
        case Kind::other: break;
    }
    std::string text = store + " failed: " + failure.text;
    if (failure.error_number != 0)
        text.append(" (").append(std::strerror(failure.error_number)).append(")");
    return text + ". The spans wait and are tried again.";
}

// SQLite reports EFBIG as any other failed write.
bool TraceStoreFile::at_file_size_limit() const {
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
    for (const char* suffix : {"", "-wal"}) {
        struct stat status {};
        if (::stat((path_ + suffix).c_str(), &status) == 0 &&
            static_cast<rlim_t>(status.st_size) >= limit.rlim_cur) {
            return true;
        }
    }
    return false;
}

}  // namespace oteld::exporters
