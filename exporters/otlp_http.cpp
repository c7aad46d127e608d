// OTLP over HTTP with protobuf bodies: the module otlp_http.so. Makes one POST of each batch and
// words how it ended.
#include "exporters/encode.hpp"
#include "exporters/module.hpp"
#include "exporters/otlp_gzip.hpp"
#include "exporters/otlp_http_client.hpp"
#include "exporters/otlp_outcome.hpp"
#include "exporters/otlp_tls_probe.hpp"
#include "exporters/otlp_user_agent.hpp"
#include "exporters/retry_after.hpp"

#include <chrono>
#include <exception>
#include <variant>

namespace oteld::exporters {

namespace {

class OtlpHttp final : public Exporter {
public:
    OtlpHttp(const config::Otlp& settings, std::unique_ptr<HttpClient> client)
        : settings_(settings), client_(std::move(client)) {}

    SendResult send(const Batch& batch) override {
        try {
            return send_encoded(encode(batch));
        } catch (const std::exception& error) {  // Out of memory.
            return outcome_of_no_answer(client_->shown_url(), error.what());
        }
    }

    void cancel() noexcept override { client_->cancel(); }

private:
    SendResult send_encoded(const Encoded& request) {
        if (request.slices.empty()) return {};
        if (request.bytes > settings_.request_bytes_max) {
            return outcome_of_too_large(request.bytes, settings_.request_bytes_max);
        }
        if (settings_.compression == config::Compression::none) {
            return post(request.slices, request.bytes);
        }
        const Compressed gzipped = gzip(request.slices, request.bytes);
        return post({{gzipped.data.get(), gzipped.bytes}}, gzipped.bytes);
    }

    SendResult post(const std::vector<std::string_view>& slices, std::uint64_t bytes) {
        SendResult result = judge(client_->post(slices, bytes));
        result.request_bytes = bytes;
        return result;
    }

    SendResult judge(const HttpAnswer& answer) {
        const std::string& endpoint = client_->shown_url();
        switch (answer.end) {
            case HttpAnswer::End::no_answer:
                return outcome_of_no_answer(endpoint, look_further(answer.cause));
            case HttpAnswer::End::timeout: return outcome_of_timeout(endpoint, settings_.timeout);
            case HttpAnswer::End::cancelled: return outcome_of_cancel(endpoint);
            case HttpAnswer::End::too_large:
                return outcome_of_large_response(endpoint, settings_.response_bytes_max);
            case HttpAnswer::End::answered: break;
        }
        if (answer.code >= 200 && answer.code < 300)
            return outcome_of_success(endpoint, answer.body);
        const auto now = std::chrono::system_clock::now();
        return outcome_of_http_failure(endpoint,
                                       {.code = answer.code,
                                        .content_type = answer.content_type,
                                        .body = answer.body,
                                        .location = answer.location,
                                        .retry_after = parse_retry_after(answer.retry_after, now)});
    }

    // A client certificate that the server does not like ends as a closed connection.
    std::string look_further(const std::string& cause) {
        if (!client_->is_secure() || cause_is_known(cause)) return cause;
        const std::string found =
            find_tls_failure({.host = client_->host(),
                              .port = client_->port(),
                              .tls = settings_.tls,
                              .give_up = [this] { return client_->cancelled(); }});
        return found.empty() ? cause : found;
    }

    const config::Otlp settings_;
    std::unique_ptr<HttpClient> client_;
};

}  // namespace

}  // namespace oteld::exporters

extern "C" __attribute__((visibility("default"))) oteld::exporters::Exporter*
oteld_exporter_create_v1(const oteld::config::ExporterSettings* settings, std::string* error) {
    using namespace oteld::exporters;
    const auto& otlp = std::get<oteld::config::Otlp>(settings->what);
    auto client = HttpClient::make(otlp, user_agent(otlp.user_agent_prefix));
    if (!client) {
        *error = client.error().message;
        return nullptr;
    }
    return new OtlpHttp(otlp, std::move(*client));
}
