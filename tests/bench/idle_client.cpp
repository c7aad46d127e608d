// A program that has recorded and has nothing more to say: records a span, prints what that added
// to its resident memory, and waits until its standard input ends.
//
// Usage: idle_client   OTELD_DIR names the ring directory.

#include "oteld/api.hpp"

#include <unistd.h>

#include <cstdio>

namespace {

long resident_kib() {
    long pages = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
        std::fclose(file);
    }
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

}  // namespace

int main() {
    (void)resident_kib();  // What reading it takes is not the client's.
    const long before = resident_kib();
    {
        auto span = oteld::tracer("bench", "1").span("idle");
        if (!span.recording()) {
            std::fprintf(stderr, "idle_client: spans are not recorded; is OTELD_DIR set?\n");
            return 1;
        }
        span.set("order.id", "A-12345");
    }
    std::printf("{\"resident_kib\":%ld}\n", resident_kib() - before);
    std::fflush(stdout);
    char byte = 0;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}
