// exception.stacktrace: how the program came to where an exception was caught. Names are those that
// the dynamic loader knows (exported ones; all with -rdynamic), else an address in its file for
// addr2line.

#include "signals.hpp"

#include <cxxabi.h>
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__has_include) && __has_include(<execinfo.h>)
#include <execinfo.h>
#define OTELD_HAS_BACKTRACE
#endif

namespace oteld::sdk {

#if defined(OTELD_HAS_BACKTRACE)
static std::size_t put_frame(char* text, std::size_t bytes, int number, void* address) noexcept {
    Dl_info about{};
    // The call is in front of where it returns to.
    const auto at = reinterpret_cast<std::uintptr_t>(address) - 1;
    int written = 0;
    if (dladdr(reinterpret_cast<void*>(at), &about) == 0) {
        written = std::snprintf(text, bytes, "#%d %p\n", number, address);
    } else {
        const char* slash = std::strrchr(about.dli_fname, '/');
        const char* file = slash != nullptr ? slash + 1 : about.dli_fname;
        const auto offset =
            static_cast<unsigned long>(at - reinterpret_cast<std::uintptr_t>(about.dli_fbase));
        int status = 0;
        char* name = about.dli_sname == nullptr
                         ? nullptr
                         : __cxxabiv1::__cxa_demangle(about.dli_sname, nullptr, nullptr, &status);
        const char* shown = name != nullptr ? name : about.dli_sname;
        written = std::snprintf(text, bytes, "#%d %s (%s+0x%lx)\n", number,
                                shown != nullptr ? shown : "?", file, offset);
        std::free(name);
    }
    // A line that was cut is left out.
    return written > 0 && static_cast<std::size_t>(written) < bytes
               ? static_cast<std::size_t>(written)
               : 0;
}

std::size_t stack_trace(char* text, std::size_t bytes) noexcept {
    constexpr int frames_max = 64;
    constexpr int own = 2;  // This function, and the one that records the exception.
    const ErrnoKept kept;
    void* frames[frames_max];
    const int count = backtrace(frames, frames_max);
    std::size_t used = 0;
    for (int i = own; i < count; ++i) {
        const std::size_t line = put_frame(text + used, bytes - used, i - own, frames[i]);
        if (line == 0) break;
        used += line;
    }
    return used == 0 ? 0 : used - 1;  // Without the last end of line.
}
#else
std::size_t stack_trace(char*, std::size_t) noexcept { return 0; }
#endif

}  // namespace oteld::sdk
