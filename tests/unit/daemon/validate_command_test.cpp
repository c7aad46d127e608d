#include "daemon/commands/validate.hpp"

#include <doctest/doctest.h>

#include <unistd.h>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

namespace {

// What the command printed, and its exit code.
struct Run {
    int code;
    std::string out;
    std::string err;
};

Run validate(const std::string& yaml) {
    char path[] = "/tmp/oteld-validate-XXXXXX";
    const int file = ::mkstemp(path);
    REQUIRE(file >= 0);
    ::close(file);
    std::ofstream(path) << yaml;
    std::ostringstream out;
    std::ostringstream err;
    std::streambuf* const out_before = std::cout.rdbuf(out.rdbuf());
    std::streambuf* const err_before = std::cerr.rdbuf(err.rdbuf());
    const int code = oteld::validate_command(path);
    std::cout.rdbuf(out_before);
    std::cerr.rdbuf(err_before);
    ::unlink(path);
    return {code, out.str(), err.str()};
}

}  // namespace

TEST_CASE("validate says what would be exported, without the values of headers") {
    const Run run = validate(
        "receivers: {shm: }\nexporters:\n  otlp_grpc/a:\n    endpoint: https://h:4317\n"
        "    headers: {authorization: hunter2}\n  debug:\n"
        "service: {pipelines: {traces: {receivers: [shm], exporters: [otlp_grpc/a, debug]}}}\n");
    CHECK(run.code == 0);
    CHECK(run.err.empty());
    CHECK(run.out.find(": valid\n") != std::string::npos);
    CHECK(run.out.find("otlp_grpc/a  to h:4317, TLS, gzip, timeout 10s, headers authorization") !=
          std::string::npos);
    CHECK(run.out.find("debug  to standard output") != std::string::npos);
    CHECK(run.out.find("hunter2") == std::string::npos);
}

TEST_CASE("validate prints every mistake and exits with 78") {
    const Run run = validate("receivers: {smh: }\nexporters: {debgu: }\nservice: {}\n");
    CHECK(run.code == 78);
    CHECK(run.out.empty());
    CHECK(run.err.find(":1:13: receivers.smh") != std::string::npos);
    CHECK(run.err.find(":2:13: exporters.debgu") != std::string::npos);
    CHECK(run.err.find("did you mean \"debug\"?") != std::string::npos);
    CHECK(run.err.find(":3:") != std::string::npos);
}

TEST_CASE("validate exits with 78 for a file that is not there") {
    std::ostringstream err;
    std::streambuf* const before = std::cerr.rdbuf(err.rdbuf());
    const int code = oteld::validate_command("/nonexistent/oteld.yaml");
    std::cerr.rdbuf(before);
    CHECK(code == 78);
    CHECK(err.str() == "/nonexistent/oteld.yaml: cannot be read: there is no such file\n");
}
