// Coroutine types such as users write, and what resumes them.
//
// Used by: async_coroutine_test.cpp, async_traced_test.cpp. Threads: as each says.
#pragma once

#include "async_fixture.hpp"
#include "ring_fixture.hpp"

#include "oteld/coroutine.hpp"

#include <exception>
#include <optional>
#include <thread>
#include <utility>

namespace oteld::test {

// A lazy task, as small as they get.
template <class T>
class Task {
public:
    struct promise_type : ContextPromise {
        Task get_return_object() {
            return Task(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        auto initial_suspend() { return starting(std::suspend_always{}); }
        struct ResumeWaiting {
            [[nodiscard]] bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(
                std::coroutine_handle<promise_type> ended) noexcept {
                if (ended.promise().waiting) return ended.promise().waiting;
                return std::noop_coroutine();
            }
            void await_resume() noexcept {}
        };
        auto final_suspend() noexcept { return finishing(ResumeWaiting{}); }
        void unhandled_exception() { exception = std::current_exception(); }
        void return_value(T given) { value = std::move(given); }

        std::optional<T> value;
        std::exception_ptr exception;
        std::coroutine_handle<> waiting;
    };

    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    ~Task() {
        if (handle_) handle_.destroy();
    }
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiting) {
        handle_.promise().waiting = waiting;
        handle_.promise().inherit();
        return handle_;
    }
    T await_resume() {
        if (handle_.promise().exception) std::rethrow_exception(handle_.promise().exception);
        return std::move(*handle_.promise().value);
    }
    // For the tests, which drive it by hand.
    void resume() { handle_.resume(); }
    [[nodiscard]] bool done() const { return handle_.done(); }
    T result() { return await_resume(); }

private:
    explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

// Where a coroutine waits to be resumed by the test.
struct Gate {
    std::coroutine_handle<> waiting;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) noexcept { waiting = handle; }
    void await_resume() const noexcept {}
    void open() { std::exchange(waiting, nullptr).resume(); }
};

// Each is stored by the one before it, so joining them in order is safe.
struct Threads {
    std::thread all[100];
    int count = 0;
    void join() {
        for (int i = 0; i < count; ++i) all[i].join();
    }
};

// Resumes on a fresh thread, which may be done before await_suspend() returns.
struct NewThread {
    Threads& threads;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) {
        std::thread& slot = threads.all[threads.count++];
        slot = std::thread([handle] {
            auto mine = test_tracer().scope("thread's own", root);
            handle.resume();
            EXPECT(is_current(mine));
        });
    }
    void await_resume() const noexcept {}
};

struct Generator {
    struct promise_type : ContextPromise {
        Generator get_return_object() {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        auto initial_suspend() { return starting(std::suspend_always{}); }
        auto final_suspend() noexcept { return finishing(std::suspend_always{}); }
        auto yield_value(int) { return following(std::suspend_always{}); }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
    std::coroutine_handle<promise_type> handle;
};

inline void check_clean(const Rings& rings) {
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

}  // namespace oteld::test
