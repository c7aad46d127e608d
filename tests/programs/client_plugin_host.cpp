// A program with a static client that loads a library which records: one client serves both.
#include <oteld/api.hpp>

#include <dlfcn.h>

#include <cstdio>

int main(int, char** arguments) {
    auto span = oteld::tracer("host").scope("of the host");
    if (!span.recording()) return 1;
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    auto* use = reinterpret_cast<int (*)()>(dlsym(library, "use_library"));
    return use != nullptr && use() == 1 ? 0 : 3;
}
