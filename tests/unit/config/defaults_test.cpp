#include "config/defaults.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>
#include <map>

using namespace oteld::config;
using std::chrono::milliseconds;

namespace {

using Table = std::map<std::string, std::string>;

// Names without their prefix: "TRACES_TIMEOUT".
Environment environment(const Table& table) {
    return [table](const std::string& name) -> std::optional<std::string> {
        const std::string prefix = "OTEL_EXPORTER_OTLP_";
        if (!name.starts_with(prefix)) return std::nullopt;
        const auto found = table.find(name.substr(prefix.size()));
        if (found == table.end()) return std::nullopt;
        return found->second;
    };
}

Loaded load_from(const Table& table) { return load("", environment(table), "/nonexistent/x"); }

Otlp otlp_from(const Table& table) {
    const Loaded loaded = load_from(table);
    for (const Problem& problem : loaded.problems) MESSAGE(problem.text());
    REQUIRE(loaded.valid());
    REQUIRE(loaded.settings.exporters.size() == 1);
    REQUIRE(std::holds_alternative<Otlp>(loaded.settings.exporters[0].what));
    return std::get<Otlp>(loaded.settings.exporters[0].what);
}

std::string this_file() { return OTELD_SOURCE_DIR "/tests/unit/config/defaults_test.cpp"; }

}  // namespace

TEST_CASE("without file and variables spans go to the local trace store") {
    const Loaded loaded = load_from({});
    CHECK(loaded.valid());
    CHECK(loaded.warnings.empty());
    CHECK(loaded.settings.source == "embedded default");
    REQUIRE(loaded.settings.exporters.size() == 1);
    CHECK(loaded.settings.exporters[0].name == "trace_store");
    CHECK(loaded.settings.exporters[0].kind == ExporterSettings::Kind::trace_store);
}

TEST_CASE("variables that are set but empty, or concern other signals, count as not set") {
    CHECK(load_from({{"ENDPOINT", ""}, {"TRACES_ENDPOINT", ""}, {"TIMEOUT", ""}}).settings.source ==
          "embedded default");
    CHECK(load_from({{"METRICS_ENDPOINT", "http://h:1"}}).settings.source == "embedded default");
    CHECK(otlp_from({{"TRACES_ENDPOINT", ""}, {"ENDPOINT", "http://h:1"}}).endpoint ==
          "http://h:1/v1/traces");
}

TEST_CASE("each variable by itself makes an exporter with the specification's defaults") {
    const Otlp otlp = otlp_from({{"TIMEOUT", "10000"}});
    CHECK(otlp.endpoint == "http://localhost:4318/v1/traces");
    CHECK_FALSE(otlp.secure);
    CHECK(otlp.compression == Compression::none);
    CHECK(otlp.timeout == milliseconds(10000));
    CHECK(otlp.headers.empty());
    const Loaded loaded = load_from({{"PROTOCOL", "grpc"}});
    REQUIRE(loaded.valid());
    CHECK(loaded.settings.source == "environment");
    CHECK(loaded.settings.exporters[0].name == "otlp_grpc");
    CHECK(loaded.settings.exporters[0].kind == ExporterSettings::Kind::otlp_grpc);
    const Otlp grpc = std::get<Otlp>(loaded.settings.exporters[0].what);
    CHECK(grpc.endpoint == "localhost:4317");
    CHECK_FALSE(grpc.secure);
}

TEST_CASE("endpoints are what the specification makes of them") {
    struct Row {
        Table table;
        const char* endpoint;
        bool secure;
    };
    const Row rows[] = {
        {{{"ENDPOINT", "http://h:4318"}}, "http://h:4318/v1/traces", false},
        {{{"ENDPOINT", "https://h/base/"}}, "https://h/base/v1/traces", true},
        {{{"TRACES_ENDPOINT", "http://h:4318"}}, "http://h:4318/", false},
        {{{"TRACES_ENDPOINT", "http://h/a"}, {"ENDPOINT", "http://g"}}, "http://h/a", false},
        {{{"PROTOCOL", "grpc"}, {"ENDPOINT", "http://h:4317"}}, "h:4317", false},
        {{{"PROTOCOL", "grpc"}, {"ENDPOINT", "https://h:4317"}, {"INSECURE", "true"}},
         "h:4317",
         true},
        {{{"PROTOCOL", "grpc"}, {"ENDPOINT", "h:4317"}}, "h:4317", true},
        {{{"PROTOCOL", "grpc"}, {"ENDPOINT", "h:4317"}, {"INSECURE", "TRUE"}}, "h:4317", false},
        {{{"PROTOCOL", "grpc"},
          {"ENDPOINT", "h:1"},
          {"INSECURE", "true"},
          {"TRACES_INSECURE", "false"}},
         "h:1",
         true},
        {{{"PROTOCOL", "http/protobuf"}, {"TRACES_PROTOCOL", "grpc"}, {"ENDPOINT", "http://h:1"}},
         "h:1",
         false},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.endpoint));
        const Otlp otlp = otlp_from(row.table);
        CHECK(otlp.endpoint == row.endpoint);
        CHECK(otlp.secure == row.secure);
    }
}

TEST_CASE("the variable for traces wins over the one for all, as a whole") {
    const Otlp otlp = otlp_from({{"HEADERS", "a=1,b=2"},
                                 {"TRACES_HEADERS", "c=3%20x"},
                                 {"TIMEOUT", "1"},
                                 {"TRACES_TIMEOUT", "2500"},
                                 {"COMPRESSION", "none"},
                                 {"TRACES_COMPRESSION", "GZIP"}});
    REQUIRE(otlp.headers.size() == 1);
    CHECK(otlp.headers[0].first == "c");
    CHECK(otlp.headers[0].second == "3 x");
    CHECK(otlp.timeout == milliseconds(2500));
    CHECK(otlp.compression == Compression::gzip);
}

TEST_CASE("a timeout of zero is no limit, which is a day") {
    CHECK(otlp_from({{"TIMEOUT", "0"}}).timeout == std::chrono::hours(24));
}

TEST_CASE("certificates are named, and must be there") {
    const Otlp otlp = otlp_from({{"CERTIFICATE", this_file()},
                                 {"CLIENT_KEY", this_file()},
                                 {"CLIENT_CERTIFICATE", this_file()}});
    CHECK(otlp.tls.ca_file == this_file());
    CHECK(otlp.tls.key_file == this_file());
    CHECK(otlp.tls.cert_file == this_file());
}

TEST_CASE("a bad value is an error that names its variable") {
    struct Row {
        Table table;
        const char* begins;
        const char* holds;
    };
    const Row rows[] = {
        {{{"TIMEOUT", "10s"}}, "environment: OTEL_EXPORTER_OTLP_TIMEOUT: ", "\"10000\""},
        {{{"TRACES_TIMEOUT", "-1"}}, "environment: OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: ", "\"-1\""},
        {{{"TIMEOUT", "99999999999999999999"}}, "environment: OTEL_EXPORTER_OTLP_TIMEOUT: ", "day"},
        {{{"PROTOCOL", "http/json"}},
         "environment: OTEL_EXPORTER_OTLP_PROTOCOL: ",
         "http/protobuf"},
        {{{"PROTOCOL", "grcp"}},
         "environment: OTEL_EXPORTER_OTLP_PROTOCOL: ",
         "did you mean \"grpc\"?"},
        {{{"PROTOCOL", "http"}},
         "environment: OTEL_EXPORTER_OTLP_PROTOCOL: ",
         "did you mean \"http/protobuf\"?"},
        {{{"COMPRESSION", "gzib"}},
         "environment: OTEL_EXPORTER_OTLP_COMPRESSION: ",
         "did you mean \"gzip\"?"},
        {{{"ENDPOINT", "h:4318"}}, "environment: OTEL_EXPORTER_OTLP_ENDPOINT: ", "http://"},
        {{{"PROTOCOL", "grpc"}, {"ENDPOINT", "h"}},
         "environment: OTEL_EXPORTER_OTLP_ENDPOINT: ",
         "names no port"},
        {{{"TRACES_HEADERS", "x"}}, "environment: OTEL_EXPORTER_OTLP_TRACES_HEADERS: ", "no \"=\""},
        {{{"CERTIFICATE", "/nonexistent/ca.pem"}},
         "environment: OTEL_EXPORTER_OTLP_CERTIFICATE: ",
         "no such file"},
        {{{"CERTIFICATE", "/"}}, "environment: OTEL_EXPORTER_OTLP_CERTIFICATE: ", "directory"},
        {{{"CLIENT_KEY", this_file()}},
         "environment: OTEL_EXPORTER_OTLP_CLIENT_KEY: ",
         "CLIENT_CERTIFICATE"},
        {{{"CLIENT_CERTIFICATE", this_file()}},
         "environment: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: ",
         "CLIENT_KEY"},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.begins));
        const Loaded loaded = load_from(row.table);
        REQUIRE(loaded.problems.size() == 1);
        const std::string text = loaded.problems[0].text();
        CAPTURE(text);
        CHECK(text.starts_with(row.begins));
        CHECK(text.find(row.holds) != std::string::npos);
    }
}

TEST_CASE("all bad variables are reported at once") {
    CHECK(load_from({{"TIMEOUT", "x"}, {"COMPRESSION", "x"}, {"PROTOCOL", "x"}, {"ENDPOINT", "x"}})
              .problems.size() == 4);
}

TEST_CASE("what the specification forgives is a warning") {
    const Loaded truth =
        load_from({{"PROTOCOL", "grpc"}, {"INSECURE", "yes"}, {"ENDPOINT", "h:1"}});
    REQUIRE(truth.valid());
    REQUIRE(truth.warnings.size() == 1);
    CHECK(truth.warnings[0].find("OTEL_EXPORTER_OTLP_INSECURE") != std::string::npos);
    CHECK(std::get<Otlp>(truth.settings.exporters[0].what).secure);

    const Loaded port = load_from({{"ENDPOINT", "http://localhost:4317"}});
    REQUIRE(port.valid());
    REQUIRE(port.warnings.size() == 1);
    CHECK(port.warnings[0].find("OTEL_EXPORTER_OTLP_PROTOCOL=grpc") != std::string::npos);
}
