// The one symbol of the thread context, apart from the span path: it is reached by a TLS descriptor
// and written once in a thread's life.

#include "process.hpp"

// Readers look for it by name in the dynamic symbols of program and libraries. In a program it is
// the first one's that counts, whoever else defines it.
extern "C" {
__attribute__((visibility("default"))) thread_local constinit void* otel_thread_ctx_v1 = nullptr;
}

namespace oteld::sdk {

void announce(Thread& thread) noexcept {
    thread.announced = true;
    // Another SDK's, which was there first, stays.
    if (otel_thread_ctx_v1 == nullptr) otel_thread_ctx_v1 = &thread.shown;
}

}  // namespace oteld::sdk
