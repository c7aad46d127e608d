// What the slow path keeps from the application: no signal handler in the middle of it, no
// cancellation, no changed errno.
//
// Used by: process.cpp, lanes.cpp, setup.cpp, environment.cpp. Threads: any; for the calling
// thread, until the end of the block.
#pragma once

#include <cerrno>
#include <csignal>
#include <new>

#include <pthread.h>

namespace oteld::sdk {

// Nobody expects that starting or ending a span changes errno.
class ErrnoKept {
public:
    ErrnoKept() noexcept : before_(errno) {}
    ~ErrnoKept() { errno = before_; }
    ErrnoKept(const ErrnoKept&) = delete;
    ErrnoKept& operator=(const ErrnoKept&) = delete;

private:
    int before_;
};

// open() and its like are cancellation points: pthread_cancel() would unwind the thread out of code
// that is noexcept, which ends the process. The request waits for the thread's next one.
class CancellationOff {
public:
    CancellationOff() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
    ~CancellationOff() { pthread_setcancelstate(before_, &before_); }
    CancellationOff(const CancellationOff&) = delete;
    CancellationOff& operator=(const CancellationOff&) = delete;

private:
    int before_ = PTHREAD_CANCEL_ENABLE;
};

class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    ErrnoKept errno_;
    CancellationOff cancellation_;
    sigset_t before_;
};

// Runs a part of the slow path; out of memory it is as if it had found nothing.
template <class Function>
auto guarded(Function function) noexcept -> decltype(function()) {
    const SignalsBlocked blocked;
    try {
        return function();
    } catch (const std::bad_alloc&) {
        return {};
    }
}

}  // namespace oteld::sdk
