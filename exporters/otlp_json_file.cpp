#include "exporters/otlp_json_file.hpp"

#include "exporters/otlp_json.hpp"
#include "exporters/stream_writer.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <optional>
#include <vector>

namespace oteld::exporters {

namespace {

using Outcome = SendResult::Outcome;

constexpr std::size_t line_capacity_kept = 16U << 20;
constexpr std::string_view line_start = R"({"resourceSpans":)";

// A failure in words; empty when all went well.
using Failure = std::string;

Failure failure(const std::string& path, int error) { return write_error_text(path, error); }

// ---- The regular file ----

class LineFile {
public:
    explicit LineFile(const config::File& settings) : settings_(settings) {}
    ~LineFile() { close(); }
    LineFile(const LineFile&) = delete;
    LineFile& operator=(const LineFile&) = delete;

    // Opens or reopens what the path names now. `is_stream` says that it is no regular file.
    Failure open();
    Failure append(std::string_view line);
    [[nodiscard]] bool is_stream() const noexcept { return is_stream_; }
    [[nodiscard]] int fd() const noexcept { return fd_; }

private:
    [[nodiscard]] bool is_current() const;
    Failure cut_torn_line();
    Failure rotate();
    void remove_old_backups() const;
    void close() noexcept;

    config::File settings_;
    int fd_ = -1;
    bool is_stream_ = false;
};

Failure LineFile::open() {
    if (fd_ >= 0 && is_current()) return {};
    close();
    fd_ = ::open(settings_.path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd_ < 0) return failure(settings_.path, errno);
    struct stat status {};
    if (::fstat(fd_, &status) != 0) return failure(settings_.path, errno);
    is_stream_ = !S_ISREG(status.st_mode);
    if (is_stream_) return {};
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
        close();
        return settings_.path +
               " is being written by another process: give each daemon a file of its own.";
    }
    Failure problem = cut_torn_line();
    if (!problem.empty()) close();
    return problem;
}

bool LineFile::is_current() const {
    struct stat named {};
    struct stat held {};
    return ::stat(settings_.path.c_str(), &named) == 0 && ::fstat(fd_, &held) == 0 &&
           named.st_dev == held.st_dev && named.st_ino == held.st_ino;
}

// A daemon killed while it wrote leaves the start of a line; its spans were not settled and come
// again. What does not look like ours is only ended, never cut.
Failure LineFile::cut_torn_line() {
    const off_t size = ::lseek(fd_, 0, SEEK_END);
    if (size <= 0) return size == 0 ? Failure{} : failure(settings_.path, errno);
    std::vector<char> piece(64U << 10);
    off_t line = size;  // Where the last, unended line starts.
    while (line > 0) {
        const auto want = std::min<off_t>(line, static_cast<off_t>(piece.size()));
        const ssize_t got = ::pread(fd_, piece.data(), static_cast<std::size_t>(want), line - want);
        if (got != want) return failure(settings_.path, got < 0 ? errno : EIO);
        const std::string_view bytes(piece.data(), static_cast<std::size_t>(got));
        const std::size_t newline = bytes.rfind('\n');
        line -= want;
        if (newline == std::string_view::npos) continue;
        line += static_cast<off_t>(newline) + 1;
        break;
    }
    if (line == size) return {};
    char start[line_start.size()];
    const ssize_t got = ::pread(fd_, start, sizeof start, line);
    const auto have = static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    if (line_start.substr(0, have) == std::string_view(start, have)) {
        return ::ftruncate(fd_, line) == 0 ? Failure{} : failure(settings_.path, errno);
    }
    return ::write(fd_, "\n", 1) == 1 ? Failure{} : failure(settings_.path, errno);
}

Failure LineFile::append(std::string_view line) {
    off_t size = ::lseek(fd_, 0, SEEK_END);
    if (size < 0) return failure(settings_.path, errno);
    const std::uint64_t limit = settings_.rotation_bytes_max;
    if (limit != 0 && size > 0 && static_cast<std::uint64_t>(size) + line.size() > limit) {
        Failure problem = rotate();
        if (!problem.empty()) return problem;
        size = 0;
    }
    while (!line.empty()) {
        const ssize_t written = ::write(fd_, line.data(), line.size());
        if (written > 0) {
            line.remove_prefix(static_cast<std::size_t>(written));
            continue;
        }
        const int error = written < 0 ? errno : ENOSPC;
        if (error == EINTR) continue;
        if (::ftruncate(fd_, size) != 0) close();  // Opening it again cuts the torn line.
        return failure(settings_.path, error);
    }
    return {};
}

// The path without and with its extension's dot: "/var/log/traces" and ".jsonl".
std::pair<std::string, std::string> stem_of(const std::string& path) {
    const std::filesystem::path whole(path);
    return {(whole.parent_path() / whole.stem()).string(), whole.extension().string()};
}

std::string backup_name(const std::string& path, std::uint64_t unix_ms) {
    const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char stamp[40];
    std::strftime(stamp, sizeof stamp, "-%Y%m%dT%H%M%S", &parts);
    char fraction[16];
    std::snprintf(fraction, sizeof fraction, ".%03uZ", static_cast<unsigned>(unix_ms % 1000));
    const auto [stem, extension] = stem_of(path);
    return stem + stamp + fraction + extension;
}

bool is_backup_name(std::string_view name, std::string_view stem, std::string_view extension) {
    constexpr std::string_view shape = "-00000000T000000.000Z";
    if (name.size() != stem.size() + shape.size() + extension.size()) return false;
    if (name.substr(0, stem.size()) != stem || name.substr(stem.size() + shape.size()) != extension)
        return false;
    const std::string_view stamp = name.substr(stem.size(), shape.size());
    return std::equal(stamp.begin(), stamp.end(), shape.begin(), [](char c, char expected) {
        return expected == '0' ? c >= '0' && c <= '9' : c == expected;
    });
}

Failure LineFile::rotate() {
    using std::chrono::system_clock;
    auto unix_ms = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                                  system_clock::now().time_since_epoch())
                                                  .count());
    std::string backup = backup_name(settings_.path, unix_ms);
    while (::access(backup.c_str(), F_OK) == 0) backup = backup_name(settings_.path, ++unix_ms);
    if (::rename(settings_.path.c_str(), backup.c_str()) != 0)
        return failure(settings_.path, errno);
    Failure problem = open();
    if (problem.empty()) remove_old_backups();
    return problem;
}

void LineFile::remove_old_backups() const {
    if (settings_.rotation_backups_max == 0) return;
    const std::filesystem::path whole(settings_.path);
    const std::string stem = whole.stem().string();
    const std::string extension = whole.extension().string();
    std::vector<std::filesystem::path> backups;
    std::error_code ignored;
    const std::filesystem::path directory = whole.has_parent_path() ? whole.parent_path() : ".";
    for (auto at = std::filesystem::directory_iterator(directory, ignored);
         !ignored && at != std::filesystem::directory_iterator(); at.increment(ignored)) {
        if (is_backup_name(at->path().filename().string(), stem, extension))
            backups.push_back(at->path());
    }
    std::sort(backups.begin(), backups.end());  // Their names sort by time.
    const std::size_t keep = settings_.rotation_backups_max;
    for (std::size_t i = 0; i + keep < backups.size(); ++i)
        std::filesystem::remove(backups[i], ignored);
}

void LineFile::close() noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

// ---- The exporter ----

class OtlpJsonFile final : public Exporter {
public:
    explicit OtlpJsonFile(const config::File& settings) : path_(settings.path), file_(settings) {
        if (is_standard_output()) stream_.emplace(STDOUT_FILENO);
    }

    SendResult send(const Batch& batch) override {
        if (cancelled_.load(std::memory_order_relaxed))
            return retry(write_error_text(path_, ECANCELED));
        if (batch.spans == 0) return {};
        line_.clear();
        append_traces_data(line_, batch);
        line_ += '\n';
        const std::uint64_t bytes = line_.size();
        Failure problem = write();
        if (line_.capacity() > line_capacity_kept) std::string().swap(line_);
        if (!problem.empty()) return retry(std::move(problem));
        return {.request_bytes = bytes};
    }

    void cancel() noexcept override { cancelled_.store(true, std::memory_order_relaxed); }

private:
    [[nodiscard]] bool is_standard_output() const { return path_ == "-" || path_ == "/dev/stdout"; }

    static SendResult retry(std::string message) {
        return {.outcome = Outcome::retry_after, .message = std::move(message)};
    }

    Failure write() {
        if (is_standard_output()) return write_stream("standard output");
        Failure problem = file_.open();
        if (!problem.empty()) return problem;
        if (!file_.is_stream()) return file_.append(line_);
        if (!stream_ || stream_->fd() != file_.fd()) stream_.emplace(file_.fd());
        return write_stream(path_);
    }

    Failure write_stream(const std::string& name) {
        const int error = stream_->write(line_, cancelled_);
        return error == 0 ? Failure{} : failure(name, error);
    }

    std::string path_;
    LineFile file_;
    std::optional<StreamWriter> stream_;
    std::string line_;
    std::atomic<bool> cancelled_{false};
};

}  // namespace

Result<std::unique_ptr<Exporter>> make_otlp_json_file(const config::ExporterSettings& settings) {
    const auto* file = std::get_if<config::File>(&settings.what);
    if (file == nullptr || file->path.empty()) {
        return Error{ErrorCode::invalid_argument,
                     "exporter " + settings.name + " has no path: set path to a file"};
    }
    return std::unique_ptr<Exporter>(std::make_unique<OtlpJsonFile>(*file));
}

}  // namespace oteld::exporters
