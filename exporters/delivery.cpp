#include "exporters/delivery.hpp"

#include <algorithm>
#include <utility>

namespace oteld::exporters {

namespace {

std::string in_seconds(std::chrono::milliseconds time) {
    return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
}

}  // namespace

Delivery::Delivery(std::uint32_t spans, const config::Retry& retry, Random random)
    : spans_(spans),
      retry_(retry),
      random_(std::move(random)),
      interval_(std::min(retry.initial_interval, retry.max_interval)) {}

Delivery::Action Delivery::resume(const Event& event, Time now) {
    if (state_ == State::settled || state_ == State::kept) return last_;
    if (std::holds_alternative<Stopped>(event)) {
        return done(State::kept, {.kind = Action::Kind::keep});
    }
    if (std::holds_alternative<Begin>(event) && state_ == State::fresh) return begin(now);
    if (std::holds_alternative<Woke>(event) && state_ == State::waiting) return woke(now);
    if (const auto* answer = std::get_if<Answered>(&event); answer && state_ == State::sending) {
        return answered(answer->result, now);
    }
    return last_;
}

Delivery::Action Delivery::begin(Time now) {
    began_at_ = now;
    if (spans_ == 0) return settle(0, RejectReason::refused, "");  // An empty batch is never sent.
    return send();
}

Delivery::Action Delivery::answered(const SendResult& result, Time now) {
    switch (result.outcome) {
        case SendResult::Outcome::delivered:
            return settle(std::min(result.rejected_spans, spans_), RejectReason::partial,
                          result.message);
        case SendResult::Outcome::rejected: return settle(spans_, result.reason, result.message);
        case SendResult::Outcome::retry_after: break;
    }
    return retry_later(result, now);
}

Delivery::Action Delivery::retry_later(const SendResult& result, Time now) {
    if (!retry_.enabled) {
        return settle(spans_, RejectReason::expired,
                      result.message + "; not tried again because retry_on_failure is off");
    }
    const Time named = std::max(result.wait.value_or(Time{0}), Time{0});
    const Time wake_at = now + std::max(next_backoff(named), named);
    const Time budget = retry_.max_elapsed_time;
    if (budget > Time{0} && wake_at - began_at_ > budget) {
        return settle(spans_, RejectReason::expired,
                      result.message + "; gave up after " + std::to_string(attempts_) +
                          " tries in " + in_seconds(now - began_at_) + " (max_elapsed_time is " +
                          in_seconds(budget) + ")");
    }
    return done(State::waiting,
                {.kind = Action::Kind::wait, .wake_at = wake_at, .message = result.message});
}

Delivery::Action Delivery::woke(Time now) {
    if (now < last_.wake_at) return last_;
    return send();
}

Delivery::Action Delivery::send() {
    ++attempts_;
    return done(State::sending, {.kind = Action::Kind::send});
}

Delivery::Action Delivery::settle(std::uint32_t rejected, RejectReason reason,
                                  std::string message) {
    return done(State::settled, {.kind = Action::Kind::settle,
                                 .delivered = spans_ - rejected,
                                 .rejected = rejected,
                                 .reason = reason,
                                 .message = std::move(message)});
}

Delivery::Action Delivery::done(State state, Action action) {
    state_ = state;
    last_ = std::move(action);
    return last_;
}

// This wait, spread so that clients that failed together do not come back together; then the
// interval grows, from the time that the backend named if that is longer.
Delivery::Time Delivery::next_backoff(Time named) {
    const double spread = retry_.randomization_factor * (2 * random_() - 1);
    const auto backoff =
        static_cast<Time::rep>(static_cast<double>(interval_.count()) * (1 + spread));
    const double grown =
        static_cast<double>(std::max(interval_, named).count()) * retry_.multiplier;
    const double most = static_cast<double>(retry_.max_interval.count());
    interval_ = Time{static_cast<Time::rep>(std::min(grown, most))};
    return Time{backoff};
}

}  // namespace oteld::exporters
