// What the slow path keeps from the application: no signal handler in the middle of it, no changed
// errno.
//
// Used by: lanes.cpp, setup.cpp. Threads: any; for the calling thread, until the end of the block.
#pragma once

#include <cerrno>
#include <csignal>

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
    sigset_t before_;
};

}  // namespace oteld::sdk
