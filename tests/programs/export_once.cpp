// Loads an exporter's module, sends it batches of a few hand-made spans, and prints each SendResult
// as a line of JSON: so that Python can look at one exporter without a daemon.
//
//   export_once MODULES_DIRECTORY grpc|http ENDPOINT [KEY=VALUE]...
//
// Keys: spans, runs, attribute_bytes (of each span), sends, timeout_ms, compression (none, gzip),
// secure, ca, cert, key, server_name, skip_verify, header.NAME, request_bytes_max,
// response_bytes_max, cancel_at_line (1: reads a line from standard input on another thread, then
// cancels), divide (1: as the daemon does when a batch is too large), overwrite (1: after each send
// overwrites the spans' memory, as a reused spool block would, and only then prints), pause (1:
// reads a line between two sends), linger (1: reads a line after each send, before the exporter
// ends).
#include "exporters/encode.hpp"
#include "exporters/module.hpp"
#include "oteld/detail/wire.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <string>
#include <thread>
#include <vector>

using namespace oteld;
namespace wire = oteld::detail::wire;

namespace {

using Options = std::map<std::string, std::string>;

std::uint64_t number(const Options& options, const std::string& key, std::uint64_t otherwise) {
    const auto found = options.find(key);
    return found == options.end() ? otherwise : std::strtoull(found->second.c_str(), nullptr, 10);
}

std::string text(const Options& options, const std::string& key) {
    const auto found = options.find(key);
    return found == options.end() ? "" : found->second;
}

std::string field(std::uint32_t number, const std::string& content) {
    std::string out(wire::bytes_field_bytes(number, content.size()), '\0');
    wire::put_bytes(reinterpret_cast<std::uint8_t*>(out.data()), number, content.data(),
                    content.size());
    return out;
}

// KeyValue {key, AnyValue {string_value}}
std::string attribute(const std::string& key, const std::string& value) {
    return field(1, key) + field(2, field(1, value));
}

std::string span_frame(std::uint64_t index, std::size_t attribute_bytes) {
    const std::string digits = std::to_string(index);
    const std::string id = std::string(8 - std::min<std::size_t>(8, digits.size()), '0') + digits;
    std::string span = field(1, id + id) + field(2, id) + field(5, "span " + digits);
    span += field(9, attribute("filling", std::string(attribute_bytes, 'x')));
    return field(2, span);
}

// Spans in runs that alternate between two scopes of one resource.
struct Spans {
    std::string resource = field(1, attribute("service.name", "export_once"));
    std::string scopes[2] = {field(1, "first"), field(1, "second")};
    std::vector<std::string> frames;
    std::vector<exporters::SpanRun> runs;
    exporters::Batch batch{};

    explicit Spans(const Options& options) {
        const std::uint64_t spans = number(options, "spans", 3);
        const std::uint64_t count = number(options, "runs", 2);
        for (std::uint64_t run = 0; run < count; ++run) {
            std::string some;
            const std::uint64_t first = spans * run / count;
            const std::uint64_t last = spans * (run + 1) / count;
            for (std::uint64_t i = first; i < last; ++i) {
                some += span_frame(i, number(options, "attribute_bytes", 20));
            }
            frames.push_back(std::move(some));
            batch.spans += static_cast<std::uint32_t>(last - first);
        }
        for (std::uint64_t run = 0; run < count; ++run) {
            const auto in_run =
                static_cast<std::uint32_t>(spans * (run + 1) / count - spans * run / count);
            runs.push_back(
                {resource, "", scopes[run % 2], "https://schema.example/1", frames[run], in_run});
            batch.bytes += frames[run].size();
        }
        batch.runs = runs;
    }

    void overwrite() {
        for (std::string& some : frames) std::memset(some.data(), 0xff, some.size());
    }
};

config::ExporterSettings settings_of(const std::string& protocol, const std::string& endpoint,
                                     const Options& options) {
    config::ExporterSettings settings;
    settings.name = "otlp_" + protocol;
    settings.kind = protocol == "grpc" ? config::ExporterSettings::Kind::otlp_grpc
                                       : config::ExporterSettings::Kind::otlp_http;
    config::Otlp otlp;
    otlp.endpoint = endpoint;
    otlp.secure = number(options, "secure", 0) != 0;
    otlp.tls.ca_file = text(options, "ca");
    otlp.tls.cert_file = text(options, "cert");
    otlp.tls.key_file = text(options, "key");
    otlp.tls.server_name_override = text(options, "server_name");
    otlp.tls.insecure_skip_verify = number(options, "skip_verify", 0) != 0;
    otlp.compression = text(options, "compression") == "gzip" ? config::Compression::gzip
                                                              : config::Compression::none;
    otlp.timeout = config::milliseconds(number(options, "timeout_ms", 10000));
    otlp.request_bytes_max = number(options, "request_bytes_max", otlp.request_bytes_max);
    otlp.response_bytes_max = number(options, "response_bytes_max", otlp.response_bytes_max);
    for (const auto& [key, value] : options) {
        if (key.rfind("header.", 0) == 0) otlp.headers.emplace_back(key.substr(7), value);
    }
    settings.what = otlp;
    return settings;
}

std::string json_string(const std::string& value) {
    std::string out = "\"";
    for (const char c : value) {
        if (c == '"' || c == '\\') out += '\\';
        if (c == '\n') {
            out += "\\n";
        } else {
            out += c;
        }
    }
    return out + '"';
}

void print(const exporters::SendResult& result) {
    static const char* const names[] = {"delivered", "retry_after", "rejected"};
    const std::string wait = result.wait ? std::to_string(result.wait->count()) : "null";
    std::printf(
        R"({"outcome":"%s","reason":"%s","rejected_spans":%u,"wait_ms":%s,"message":%s,"request_bytes":%llu})"
        "\n",
        names[static_cast<int>(result.outcome)],
        std::string(exporters::to_string(result.reason)).c_str(), result.rejected_spans,
        wait.c_str(), json_string(result.message).c_str(),
        static_cast<unsigned long long>(result.request_bytes));
    std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) {
        std::cerr << "usage: export_once MODULES_DIRECTORY grpc|http ENDPOINT [KEY=VALUE]...\n";
        return 2;
    }
    Options options;
    for (int i = 4; i < argc; ++i) {
        const std::string option = argv[i];
        options[option.substr(0, option.find('='))] = option.substr(option.find('=') + 1);
    }
    const config::ExporterSettings settings = settings_of(argv[2], argv[3], options);
    auto exporter = exporters::make_from_module(settings, argv[1]);
    if (!exporter) {
        std::printf("{\"error\":%s}\n", json_string(exporter.error().message).c_str());
        return 1;
    }
    std::thread canceller;
    if (number(options, "cancel_at_line", 0) != 0) {
        canceller = std::thread([&] {
            std::string line;
            std::getline(std::cin, line);
            (*exporter)->cancel();
        });
    }
    for (std::uint64_t i = 0; i < number(options, "sends", 1); ++i) {
        std::string line;
        if (i != 0 && number(options, "pause", 0) != 0) std::getline(std::cin, line);
        Spans spans(options);
        std::vector<exporters::SendResult> results;
        const auto send = [&](const exporters::Batch& batch) {
            results.push_back((*exporter)->send(batch));
        };
        if (number(options, "divide", 0) != 0) {
            exporters::divide(spans.batch, std::get<config::Otlp>(settings.what).request_bytes_max,
                              send);
        } else {
            send(spans.batch);
        }
        if (number(options, "overwrite", 0) != 0) spans.overwrite();
        for (const exporters::SendResult& result : results) print(result);
        std::string last;
        if (number(options, "linger", 0) != 0) std::getline(std::cin, last);
    }
    if (canceller.joinable()) canceller.join();
    return 0;
}
