// The current context of something that is not a thread, and moves between threads: a coroutine, a
// chain of handlers, a fiber. Scopes made while it is entered are its own: they stay with it when
// it is left, and are there again when it is entered, on whichever thread.
//
// Example:
//     oteld::ContextStack stack;  // Made with the fiber; begins with what is current here.
//     {
//         const oteld::StackScope running(stack);
//         fiber.resume();  // Until it is switched away from.
//     }
//
// Used by: coroutine.hpp, asio.hpp, and who writes a scheduler or switches fibers. Threads: one at
// a time. enter() and leave() stand around each stretch that runs, in pairs, on one thread; a
// leave() elsewhere is counted as misuse and changes nothing. Never throws; without a client it
// does nothing. Scopes on it must be gone, or never be used again, when it is destroyed.
#pragma once

#include "oteld/context.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace oteld {

class ContextStack {
public:
    // Begins with what is current here.
    ContextStack() noexcept : ContextStack(current()) {}
    explicit ContextStack(const Context& context) noexcept : raw_{} {
        // As good as unique, which is enough to notice mistakes; never 0.
        raw_.own = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(this) >> 3) | 1U;
        raw_.held = raw_.own;
        take(context);
    }
    ContextStack(const ContextStack&) = delete;
    ContextStack& operator=(const ContextStack&) = delete;
    ~ContextStack() {
        leave();
        drop();
    }

    // Another beginning, before it has been entered for the first time.
    void restart(const Context& context) noexcept {
        if (entered()) return;
        drop();
        take(context);
    }

    void enter() noexcept {
        if (!entered()) exchange();
    }
    void leave() noexcept {
        if (entered()) exchange();
    }
    [[nodiscard]] bool entered() const noexcept { return raw_.held != raw_.own; }

private:
    void exchange() noexcept {
        if (const abi::Table* table = abi::client()) table->exchange_stack(&raw_);
    }
    void take(const Context& context) noexcept {
        raw_.context = context.raw();
        std::memset(raw_.context.span.reserved, 0, sizeof raw_.context.span.reserved);
        abi::retain(raw_.context.span.trace_state);
        abi::retain(raw_.context.values);
    }
    void drop() noexcept {
        abi::release(raw_.context.span.trace_state);
        abi::release(raw_.context.values);
    }

    abi::Stack raw_;
};

// Enters a stack until the end of the block.
class StackScope {
public:
    explicit StackScope(ContextStack& stack) noexcept : stack_(stack) { stack_.enter(); }
    StackScope(const StackScope&) = delete;
    StackScope& operator=(const StackScope&) = delete;
    ~StackScope() { stack_.leave(); }

private:
    ContextStack& stack_;
};

}  // namespace oteld
