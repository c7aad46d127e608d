// How the OTLP exporters name themselves: the product in front, the exporter's own name kept.
//
// Used by: otlp_grpc.cpp, otlp_http.cpp. Threads: any.
#pragma once

#include <string>

namespace oteld::exporters {

[[nodiscard]] inline std::string user_agent(const std::string& prefix) {
    const std::string own = "oteld/" OTELD_VERSION " OTel-OTLP-Exporter-Cpp/" OTELD_VERSION;
    return prefix.empty() ? own : prefix + " " + own;
}

}  // namespace oteld::exporters
