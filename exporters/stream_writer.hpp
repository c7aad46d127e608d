// Writes whole texts to a descriptor that may be a terminal, a pipe or a device: cancellable, and
// never leaving a text torn. Also the sentences for what goes wrong when one writes to a file.
//
// Used by: the console and file exporters. Threads: one at a time; the flag that cancels is set by
// any. The daemon ignores SIGPIPE and SIGXFSZ: here they are EPIPE and EFBIG.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

namespace oteld::exporters {

class StreamWriter {
public:
    // The descriptor stays the caller's. A write gives up (ETIMEDOUT) when nothing was taken for
    // `patience_ms`.
    explicit StreamWriter(int fd, int patience_ms = 5000) noexcept
        : fd_(fd), patience_ms_(patience_ms) {}

    // 0, or an errno (ECANCELED once `cancelled` is set). What did not fit is kept when a part of
    // the text was written, and is written first the next time, so that the reader sees whole
    // texts.
    [[nodiscard]] int write(std::string_view text, const std::atomic<bool>& cancelled);
    [[nodiscard]] int fd() const noexcept { return fd_; }

private:
    int write_some(std::string_view& text, const std::atomic<bool>& cancelled) const;

    int fd_;
    int patience_ms_;
    std::string kept_;
};

// "The disk of /x is full: ..." `what` is the path or "standard output".
[[nodiscard]] std::string write_error_text(const std::string& what, int error);

}  // namespace oteld::exporters
