#include "config/load.hpp"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <unistd.h>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

using namespace oteld::config;
using std::chrono::milliseconds;

namespace {

std::optional<std::string> nothing(const std::string& /*name*/) { return std::nullopt; }

Loaded loaded_from(const std::string& yaml) { return load_text(yaml, "f", nothing); }

// A whole configuration around the body of one exporter. The body begins on line 3.
std::string around(const std::string& id, const std::string& body) {
    return "exporters:\n  " + id + ":\n" + body + "\nreceivers: {shm: }\nservice: {pipelines: " +
           "{traces: {receivers: [shm], exporters: [" + id + "]}}}\n";
}

std::string joined(const Problems& problems) {
    std::string text;
    for (const Problem& problem : problems) text += problem.text() + "\n";
    return text;
}

ExporterSettings exporter_from(const std::string& id, const std::string& body) {
    const Loaded loaded = loaded_from(around(id, body));
    INFO(joined(loaded.problems));
    REQUIRE(loaded.valid());
    REQUIRE(loaded.settings.exporters.size() == 1);
    return loaded.settings.exporters[0];
}

Otlp otlp_from(const std::string& id, const std::string& body) {
    return std::get<Otlp>(exporter_from(id, body).what);
}

std::filesystem::path examples() { return OTELD_SOURCE_DIR "/config/examples"; }

// A directory that goes away with the test.
class Scratch {
public:
    Scratch() {
        char name[] = "/tmp/oteld-config-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path_ = name;
    }
    ~Scratch() { std::filesystem::remove_all(path_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    std::string file(const std::string& name, const std::string& text) const {
        std::ofstream(path_ / name) << text;
        return (path_ / name).string();
    }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

}  // namespace

TEST_CASE("each example of the documentation is valid") {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(examples())) {
        CAPTURE(entry.path().string());
        const Loaded loaded = load_file(entry.path().string(), nothing);
        INFO(joined(loaded.problems));
        CHECK(loaded.valid());
        CHECK_FALSE(loaded.settings.exporters.empty());
        CHECK(loaded.settings.source == entry.path().string());
        ++count;
    }
    CHECK(count == 4);
}

TEST_CASE("each YAML block of the folder's README is valid, and warns about nothing") {
    std::ifstream file(examples() / "../README.md");
    REQUIRE(file.good());
    std::string block;
    bool inside = false;
    int count = 0;
    for (std::string line; std::getline(file, line);) {
        if (line == "```yaml") {
            inside = true;
            block.clear();
        } else if (line == "```" && inside) {
            inside = false;
            ++count;
            CAPTURE(block);
            const Loaded loaded = loaded_from(block);
            INFO(joined(loaded.problems));
            CHECK(loaded.valid());
            CHECK(loaded.warnings.empty());
        } else if (inside) {
            block += line + "\n";
        }
    }
    CHECK(count == 2);
}

TEST_CASE("the full example arrives in the settings, value by value") {
    const Loaded loaded = load_file((examples() / "full.yaml").string(), nothing);
    REQUIRE(loaded.valid());
    const Settings& settings = loaded.settings;
    CHECK(settings.shm.directory == "/run/oteld");
    CHECK(settings.shm.spool_bytes == 64U << 20);
    CHECK(settings.shm.user_bytes_max == 256U << 20);
    CHECK(settings.shm.user_files_max == 4096);
    CHECK(settings.shm.user_spans_max == 1'000'000);
    CHECK(settings.shm.recording);
    CHECK(settings.log_level == "info");
    std::vector<std::string> names;
    for (const ExporterSettings& exporter : settings.exporters) names.push_back(exporter.name);
    CHECK(names == std::vector<std::string>{"otlp_grpc/tempo", "otlp_http/vendor", "file",
                                            "trace_store", "debug", "nop"});
    REQUIRE(names.size() == 6);

    const Otlp& grpc = std::get<Otlp>(settings.exporters[0].what);
    CHECK(grpc.endpoint == "tempo.example.com:4317");
    CHECK(grpc.secure);
    CHECK(grpc.tls.server_name_override == "tempo.internal");
    CHECK(grpc.headers == std::vector<std::pair<std::string, std::string>>{
                              {"authorization", "Bearer none"}, {"x-scope-orgid", "1234"}});
    CHECK(grpc.compression == Compression::gzip);
    CHECK(grpc.timeout == milliseconds(10000));
    CHECK(grpc.request_bytes_max == 64U << 20);
    CHECK(grpc.response_bytes_max == 4U << 20);

    CHECK(std::get<Otlp>(settings.exporters[1].what).endpoint ==
          "https://otlp.example.com/v1/traces");
    CHECK(settings.exporters[1].queue.batch_bytes_max == 1U << 20);
    CHECK(std::get<File>(settings.exporters[2].what).path == "/var/lib/oteld/spans.jsonl");
    CHECK(std::get<File>(settings.exporters[2].what).rotation_bytes_max == 100U << 20);
    CHECK(std::get<TraceStore>(settings.exporters[3].what).age_max == std::chrono::hours(72));
}

TEST_CASE("what the full example writes out as a default is the default") {
    const Loaded loaded = load_file((examples() / "full.yaml").string(), nothing);
    REQUIRE(loaded.valid());
    const ExporterSettings& written = loaded.settings.exporters[0];
    const Retry retry;
    CHECK(written.retry.enabled == retry.enabled);
    CHECK(written.retry.initial_interval == retry.initial_interval);
    CHECK(written.retry.max_interval == retry.max_interval);
    CHECK(written.retry.max_elapsed_time == retry.max_elapsed_time);
    CHECK(written.retry.multiplier == retry.multiplier);
    CHECK(written.retry.randomization_factor == retry.randomization_factor);
    const SendingQueue queue;
    CHECK(written.queue.num_consumers == queue.num_consumers);
    CHECK(written.queue.flush_timeout == queue.flush_timeout);
    CHECK(written.queue.batch_spans_min == queue.batch_spans_min);
    CHECK(written.queue.batch_spans_max == queue.batch_spans_max);
    const Shm shm;
    CHECK(loaded.settings.shm.spool_bytes == shm.spool_bytes);
    CHECK(loaded.settings.shm.user_bytes_max == shm.user_bytes_max);
    CHECK(loaded.settings.shm.user_files_max == shm.user_files_max);
    CHECK(loaded.settings.shm.user_spans_max == shm.user_spans_max);
    CHECK(loaded.settings.shm.recording == shm.recording);
    CHECK(std::get<TraceStore>(loaded.settings.exporters[3].what).bytes_max ==
          TraceStore{}.bytes_max);
    CHECK(loaded.settings.exporters[2].retry.max_elapsed_time ==
          default_retry(ExporterSettings::Kind::file).max_elapsed_time);
}

TEST_CASE("what is written on this machine is not given up unless the file says so") {
    const auto give_up_after = [](const std::string& type, const std::string& body) {
        return exporter_from(type, "    " + body).retry.max_elapsed_time;
    };
    const std::string backend = "endpoint: 'http://h:1'";
    const std::string file = "path: /spans.jsonl";
    const std::string a_minute = "\n    retry_on_failure: {max_elapsed_time: 1m}";
    CHECK(give_up_after("otlp_grpc", backend) == std::chrono::minutes(5));
    CHECK(give_up_after("otlp_http", backend) == std::chrono::minutes(5));
    CHECK(give_up_after("file", file) == milliseconds(0));
    CHECK(give_up_after("trace_store", "max_size: 8MiB") == milliseconds(0));
    CHECK(give_up_after("debug", "verbosity: basic") == milliseconds(0));
    CHECK(give_up_after("file", file + a_minute) == std::chrono::minutes(1));
    // Another key of the section leaves it as it is.
    CHECK(give_up_after("file", file + "\n    retry_on_failure: {max_interval: 1m}") ==
          milliseconds(0));
}

TEST_CASE("names, aliases and order of exporters") {
    const Loaded loaded = loaded_from(
        "receivers: {shm/main: {spool_size: 8MiB}}\n"
        "exporters:\n  otlp/a: {endpoint: 'http://h:1'}\n  otlphttp: {endpoint: 'http://h:2'}\n"
        "  debug:\n"
        "service: {pipelines: {traces: {receivers: [shm/main], exporters: [debug, otlphttp, "
        "otlp/a]}}}\n");
    INFO(joined(loaded.problems));
    REQUIRE(loaded.valid());
    REQUIRE(loaded.settings.exporters.size() == 3);
    CHECK(loaded.settings.exporters[0].kind == ExporterSettings::Kind::debug);
    CHECK(loaded.settings.exporters[1].kind == ExporterSettings::Kind::otlp_http);
    CHECK(loaded.settings.exporters[2].kind == ExporterSettings::Kind::otlp_grpc);
    CHECK(loaded.settings.exporters[2].name == "otlp/a");
    CHECK(loaded.settings.shm.spool_bytes == 8U << 20);
    CHECK(loaded.warnings.empty());
}

TEST_CASE("an exporter outside of the pipeline is a warning and not a setting") {
    const Loaded loaded = loaded_from(
        "receivers: {shm: }\nexporters:\n  debug:\n  nop:\n"
        "service: {pipelines: {traces: {receivers: [shm], exporters: [nop]}}}\n");
    REQUIRE(loaded.valid());
    REQUIRE(loaded.settings.exporters.size() == 1);
    CHECK(loaded.settings.exporters[0].name == "nop");
    REQUIRE(loaded.warnings.size() == 1);
    CHECK(loaded.warnings[0].starts_with("f:3:3: exporters.debug is in no pipeline"));
}

TEST_CASE("the batch processor is accepted, with a warning that it changes nothing") {
    for (const char* body : {"{}", "", "null"}) {
        CAPTURE(std::string(body));
        const Loaded loaded = loaded_from(
            "receivers: {shm: }\nprocessors: {batch: " + std::string(body) +
            "}\nexporters: {nop: }\n"
            "service: {pipelines: {traces: {receivers: [shm], processors: [batch], exporters: "
            "[nop]}}}\n");
        INFO(joined(loaded.problems));
        REQUIRE(loaded.valid());
        REQUIRE(loaded.warnings.size() == 1);
        CHECK(loaded.warnings[0].find("exporters.*.sending_queue.batch") != std::string::npos);
    }
}

TEST_CASE("endpoint, scheme and tls.insecure together") {
    CHECK(otlp_from("otlp_grpc", "    endpoint: h:1").secure);
    CHECK_FALSE(otlp_from("otlp_grpc", "    endpoint: h:1\n    tls: {insecure: true}").secure);
    CHECK(otlp_from("otlp", "    endpoint: https://h:1\n    tls: {insecure: true}").secure);
    CHECK_FALSE(otlp_from("otlp", "    endpoint: http://h:1\n    tls: {insecure: false}").secure);
    CHECK(otlp_from("otlp", "    endpoint: unix:///run/s").endpoint == "unix:/run/s");
    CHECK(otlp_from("otlp_http", "    endpoint: http://h:1/x").endpoint ==
          "http://h:1/x/v1/traces");
    const char* both = "    endpoint: http://g:1\n    traces_endpoint: http://h:1/t";
    CHECK(otlp_from("otlp_http", both).endpoint == "http://h:1/t");
    CHECK(otlp_from("otlp_http", "    traces_endpoint: http://h:1").endpoint == "http://h:1/");
}

TEST_CASE("tls keys without effect are warned about") {
    struct Row {
        const char* body;
        const char* holds;
    };
    const Row rows[] = {
        {"    endpoint: https://h:1\n    tls: {insecure: true}", "https decides"},
        {"    endpoint: http://h:1\n    tls: {insecure_skip_verify: true}", "plain text"},
        {"    endpoint: https://h:1\n    tls: {insecure_skip_verify: true}", "any certificate"},
        {"    endpoint: http://h:4318", "4317"},
        {"    endpoint: http://h:1\n    headers: {a: }", "not sent"},
    };
    for (const Row& row : rows) {
        CAPTURE(std::string(row.body));
        const Loaded loaded = loaded_from(around("otlp_grpc", row.body));
        REQUIRE(loaded.valid());
        REQUIRE(loaded.warnings.size() == 1);
        CHECK(loaded.warnings[0].find(row.holds) != std::string::npos);
    }
}

TEST_CASE("batch sizes: one of min and max moves the other's default along") {
    const auto queue = [](const std::string& batch) {
        return exporter_from("nop", "    sending_queue: {num_consumers: 4, batch: " + batch + "}")
            .queue;
    };
    CHECK(queue("{max_size: 512}").batch_spans_min == 512);
    CHECK(queue("{max_size: 512}").batch_spans_max == 512);
    CHECK(queue("{min_size: 20000}").batch_spans_max == 20000);
    CHECK(queue("{min_size: 100}").batch_spans_max == 8192);
    CHECK(queue("{min_size: 100, max_size: 1_000}").batch_spans_max == 1000);
    CHECK(queue("{flush_timeout: 1s}").flush_timeout == milliseconds(1000));
    CHECK(queue("{sizer: bytes, max_size: 64KiB}").batch_bytes_max == 65536);
    CHECK(queue("{sizer: bytes, max_size: 64KiB}").batch_spans_max == 8192);
    CHECK(queue("{}").num_consumers == 4);
}

TEST_CASE("the default batch leaves room below a receiver's usual limit of 4 MiB") {
    CHECK(SendingQueue{}.batch_bytes_max + (512U << 10) <= 4U << 20);
}

TEST_CASE("the other keys of exporters and the receiver") {
    const Retry retry =
        exporter_from("nop",
                      "    retry_on_failure: {enabled: false, initial_interval: 1m, "
                      "max_elapsed_time: 0, multiplier: 2, randomization_factor: 0}")
            .retry;
    CHECK_FALSE(retry.enabled);
    CHECK(retry.initial_interval == milliseconds(60000));
    CHECK(retry.max_interval == milliseconds(60000));
    CHECK(retry.max_elapsed_time == milliseconds(0));
    CHECK(retry.multiplier == 2);
    CHECK(retry.randomization_factor == 0);

    const Otlp otlp = otlp_from("otlp_http",
                                "    endpoint: http://h:1\n    timeout: 0s\n"
                                "    compression: NONE\n    encoding: proto\n"
                                "    max_request_size: 1MiB\n"
                                "    max_response_size: 65536\n"
                                "    headers: {X-Scope: 12, Auth: \"a\"}");
    CHECK(otlp.timeout == std::chrono::hours(24));
    CHECK(otlp.compression == Compression::none);
    CHECK(otlp.request_bytes_max == 1U << 20);
    CHECK(otlp.response_bytes_max == 65536);
    CHECK(otlp.headers ==
          std::vector<std::pair<std::string, std::string>>{{"x-scope", "12"}, {"auth", "a"}});

    const auto debug = std::get<Debug>(exporter_from("debug", "    verbosity: detailed").what);
    CHECK(debug.verbosity == Debug::Verbosity::detailed);
    CHECK(std::get<File>(exporter_from("file", "    path: '-'").what).path == "-");
    const auto file = std::get<File>(exporter_from("file", "    path: /x\n    rotation:").what);
    CHECK(file.rotation_bytes_max == 100U << 20);
    CHECK(std::get<File>(exporter_from("file", "    path: /x").what).rotation_bytes_max == 0);
    const auto rotated = std::get<File>(
        exporter_from("file", "    path: /x\n    rotation: {max_megabytes: 2, max_backups: 3}")
            .what);
    CHECK(rotated.rotation_bytes_max == 2U << 20);
    CHECK(rotated.rotation_backups_max == 3);
    const auto store = std::get<TraceStore>(
        exporter_from("trace_store", "    path: /x/y.db\n    max_size: 2GiB\n    max_age: 7d")
            .what);
    CHECK(store.path == "/x/y.db");
    CHECK(store.bytes_max == 2ULL << 30);
    CHECK(store.age_max == std::chrono::hours(168));
}

TEST_CASE("files that tls names must be there, and the error says where") {
    const Scratch scratch;
    const std::string good = scratch.file("ca.pem", "x");
    const std::string empty = scratch.file("empty.pem", "");
    const std::string pipe = (scratch.path() / "pipe").string();
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    const std::string body = "    endpoint: https://h:1\n    tls:\n";
    CHECK(otlp_from("otlp", body + "      ca_file: " + good).tls.ca_file == good);
    CHECK(otlp_from("otlp", body + "      {cert_file: " + good + ", key_file: " + good + "}")
              .tls.key_file == good);
    struct Row {
        std::string path;
        const char* holds;
    };
    const Row rows[] = {
        {"/nonexistent/ca.pem", "\"/nonexistent/ca.pem\" cannot be read: there is no"},
        {scratch.path().string(), "it is a directory"},
        {empty, "is empty"},
        {pipe, "not a regular file"}};
    for (const Row& row : rows) {
        CAPTURE(row.path);
        const Loaded loaded = loaded_from(around("otlp", body + "      ca_file: " + row.path));
        REQUIRE(loaded.problems.size() == 1);
        CHECK(loaded.problems[0].text().starts_with("f:5:16: exporters.otlp.tls.ca_file: "));
        CHECK(loaded.problems[0].message.find(row.holds) != std::string::npos);
    }
    const Loaded half = loaded_from(around("otlp", body + "      cert_file: " + good));
    REQUIRE(half.problems.size() == 1);
    CHECK(half.problems[0].message.find("needs key_file") != std::string::npos);
}

// Root may read everything, so for the time of a test it becomes somebody else.
class Nobody {
public:
    Nobody() : before_(::geteuid()) {
        if (before_ == 0) REQUIRE(::seteuid(65534) == 0);
    }
    ~Nobody() {
        if (before_ == 0 && ::seteuid(0) != 0) std::abort();
    }
    Nobody(const Nobody&) = delete;
    Nobody& operator=(const Nobody&) = delete;

private:
    uid_t before_;
};

TEST_CASE("a file that may not be read says so, and is not passed over") {
    const Scratch scratch;
    const std::string locked = scratch.file("locked", "x");
    REQUIRE(::chmod(scratch.path().c_str(), 0755) == 0);
    REQUIRE(::chmod(locked.c_str(), 0) == 0);
    std::filesystem::create_directory(scratch.path() / "closed");
    REQUIRE(::chmod((scratch.path() / "closed").c_str(), 0) == 0);
    {
        const Nobody nobody;
        const Loaded loaded =
            loaded_from(around("otlp", "    endpoint: h:1\n    tls: {ca_file: " + locked + "}"));
        REQUIRE(loaded.problems.size() == 1);
        CHECK(loaded.problems[0].message.find("may not read it") != std::string::npos);
        for (const std::string& path : {locked, (scratch.path() / "closed/oteld.yaml").string()}) {
            CAPTURE(path);
            const Loaded fallback = load("", nothing, path);
            REQUIRE(fallback.problems.size() == 1);
            CHECK(fallback.problems[0].message.find("may not read it") != std::string::npos);
        }
    }
    REQUIRE(::chmod((scratch.path() / "closed").c_str(), 0700) == 0);
}
