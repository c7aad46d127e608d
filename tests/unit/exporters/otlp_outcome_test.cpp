#include "exporters/otlp_outcome.hpp"

#include <doctest/doctest.h>

#include <string>

using namespace oteld::exporters;
using namespace std::chrono_literals;
using Outcome = SendResult::Outcome;

namespace {

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("gRPC codes are retried as OTLP says") {
    struct Case {
        int code;
        const char* name;
        bool retry;
        bool retry_with_info;
    };
    const Case cases[] = {
        {1, "CANCELLED", true, true},
        {2, "UNKNOWN", false, false},
        {3, "INVALID_ARGUMENT", false, false},
        {4, "DEADLINE_EXCEEDED", true, true},
        {5, "NOT_FOUND", false, false},
        {6, "ALREADY_EXISTS", false, false},
        {7, "PERMISSION_DENIED", false, false},
        {8, "RESOURCE_EXHAUSTED", false, true},
        {9, "FAILED_PRECONDITION", false, false},
        {10, "ABORTED", true, true},
        {11, "OUT_OF_RANGE", true, true},
        {12, "UNIMPLEMENTED", false, false},
        {13, "INTERNAL", false, false},
        {14, "UNAVAILABLE", true, true},
        {15, "DATA_LOSS", true, true},
        {16, "UNAUTHENTICATED", false, false},
        {17, "status 17", false, false},
        {-1, "status -1", false, false},
    };
    for (const Case& c : cases) {
        CAPTURE(c.name);
        CHECK(grpc_code_name(c.code) == c.name);
        const SendResult plain = outcome_of_grpc_failure("here:4317", c.code, "words", {});
        CHECK((plain.outcome == Outcome::retry_after) == c.retry);
        CHECK(plain.reason == RejectReason::refused);
        CHECK(has(plain.message, "here:4317"));
        CHECK(has(plain.message, c.name));
        CHECK(has(plain.message, "words"));
        CHECK_FALSE(plain.wait.has_value());

        const Status status{c.code, "words", 1500ms};
        const SendResult informed = outcome_of_grpc_failure("here:4317", c.code, "words", status);
        CHECK((informed.outcome == Outcome::retry_after) == c.retry_with_info);
        if (c.retry_with_info) CHECK(informed.wait == 1500ms);

        const Status no_delay{c.code, "words", {}};
        const SendResult undelayed =
            outcome_of_grpc_failure("here:4317", c.code, "words", no_delay);
        CHECK((undelayed.outcome == Outcome::retry_after) == c.retry);
    }
}

TEST_CASE("HTTP codes are retried as OTLP says") {
    for (int code = 300; code < 600; ++code) {
        CAPTURE(code);
        const bool retry = code == 429 || code == 502 || code == 503 || code == 504;
        const SendResult result =
            outcome_of_http_failure("http://here/v1/traces", {.code = code, .retry_after = 7s});
        CHECK((result.outcome == Outcome::retry_after) == retry);
        CHECK(has(result.message, std::to_string(code).c_str()));
        if (retry) CHECK(result.wait == 7s);
        if (!retry) CHECK(result.outcome == Outcome::rejected);
    }
}

TEST_CASE("the words of an HTTP error come from its body, whatever that is") {
    const auto told = [](std::string_view type, std::string_view body) {
        return outcome_of_http_failure("here", {.code = 400, .content_type = type, .body = body})
            .message;
    };
    CHECK(told("application/x-protobuf",
               "\x12\x03"
               "bad") == "here answered HTTP 400: \"bad\"");
    CHECK(told("Application/X-Protobuf; v=1",
               "\x12\x03"
               "bad") == "here answered HTTP 400: \"bad\"");
    CHECK(told("application/x-protobuf", "\x12\x7f") == "here answered HTTP 400");
    CHECK(told("text/plain", "no\nsecond line") == "here answered HTTP 400: \"no\"");
    CHECK(told("text/html", "<html>") == "here answered HTTP 400");
    CHECK(told("", "") == "here answered HTTP 400");
}

TEST_CASE("a redirect is rejected and names where it points") {
    const SendResult result =
        outcome_of_http_failure("here", {.code = 307, .location = "https://there/"});
    CHECK(result.outcome == Outcome::rejected);
    CHECK(has(result.message, "https://there/"));
}

TEST_CASE("what was rejected says what to do about it") {
    CHECK(has(outcome_of_http_failure("here", {.code = 401}).message, "credentials"));
    CHECK(has(outcome_of_http_failure("here", {.code = 404}).message, "/v1/traces"));
    CHECK(has(outcome_of_http_failure("here", {.code = 413}).message, "max_size"));
    CHECK(has(outcome_of_grpc_failure("here", 16, "", {}).message, "credentials"));
    CHECK(has(outcome_of_grpc_failure("here", 12, "", {}).message, "OTLP/gRPC"));
}

TEST_CASE("success is delivered, with what was rejected of it") {
    CHECK(outcome_of_success("here", "").outcome == Outcome::delivered);
    CHECK(outcome_of_success("here", "").message.empty());
    const SendResult partial = outcome_of_success("here", "\x0a\x02\x08\x03");
    CHECK(partial.outcome == Outcome::delivered);
    CHECK(partial.rejected_spans == 3);
    // Taken is taken, also when the answer is not OTLP: sending again would double the spans.
    const SendResult strange = outcome_of_success("here", "<html>");
    CHECK(strange.outcome == Outcome::delivered);
    CHECK(has(strange.message, "not OTLP"));
}

TEST_CASE("no answer is retried, and the known causes are told in words that help") {
    struct Case {
        const char* cause;
        const char* words;
    };
    const Case cases[] = {
        {"Failed to connect to 127.0.0.1 port 1: Couldn't connect: Connection refused",
         "start the backend"},
        {"SSL certificate problem: certificate has expired", "expired"},
        {"SSL certificate problem: unable to get local issuer certificate", "wrong CA"},
        {"SSL certificate problem: self-signed certificate in certificate chain", "wrong CA"},
        {"SSL: no alternative certificate subject name matches target host name 'x'",
         "another name"},
        {"UNKNOWN: ipv4:127.0.0.1:1: Peer name 127.0.0.1 is not in peer certificate",
         "another name"},
        {"IP address mismatch", "another name"},
        {"tlsv13 alert certificate required", "tls.cert_file"},
        {"Ssl handshake failed: SSL_ERROR_SSL: WRONG_VERSION_NUMBER: wrong version number",
         "does not speak TLS"},
        {"Received HTTP/0.9 when not allowed", "otlp_grpc"},
        {"Failed parsing HTTP/2", "otlp_http"},
        {"Could not resolve host: nosuch.invalid", "DNS"},
        {"something new", "\"something new\""},
    };
    for (const Case& c : cases) {
        CAPTURE(c.cause);
        const SendResult result = outcome_of_no_answer("here:1", c.cause);
        CHECK(result.outcome == Outcome::retry_after);
        CHECK(has(result.message, "here:1"));
        CHECK(has(result.message, c.words));
    }
}

TEST_CASE("only a cause that says what to do needs no further look") {
    CHECK(cause_is_known("Connection refused"));
    CHECK(cause_is_known("certificate has expired"));
    CHECK_FALSE(cause_is_known("Socket closed"));
    CHECK_FALSE(cause_is_known("certificate verify failed"));
}

TEST_CASE("limits of size reject, timeouts and interruptions are retried") {
    const SendResult large = outcome_of_too_large(100, 99);
    CHECK(large.outcome == Outcome::rejected);
    CHECK(large.reason == RejectReason::too_large);
    CHECK(outcome_of_large_response("here", 4096).outcome == Outcome::rejected);
    CHECK(outcome_of_timeout("here", 700ms).outcome == Outcome::retry_after);
    CHECK(has(outcome_of_timeout("here", 700ms).message, "700 ms"));
    CHECK(outcome_of_cancel("here").outcome == Outcome::retry_after);
}
