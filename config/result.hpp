// What a daemon-side function returns when it can fail: a value, or an Error that says what to do.
//
// Used by: everything but the client. Threads: values.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace oteld {

enum class ErrorCode {
    invalid_argument,
    invalid_config,
    not_found,
    permission,
    busy,
    corrupt,
    full,
    io,
    unsupported
};

struct Error {
    ErrorCode code = ErrorCode::io;
    std::string message;  // A sentence for people: what is wrong and what to do about it.

    [[nodiscard]] Error with_prefix(const std::string& prefix) const {
        return {code, prefix + ": " + message};
    }
};

template <class T>
class [[nodiscard]] Result {
public:
    Result(T value)
        : state_(std::in_place_index<0>, std::move(value)) {
    }  // NOLINT(google-explicit-constructor)
    Result(Error error)
        : state_(std::in_place_index<1>, std::move(error)) {
    }  // NOLINT(google-explicit-constructor)

    explicit operator bool() const noexcept { return state_.index() == 0; }
    [[nodiscard]] T& operator*() { return std::get<0>(state_); }
    [[nodiscard]] const T& operator*() const { return std::get<0>(state_); }
    T* operator->() { return &std::get<0>(state_); }
    const T* operator->() const { return &std::get<0>(state_); }
    [[nodiscard]] const Error& error() const { return std::get<1>(state_); }

private:
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error)
        : error_(std::move(error)), failed_(true) {}  // NOLINT(google-explicit-constructor)

    explicit operator bool() const noexcept { return !failed_; }
    [[nodiscard]] const Error& error() const { return error_; }

private:
    Error error_;
    bool failed_ = false;
};

}  // namespace oteld
