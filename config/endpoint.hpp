// Where an OTLP exporter sends to: from the many forms that people write to the one that it takes.
//
// Used by: exporter_keys.cpp (file) and otlp_environment.cpp (variables), so that both agree.
// Threads: any. Never resolves a name.
#pragma once

#include "config/result.hpp"

#include <string>
#include <string_view>

namespace oteld::config {

struct Endpoint {
    std::string target;  // As settings.hpp describes Otlp::endpoint.
    bool secure = false;
    bool scheme_decided = false;  // http, https or unix: tls.insecure had no say.
    std::string warning;          // Empty, or a sentence part about a likely slip.
};

// host:port, http://host:port, https://host:port, dns:///host:port, unix:///path, unix:/path.
// `insecure` decides for the forms without a scheme that says it.
[[nodiscard]] Result<Endpoint> parse_grpc_endpoint(std::string_view typed, bool insecure);

// http:// or https:// only. A base URL gets "v1/traces" appended; a URL for traces is taken as it
// is, except that a bare host means "/".
enum class HttpUrl { base, traces };
[[nodiscard]] Result<Endpoint> parse_http_endpoint(std::string_view typed, HttpUrl kind);

}  // namespace oteld::config
