// OTLP over gRPC: the module otlp_grpc.so. Makes one request of each batch and words how it ended.
#include "exporters/otlp_grpc_client.hpp"
#include "exporters/otlp_module.hpp"

#include <grpc/status.h>

#include <optional>

namespace oteld::exporters {

namespace {

constexpr const char* export_method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

class OtlpGrpc final : public OtlpExporter<GrpcClient> {
public:
    OtlpGrpc(const config::Otlp& settings, std::unique_ptr<GrpcClient> client)
        : OtlpExporter(settings, settings.endpoint, std::move(client)) {}

    static auto make_client(const config::Otlp& settings, std::string user_agent) {
        return GrpcClient::make({.endpoint = settings.endpoint,
                                 .secure = settings.secure,
                                 .tls = settings.tls,
                                 .headers = settings.headers,
                                 .user_agent = std::move(user_agent),
                                 .response_bytes_max = settings.response_bytes_max,
                                 .timeout = settings.timeout});
    }

private:
    SendResult exchange(const Encoded& request) override {
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
        if (answer.code == GRPC_STATUS_OK) return outcome_of_success(endpoint_, answer.response);
        if (answer.code == GRPC_STATUS_CANCELLED && client_->cancelled()) {
            return outcome_of_cancel(endpoint_);
        }
        if (answer.from_server) {
            const std::optional<Status> status =
                answer.status_details.empty() ? std::nullopt : parse_status(answer.status_details);
            return outcome_of_grpc_failure(endpoint_, answer.code, answer.text, status);
        }
        switch (answer.code) {
            case GRPC_STATUS_DEADLINE_EXCEEDED:
                return outcome_of_timeout(endpoint_, settings_.timeout);
            case GRPC_STATUS_RESOURCE_EXHAUSTED:
                return outcome_of_large_response(endpoint_, settings_.response_bytes_max);
            case GRPC_STATUS_UNAVAILABLE:
                return outcome_of_no_answer(endpoint_, cause_of(answer.text));
            default: return outcome_of_grpc_failure(endpoint_, answer.code, answer.text, {});
        }
    }

    // gRPC does not say what was wrong about a certificate.
    std::string cause_of(const std::string& text) {
        const std::size_t colon = endpoint_.rfind(':');
        if (!settings_.secure || endpoint_.rfind("unix:", 0) == 0 || colon == std::string::npos) {
            return text;
        }
        std::string host = endpoint_.substr(0, colon);
        if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
        return look_further(text, host, endpoint_.substr(colon + 1));
    }
};

}  // namespace

}  // namespace oteld::exporters

extern "C" __attribute__((visibility("default"))) oteld::exporters::Exporter*
oteld_exporter_create_v1(const oteld::config::ExporterSettings* settings, std::string* error) {
    return oteld::exporters::create_otlp<oteld::exporters::OtlpGrpc>(*settings, *error);
}
