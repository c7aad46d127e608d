// OTLP over HTTP with protobuf bodies: the module otlp_http.so. Makes one POST of each batch and
// words how it ended.
#include "exporters/otlp_gzip.hpp"
#include "exporters/otlp_http_client.hpp"
#include "exporters/otlp_module.hpp"
#include "exporters/retry_after.hpp"

#include <chrono>

namespace oteld::exporters {

namespace {

class OtlpHttp final : public OtlpExporter<HttpClient> {
public:
    OtlpHttp(const config::Otlp& settings, std::unique_ptr<HttpClient> client)
        : OtlpExporter(settings, client->shown_url(), std::move(client)) {}

    static auto make_client(const config::Otlp& settings, const std::string& user_agent) {
        return HttpClient::make(settings, user_agent);
    }

private:
    SendResult exchange(const Encoded& request) override {
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
        switch (answer.end) {
            case HttpAnswer::End::no_answer:
                return outcome_of_no_answer(endpoint_, cause_of(answer.cause));
            case HttpAnswer::End::timeout: return outcome_of_timeout(endpoint_, settings_.timeout);
            case HttpAnswer::End::cancelled: return outcome_of_cancel(endpoint_);
            case HttpAnswer::End::too_large:
                return outcome_of_large_response(endpoint_, settings_.response_bytes_max);
            case HttpAnswer::End::answered: break;
        }
        if (answer.code >= 200 && answer.code < 300)
            return outcome_of_success(endpoint_, answer.body);
        const auto now = std::chrono::system_clock::now();
        return outcome_of_http_failure(endpoint_,
                                       {.code = answer.code,
                                        .content_type = answer.content_type,
                                        .body = answer.body,
                                        .location = answer.location,
                                        .retry_after = parse_retry_after(answer.retry_after, now)});
    }

    // A client certificate that the server does not like ends as a closed connection.
    std::string cause_of(const std::string& text) {
        if (!client_->is_secure()) return text;
        return look_further(text, client_->host(), client_->port());
    }
};

}  // namespace

}  // namespace oteld::exporters

extern "C" __attribute__((visibility("default"))) oteld::exporters::Exporter*
oteld_exporter_create_v1(const oteld::config::ExporterSettings* settings, std::string* error) {
    return oteld::exporters::create_otlp<oteld::exporters::OtlpHttp>(*settings, *error);
}
