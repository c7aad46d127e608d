#include "exporters/otlp_outcome.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace oteld::exporters {

namespace {

using Outcome = SendResult::Outcome;

constexpr std::array<std::string_view, 17> grpc_code_names{
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

enum GrpcCode {
    cancelled = 1,
    deadline_exceeded = 4,
    not_found = 5,
    permission_denied = 7,
    resource_exhausted = 8,
    aborted = 10,
    out_of_range = 11,
    unimplemented = 12,
    unavailable = 14,
    data_loss = 15,
    unauthenticated = 16,
};

constexpr std::string_view check_credentials = "; check the credentials in the exporter's headers";
constexpr std::string_view lower_batch =
    "; lower sending_queue.batch.max_size if requests are too large for it";

std::string_view hint_for_grpc(int code) {
    switch (code) {
        case unauthenticated:
        case permission_denied: return check_credentials;
        case not_found:
        case unimplemented: return "; is this an OTLP/gRPC endpoint that takes traces?";
        case resource_exhausted: return lower_batch;
        default: return "";
    }
}

std::string_view hint_for_http(int code) {
    switch (code) {
        case 401:
        case 403: return check_credentials;
        case 404:
        case 405:
            return "; is this the full URL of an OTLP/HTTP endpoint, such as "
                   "http://HOST:4318/v1/traces?";
        case 407: return "; give the proxy's user and password in HTTPS_PROXY or HTTP_PROXY";
        case 413: return lower_batch;
        case 415: return "; is this an OTLP/HTTP endpoint that takes protobuf?";
        default: return "";
    }
}

struct KnownCause {
    std::string_view sign;  // Part of the library's text, in lower case.
    std::string_view words;
};

constexpr std::string_view wrong_ca =
    "its certificate is signed by a CA that is not trusted here (wrong CA); set tls.ca_file to the "
    "CA that signed it";
constexpr std::string_view wrong_name =
    "its certificate is for another name; use the certificate's name in the endpoint, or set "
    "tls.server_name_override to it";
constexpr std::string_view unknown_name =
    "its name is not known to DNS; correct the endpoint, or this host's DNS settings";
constexpr std::string_view closed = "it closed the connection without an answer";

// The first sign that is found counts.
constexpr std::array known_causes{
    KnownCause{
        "certificate has expired",
        "its certificate has expired; renew it on the backend, or set this host's clock right"},
    KnownCause{"certificate is not yet valid",
               "its certificate is not valid yet; set this host's clock right, or renew the "
               "certificate on the backend"},
    KnownCause{"self-signed certificate", wrong_ca},
    KnownCause{"self signed certificate", wrong_ca},
    KnownCause{"unable to get local issuer", wrong_ca},
    KnownCause{"unable to verify the first certificate", wrong_ca},
    KnownCause{"hostname mismatch", wrong_name},
    KnownCause{"ip address mismatch", wrong_name},
    KnownCause{"is not in peer certificate", wrong_name},
    KnownCause{"does not match target host", wrong_name},
    KnownCause{"no alternative certificate subject name", wrong_name},
    KnownCause{"certificate required",
               "it wants a client certificate; set tls.cert_file and tls.key_file"},
    KnownCause{"unknown ca",
               "it does not trust the client certificate; set tls.cert_file to one signed by a CA "
               "that the backend trusts"},
    KnownCause{"bad certificate",
               "it does not accept the client certificate; check tls.cert_file and tls.key_file"},
    KnownCause{
        "wrong version number",
        "it does not speak TLS; use an http:// endpoint or tls.insecure: true, or turn TLS on "
        "in the backend"},
    KnownCause{
        "http/0.9",
        "it does not speak HTTP/1.1; this may be an OTLP/gRPC port: use exporter otlp_grpc, or "
        "the backend's OTLP/HTTP port (usually 4318)"},
    KnownCause{
        "connect an http1.x server",
        "it speaks HTTP/1.1, not gRPC; use exporter otlp_http, or the backend's OTLP/gRPC port "
        "(usually 4317)"},
    KnownCause{
        "failed parsing http/2",
        "it does not speak gRPC; use the backend's OTLP/gRPC port (usually 4317), or exporter "
        "otlp_http"},
    KnownCause{"connection refused",
               "connection refused; start the backend, or correct the endpoint"},
    KnownCause{"connection reset", closed},
    KnownCause{"socket closed", closed},
    KnownCause{"empty reply from server", closed},
    KnownCause{"getpeername() failed", closed},
    KnownCause{"transfer closed", "it closed the connection in the middle of its answer"},
    KnownCause{"no such file or directory",
               "there is no such socket; start the backend, or correct the endpoint"},
    KnownCause{"could not resolve host", unknown_name},
    KnownCause{"dns resolution failed", unknown_name},
    KnownCause{"domain name not found", unknown_name},
    KnownCause{"network is unreachable", "the network is unreachable; check this host's routes"},
    KnownCause{"no route to host",
               "there is no route to it; check this host's routes and firewall"},
};

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
}

std::string_view words_for(std::string_view cause) {
    const std::string text = lower(cause);
    const auto* found = std::find_if(
        known_causes.begin(), known_causes.end(),
        [&](const KnownCause& known) { return text.find(known.sign) != std::string::npos; });
    return found == known_causes.end() ? std::string_view() : found->words;
}

SendResult retry_later(std::string message) {
    SendResult result;
    result.outcome = Outcome::retry_after;
    result.message = std::move(message);
    return result;
}

SendResult reject(RejectReason reason, std::string message) {
    SendResult result;
    result.outcome = Outcome::rejected;
    result.reason = reason;
    result.message = std::move(message);
    return result;
}

bool starts_with(std::string_view text, std::string_view start) {
    return text.substr(0, start.size()) == start;
}

// What the backend wrote into the body of an error: a protobuf Status if the specification is
// followed.
std::string words_of(const HttpFailure& failure) {
    const std::string type = lower(failure.content_type);
    if (starts_with(type, "application/x-protobuf")) {
        const std::optional<Status> status = parse_status(failure.body);
        if (!status || status->message.empty()) return "";
        return ": " + quoted(status->message);
    }
    if (failure.body.empty() || starts_with(type, "text/html")) return "";
    return ": " + quoted(failure.body.substr(0, failure.body.find('\n')));
}

}  // namespace

bool grpc_code_is_retryable(int code, bool has_retry_info) noexcept {
    switch (code) {
        case cancelled:
        case deadline_exceeded:
        case aborted:
        case out_of_range:
        case unavailable:
        case data_loss: return true;
        case resource_exhausted: return has_retry_info;
        default: return false;
    }
}

bool http_code_is_retryable(int code) noexcept {
    return code == 429 || code == 502 || code == 503 || code == 504;
}

std::string grpc_code_name(int code) {
    if (code >= 0 && static_cast<std::size_t>(code) < grpc_code_names.size()) {
        return std::string(grpc_code_names[static_cast<std::size_t>(code)]);
    }
    return "status " + std::to_string(code);
}

SendResult outcome_of_success(std::string_view endpoint, std::string_view response) {
    SendResult result;
    const std::optional<PartialSuccess> partial = parse_export_response(response);
    if (!partial) {
        result.message = std::string(endpoint) +
                         " took the spans but its answer is not OTLP; is this an OTLP endpoint?";
        return result;
    }
    result.rejected_spans = partial->rejected_spans;
    result.message = partial_success_text(endpoint, *partial);
    return result;
}

SendResult outcome_of_grpc_failure(std::string_view endpoint, int code, std::string_view text,
                                   const std::optional<Status>& status) {
    const bool has_retry_info = status && status->retry_delay;
    std::string message = std::string(endpoint) + " answered " + grpc_code_name(code);
    if (!text.empty()) message += ": " + quoted(text);
    if (!grpc_code_is_retryable(code, has_retry_info)) {
        return reject(RejectReason::refused, message.append(hint_for_grpc(code)));
    }
    SendResult result = retry_later(std::move(message));
    if (has_retry_info) result.wait = status->retry_delay;
    return result;
}

SendResult outcome_of_http_failure(std::string_view endpoint, const HttpFailure& failure) {
    std::string message = std::string(endpoint) + " answered HTTP " + std::to_string(failure.code);
    if (failure.code >= 300 && failure.code < 400) {
        if (!failure.location.empty()) message += ", a redirect to " + quoted(failure.location);
        return reject(RejectReason::refused,
                      message + "; redirects are not followed: set the endpoint to the final URL");
    }
    message += words_of(failure);
    if (!http_code_is_retryable(failure.code)) {
        return reject(RejectReason::refused, message.append(hint_for_http(failure.code)));
    }
    SendResult result = retry_later(std::move(message));
    result.wait = failure.retry_after;
    return result;
}

SendResult outcome_of_no_answer(std::string_view endpoint, std::string_view cause) {
    const std::string_view words = words_for(cause);
    return retry_later("no answer from " + std::string(endpoint) + ": " +
                       (words.empty() ? quoted(cause) : std::string(words)));
}

bool cause_is_known(std::string_view cause) {
    const std::string_view words = words_for(cause);
    return !words.empty() && words != closed;
}

SendResult outcome_of_timeout(std::string_view endpoint, std::chrono::milliseconds timeout) {
    return retry_later(
        "no answer from " + std::string(endpoint) + " within " + std::to_string(timeout.count()) +
        " ms; the backend hangs or is slow (the exporter's timeout sets this limit)");
}

SendResult outcome_of_cancel(std::string_view endpoint) {
    return retry_later("the request to " + std::string(endpoint) + " was interrupted");
}

SendResult outcome_of_too_large(std::uint64_t bytes, std::uint64_t bytes_max) {
    return reject(RejectReason::too_large, "not sent: a request of " + std::to_string(bytes) +
                                               " bytes is over the limit of " +
                                               std::to_string(bytes_max) + " bytes");
}

SendResult outcome_of_large_response(std::string_view endpoint, std::uint64_t bytes_max) {
    return reject(RejectReason::refused,
                  std::string(endpoint) + " answered with more than " + std::to_string(bytes_max) +
                      " bytes, the limit for an answer; is this an OTLP endpoint?");
}

}  // namespace oteld::exporters
