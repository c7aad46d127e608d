#include "config/endpoint.hpp"

#include <doctest/doctest.h>

using namespace oteld::config;

TEST_CASE("gRPC endpoints: the scheme beats insecure, and decides the port") {
    struct Row {
        const char* typed;
        bool insecure;
        const char* target;
        bool secure;
    };
    const Row rows[] = {
        {"localhost:4317", false, "localhost:4317", true},
        {"localhost:4317", true, "localhost:4317", false},
        {"http://localhost:4317", false, "localhost:4317", false},
        {"https://localhost:4317", true, "localhost:4317", true},
        {"HTTPS://localhost:4317/", true, "localhost:4317", true},
        {"http://collector", false, "collector:80", false},
        {"https://collector", false, "collector:443", true},
        {"[::1]:4317", true, "[::1]:4317", false},
        {"http://[::1]", true, "[::1]:80", false},
        {"10.0.0.1:1", true, "10.0.0.1:1", false},
        {"dns:///collector:4317", false, "dns:///collector:4317", true},
        {"unix:///run/otel.sock", false, "unix:/run/otel.sock", false},
        {"unix:/run/otel.sock", false, "unix:/run/otel.sock", false},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.typed));
        const auto endpoint = parse_grpc_endpoint(row.typed, row.insecure);
        REQUIRE(endpoint);
        CHECK(endpoint->target == row.target);
        CHECK(endpoint->secure == row.secure);
    }
}

TEST_CASE("gRPC endpoints that cannot be meant are refused") {
    for (const char* typed : {"",
                              "localhost",
                              ":4317",
                              "localhost:",
                              "localhost:0",
                              "localhost:65536",
                              "localhost:x",
                              "localhost:4317/v1",
                              "http://localhost:4317/v1/traces",
                              "http://",
                              "https://:1",
                              "ftp://x:1",
                              "grpc://x:1",
                              "::1:4317",
                              "[::1",
                              "[]:1",
                              "[x]:1",
                              "[::1]4317",
                              "a b:1",
                              "a:1\n",
                              "user:pass@host:1",
                              "http://user@host:1",
                              "unix:relative.sock",
                              "unix://host/x",
                              "unix:",
                              "http://h:1?x",
                              "http://h:1#x",
                              "h:4_3"}) {
        CAPTURE(std::string(typed));
        CHECK_FALSE(parse_grpc_endpoint(typed, false));
    }
    CHECK_FALSE(parse_grpc_endpoint("unix:/" + std::string(107, 'a'), false));
    CHECK(parse_grpc_endpoint("unix:/" + std::string(106, 'a'), false));
}

TEST_CASE("HTTP endpoints: v1/traces is appended to a base, and a traces URL is taken as it is") {
    struct Row {
        const char* typed;
        HttpUrl kind;
        const char* target;
        bool secure;
    };
    const Row rows[] = {
        {"http://localhost:4318", HttpUrl::base, "http://localhost:4318/v1/traces", false},
        {"http://localhost:4318/", HttpUrl::base, "http://localhost:4318/v1/traces", false},
        {"https://h/otlp", HttpUrl::base, "https://h/otlp/v1/traces", true},
        {"https://h/otlp/", HttpUrl::base, "https://h/otlp/v1/traces", true},
        {"HTTP://h:1", HttpUrl::base, "http://h:1/v1/traces", false},
        {"http://[::1]:4318", HttpUrl::base, "http://[::1]:4318/v1/traces", false},
        {"http://localhost:4318", HttpUrl::traces, "http://localhost:4318/", false},
        {"http://localhost:4318/", HttpUrl::traces, "http://localhost:4318/", false},
        {"http://h:1/v2/trace/otlp", HttpUrl::traces, "http://h:1/v2/trace/otlp", false},
        {"https://h/x/?k=v", HttpUrl::traces, "https://h/x/?k=v", true},
        {"https://h?k=v", HttpUrl::traces, "https://h/?k=v", true},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.typed));
        const auto endpoint = parse_http_endpoint(row.typed, row.kind);
        REQUIRE(endpoint);
        CHECK(endpoint->target == row.target);
        CHECK(endpoint->secure == row.secure);
    }
}

TEST_CASE("HTTP endpoints that cannot be meant are refused") {
    for (const char* typed : {"", "localhost:4318", "h", "unix:///x", "http://", "http:///x",
                              "http://h:0", "http://h:99999", "http://u:p@h", "http://h/#x",
                              "http://h /x", "http://h/?a=b", "http://h:1:2"}) {
        CAPTURE(std::string(typed));
        CHECK_FALSE(parse_http_endpoint(typed, HttpUrl::base));
    }
}

TEST_CASE("a password in a URL is not repeated in the message") {
    for (const auto& endpoint : {parse_grpc_endpoint("http://me:hunter2@host:1", false),
                                 parse_grpc_endpoint("http://me:hunter2@host:1/p", false),
                                 parse_grpc_endpoint("ftp://me:hunter2@host:1", false),
                                 parse_grpc_endpoint("me:hunter2@host:1", false),
                                 parse_http_endpoint("https://me:hunter2@host", HttpUrl::base),
                                 parse_http_endpoint("me:hunter2@host", HttpUrl::base)}) {
        REQUIRE_FALSE(endpoint);
        CHECK(endpoint.error().message.find("hunter2") == std::string::npos);
    }
}

TEST_CASE("the other protocol's port is worth a warning") {
    CHECK(parse_grpc_endpoint("http://h:4318", false)->warning.find("4317") != std::string::npos);
    CHECK(parse_grpc_endpoint("http://h", false)->warning.find("80") != std::string::npos);
    CHECK(parse_grpc_endpoint("http://h:80", false)->warning.empty());
    CHECK(parse_grpc_endpoint("http://h:4317", false)->warning.empty());
    CHECK(parse_http_endpoint("http://h:4317", HttpUrl::base)->warning.find("4318") !=
          std::string::npos);
    CHECK(parse_http_endpoint("http://h:4318/v1/traces", HttpUrl::base)->warning.find("already") !=
          std::string::npos);
    CHECK(parse_http_endpoint("http://h:4318", HttpUrl::base)->warning.empty());
}
