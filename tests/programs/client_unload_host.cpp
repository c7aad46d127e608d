// A program without a client. A thread of it loads a library, lets it record, unloads it with spans
// open, and ends.
#include <dlfcn.h>

#include <cstddef>
#include <cstdio>
#include <thread>

int main(int, char** arguments) {
    int result = 3;
    alignas(64) static unsigned char held[1024];
    std::thread([&] {
        void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) {
            std::fprintf(stderr, "%s\n", dlerror());
            return;
        }
        auto* use = reinterpret_cast<int (*)()>(dlsym(library, "use_library"));
        auto* hold = reinterpret_cast<int (*)(void*, size_t)>(dlsym(library, "hold_spans"));
        result =
            use != nullptr && use() == 1 && hold != nullptr && hold(held, sizeof held) == 1 ? 0 : 2;
        dlclose(library);
        if (dlopen(arguments[1], RTLD_NOW | RTLD_NOLOAD) == nullptr)
            std::fputs("unloaded\n", stderr);
    }).join();
    return result;
}
