// The context in Boost.Asio: an executor that takes it along, and handlers that do.
//
// Example:
//     boost::asio::awaitable<void> session(std::string url) {
//         auto span = tracer.scope("session");
//         const std::string body = co_await oteld::traced(tracer, "fetch", fetch(url));
//         span.set("bytes", body.size());  // Still current, on whichever thread this goes on.
//     }
//
//     boost::asio::io_context io;
//     boost::asio::co_spawn(oteld::asio::with_context(io), session("/orders"),
//                           boost::asio::detached);
//     boost::asio::post(io, oteld::asio::bind([] { ship(order); }));
//
// with_context(): what runs through the executor begins with the context captured here, and what an
// `awaitable` spawned on it makes current is current again after each co_await, on whichever
// thread. One with_context() for each coroutine or chain of handlers: what runs through one runs
// one after the other, as on a strand, and two coroutines that share one (also the sides of `&&`
// and `||`, unless each is traced()) see each other's scopes, which is counted as misuse where they
// overlap. Jobs for a pool, which may overlap, take bind() instead. An `awaitable` that was not
// spawned through with_context() must have no scope alive across co_await: it would stay current on
// the thread that it leaves, and is counted as misuse if it ends out of order or on another one. So
// is one that is destroyed with its io_context while suspended. Neither harms other contexts, but
// one that starts within a coroutine of with_context() before that goes on leaves its scope there.
// bind(): the context of here around one handler. Its executor, allocator and other associations
// are the handler's. It is gone before the call returns.
//
// Used by: programs with Boost.Asio (1.74 or later), which this header alone includes. C++17;
// `awaitable` takes C++20. Threads: any. Throws what Asio and the functions throw; with_context()
// allocates. https://www.boost.org/doc/libs/release/doc/html/boost_asio.html
#pragma once

#include "oteld/bind.hpp"
#include "oteld/context_stack.hpp"
#include "oteld/coroutine.hpp"
#include "oteld/traced.hpp"

#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/execution.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <boost/version.hpp>
#if BOOST_VERSION >= 107700
#include <boost/asio/associator.hpp>
#endif
#if defined(__cpp_impl_coroutine)
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#endif

#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

namespace oteld::asio {

namespace detail {

class Chain;
// The innermost of those that this thread is in. Its address says which thread this is.
inline Chain*& innermost() noexcept {
    thread_local Chain* chain = nullptr;
    return chain;
}

// A context stack, and who is on it. One at a time: a coroutine may be resumed on another thread
// before the one on which it was suspended has put its stack away.
class Chain {
public:
    // What came meanwhile.
    struct Waiting {
        Waiting() = default;
        Waiting(const Waiting&) = delete;
        virtual ~Waiting() = default;
        virtual void post_again() = 0;
    };

    explicit Chain(const Context& context) noexcept : stack_(context) {}

    // `wait` makes a Waiting of the function.
    template <class Function, class Wait>
    void run(Function& function, const Wait& wait) {
        bool from_within = false;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            from_within = on_ == &innermost();
            if (on_ != nullptr && !from_within) return waiting_.push_back(wait());
            on_ = &innermost();
        }
        if (from_within && stack_.entered()) return beneath(innermost(), function);
        const Off off{from_within ? nullptr : this};
        const Inside inside(*this);
        std::move(function)();
    }
    // For who was resumed by the end of what ran here, but does not belong here.
    void step_aside() noexcept {
        if (innermost() == this) stack_.leave();
    }

private:
    struct Off {
        Chain* chain;
        // As a strand of Asio's does when it is left.
        ~Off() {
            if (chain == nullptr) return;
            std::vector<std::unique_ptr<Waiting>> waiting;
            {
                const std::lock_guard<std::mutex> lock(chain->mutex_);
                chain->on_ = nullptr;
                waiting.swap(chain->waiting_);
            }
            for (const auto& one : waiting) one->post_again();
        }
    };
    struct Inside {
        explicit Inside(Chain& chain) noexcept : entered(chain), below(innermost()) {
            chain.below_ = below;
            innermost() = &chain;
            chain.stack_.enter();
        }
        Inside(const Inside&) = delete;
        ~Inside() {
            entered.stack_.leave();
            innermost() = below;
        }
        Chain& entered;
        Chain* below;
    };

    // Dispatched from within: those that were entered since then, of coroutines that were awaited,
    // go out of the way.
    template <class Function>
    void beneath(Chain* top, Function& function) {
        if (top == this) return std::move(function)();
        struct Aside {
            explicit Aside(Chain* chain) noexcept : top(chain), entered(chain->stack_.entered()) {
                top->stack_.leave();
                innermost() = top->below_;
            }
            Aside(const Aside&) = delete;
            ~Aside() {
                innermost() = top;
                if (entered) top->stack_.enter();
            }
            Chain* top;
            bool entered;
        } const aside(top);
        beneath(top->below_, function);
    }

    ContextStack stack_;
    Chain* below_ = nullptr;  // While it is entered.
    std::mutex mutex_;        // Guards what follows.
    const void* on_ = nullptr;
    std::vector<std::unique_ptr<Waiting>> waiting_;
};

// What an executor is given to run. The chain is kept alive by it: the function may destroy the
// last executor.
template <class Inner, class Function>
struct InChain {
    Inner inner;
    std::shared_ptr<Chain> chain;
    Function function;

    void operator()() {
        const std::shared_ptr<Chain> kept = chain;
        kept->run(function, [this] { return std::make_unique<Kept>(std::move(*this)); });
    }

    struct Kept final : Chain::Waiting {
        explicit Kept(InChain&& kept) : task(std::move(kept)) {}
        void post_again() override {
            const auto posting =
                boost::asio::require(task.inner, boost::asio::execution::blocking_t::never_t());
            posting.execute(std::move(task));
        }
        InChain task;
    };
};

}  // namespace detail

// Made by with_context(). Satisfies Asio's executor requirements where `Inner` does; two are equal
// if they are copies of each other.
template <class Inner>
class ContextExecutor {
public:
    ContextExecutor(Inner inner, std::shared_ptr<detail::Chain> chain) noexcept
        : inner_(std::move(inner)), chain_(std::move(chain)) {}

    template <class Property>
    std::enable_if_t<boost::asio::can_query<const Inner&, Property>::value,
                     typename boost::asio::query_result<const Inner&, Property>::type>
    query(const Property& property) const
        noexcept(boost::asio::is_nothrow_query<const Inner&, Property>::value) {
        return boost::asio::query(inner_, property);
    }
    template <class Property>
    std::enable_if_t<boost::asio::can_require<const Inner&, Property>::value,
                     ContextExecutor<std::decay_t<
                         typename boost::asio::require_result<const Inner&, Property>::type>>>
    require(const Property& property) const
        noexcept(boost::asio::is_nothrow_require<const Inner&, Property>::value) {
        return {boost::asio::require(inner_, property), chain_};
    }
    template <class Property>
    std::enable_if_t<boost::asio::can_prefer<const Inner&, Property>::value,
                     ContextExecutor<std::decay_t<
                         typename boost::asio::prefer_result<const Inner&, Property>::type>>>
    prefer(const Property& property) const
        noexcept(boost::asio::is_nothrow_prefer<const Inner&, Property>::value) {
        return {boost::asio::prefer(inner_, property), chain_};
    }

    template <class Function>
    void execute(Function&& function) const {
        inner_.execute(detail::InChain<Inner, std::decay_t<Function>>{
            inner_, chain_, std::forward<Function>(function)});
    }

    [[nodiscard]] const Inner& inner() const noexcept { return inner_; }
    [[nodiscard]] const std::shared_ptr<detail::Chain>& chain() const noexcept { return chain_; }

    friend bool operator==(const ContextExecutor& a, const ContextExecutor& b) noexcept {
        return a.chain_ == b.chain_ && a.inner_ == b.inner_;
    }
    friend bool operator!=(const ContextExecutor& a, const ContextExecutor& b) noexcept {
        return !(a == b);
    }

private:
    Inner inner_;
    std::shared_ptr<detail::Chain> chain_;
};

// Of an executor, a strand, or an execution context.
template <class Executor>
[[nodiscard]] auto with_context(const Executor& executor, const Context& context = current())
    -> std::enable_if_t<boost::asio::execution::is_executor<Executor>::value,
                        ContextExecutor<Executor>> {
    return {executor, std::make_shared<detail::Chain>(context)};
}
template <class ExecutionContext>
[[nodiscard]] auto with_context(ExecutionContext& execution, const Context& context = current())
    -> std::enable_if_t<std::is_convertible_v<ExecutionContext&, boost::asio::execution_context&>,
                        ContextExecutor<typename ExecutionContext::executor_type>> {
    return {execution.get_executor(), std::make_shared<detail::Chain>(context)};
}

// A handler, not a completion token.
template <class Handler>
[[nodiscard]] Bound<std::decay_t<Handler>> bind(Handler&& handler) {
    return oteld::bind(std::forward<Handler>(handler));
}
template <class Handler>
[[nodiscard]] Bound<std::decay_t<Handler>> bind(const Context& context, Handler&& handler) {
    return oteld::bind(context, std::forward<Handler>(handler));
}

}  // namespace oteld::asio

namespace boost::asio {

#if BOOST_VERSION >= 107700
template <template <class, class> class Associator, class Handler, class Default>
struct associator<Associator, oteld::Bound<Handler>, Default> : Associator<Handler, Default> {
    static typename Associator<Handler, Default>::type get(
        const oteld::Bound<Handler>& bound) noexcept {
        return Associator<Handler, Default>::get(bound.function());
    }
    static auto get(const oteld::Bound<Handler>& bound, const Default& otherwise) noexcept
        -> decltype(Associator<Handler, Default>::get(bound.function(), otherwise)) {
        return Associator<Handler, Default>::get(bound.function(), otherwise);
    }
};
#else
template <class Handler, class Executor>
struct associated_executor<oteld::Bound<Handler>, Executor> {
    using type = typename associated_executor<Handler, Executor>::type;
    static type get(const oteld::Bound<Handler>& bound,
                    const Executor& otherwise = Executor()) noexcept {
        return associated_executor<Handler, Executor>::get(bound.function(), otherwise);
    }
};
template <class Handler, class Allocator>
struct associated_allocator<oteld::Bound<Handler>, Allocator> {
    using type = typename associated_allocator<Handler, Allocator>::type;
    static type get(const oteld::Bound<Handler>& bound,
                    const Allocator& otherwise = Allocator()) noexcept {
        return associated_allocator<Handler, Allocator>::get(bound.function(), otherwise);
    }
};
#endif

}  // namespace boost::asio

#if defined(__cpp_impl_coroutine)

namespace oteld {

// Awaits an `awaitable` under a span of its own, on a chain of its own: in it scopes may be alive
// across co_await, wherever the caller was spawned. An exception is recorded and goes on, as out of
// a traced() function (traced.hpp). The sides of `&&` and `||` each go through this. As in Asio
// itself, T has to be default-constructible.
template <class T, class Executor>
boost::asio::awaitable<T, Executor> traced(Tracer tracer, std::string name,
                                           boost::asio::awaitable<T, Executor> awaited) {
    struct StepAside {
        std::shared_ptr<asio::detail::Chain> chain;
        ~StepAside() {
            if (chain != nullptr) chain->step_aside();
        }
    } aside;
    auto span = tracer.span(name);
    const Executor executor = co_await boost::asio::this_coro::executor;
    const auto own = asio::with_context(executor, current().with_span(span.context()));
    aside.chain = own.chain();
    try {
        co_return co_await boost::asio::co_spawn(own, std::move(awaited),
                                                 boost::asio::use_awaitable_t<Executor>());
    } catch (...) {
        oteld::detail::fail_and_end(span);
        throw;
    }
}
// Under default_tracer().
template <class T, class Executor>
boost::asio::awaitable<T, Executor> traced(std::string name,
                                           boost::asio::awaitable<T, Executor> awaited) {
    return traced(default_tracer(), std::move(name), std::move(awaited));
}

}  // namespace oteld

#endif
