// Functions as spans: traced(), traced_function(), OTELD_SPAN(), and the exceptions that leave
// them.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"

#include <pthread.h>

#include <memory>
#include <stdexcept>
#include <thread>

namespace oteld::test {
namespace {

struct Shop {
    int stock = 7;
    int take(int count) { return stock -= count; }
    [[nodiscard]] int left() const { return stock; }
};

struct OwnError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What the attribute of the span's only event says.
std::string of_exception(const ReadSpan& span, const std::string& key) {
    REQUIRE(span.events.size() == 1);
    CHECK(span.events[0].name == "exception");
    for (const auto& [name, value] : span.events[0].attributes)
        if (name == key) return value;
    return "(none)";
}

template <class Thrown>
void throw_in(const char* name, Thrown thrown) {
    bool arrived = false;
    try {
        // A pointer, too. NOLINTNEXTLINE(misc-throw-by-value-catch-by-reference)
        traced(name, [&] { throw thrown; });
    } catch (const Thrown&) {
        arrived = true;
    }
    EXPECT(arrived);
}

template <class T>
struct Places {
    static constexpr int line = __LINE__ + 1;
    void operator()(T) const { OTELD_SPAN(); }
};

}  // namespace

TEST_CASE("a traced call returns what the function returns, references and nothing included") {
    const Rings rings = in_child([] {
        int value = 1;
        int& same = traced("reference", [&]() -> int& { return value; });
        EXPECT(&same == &value);
        traced("nothing", [&] { value = 2; });
        EXPECT(value == 2);
        auto moved = traced(
            "moved", [](std::unique_ptr<int> in) { return in; }, std::make_unique<int>(3));
        EXPECT(*moved == 3);
        Shop shop;
        EXPECT(traced("member of an object", &Shop::take, shop, 2) == 5);
        EXPECT(traced("member of a pointer", &Shop::left, &shop) == 5);
        static_assert(std::is_same_v<decltype(traced("field", &Shop::stock, shop)), int&>);
        EXPECT(traced("field", &Shop::stock, std::make_unique<Shop>()) == 7);
        EXPECT(tracer("own").traced(
                   "of a tracer", [](int a, int b) { return a - b; }, 5, 3) == 2);
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 7);
    CHECK(rings.scope_of(rings.span("nothing")).name == "oteld.traced");
    CHECK(rings.scope_of(rings.span("of a tracer")).name == "own");
    for (const ReadSpan& span : rings.spans) {
        CHECK(span.status == 0);
        CHECK(span.events.empty());
    }
}

TEST_CASE("spans of the function are children of the traced call") {
    const Rings rings = in_child([] {
        traced("outer", [] { traced("inner", [] {}); });
        auto beside = default_tracer().span("beside");
    });
    check_balance(rings);
    CHECK(rings.span("inner").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("beside").parent_id == "");
}

TEST_CASE("an exception is recorded with type, message and stack trace, sets ERROR and goes on") {
    const Rings rings = in_child([] {
        throw_in("of the library", std::out_of_range("no such order"));
        throw_in("own", OwnError("own words"));
        throw_in("text", std::string("a text"));
        throw_in("literal", "a literal");
        throw_in("number", 42);
    });
    check_balance(rings);
    const ReadSpan& library = rings.span("of the library");
    CHECK(of_exception(library, "exception.type") == "\"std::out_of_range\"");
    CHECK(of_exception(library, "exception.message") == "\"no such order\"");
    CHECK(library.status == 2);
    CHECK(library.description == "std::out_of_range: no such order");
    const std::string trace = of_exception(library, "exception.stacktrace");
    CHECK(trace.rfind("\"#0 ", 0) == 0);
    CHECK(trace.find("unit_client+0x") != trace.npos);
    CHECK(trace.find("\n#1 ") != trace.npos);
    CHECK(of_exception(rings.span("own"), "exception.type").find("OwnError\"") != trace.npos);
    CHECK(of_exception(rings.span("own"), "exception.message") == "\"own words\"");
    CHECK(of_exception(rings.span("text"), "exception.message") == "\"a text\"");
    CHECK(of_exception(rings.span("literal"), "exception.type") == "\"char const*\"");
    CHECK(of_exception(rings.span("literal"), "exception.message") == "\"a literal\"");
    CHECK(of_exception(rings.span("number"), "exception.type") == "\"int\"");
    CHECK(of_exception(rings.span("number"), "exception.message") == "\"\"");
    CHECK(rings.span("number").description == "int");
}

TEST_CASE("each traced call that an exception leaves records it; the context is as before") {
    const Rings rings = in_child([] {
        const SpanContext before = current_span();
        try {
            traced("outer", [] { traced("inner", [] { throw OwnError("deep"); }); });
        } catch (const OwnError&) {
        }
        EXPECT(current_span().span_id_hex() == before.span_id_hex());
    });
    check_balance(rings);
    CHECK(of_exception(rings.span("inner"), "exception.message") == "\"deep\"");
    CHECK(of_exception(rings.span("outer"), "exception.message") == "\"deep\"");
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("a cancelled thread is no exception") {
#if defined(_LIBCPP_VERSION)
    MESSAGE(
        "not run: a thread of a program with LLVM's libunwind does not survive being cancelled");
#else
    const Rings rings = in_child([] {
        pthread_t thread;
        EXPECT(pthread_create(
                   &thread, nullptr,
                   [](void*) -> void* {
                       traced("cancelled", [] {
                           pthread_cancel(pthread_self());
                           pthread_testcancel();
                       });
                       return nullptr;
                   },
                   nullptr) == 0);
        void* result = nullptr;
        pthread_join(thread, &result);
        EXPECT(result == PTHREAD_CANCELED);
    });
    check_balance(rings);
    CHECK(rings.span("cancelled").events.empty());
#endif
}

TEST_CASE("a traced function is a function: copied, moved, const, called from elsewhere") {
    const Rings rings = in_child([] {
        auto add = traced_function("add", [](int a, int b) { return a + b; });
        EXPECT(add(1, 2) == 3);
        const auto copy = add;
        EXPECT(copy(2, 3) == 5);
        std::thread(traced_function(tracer("own"), "thread", [] {})).join();
        int calls = 0;
        auto counting = traced_function("counting", [calls]() mutable { return ++calls; });
        counting();
        EXPECT(counting() == 2);
        auto once = traced_function("once", [p = std::make_unique<int>(4)] { return *p; });
        EXPECT(std::move(once)() == 4);
        const auto take = traced_function("member", &Shop::left);
        EXPECT(take(Shop{}) == 7);
    });
    check_balance(rings);
    CHECK(rings.spans.size() == 7);
    CHECK(rings.scope_of(rings.span("thread")).name == "own");
}

TEST_CASE("OTELD_SPAN says where it stands") {
    const Rings rings = in_child([] {
        // Not part of an expression's lambda: the compiler names those as it likes.
        Places<int>{}(1);
        {
            OTELD_SPAN("named");
            auto inner = default_tracer().span("inner");
        }
    });
    check_balance(rings);
#if defined(__clang__)
    const ReadSpan& here =
        rings.span("oteld::test::(anonymous namespace)::Places<int>::operator()");
#else
    const ReadSpan& here = rings.span("oteld::test::{anonymous}::Places<T>::operator()");
#endif
    CHECK(here.at("code.function.name") == "\"" + here.name + "\"");
    CHECK(here.at("code.line.number") == std::to_string(Places<int>::line));
    CHECK(here.at("code.file.path") == "\"" + std::string(__FILE__) + "\"");
    CHECK(rings.span("inner").parent_id == rings.span("named").span_id);
}

TEST_CASE("a function's name is found in what compilers call it") {
    using detail::qualified_name;
    CHECK(qualified_name("int ns::Class::method(int) const") == "ns::Class::method");
    CHECK(qualified_name("std::vector<int> ns::f(std::pair<int, int>) [with T = int]") == "ns::f");
    CHECK(qualified_name("auto main()::(anonymous class)::operator()(int) const") ==
          "main()::(anonymous class)::operator()");
    CHECK(qualified_name("main()::<lambda(int)>") == "main()::<lambda(int)>");
    CHECK(qualified_name("X::operator bool() const") == "X::operator bool");
    CHECK(qualified_name("bool {anonymous}::operator<(X, X)") == "{anonymous}::operator<");
    CHECK(qualified_name("const char* f(void (*)(int))") == "f");
    CHECK(qualified_name("void (* ns::f(int))(double)") == "ns::f");
    CHECK(qualified_name("void (*X::f(int) const)(double)") == "X::f");
    CHECK(qualified_name("X::operator operator_t()") == "X::operator operator_t");
    CHECK(qualified_name("std::pair<int, operator_t> X::f()") == "X::f");
    CHECK(qualified_name("X::X()") == "X::X");
    CHECK(qualified_name("") == "");
}

}  // namespace oteld::test
