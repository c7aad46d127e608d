// A program without a client. A thread of it loads a library, lets it record, unloads it, and ends.
#include <dlfcn.h>

#include <cstdio>
#include <thread>

int main(int, char** arguments) {
    int result = 3;
    std::thread([&] {
        void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) {
            std::fprintf(stderr, "%s\n", dlerror());
            return;
        }
        auto* use = reinterpret_cast<int (*)()>(dlsym(library, "use_library"));
        result = use != nullptr && use() == 1 ? 0 : 2;
        dlclose(library);
    }).join();
    return result;
}
