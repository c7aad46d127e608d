#include "daemon/commands/validate.hpp"

#include "config/load.hpp"
#include "config/units.hpp"

#include <sysexits.h>
#include <iostream>

namespace oteld {
namespace {

std::string otlp_line(const config::Otlp& otlp) {
    std::string line = "to " + otlp.endpoint;
    line += otlp.secure ? ", TLS" : ", plain text";
    if (otlp.secure && !otlp.tls.cert_file.empty()) line += " with a client certificate";
    line += otlp.compression == config::Compression::gzip ? ", gzip" : ", no compression";
    line += ", timeout " + config::show(otlp.timeout);
    // Names only: the values are where the credentials are.
    for (std::size_t i = 0; i < otlp.headers.size(); ++i) {
        line += (i == 0 ? ", headers " : " ") + otlp.headers[i].first;
    }
    return line;
}

std::string destination(const config::ExporterSettings& exporter) {
    if (const auto* otlp = std::get_if<config::Otlp>(&exporter.what)) return otlp_line(*otlp);
    if (const auto* file = std::get_if<config::File>(&exporter.what)) return "to " + file->path;
    if (const auto* store = std::get_if<config::TraceStore>(&exporter.what)) {
        return "to " + (store->path.empty() ? "traces.db in the state directory" : store->path) +
               ", up to " + config::show_size(store->bytes_max) + " and " +
               config::show(store->age_max);
    }
    if (std::holds_alternative<config::Debug>(exporter.what)) return "to standard output";
    return "to nowhere";
}

}  // namespace

int validate_command(const std::string& config_path) {
    const config::Loaded loaded = config::load(config_path, config::process_environment());
    for (const std::string& warning : loaded.warnings) {
        std::cerr << "warning: " << warning << '\n';
    }
    for (const config::Problem& problem : loaded.problems) std::cerr << problem.text() << '\n';
    if (!loaded.valid()) return EX_CONFIG;

    std::cout << loaded.settings.source << ": valid\n";
    for (const config::ExporterSettings& exporter : loaded.settings.exporters) {
        std::cout << "  " << exporter.name << "  " << destination(exporter) << '\n';
    }
    std::cout.flush();
    return 0;
}

}  // namespace oteld
