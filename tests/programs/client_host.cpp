// A program without a client, built with and without -pie, that uses a library which records. Its
// exit code says what happened: 10 without a client, 11 with one (LD_PRELOAD).
#include <oteld/api.hpp>

extern "C" int use_library();

int main() {
    auto span = oteld::tracer("host").span("of the host");
    const bool here = span.recording();
    const bool there = use_library() == 1;
    if (here != there) return 1;
    return here ? 11 : 10;
}
