// What the OTLP modules share: the order in which a batch becomes a request, a look at TLS after a
// failure, and the factory that a module exports.
//
// Used by: otlp_grpc.cpp, otlp_http.cpp. Threads: as Exporter says. Knows no network library: a
// Client has cancel() and cancelled(), for any thread.
#pragma once

#include "config/settings.hpp"
#include "exporters/encode.hpp"
#include "exporters/module.hpp"
#include "exporters/otlp_outcome.hpp"
#include "exporters/otlp_tls_probe.hpp"

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <variant>

namespace oteld::exporters {

template <class Client>
class OtlpExporter : public Exporter {
public:
    SendResult send(const Batch& batch) final {
        try {
            const Encoded request = encode(batch);
            if (request.slices.empty()) return {};
            if (request.bytes > settings_.request_bytes_max) {
                return outcome_of_too_large(request.bytes, settings_.request_bytes_max);
            }
            return exchange(request);
        } catch (const std::exception& error) {  // Out of memory.
            return outcome_of_no_answer(endpoint_, error.what());
        }
    }

    void cancel() noexcept final { client_->cancel(); }

protected:
    // `endpoint` is what messages name; it may be the client's.
    OtlpExporter(const config::Otlp& settings, const std::string& endpoint,
                 std::unique_ptr<Client>&& client)
        : settings_(settings), endpoint_(endpoint), client_(std::move(client)) {}

    // Compresses as the settings say, makes the one request and words how it ended.
    virtual SendResult exchange(const Encoded& request) = 0;

    // Why TLS to this host failed, if it did, else `cause`.
    std::string look_further(const std::string& cause, const std::string& host,
                             const std::string& port) {
        if (cause_is_known(cause)) return cause;
        const std::string found =
            find_tls_failure({.host = host, .port = port, .tls = settings_.tls, .give_up = [this] {
                                  return client_->cancelled();
                              }});
        return found.empty() ? cause : found;
    }

    const config::Otlp settings_;
    const std::string endpoint_;
    const std::unique_ptr<Client> client_;
};

// The product in front, the exporter's own name kept.
[[nodiscard]] inline std::string user_agent(const std::string& prefix) {
    const std::string own = "oteld/" OTELD_VERSION " OTel-OTLP-Exporter-Cpp/" OTELD_VERSION;
    return prefix.empty() ? own : prefix + " " + own;
}

// `Otlp` is an OtlpExporter, with make_client(settings, user agent). As CreateV1 says.
template <class Otlp>
Exporter* create_otlp(const config::ExporterSettings& settings, std::string& error) {
    const auto& otlp = std::get<config::Otlp>(settings.what);
    auto client = Otlp::make_client(otlp, user_agent(otlp.user_agent_prefix));
    if (!client) {
        error = client.error().message;
        return nullptr;
    }
    return new Otlp(otlp, std::move(*client));
}

}  // namespace oteld::exporters
