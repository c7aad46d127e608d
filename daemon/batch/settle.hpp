// How the end of a request comes back to the spool.
//
// Used by: export workers (post), the drain thread (applies). Threads: Inbox any; Settler drain
// thread only. An extent is settled from the front, but two requests of one exporter may end in any
// order: the later part waits here. What is not applied when the daemon dies was sent and is sent
// again.
#pragma once

#include "daemon/batch/slice.hpp"

#include <functional>
#include <mutex>
#include <vector>

namespace oteld::daemon {

struct Settlement {
    unsigned exporter = 0;  // Its word in the spool.
    std::vector<Slice> slices;
    std::uint32_t rejected =
        0;  // Of their spans. A partial success names none: charged from the front.
    exporters::RejectReason reason = exporters::RejectReason::refused;
};

class Inbox {
public:
    // `wake` is called after each post, from the poster's thread.
    explicit Inbox(std::function<void()> wake) : wake_(std::move(wake)) {}
    void post(Settlement settlement);
    [[nodiscard]] std::vector<Settlement> take();

private:
    std::function<void()> wake_;
    std::mutex mutex_;
    std::vector<Settlement> settlements_;  // Guarded by mutex_.
};

class Settler {
public:
    explicit Settler(Spool& spool) : spool_(spool) {}
    void apply(const Settlement& settlement);
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_.size(); }

private:
    struct Part {
        Slice slice;
        unsigned exporter;
        std::uint32_t rejected;
        exporters::RejectReason reason;
    };
    [[nodiscard]] bool apply_part(const Part& part);

    Spool& spool_;
    std::vector<Part> waiting_;
};

}  // namespace oteld::daemon
