// A user's program that uses oteld::api alone, as its library does: the client may come from
// another compiler, with another standard library. Prints how many spans it recorded.
#include "library.hpp"

#include <oteld/api.hpp>

#include <cstdio>

int main() {
    const auto span = oteld::tracer("platforms.api_only").scope("main");
    std::printf("%d\n", use_library() + (span.recording() ? 1 : 0));
    return 0;
}
