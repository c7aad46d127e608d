// Mistakes: each with the line that must be named, a part of the message, and the word that was
// meant.
#include "config/load.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace oteld::config;

namespace {

std::optional<std::string> nothing(const std::string& /*name*/) { return std::nullopt; }

std::string joined(const Problems& problems) {
    std::string text;
    for (const Problem& problem : problems) text += problem.text() + "\n";
    return text;
}

struct Mistake {
    std::string yaml;
    const char* place;       // "f:3:5:"
    const char* holds;       // In the message.
    const char* suggestion;  // "": none.
};

void check(const Mistake& mistake) {
    CAPTURE(mistake.yaml);
    const Loaded loaded = load_text(mistake.yaml, "f", nothing);
    INFO(joined(loaded.problems));
    REQUIRE(loaded.problems.size() == 1);
    const Problem& problem = loaded.problems[0];
    CHECK(problem.text().starts_with(mistake.place));
    CHECK(problem.message.find(mistake.holds) != std::string::npos);
    CHECK(problem.suggestion == mistake.suggestion);
    const bool said = problem.text().find("; did you mean \"") != std::string::npos;
    CHECK(said == !problem.suggestion.empty());
}

// The body of an exporter begins on line 3, in column 5.
std::string exporter(const std::string& id, const std::string& body) {
    return "exporters:\n  " + id + ":\n    " + body +
           "\nreceivers: {shm: }\nservice: {pipelines: {traces: {receivers: [shm], exporters: [" +
           id + "]}}}\n";
}
std::string grpc(const std::string& body) {
    return exporter("otlp_grpc", "endpoint: 'http://h:1'\n    " + body);
}
std::string http(const std::string& body) {
    return exporter("otlp_http", "endpoint: 'http://h:1'\n    " + body);
}
// The body of the receiver begins on line 2, in column 9.
std::string shm(const std::string& body) {
    return "receivers:\n  shm: " + body +
           "\nexporters: {nop: }\nservice: {pipelines: {traces: {receivers: [shm], exporters: "
           "[nop]}}}\n";
}
// What stands at the top, on line 1; the rest is good.
std::string top(const std::string& line) {
    return line +
           "\nreceivers: {shm: }\nexporters: {nop: }\nservice: {pipelines: {traces: {receivers: "
           "[shm], exporters: [nop]}}}\n";
}
// The pipeline begins on line 4, in column 13.
std::string traces(const std::string& body) {
    return "receivers: {shm: }\nexporters: {nop: , debug: }\nservice: {pipelines: {\n    traces: " +
           body + "}}\n";
}
// The service begins on line 3.
std::string service(const std::string& body) {
    return "receivers: {shm: }\nexporters: {nop: }\nservice:\n  pipelines: {traces: {receivers: "
           "[shm], exporters: [nop]}}\n  " +
           body + "\n";
}

}  // namespace

TEST_CASE("unknown keys are named with the nearest known one") {
    const Mistake mistakes[] = {
        {top("recievers: {}"), "f:1:1:", "unknown key \"recievers\" at the top level", "receivers"},
        {top("exporter: {}"), "f:1:1:", "unknown key", "exporters"},
        {top("distro: aws"), "f:1:1:", "it may hold", ""},
        {exporter("otlp_grpc", "endpiont: h:1"), "f:3:5:", "in exporters.otlp_grpc", "endpoint"},
        {grpc("time-out: 1s"), "f:4:5:", "unknown key", "timeout"},
        {grpc("tls: {insecur: true}"), "f:4:11:", "in exporters.otlp_grpc.tls", "insecure"},
        {grpc("tls: {ca-file: /x}"), "f:4:11:", "unknown key", "ca_file"},
        {grpc("sending_queue: {bacth: {}}"), "f:4:21:", "unknown key", "batch"},
        {grpc("sending_queue: {batch: {maxsize: 1}}"), "f:4:29:", "unknown key", "max_size"},
        {grpc("retry_on_failure: {max_elapsed: 1s}"), "f:4:24:", "unknown key", "max_elapsed_time"},
        {grpc("retry: {}"), "f:4:5:", "unknown key", ""},
        {exporter("debug", "verbose: true"), "f:3:5:", "unknown key", "verbosity"},
        {exporter("debug", "verbosty: basic"), "f:3:5:", "unknown key", "verbosity"},
        {exporter("nop", "endpoint: x"), "f:3:5:", "unknown key", ""},
        {shm("{spoolsize: 8MiB}"), "f:2:9:", "in receivers.shm", "spool_size"},
        {service("telemtry: {}"), "f:5:3:", "in service", "telemetry"},
        {service("telemetry: {log: {}}"), "f:5:15:", "in service.telemetry", "logs"},
        {traces("{receivers: [shm], exporters: [nop], exporter: [nop]}"), "f:4:", "unknown key",
         "exporters"},
        {"receivers: {shm: }\nexporters: {nop: }\nservice: {pipelines: {trace: {receivers: [shm], "
         "exporters: [nop]}}}\n",
         "f:3:", "unknown key \"trace\" in service.pipelines", "traces"},
    };
    for (const Mistake& mistake : mistakes) check(mistake);
}

TEST_CASE("types and ranges") {
    const Mistake mistakes[] = {
        {grpc("timeout: 10"), "f:4:14:", "must be a duration", "10s"},
        {grpc("timeout: ten"), "f:4:14:", "must be a duration", ""},
        {grpc("timeout: -1s"), "f:4:14:", "must be a duration", ""},
        {grpc("timeout: 25h"), "f:4:14:", "must be from 0s to 24h", ""},
        {grpc("timeout: [1s]"), "f:4:14:", "not a list", ""},
        {grpc("compression: gzipp"), "f:4:18:", "must be none or gzip", "gzip"},
        {grpc("compression: zstd"), "f:4:18:", "must be none or gzip", ""},
        {grpc("tls: {insecure: yes}"), "f:4:21:", "must be true or false", "true"},
        {grpc("tls: {insecure: off}"), "f:4:21:", "must be true or false", "false"},
        {grpc("tls: {insecure: flase}"), "f:4:21:", "must be true or false", "false"},
        {grpc("tls: {insecure: \"true\"}"), "f:4:21:", "take the quotes away", ""},
        {grpc("tls: true"), "f:4:10:", "must be a map of keys, not a single value", ""},
        {grpc("headers: [a]"), "f:4:14:", "must be a map of names and values", ""},
        {grpc("headers: {a: [b]}"), "f:4:18:", "must be text", ""},
        {grpc("headers: {'a b': c}"), "f:4:15:", "header name", ""},
        {grpc("headers: {user-agent: c}"), "f:4:15:", "belongs to the protocol", ""},
        {grpc("headers: {a: \"b\\r\\nx: y\"}"), "f:4:15:", "line break", ""},
        {grpc("max_request_size: 64MB"), "f:4:23:", "must be a size", "64MiB"},
        {grpc("max_request_size: 64m"), "f:4:23:", "must be a size", "64MiB"},
        {grpc("max_request_size: 1KiB"), "f:4:23:", "must be from 64KiB to 1GiB", ""},
        {grpc("max_request_size: -1"), "f:4:23:", "must be a size", ""},
        {grpc("max_response_size: 999999999999999999999999"), "f:4:24:", "must be a size", ""},
        {grpc("sending_queue: {num_consumers: 0}"), "f:4:36:", "whole number from 1 to 64", ""},
        {grpc("sending_queue: {num_consumers: 1.5}"), "f:4:36:", "whole number", ""},
        {grpc("sending_queue: {num_consumers: '2'}"), "f:4:36:", "take the quotes away", ""},
        {grpc("sending_queue: {batch: {sizer: requests}}"), "f:4:36:", "items or bytes", ""},
        {grpc("sending_queue: {batch: {sizer: byte}}"), "f:4:36:", "items or bytes", "bytes"},
        {grpc("sending_queue: {batch: {min_size: 9, max_size: 8}}"),
         "f:4:39:", "larger than max_size", ""},
        {grpc("sending_queue: {batch: {max_size: 0}}"), "f:4:39:", "whole number from 1", ""},
        {grpc("sending_queue: {batch: {flush_timeout: 0s}}"), "f:4:44:", "from 1ms", ""},
        {grpc("retry_on_failure: {multiplier: 0.5}"), "f:4:36:", "a number from 1 to 100", ""},
        {grpc("retry_on_failure: {randomization_factor: 2}"), "f:4:46:", "from 0 to 1", ""},
        {grpc("retry_on_failure: {initial_interval: 2s, max_interval: 1s}"),
         "f:4:60:", "shorter than initial_interval", ""},
        {exporter("debug", "verbosity: detail"), "f:3:16:", "basic, normal or detailed",
         "detailed"},
        {exporter("file", "path: spans.jsonl"), "f:3:11:", "absolute path", ""},
        {exporter("file", "format: json"), "f:2:3:", "needs a path", ""},
        {exporter("file", "path: /x\n    rotation: {max_megabytes: 0}"), "f:4:31:", "whole number",
         ""},
        {exporter("trace_store", "path: traces.db"), "f:3:11:", "absolute path", ""},
        {exporter("trace_store", "max_age: 1s"), "f:3:14:", "must be from 1m", ""},
        {shm("{spool_size: 1KiB}"), "f:2:21:", "must be from 4MiB to 4GiB", ""},
        {shm("{directory: run/oteld}"), "f:2:20:", "absolute path", ""},
        {shm("{user_files_max: many}"), "f:2:25:", "whole number", ""},
        {shm("{user_spans_max: 10}"), "f:2:25:", "whole number from 1000 to", ""},
        {shm("{recording: off}"), "f:2:20:", "true or false", "false"},
        {shm("{recordign: false}"), "f:2:9:", "recordign", "recording"},
        {shm("true"), "f:2:8:", "must be a map of keys", ""},
        {service("telemetry: {logs: {level: warning}}"), "f:5:29:", "debug, info, warn or error",
         ""},
        {service("telemetry: {logs: {level: eror}}"), "f:5:29:", "debug, info, warn or error",
         "error"},
        {"- a\n", "f:1:1:", "the configuration must be a map of keys, not a list", ""},
        {"hello\n", "f:1:1:", "the configuration must be a map of keys, not a single value", ""},
    };
    for (const Mistake& mistake : mistakes) {
        // A root of the wrong kind also lacks everything else.
        if (mistake.yaml == "- a\n" || mistake.yaml == "hello\n") {
            CHECK(load_text(mistake.yaml, "f", nothing).problems.at(0).message == mistake.holds);
            continue;
        }
        check(mistake);
    }
}

TEST_CASE("endpoints: missing ones and wrong ones") {
    const Mistake mistakes[] = {
        {exporter("otlp_grpc", "timeout: 1s"), "f:2:3:", "needs an endpoint", ""},
        {"exporters: {otlp_http: }\nreceivers: {shm: }\nservice: {pipelines: {traces: {receivers: "
         "[shm], exporters: [otlp_http]}}}\n",
         "f:1:", "needs an endpoint", ""},
        {exporter("otlp_grpc", "endpoint: localhost"), "f:3:15:", "names no port", ""},
        {exporter("otlp_grpc", "endpoint: 'http://h:1/v1/traces'"), "f:3:15:", "otlp_http", ""},
        {exporter("otlp_http", "endpoint: h:4318"), "f:3:15:", "begin with http://", ""},
        {exporter("otlp_http", "traces_endpoint: h:4318"), "f:3:22:", "begin with http://", ""},
        {exporter("otlp_grpc", "endpoint: ''"), "f:3:15:", "is empty", ""},
    };
    for (const Mistake& mistake : mistakes) check(mistake);
}

TEST_CASE("keys of the Collector without a meaning here name what to do instead") {
    const Mistake mistakes[] = {
        {grpc("sending_queue: {queue_size: 1000}"), "f:4:21:", "receivers.shm.spool_size", ""},
        {grpc("sending_queue: {enabled: false}"), "f:4:21:", "receivers.shm.spool_size", ""},
        {grpc("sending_queue: {storage: file_storage}"), "f:4:21:", "survives a restart", ""},
        {grpc("sending_queue: {block_on_overflow: true}"), "f:4:21:", "never block", ""},
        {grpc("sending_queue: {sizer: items}"), "f:4:21:", "sending_queue.batch", ""},
        {grpc("sending_queue: {batch: {sizer: bytes, min_size: 1}}"), "f:4:43:", "max_size", ""},
        {grpc("tls: {min_version: '1.3'}"), "f:4:11:", "remove it", ""},
        {grpc("tls: {reload_interval: 1h}"), "f:4:11:", "restart", ""},
        {grpc("tls: {ca_pem: x}"), "f:4:11:", "ca_file", ""},
        {grpc("auth: {authenticator: x}"), "f:4:5:", "headers", ""},
        {grpc("keepalive: {time: 1s}"), "f:4:5:", "remove it", ""},
        {grpc("balancer_name: x"), "f:4:5:", "remove it", ""},
        {grpc("traces_endpoint: x"), "f:4:5:", "endpoint", ""},
        {http("encoding: json"), "f:4:15:", "protobuf", ""},
        {http("proxy_url: x"), "f:4:5:", "https_proxy", ""},
        {http("metrics_endpoint: x"), "f:4:5:", "traces only", ""},
        {exporter("debug", "sampling_initial: 2"), "f:3:5:", "remove it", ""},
        {exporter("file", "path: /x\n    compression: zstd"), "f:4:5:", "not compressed", ""},
        {exporter("file", "path: /x\n    format: proto"), "f:4:13:", "OTLP JSON", ""},
        {exporter("file", "path: /x\n    rotation: {max_days: 2}"), "f:4:16:", "max_backups", ""},
        {top("extensions: {health_check: }"), "f:1:14:", "oteld status", ""},
        {top("extensions: {zpages: }"), "f:1:14:", "oteld status", ""},
        {top("extensions: {file_storage/x: }"), "f:1:14:", "survives a restart", ""},
        {top("extensions: {bearertokenauth: }"), "f:1:14:", "headers", ""},
        {top("connectors: {}"), "f:1:1:", "remove it", ""},
        {top("processors: {memory_limiter: }"), "f:1:14:", "spool_size", ""},
        {top("processors: {tail_sampling: }"), "f:1:14:", "OTEL_TRACES_SAMPLER", ""},
        {top("processors: {resource/x: }"), "f:1:14:", "OTEL_RESOURCE_ATTRIBUTES", ""},
        {top("processors: {transform: }"), "f:1:14:", "remove it", ""},
        {top("processors: {batch: {timeout: 1s}}"), "f:1:22:", "batch.flush_timeout", ""},
        {top("processors: {batch: {send_batch_size: 1}}"), "f:1:22:", "batch.min_size", ""},
        {top("processors: {batch: {send_batch_max_size: 1}}"), "f:1:22:", "batch.max_size", ""},
        {service("extensions: [health_check]"), "f:5:16:", "oteld status", ""},
        {service("telemetry: {metrics: {level: none}}"), "f:5:15:", "oteld status --json", ""},
        {service("telemetry: {logs: {encoding: json}}"), "f:5:22:", "standard error", ""},
        {"receivers: {shm: , otlp: {protocols: {grpc: }}}\nexporters: {nop: }\nservice: "
         "{pipelines: "
         "{traces: {receivers: [shm, otlp], exporters: [nop]}}}\n",
         "f:1:20:", "does not listen for OTLP", ""},
        {"receivers: {shm: , jaeger: }\nexporters: {nop: }\nservice: {pipelines: {traces: "
         "{receivers: [shm], exporters: [nop]}}}\n",
         "f:1:20:", "only receiver is shm", ""},
        {traces("{receivers: [shm], exporters: [nop]}, metrics: {}"), "f:4:", "traces only", ""},
        {traces("{receivers: [shm], exporters: [nop]}, logs/x: {}"), "f:4:", "traces only", ""},
        {traces("{receivers: [shm], exporters: [nop]}, traces/2: {}"),
         "f:4:", "one traces pipeline", ""},
    };
    for (const Mistake& mistake : mistakes) check(mistake);
}

TEST_CASE("components and pipelines that do not fit together") {
    const Mistake mistakes[] = {
        {traces("{receivers: [shm], exporters: [nop, debgu]}"), "f:4:", "names \"debgu\"", "debug"},
        {traces("{receivers: [smh], exporters: [nop]}"), "f:4:26:", "names \"smh\"", "shm"},
        {traces("{receivers: [shm], exporters: [zipkin]}"), "f:4:", "add it there", ""},
        {traces("{receivers: [shm], exporters: [nop, nop]}"), "f:4:", "twice", ""},
        {traces("{receivers: [shm], exporters: []}"), "f:4:", "is empty", ""},
        {traces("{receivers: [shm]}"), "f:4:", "exporters is empty", ""},
        {traces("{exporters: [nop]}"), "f:4:", "receivers is empty", ""},
        {traces("{receivers: shm, exporters: [nop]}"), "f:4:25:", "must be a list, such as [shm]",
         ""},
        {traces("{receivers: [shm], exporters: [[nop]]}"), "f:4:", "names only", ""},
        {traces("{receivers: [shm], processors: [batch], exporters: [nop]}"),
         "f:4:", "add processors: {batch: {}}", ""},
        {"receivers: {shm: }\nexporters: {nop: }\n", "f:1:1:", "nothing says where spans go", ""},
        {"receivers: {shm: }\nexporters: {nop: }\nservice: {}\n", "f:3:", "traces is missing", ""},
        {"receivers: {shm: }\nexporters: {nop: }\nservice:\n  pipelines:\n",
         "f:4:3:", "traces is missing", ""},
        {"receivers: {shm: , shm/b: }\nexporters: {nop: }\nservice: {pipelines: {traces: "
         "{receivers: [shm], exporters: [nop]}}}\n",
         "f:1:20:", "one shm receiver", ""},
        {"receivers: {smh: }\nexporters: {nop: }\nservice: {pipelines: {traces: {receivers: [smh], "
         "exporters: [nop]}}}\n",
         "f:1:13:", "unknown receiver", "shm"},
        {"receivers: {shm: }\nexporters: {otlp_gprc: }\nservice: {pipelines: {traces: {receivers: "
         "[shm], exporters: [otlp_gprc]}}}\n",
         "f:2:13:", "unknown exporter", "otlp_grpc"},
        {top("processors: {bacth: }"), "f:1:14:", "unknown processor", "batch"},
        {exporter("nop/", "{}"), "f:2:3:", "must be type or type/name", ""},
        {exporter("/x", "{}"), "f:2:3:", "must be type or type/name", ""},
        {exporter("nop/" + std::string(60, 'x'), "{}"), "f:2:3:", "up to 63 bytes", ""},
        {exporter("'nop/a b'", "{}"), "f:2:3:", "without blanks", ""},
    };
    for (const Mistake& mistake : mistakes) check(mistake);
}

TEST_CASE("all mistakes come at once, in the order of the file") {
    const Loaded loaded = load_text(
        "receivers:\n  shm: {spool_siez: 1}\nexporters:\n  otlp_grpc:\n    endpoint: h\n"
        "    timeout: 3\n    timeout: 4\n    headers: {a: \"${file:/x}\"}\n  nop: {a: 1}\n"
        "service:\n  pipelines:\n    traces: {receivers: [shm], exporters: [otlp]}\n    logs: {}\n",
        "f", nothing);
    INFO(joined(loaded.problems));
    std::vector<int> lines;
    for (const Problem& problem : loaded.problems) lines.push_back(problem.place.line);
    CHECK(lines == std::vector<int>{2, 5, 6, 7, 8, 9, 12, 13});
    CHECK(std::is_sorted(lines.begin(), lines.end()));
}

TEST_CASE("more than a hundred mistakes are counted, not listed") {
    std::string yaml;
    for (int i = 0; i < 500; ++i) yaml += "key" + std::to_string(i) + ": 1\n";
    const Loaded loaded = load_text(yaml, "f", nothing);
    REQUIRE(loaded.problems.size() == 101);
    CHECK(loaded.problems.back().text() == "f: and 401 more");
}

TEST_CASE("more than a hundred warnings are counted, not listed") {
    std::string yaml = grpc("headers:");
    std::string headers;
    for (int i = 0; i < 150; ++i) headers += "\n      h" + std::to_string(i) + ": x${env:NONE}";
    yaml.insert(yaml.find("headers:") + 8, headers);
    const Loaded loaded = load_text(yaml, "f", nothing);
    INFO(joined(loaded.problems));
    REQUIRE(loaded.valid());
    REQUIRE(loaded.warnings.size() == 101);
    CHECK(loaded.warnings.back() == "f: and 50 more");
}

TEST_CASE("a pipeline has 16 exporters and no more") {
    for (const int count : {16, 17}) {
        CAPTURE(count);
        std::string ids;
        std::string exporters;
        for (int i = 0; i < count; ++i) {
            const std::string id = "nop/" + std::to_string(i);
            ids.append(i == 0 ? "" : ", ").append(id);
            exporters.append("  ").append(id).append(":\n");
        }
        std::string text = "receivers: {shm: }\nexporters:\n";
        text.append(exporters).append(
            "service: {pipelines: {traces: {receivers: [shm], exporters: [");
        text.append(ids).append("]}}}\n");
        const Loaded loaded = load_text(text, "f", nothing);
        CHECK(loaded.valid() == (count == 16));
        if (count == 16) CHECK(loaded.settings.exporters.size() == 16);
    }
}

TEST_CASE("what a file holds cannot steer the terminal") {
    const Loaded loaded = load_text(
        "\"\\e[2J\\e]0;x\\a\": 1\nreceivers: {\"\\e[1m\": }\n"
        "exporters: {\"nop/\\e\": , \"\\e[0m\": }\n"
        "extensions: {\"\\e[3m\": }\n"
        "service: {pipelines: {\"logs/\\e\": , traces: {exporters: "
        "[\"\\e\"]}}}\n",
        "f", nothing);
    CHECK(loaded.problems.size() >= 5);
    for (const Problem& problem : loaded.problems) {
        const std::string text = problem.text();
        CAPTURE(text);
        CHECK(std::none_of(text.begin(), text.end(),
                           [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
    }
}

TEST_CASE("a variable's secret is not repeated when it does not fit a header") {
    const auto environment = [](const std::string&) -> std::optional<std::string> {
        return "hunter2\r\nx: y";
    };
    const Loaded loaded =
        load_text(grpc("headers: {authorization: '${env:TOKEN}'}"), "f", environment);
    REQUIRE(loaded.problems.size() == 1);
    CHECK(loaded.problems[0].text().find("hunter2") == std::string::npos);
}

TEST_CASE("files: missing, empty, too large, a directory") {
    CHECK(load_file("/nonexistent/oteld.yaml", nothing).problems.at(0).text() ==
          "/nonexistent/oteld.yaml: cannot be read: there is no such file");
    CHECK(load_file("/", nothing).problems.at(0).message.find("directory") != std::string::npos);
    CHECK(load_file("/dev/null", nothing).problems.at(0).message.find("is empty") !=
          std::string::npos);
    CHECK(load_file("/dev/zero", nothing).problems.at(0).message.find("larger than 1024 KiB") !=
          std::string::npos);
    CHECK(load_text("# only a comment\n", "f", nothing).problems.size() == 1);
    CHECK(load_text("---\n", "f", nothing).problems.size() == 1);
}

TEST_CASE("a file that is named or in its place wins over the environment") {
    const auto environment = [](const std::string& name) -> std::optional<std::string> {
        if (name == "OTEL_EXPORTER_OTLP_ENDPOINT") return "http://h:1";
        return std::nullopt;
    };
    CHECK(load("/nonexistent/a", environment, "/nonexistent/b").settings.source ==
          "/nonexistent/a");
    CHECK(load("", environment, "/dev/null").settings.source == "/dev/null");
    CHECK(load("", environment, "/nonexistent/b").settings.source == "environment");
}
