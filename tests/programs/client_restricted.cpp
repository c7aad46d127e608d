// A program without exceptions and without RTTI, in C++17: what needs them is left out, the rest
// records.
#include <oteld/api.hpp>

namespace {

struct Error : std::exception {
    [[nodiscard]] const char* what() const noexcept override { return "words"; }
};

void marked() { OTELD_SPAN("marked"); }

}  // namespace

int main() {
    const oteld::Tracer tracer = oteld::tracer("restricted");
    marked();
    auto doubled = oteld::traced_function("function", [](int value) { return value * 2; });
    const int four = tracer.traced("call", [&] { return doubled(2); });
    auto span = tracer.scope("exception");
    span.exception(Error());
    span.exception("type", "message");
    return four == 4 ? 0 : 1;
}
