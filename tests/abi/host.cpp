// A program around libraries like library.cpp, as test_abi.py builds it. LINKED names the functions
// that it is linked with, the arguments plugins that it loads, uses and unloads, twice each.
//
// Prints how many spans were recorded, its own included, or ends with 1.
#include <oteld/api.hpp>

#include <dlfcn.h>

#include <cstdio>

#ifndef LINKED
#define LINKED(call)
#endif
#define DECLARE(name) extern "C" int name();
LINKED(DECLARE)

namespace {

int use_plugin(const char* path) {
    void* plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1000;
    }
    auto* use = reinterpret_cast<int (*)()>(dlsym(plugin, "plugin"));
    const int spans = use == nullptr ? 1000 : use();
    dlclose(plugin);
    return spans;
}

}  // namespace

int main(int count, char** arguments) {
    const oteld::Tracer tracer = oteld::tracer("host");
    auto span = tracer.scope("of the host");
    int spans = span.recording() ? 1 : 0;
#define CALL(name) spans += name();
    LINKED(CALL)
    for (int i = 1; i < count; ++i) spans += use_plugin(arguments[i]) + use_plugin(arguments[i]);
    std::printf("%d\n", spans);
    return spans < 100 ? 0 : 1;
}
