#include "exporters/module.hpp"

#include <dlfcn.h>

namespace oteld::exporters {

namespace {

using Kind = config::ExporterSettings::Kind;

const char* file_name(Kind kind) {
    switch (kind) {
        case Kind::otlp_grpc: return "otlp_grpc.so";
        case Kind::otlp_http: return "otlp_http.so";
        default: return nullptr;
    }
}

std::string linker_error() {
    const char* error = ::dlerror();
    return error ? error : "unknown error of the dynamic linker";
}

}  // namespace

Result<std::unique_ptr<Exporter>> make_from_module(const config::ExporterSettings& settings,
                                                   const std::string& modules_directory) {
    const char* name = file_name(settings.kind);
    if (!name) return Error{ErrorCode::unsupported, settings.name + " is not in a module"};
    const std::string path = modules_directory + "/" + name;

    // Never closed: gRPC and OpenSSL leave threads and exit handlers behind.
    void* module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!module) {
        return Error{ErrorCode::not_found,
                     "cannot load the module of exporter " + settings.name + ": " + linker_error() +
                         "; install the package that brings it, or remove the exporter"};
    }
    auto* create = reinterpret_cast<CreateV1*>(::dlsym(module, create_v1_symbol));
    if (!create) {
        return Error{ErrorCode::unsupported, path + " is of another version of oteld (it has no " +
                                                 create_v1_symbol +
                                                 "); install both from one version"};
    }
    std::string error;
    std::unique_ptr<Exporter> exporter(create(&settings, &error));
    if (!exporter) {
        return Error{ErrorCode::invalid_config, "exporter " + settings.name + ": " + error};
    }
    return exporter;
}

}  // namespace oteld::exporters
