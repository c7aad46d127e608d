// Finds out why TLS failed: gRPC says only "certificate verify failed", and a client certificate
// that a server does not like ends as a closed connection. Dials once more and looks, with OpenSSL
// itself.
//
// Used by: the OTLP modules, after a request that failed. Threads: any. Sends nothing but the
// handshake.
#pragma once

#include "config/settings.hpp"

#include <functional>
#include <string>

namespace oteld::exporters {

struct TlsProbe {
    std::string host;
    std::string port;
    config::Tls tls;
    std::function<bool()> give_up;  // Asked a few times a second.
};

// The cause in OpenSSL's words, or "certificate required" or "bad certificate"; empty when it found
// none, or found out nothing within about two seconds.
[[nodiscard]] std::string find_tls_failure(const TlsProbe& probe);

}  // namespace oteld::exporters
