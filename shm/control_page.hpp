// The control page as the daemon holds it: what clients read, and the word on which the drain
// sleeps.
//
// Used by: the drain thread (sleep, beat), any thread (wake). Clients map the same file read-only;
// they can wake the sleeper but change nothing. Created complete and never truncated: a reader must
// not meet a hole. The next daemon reuses the file; only another layout makes a new one, with
// another generation.
#pragma once

#include "config/result.hpp"
#include "shm/layout.hpp"
#include "shm/ring_directory.hpp"

#include <chrono>
#include <memory>

namespace oteld::shm {

struct ControlAnchor {
    std::uint64_t ticks = 0;
    std::uint64_t monotonic_ns = 0;
    std::uint64_t realtime_ns = 0;
};

class ControlPageFile {
public:
    [[nodiscard]] static Result<std::unique_ptr<ControlPageFile>> open(
        const DirectoryHandle& directory);
    ~ControlPageFile();
    ControlPageFile(const ControlPageFile&) = delete;
    ControlPageFile& operator=(const ControlPageFile&) = delete;

    // The anchor that an earlier daemon of this boot left; all zero when there is none.
    [[nodiscard]] const ControlAnchor& earlier_anchor() const noexcept { return earlier_anchor_; }
    [[nodiscard]] std::uint64_t generation() const noexcept { return page_->generation; }

    // The kill switch. What clients read next is whole, whenever the daemon dies.
    void publish_recording(bool on) noexcept;
    void publish_anchor(const ControlAnchor& anchor) noexcept;
    void beat(std::uint64_t monotonic_ns) noexcept;

    // Take a ticket, look for work, sleep: a wake() in between is never lost. A producer's bell may
    // be (it cannot change the word); its next bell and the bounded nap repair that.
    [[nodiscard]] std::uint32_t ticket() const noexcept;
    void sleep(std::uint32_t ticket, std::chrono::nanoseconds at_most) noexcept;
    void wake() noexcept;

private:
    explicit ControlPageFile(ControlPage* page) noexcept : page_(page) {}
    ControlPage* page_;
    ControlAnchor earlier_anchor_;
};

}  // namespace oteld::shm
