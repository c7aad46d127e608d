// OTLP over gRPC: the module otlp_grpc.so. Makes one request of each batch and words how it ended.
#include "exporters/encode.hpp"
#include "exporters/module.hpp"
#include "exporters/otlp_grpc_client.hpp"
#include "exporters/otlp_outcome.hpp"
#include "exporters/otlp_tls_probe.hpp"
#include "exporters/otlp_user_agent.hpp"

#include <grpc/status.h>

#include <exception>
#include <optional>
#include <variant>

namespace oteld::exporters {

namespace {

constexpr const char* export_method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

class OtlpGrpc final : public Exporter {
public:
    OtlpGrpc(const config::Otlp& settings, std::unique_ptr<GrpcClient> client)
        : settings_(settings), client_(std::move(client)) {}

    SendResult send(const Batch& batch) override {
        try {
            return send_encoded(encode(batch));
        } catch (const std::exception& error) {  // Out of memory.
            return outcome_of_no_answer(settings_.endpoint, error.what());
        }
    }

    void cancel() noexcept override { client_->cancel(); }

private:
    SendResult send_encoded(const Encoded& request) {
        if (request.slices.empty()) return {};
        if (request.bytes > settings_.request_bytes_max) {
            return outcome_of_too_large(request.bytes, settings_.request_bytes_max);
        }
        std::uint64_t sent = request.bytes;
        GrpcAnswer answer;
        if (settings_.compression == config::Compression::gzip) {
            Compressed gzipped = gzip(request.slices, request.bytes);
            sent = gzipped.bytes;
            answer = client_->call(export_method, std::move(gzipped));
        } else {
            answer = client_->call(export_method, request.slices);
        }
        SendResult result = judge(answer);
        result.request_bytes = sent;
        return result;
    }

    SendResult judge(const GrpcAnswer& answer) {
        const std::string& endpoint = settings_.endpoint;
        if (answer.code == GRPC_STATUS_OK) return outcome_of_success(endpoint, answer.response);
        if (answer.code == GRPC_STATUS_CANCELLED && client_->cancelled()) {
            return outcome_of_cancel(endpoint);
        }
        if (answer.from_server) {
            const std::optional<Status> status =
                answer.status_details.empty() ? std::nullopt : parse_status(answer.status_details);
            return outcome_of_grpc_failure(endpoint, answer.code, answer.text, status);
        }
        switch (answer.code) {
            case GRPC_STATUS_DEADLINE_EXCEEDED:
                return outcome_of_timeout(endpoint, settings_.timeout);
            case GRPC_STATUS_RESOURCE_EXHAUSTED:
                return outcome_of_large_response(endpoint, settings_.response_bytes_max);
            case GRPC_STATUS_UNAVAILABLE:
                return outcome_of_no_answer(endpoint, look_further(answer.text));
            default: return outcome_of_grpc_failure(endpoint, answer.code, answer.text, {});
        }
    }

    // gRPC does not say what was wrong about a certificate.
    std::string look_further(const std::string& cause) {
        const std::string& endpoint = settings_.endpoint;
        const std::size_t colon = endpoint.rfind(':');
        if (!settings_.secure || cause_is_known(cause) || endpoint.rfind("unix:", 0) == 0 ||
            colon == std::string::npos) {
            return cause;
        }
        std::string host = endpoint.substr(0, colon);
        if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
        const std::string found =
            find_tls_failure({.host = host,
                              .port = endpoint.substr(colon + 1),
                              .tls = settings_.tls,
                              .give_up = [this] { return client_->cancelled(); }});
        return found.empty() ? cause : found;
    }

    const config::Otlp settings_;
    std::unique_ptr<GrpcClient> client_;
};

}  // namespace

}  // namespace oteld::exporters

extern "C" __attribute__((visibility("default"))) oteld::exporters::Exporter*
oteld_exporter_create_v1(const oteld::config::ExporterSettings* settings, std::string* error) {
    using namespace oteld::exporters;
    const auto& otlp = std::get<oteld::config::Otlp>(settings->what);
    auto client = GrpcClient::make({.endpoint = otlp.endpoint,
                                    .secure = otlp.secure,
                                    .tls = otlp.tls,
                                    .headers = otlp.headers,
                                    .user_agent = user_agent(otlp.user_agent_prefix),
                                    .response_bytes_max = otlp.response_bytes_max,
                                    .timeout = otlp.timeout});
    if (!client) {
        *error = client.error().message;
        return nullptr;
    }
    return new OtlpGrpc(otlp, std::move(*client));
}
