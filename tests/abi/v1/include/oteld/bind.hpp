// A function that takes its context with it: to a std::thread, std::jthread, std::async, a pool.
//
// Example:
//     std::thread worker(oteld::bind([] { ship(order); }));  // With the context of here.
//     worker.join();
//     jobs.push_back(oteld::bind(oteld::extract(headers), [] { ship(order); }));  // With another.
//
// Used by: everybody who hands a function on. Threads: the calls of one bound function may overlap
// when those of the function may. The context is attached for each call and detached before the
// call returns or throws: what a future or a callback sets off then does not inherit it.
// The values of the context live as long as the bound function. Throws what the function throws.
#pragma once

#include "oteld/context.hpp"

#include <functional>
#include <type_traits>
#include <utility>

namespace oteld {

// Made by bind(). Copyable and movable as the function is.
template <class Function>
class Bound {
public:
    template <class F>
    Bound(Context context, F&& function) noexcept(std::is_nothrow_constructible_v<Function, F&&>)
        : context_(std::move(context)), function_(std::forward<F>(function)) {}

    template <class... Arguments>
    std::invoke_result_t<Function&, Arguments...> operator()(Arguments&&... arguments) & {
        const ContextScope scope = attach(context_);
        return std::invoke(function_, std::forward<Arguments>(arguments)...);
    }
    template <class... Arguments>
    std::invoke_result_t<const Function&, Arguments...> operator()(
        Arguments&&... arguments) const& {
        const ContextScope scope = attach(context_);
        return std::invoke(function_, std::forward<Arguments>(arguments)...);
    }
    template <class... Arguments>
    std::invoke_result_t<Function, Arguments...> operator()(Arguments&&... arguments) && {
        const ContextScope scope = attach(context_);
        return std::invoke(std::move(function_), std::forward<Arguments>(arguments)...);
    }

    [[nodiscard]] const Context& context() const noexcept { return context_; }
    [[nodiscard]] const Function& function() const noexcept { return function_; }

private:
    Context context_;
    Function function_;
};

template <class Function>
[[nodiscard]] Bound<std::decay_t<Function>> bind(const Context& context, Function&& function) {
    return {context, std::forward<Function>(function)};
}
// To the context that is current here.
template <class Function>
[[nodiscard]] Bound<std::decay_t<Function>> bind(Function&& function) {
    return {current(), std::forward<Function>(function)};
}

}  // namespace oteld
