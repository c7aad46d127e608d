// The context across co_await, for coroutine types of one's own: a base class for their promises.
//
// Example:
//     struct Job {  // Starts when it is called; nobody waits for it.
//         struct promise_type : oteld::ContextPromise {  // await_transform() is the base class's.
//             Job get_return_object() { return {}; }
//             auto initial_suspend() { return starting(std::suspend_never{}); }
//             auto final_suspend() noexcept { return finishing(std::suspend_never{}); }
//             void return_void() {}
//             void unhandled_exception() { std::terminate(); }
//         };
//     };
//
//     Job checkout(std::string id) {
//         auto span = tracer.scope("checkout");
//         const Order order = co_await oteld::traced(tracer, "load order", load(id));
//         ship(order);  // Under `span`, on whichever thread this goes on.
//     }
//
// A generator's yield_value() returns following(std::suspend_always{}).
//
// A coroutine begins with the context in which it was called. What it makes current (a ScopedSpan,
// a ContextScope) is current while it runs, on whichever thread resumes it, and at no other time:
// who resumes it has its own context again at each suspension and at the end. Destroying it while
// it is suspended ends its scopes in the coroutine's context, nobody else's.
//
// Used by: who writes a coroutine type. Threads: as the coroutine's: one at a time. Nothing here
// throws but what the awaited object throws. A ScopedSpan must not be handed into a coroutine or
// out of it (a Span may): it belongs to where it was made current; counted as misuse.
#pragma once

#include "oteld/context_stack.hpp"
#include "oteld/traced.hpp"

#if defined(__cpp_impl_coroutine)

#include <coroutine>
#include <exception>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace oteld {

namespace detail {

template <class A>
concept HasMemberCoAwait = requires(A&& a) {
    static_cast<A&&>(a).operator co_await();
};
template <class A>
concept HasFreeCoAwait = requires(A&& a) {
    operator co_await(static_cast<A&&>(a));
};

// The awaiter of what is awaited: a reference where that is the awaiter itself.
template <class A>
decltype(auto) awaiter_of(A&& a) {
    if constexpr (HasMemberCoAwait<A>)
        return static_cast<A&&>(a).operator co_await();
    else if constexpr (HasFreeCoAwait<A>)
        return operator co_await(static_cast<A&&>(a));
    else
        return static_cast<A&&>(a);
}
template <class A>
using AwaiterOf = decltype(awaiter_of(std::declval<A>()));
template <class A>
using AwaitResult = decltype(std::declval<AwaiterOf<A>&>().await_resume());
// As a result that is kept: what lies in the awaiter does not outlive it.
template <class A>
using AwaitedValue = std::conditional_t<std::is_rvalue_reference_v<AwaitResult<A>>,
                                        std::remove_reference_t<AwaitResult<A>>, AwaitResult<A>>;

// Stands between a coroutine and an awaiter, and takes the coroutine's stack off the thread while
// it is suspended. `Awaiter` may be a reference.
template <class Awaiter>
class Following {
public:
    template <class A>
    Following(ContextStack& stack, A&& awaited)
        : awaiter_(awaiter_of(static_cast<A&&>(awaited))), stack_(stack) {}
    Following(const Following&) = delete;
    Following& operator=(const Following&) = delete;
    // Still suspended: the coroutine is being destroyed. This is the first of its objects to go;
    // its scopes go next, and find their stack. The promise, the last, takes it off again.
    ~Following() {
        if (suspended_) stack_.enter();
    }

    bool await_ready() { return awaiter_.await_ready(); }

    // Another thread may resume or destroy the coroutine, and this object with it, before the
    // awaiter's await_suspend() has returned. So the stack is off the thread before, and what is
    // used after lies on the thread's own stack: not inlined, or it could end up in the coroutine's
    // frame. The awaiter still sees the coroutine's context: it may pass that on. If it does not
    // suspend after all, or throws, await_resume() or the destructor comes next and puts the stack
    // on again.
    template <class Promise>
    [[gnu::noinline]] auto await_suspend(std::coroutine_handle<Promise> handle) {
        const Context context = current();
        suspended_ = true;
        stack_.leave();
        const ContextScope scope = attach(context);
        return awaiter_.await_suspend(handle);
    }

    decltype(auto) await_resume() {
        if (std::exchange(suspended_, false)) stack_.enter();
        return awaiter_.await_resume();
    }

private:
    Awaiter awaiter_;
    ContextStack& stack_;
    bool suspended_ = false;
};

// Where a coroutine begins: its stack is put on the thread that first resumes it.
template <class Awaiter>
class Starting {
public:
    Starting(ContextStack& stack, Awaiter awaiter) : awaiter_(std::move(awaiter)), stack_(stack) {}
    bool await_ready() { return awaiter_.await_ready(); }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> handle) {
        return awaiter_.await_suspend(handle);
    }
    decltype(auto) await_resume() {
        stack_.enter();
        return awaiter_.await_resume();
    }

private:
    Awaiter awaiter_;
    ContextStack& stack_;
};

// Where it ends: the stack goes before anybody hears of the end.
template <class Awaiter>
class Finishing {
public:
    Finishing(ContextStack& stack, Awaiter awaiter) noexcept
        : awaiter_(std::move(awaiter)), stack_(stack) {}
    bool await_ready() noexcept {
        stack_.leave();
        return awaiter_.await_ready();
    }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> handle) noexcept {
        return awaiter_.await_suspend(handle);
    }
    decltype(auto) await_resume() noexcept { return awaiter_.await_resume(); }

private:
    Awaiter awaiter_;
    ContextStack& stack_;
};

}  // namespace detail

class ContextPromise {
public:
    // For initial_suspend(), final_suspend() and yield_value(), which await_transform() does not
    // see, around what they would return otherwise.
    template <class Awaiter>
    [[nodiscard]] auto starting(Awaiter awaiter) {
        return detail::Starting<Awaiter>(stack_, std::move(awaiter));
    }
    template <class Awaiter>
    [[nodiscard]] auto finishing(Awaiter awaiter) noexcept {
        return detail::Finishing<Awaiter>(stack_, std::move(awaiter));
    }
    template <class Awaiter>
    [[nodiscard]] auto following(Awaiter awaiter) {
        return detail::Following<Awaiter>(stack_, std::move(awaiter));
    }
    // A promise with an await_transform() of its own calls this one with its result.
    template <class Awaited>
    [[nodiscard]] auto await_transform(Awaited&& awaited) {
        return detail::Following<detail::AwaiterOf<Awaited&&>>(stack_,
                                                               static_cast<Awaited&&>(awaited));
    }

    // Of a coroutine that has not started: begin with the context of here, not of the call. For the
    // await_suspend() with which another coroutine awaits it, so that
    //     auto task = load(id);  auto span = tracer.scope("load");  co_await std::move(task);
    // is a child of `span`.
    void inherit() noexcept { stack_.restart(current()); }

private:
    ContextStack stack_;
};

// What traced() returns: to be awaited once. A coroutine that starts when it is awaited.
template <class T>
class [[nodiscard]] TracedTask {
public:
    struct promise_type;
    using Handle = std::coroutine_handle<promise_type>;

    TracedTask(TracedTask&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    TracedTask& operator=(TracedTask&&) = delete;
    ~TracedTask() {
        if (handle_) handle_.destroy();
    }

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    Handle await_suspend(std::coroutine_handle<> waiting) noexcept {
        handle_.promise().waiting = waiting;
        handle_.promise().inherit();
        return handle_;
    }
    T await_resume() { return handle_.promise().result(); }

private:
    struct ResumeWaiting {
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        std::coroutine_handle<> await_suspend(Handle ended) noexcept {
            return ended.promise().waiting;
        }
        void await_resume() noexcept {}
    };
    struct PromiseBase : ContextPromise {
        auto initial_suspend() { return starting(std::suspend_always{}); }
        auto final_suspend() noexcept { return finishing(ResumeWaiting{}); }
        void unhandled_exception() noexcept { exception = std::current_exception(); }

        std::coroutine_handle<> waiting;
        std::exception_ptr exception;
    };
    // Templates, so that only the one that fits is made.
    template <class V>
    struct WithResult : PromiseBase {
        void return_value(V value) { kept.emplace(std::move(value)); }
        V result() {
            if (this->exception) std::rethrow_exception(this->exception);
            return std::move(*kept);
        }
        std::optional<V> kept;
    };
    template <class V>
    struct WithResult<V&> : PromiseBase {
        void return_value(V& value) noexcept { kept = &value; }
        V& result() {
            if (this->exception) std::rethrow_exception(this->exception);
            return *kept;
        }
        V* kept = nullptr;
    };
    template <class V>
    requires std::is_void_v<V>
    struct WithResult<V> : PromiseBase {
        void return_void() noexcept {}
        void result() {
            if (this->exception) std::rethrow_exception(this->exception);
        }
    };

public:
    struct promise_type : WithResult<T> {
        TracedTask get_return_object() noexcept { return TracedTask(Handle::from_promise(*this)); }
    };

private:
    explicit TracedTask(Handle handle) noexcept : handle_(handle) {}
    Handle handle_;
};

// Awaits under a span of its own, which is current inside and ends with what is awaited. An
// exception is recorded and goes on, as out of a traced() function (traced.hpp). `awaited` is what
// a promise without an await_transform() can await; a task should start when it is awaited and call
// inherit() there.
template <class Awaited>
TracedTask<detail::AwaitedValue<Awaited&&>> traced(Tracer tracer, std::string name,
                                                   Awaited awaited) {
    auto span = tracer.scope(name);
    try {
        co_return co_await std::move(awaited);
    } catch (...) {
        detail::fail_and_end(span);
        throw;
    }
}
// Under default_tracer(). What can be called is a function: traced.hpp.
template <class Awaited>
requires(!std::is_invocable_v<Awaited>)
    TracedTask<detail::AwaitedValue<Awaited&&>> traced(std::string name, Awaited awaited) {
    return traced(default_tracer(), std::move(name), std::move(awaited));
}

}  // namespace oteld

#endif
