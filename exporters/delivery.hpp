// Decides what happens to one batch: send it, wait and send it again, or settle it. No clock,
// socket or thread.
//
// Used by: the daemon's exporter threads, one object per batch under way; they carry the actions
// out. Threads: the owner's. Never waits, never sends; the time comes in with each event, chance by
// constructor.
//
//   state       event        action
//   new         Begin        send                                  -> sending
//   sending     Answered     delivered, rejected: settle           -> settled
//                            retry_after, time left: wait          -> waiting
//                            retry_after, time over: settle        -> settled (rejected: expired)
//   waiting     Woke         too early: wait again; else send      -> sending
//   any but     Stopped      keep: the batch stays in the spool    -> kept (the next run sends it
//   again) settled
#pragma once

#include "config/settings.hpp"
#include "exporters/exporter.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <variant>

namespace oteld::exporters {

class Delivery {
public:
    using Time = std::chrono::milliseconds;  // Since anything, as long as it never goes backwards.
    using Random = std::function<double()>;  // In [0, 1).

    struct Begin {};
    struct Answered {
        SendResult result;
    };
    struct Woke {};
    struct Stopped {};
    using Event = std::variant<Begin, Answered, Woke, Stopped>;

    struct Action {
        enum class Kind : std::uint8_t { send, wait, settle, keep };
        Kind kind = Kind::send;
        Time wake_at{0};              // wait: send Woke then, or Stopped before.
        std::uint32_t delivered = 0;  // settle: delivered + rejected are all spans of the batch.
        std::uint32_t rejected = 0;
        RejectReason reason = RejectReason::refused;
        std::string
            message;  // For people: what went wrong, or what the backend warns of; may be empty.
    };

    Delivery(std::uint32_t spans, const config::Retry& retry, Random random);

    // An event that does not fit the state is a mistake of the caller and gives the last action
    // again.
    [[nodiscard]] Action resume(const Event& event, Time now);

    [[nodiscard]] std::uint32_t attempts() const noexcept { return attempts_; }

private:
    enum class State : std::uint8_t { fresh, sending, waiting, settled, kept };

    Action begin(Time now);
    Action answered(const SendResult& result, Time now);
    Action retry_later(const SendResult& result, Time now);
    Action woke(Time now);
    Action send();
    Action settle(std::uint32_t rejected, RejectReason reason, std::string message);
    Action done(State state, Action action);
    Time next_backoff(Time named);

    std::uint32_t spans_;
    config::Retry retry_;
    Random random_;
    State state_ = State::fresh;
    Time began_at_{0};
    Time interval_;
    std::uint32_t attempts_ = 0;
    Action last_;
};

}  // namespace oteld::exporters
