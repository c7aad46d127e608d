// Functions as spans: traced(), traced_function(), OTELD_SPAN().
//
// Example:
//     void restock() {
//         OTELD_SPAN();  // Of the function's name, until the block ends.
//     }
//
//     const double total = tracer.traced("sum up", sum_up, order);
//     auto ship_traced = oteld::traced_function("ship", ship);  // Each call is a span.
//     if (total > 0) ship_traced(order);
//
// Used by: everybody, through api.hpp. Threads: any. The span is current while the function runs.
// An exception that leaves traced() is recorded as an event "exception" (exception.type, .message,
// .stacktrace), the status becomes ERROR with "type: message", and the exception goes on. Without
// exceptions (-fno-exceptions) there is the span alone.
// exception.stacktrace is taken where the exception is caught: C++ keeps nothing of the place that
// threw, and the frames in between are gone by then. Its first line is the traced call, the rest
// how the program came there; `f` itself and what it called are not in it.
// https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/code/
#pragma once

#include "oteld/tracer.hpp"

#include <string>
#include <type_traits>
#include <utility>

namespace oteld {

// What traced() and OTELD_SPAN() record with where nothing else is said.
inline const Tracer& default_tracer() {
    static const Tracer one = tracer("oteld.traced");
    return one;
}

namespace detail {

#if defined(__cpp_exceptions)
// Of the exception that is being handled. Empty: none of those that carry a text.
inline std::string current_message() {
    try {
        throw;
    } catch (const std::exception& e) {
        return e.what();
    } catch (const std::string& text) {
        return text;
    } catch (const char* text) {
        return text == nullptr ? std::string() : std::string(text);
    } catch (...) {
        return {};
    }
}

// Records the exception that is being handled, and ends the span: unwinding would describe it less
// well.
template <class AnySpan>
[[gnu::noinline, gnu::cold]] void fail_and_end(AnySpan& span) noexcept {
    // None: it is not of C++. The thread is cancelled, nearly always, and nothing went wrong here.
    const std::type_info* thrown = __cxxabiv1::__cxa_current_exception_type();
    if (span.recording() && thrown != nullptr) {
        const TypeName type(thrown);
        try {
            const std::string message = current_message();
            char trace[4096];
            span.exception(type.text, message, {trace, stack_trace(trace, sizeof trace)});
            span.error(message.empty() ? std::string(type.text) : type.text + (": " + message));
        } catch (...) {  // Out of memory.
            span.exception(type.text, {}).error(type.text);
        }
    }
    span.end();
}
#endif

template <class T>
struct MemberOf;
template <class Type, class Class>
struct MemberOf<Type Class::*> {
    using type = Class;
};

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Warray-bounds"  // Of a member that might be virtual, but is not.
#endif
// As std::invoke(), whose header costs every user of this one a tenth of a second.
template <class Function, class... Arguments>
decltype(auto) call(Function&& f, Arguments&&... arguments) {
    return std::forward<Function>(f)(std::forward<Arguments>(arguments)...);
}
template <class Type, class Class, class Object, class... Arguments>
decltype(auto) call(Type Class::*member, Object&& object, Arguments&&... arguments) {
    if constexpr (!std::is_base_of_v<Class, std::decay_t<Object>>)  // A pointer, raw or smart.
        return call(member, *std::forward<Object>(object), std::forward<Arguments>(arguments)...);
    else if constexpr (std::is_function_v<Type>)
        return (std::forward<Object>(object).*member)(std::forward<Arguments>(arguments)...);
    else
        return (std::forward<Object>(object).*member);
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace detail

// Calls f(args...) in a span and returns what it returns: a value, a reference, nothing. `f` may be
// a pointer to a member, which is called on the first argument (an object or a pointer to one).
template <class Function, class... Arguments>
decltype(auto) Tracer::traced(std::string_view name, Function&& f, Arguments&&... arguments) const {
    ScopedSpan span = scope(name);
#if defined(__cpp_exceptions)
    try {
        return detail::call(std::forward<Function>(f), std::forward<Arguments>(arguments)...);
    } catch (...) {
        detail::fail_and_end(span);
        throw;
    }
#else
    return detail::call(std::forward<Function>(f), std::forward<Arguments>(arguments)...);
#endif
}

// The same under default_tracer(). Of what can be called like this alone: what is awaited is
// coroutine.hpp's.
template <class Function, class... Arguments,
          class = std::enable_if_t<std::is_invocable_v<Function, Arguments...>>>
decltype(auto) traced(std::string_view name, Function&& f, Arguments&&... arguments) {
    return default_tracer().traced(name, std::forward<Function>(f),
                                   std::forward<Arguments>(arguments)...);
}

// A function whose every call is a span. Made by traced_function(). Copyable and movable as the
// function is; calls may run at once on several threads when the function allows it.
template <class Function>
class TracedFunction {
public:
    TracedFunction(const Tracer& with, std::string name, Function f)
        : tracer_(with), name_(std::move(name)), function_(std::move(f)) {}

    template <class... Arguments>
    std::invoke_result_t<Function&, Arguments...> operator()(Arguments&&... arguments) & {
        return tracer_.traced(name_, function_, std::forward<Arguments>(arguments)...);
    }
    template <class... Arguments>
    std::invoke_result_t<const Function&, Arguments...> operator()(
        Arguments&&... arguments) const& {
        return tracer_.traced(name_, function_, std::forward<Arguments>(arguments)...);
    }
    template <class... Arguments>
    std::invoke_result_t<Function&&, Arguments...> operator()(Arguments&&... arguments) && {
        return tracer_.traced(name_, std::move(function_), std::forward<Arguments>(arguments)...);
    }

private:
    Tracer tracer_;
    std::string name_;
    Function function_;
};

template <class Function>
TracedFunction<std::decay_t<Function>> traced_function(const Tracer& with, std::string name,
                                                       Function&& f) {
    return {with, std::move(name), std::forward<Function>(f)};
}
template <class Function>
TracedFunction<std::decay_t<Function>> traced_function(std::string name, Function&& f) {
    return {default_tracer(), std::move(name), std::forward<Function>(f)};
}

namespace detail {

// Where "operator" is a word of its own: not in "operators" or "operator_t".
constexpr std::size_t find_operator(std::string_view text) noexcept {
    constexpr std::string_view word = "operator";
    constexpr auto in_word = [](char c) { return is_lower(lower(c)) || is_digit(c) || c == '_'; };
    std::size_t at = text.rfind(word);
    while (at != text.npos && ((at != 0 && in_word(text[at - 1])) ||
                               (at + word.size() < text.size() && in_word(text[at + word.size()]))))
        at = at == 0 ? text.npos : text.rfind(word, at - 1);
    return at;
}

// "ns::Class::method" of what the compiler calls "int ns::Class::method(int) const [with T = int]".
constexpr std::string_view qualified_name(std::string_view pretty) noexcept {
    for (const std::string_view templates : {" [with ", " [T = ", " ["}) {
        const std::size_t at = pretty.find(templates);
        if (at != pretty.npos && pretty.back() == ']') pretty = pretty.substr(0, at);
    }
    // Back over the list of arguments; over two where a function is returned: "int (* f(int))(X)".
    // A lambda of gcc has none: "main()::<lambda(int)>".
    while (!pretty.empty() && pretty.back() != '>') {
        std::size_t end = pretty.rfind(')');
        int depth = 0;
        while (end != pretty.npos) {
            if (pretty[end] == ')') ++depth;
            if (pretty[end] == '(' && --depth == 0) break;
            if (end-- == 0) end = pretty.npos;
        }
        if (end != pretty.npos) pretty = pretty.substr(0, end);
        if (pretty.empty() || pretty.back() != ')' || find_operator(pretty) != pretty.npos) break;
        pretty.remove_suffix(1);
    }
    // Back to the space behind the type of the result. `operator bool` has one in its name, and
    // operators may have brackets without a partner.
    std::size_t begin = pretty.size();
    const std::size_t symbol = find_operator(pretty);
    if (symbol != pretty.npos) begin = symbol;
    int depth = 0;
    while (begin != 0) {
        const char c = pretty[begin - 1];
        if (c == '>' || c == ')' || c == '}') ++depth;
        if (c == '<' || c == '(' || c == '{') --depth;
        if (depth == 0 && (c == ' ' || c == '*' || c == '&')) break;
        --begin;
    }
    return pretty.substr(begin);
}

struct Place {
    std::string_view function;
    const char* file;
    int line;
};

inline ScopedSpan span_at(const Tracer& with, const Place& place, std::string_view name) {
    return with.scope(name.empty() ? place.function : name, {{"code.function.name", place.function},
                                                             {"code.file.path", place.file},
                                                             {"code.line.number", place.line}});
}

}  // namespace detail
}  // namespace oteld

#define OTELD_DETAIL_JOIN_2(a, b) a##b
#define OTELD_DETAIL_JOIN(a, b) OTELD_DETAIL_JOIN_2(a, b)
#define OTELD_DETAIL_SPAN(number, ...)                                                           \
    static constexpr ::oteld::detail::Place OTELD_DETAIL_JOIN(oteld_place_, number){             \
        ::oteld::detail::qualified_name(__PRETTY_FUNCTION__), __FILE__, __LINE__};               \
    const ::oteld::ScopedSpan OTELD_DETAIL_JOIN(oteld_span_, number) = ::oteld::detail::span_at( \
        OTELD_TRACER, OTELD_DETAIL_JOIN(oteld_place_, number), {__VA_ARGS__})

// A span until the end of the block: OTELD_SPAN() has the name of the function, OTELD_SPAN("name")
// that one. With code.function.name, code.file.path (as the compiler was given it) and
// code.line.number. One to a line: its number tells variables apart, as __COUNTER__ is an
// extension.
#define OTELD_SPAN(...) OTELD_DETAIL_SPAN(__LINE__, __VA_ARGS__)

// What OTELD_SPAN() records with; a source file may define its own before or behind its includes.
#ifndef OTELD_TRACER
#define OTELD_TRACER ::oteld::default_tracer()
#endif
