#include "c_locale.hpp"
#include "provider.hpp"
#include "signals.hpp"

#include <strings.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

// The standard variables:
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ An empty value
// is as good as none; an unknown one is reported and ignored.

namespace oteld::sdk {
namespace {

std::string_view environment(const char* name) noexcept {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string_view() : std::string_view(value);
}

bool equals(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view trimmed(std::string_view text) noexcept {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool percent_decoded(std::string_view text, std::string& out) {
    out.clear();
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        if (i + 2 >= text.size()) return false;
        const int high = hex_digit(text[i + 1]);
        const int low = hex_digit(text[i + 2]);
        if (high < 0 || low < 0) return false;
        out += static_cast<char>(high << 4 | low);
        i += 2;
    }
    return true;
}

void set(StringPairs& pairs, std::string_view key, std::string_view value) {
    for (auto& [name, old] : pairs) {
        if (name == key) {
            old = value;
            return;
        }
    }
    pairs.emplace_back(std::string(key), std::string(value));
}

// OTEL_RESOURCE_ATTRIBUTES: any malformed part discards the whole value, as the specification says.
StringPairs resource_attributes() {
    StringPairs pairs;
    std::string_view rest = environment("OTEL_RESOURCE_ATTRIBUTES");
    while (!rest.empty()) {
        const std::size_t comma = rest.find(',');
        const std::string_view item = rest.substr(0, comma);
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
        if (trimmed(item).empty()) continue;
        const std::size_t equal = item.find('=');
        const std::string_view key = trimmed(item.substr(0, equal));
        std::string value;
        if (equal == std::string_view::npos || key.empty() ||
            !percent_decoded(trimmed(item.substr(equal + 1)), value)) {
            warn(
                "OTEL_RESOURCE_ATTRIBUTES is ignored: '%.*s' is not key=value with "
                "percent-encoding",
                static_cast<int>(item.size()), item.data());
            return {};
        }
        set(pairs, key, value);  // OTLP forbids a key twice.
    }
    return pairs;
}

void read_limit(const char* name, std::uint32_t& limit) noexcept {
    const std::string_view text = trimmed(environment(name));
    if (text.empty()) return;
    std::uint64_t value = 0;
    for (const char c : text) {
        if (c < '0' || c > '9' || value > UINT32_MAX)
            return warn("%s is ignored: it must be a whole number of 0 or more", name);
        value = value * 10 + static_cast<unsigned>(c - '0');
    }
    limit = value > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(value);
}

abi::Limits limits() noexcept {
    abi::Limits result;
    read_limit("OTEL_ATTRIBUTE_COUNT_LIMIT", result.attributes);
    result.event_attributes = result.link_attributes = result.attributes;
    read_limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", result.attributes);
    read_limit("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", result.value_length);
    read_limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", result.value_length);
    read_limit("OTEL_SPAN_EVENT_COUNT_LIMIT", result.events);
    read_limit("OTEL_SPAN_LINK_COUNT_LIMIT", result.links);
    read_limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", result.event_attributes);
    read_limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", result.link_attributes);
    return result;
}

std::uint64_t ratio_of_environment() {
    const std::string text(trimmed(environment("OTEL_TRACES_SAMPLER_ARG")));
    if (text.empty()) return Sampler::always;
    char* end = nullptr;
    const CLocale points;
    const double ratio = std::strtod(text.c_str(), &end);
    if (*end != 0 || !(ratio >= 0.0 && ratio <= 1.0)) {
        warn(
            "OTEL_TRACES_SAMPLER_ARG=%s is ignored: it must be a number from 0 to 1; every trace "
            "is sampled",
            text.c_str());
        return Sampler::always;
    }
    return ratio_threshold(ratio);
}

Sampler sampler() {
    Sampler result;
    result.disabled = disabled_by_environment();
    const std::string_view disabled = trimmed(environment("OTEL_SDK_DISABLED"));
    if (!result.disabled && !disabled.empty() && !equals(disabled, "false")) {
        warn("OTEL_SDK_DISABLED=%.*s is ignored: it must be true or false",
             static_cast<int>(disabled.size()), disabled.data());
    }
    const std::string_view name = trimmed(environment("OTEL_TRACES_SAMPLER"));
    std::string_view root = name;
    result.parent_based =
        name.empty() || (name.size() > 12 && equals(name.substr(0, 12), "parentbased_"));
    if (!name.empty() && result.parent_based) root = name.substr(12);
    if (name.empty() || equals(root, "always_on")) return result;
    if (equals(root, "always_off")) {
        result.root_threshold = 0;
    } else if (equals(root, "traceidratio")) {
        result.root_threshold = ratio_of_environment();
    } else {
        warn(
            "OTEL_TRACES_SAMPLER=%.*s is not known: parentbased_always_on is used (known: "
            "always_on, always_off, "
            "traceidratio, each also with parentbased_ in front)",
            static_cast<int>(name.size()), name.data());
        result.parent_based = true;
    }
    return result;
}

void put(std::string& out, std::string_view key, const Value& value) {
    append_key_value(out, 1, key, value);
}

bool has(const StringPairs& pairs, std::string_view key) noexcept {
    for (const auto& pair : pairs) {
        if (pair.first == key) return true;
    }
    return false;
}

}  // namespace

bool disabled_by_environment() noexcept {
    return equals(trimmed(environment("OTEL_SDK_DISABLED")), "true");
}

void append_key_value(std::string& out, std::uint32_t field, std::string_view key,
                      const Value& value) {
    const std::size_t bytes = detail::key_value_field_bytes(field, key, value, UINT32_MAX);
    out.resize(out.size() + bytes);
    detail::put_key_value(reinterpret_cast<std::uint8_t*>(out.data()) + out.size() - bytes, field,
                          key, value, UINT32_MAX);
}

std::uint64_t ratio_threshold(double ratio) noexcept {
    if (!(ratio > 0.0)) return 0;  // NaN, too.
    if (ratio >= 1.0) return Sampler::always;
    return static_cast<std::uint64_t>(std::round(ratio * 18446744073709551616.0));
}

void warn(const char* format, ...) noexcept {
    if (equals(environment("OTEL_LOG_LEVEL"), "none")) return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char line[540];
    const CancellationOff no_cancellation;  // write() is a cancellation point.
    const int size = std::snprintf(line, sizeof line, "oteld client: %s\n", text);
    if (size > 0 && write(STDERR_FILENO, line, static_cast<std::size_t>(size)) < 0) return;
}

static std::string read_executable_name() {
    char path[512];
    const ssize_t got = readlink("/proc/self/exe", path, sizeof path - 1);
    if (got <= 0)
        return program_invocation_short_name != nullptr ? program_invocation_short_name : "";
    const std::string_view whole(path, static_cast<std::size_t>(got));
    const std::size_t slash = whole.rfind('/');
    return std::string(whole.substr(slash == std::string_view::npos ? 0 : slash + 1));
}

const std::string& executable_name() {
    // Once: a later provider may be made in a sandbox. Never destroyed: spans end at exit, too.
    static const std::string& name = *new std::string(read_executable_name());
    return name;
}

Provider* make_provider(std::string_view service_name, std::string_view service_version,
                        const StringPairs& attributes) {
    auto provider = std::make_unique<Provider>();
    provider->sampler = sampler();
    provider->limits = limits();
    StringPairs pairs = resource_attributes();
    if (const std::string_view name = environment("OTEL_SERVICE_NAME"); !name.empty())
        set(pairs, "service.name", name);
    if (!service_name.empty()) set(pairs, "service.name", service_name);
    if (!service_version.empty()) set(pairs, "service.version", service_version);
    for (const auto& [key, value] : attributes) set(pairs, key, value);
    const std::string& executable = executable_name();
    if (!has(pairs, "service.name")) {
        set(pairs, "service.name",
            executable.empty() ? "unknown_service" : "unknown_service:" + executable);
    }
    set(pairs, "telemetry.sdk.name", "oteld");
    set(pairs, "telemetry.sdk.language", "cpp");
    set(pairs, "telemetry.sdk.version", OTELD_VERSION);
    if (!has(pairs, "process.executable.name") && !executable.empty())
        set(pairs, "process.executable.name", executable);
    provider->instance_id_given = has(pairs, "service.instance.id");
    for (const auto& [key, value] : pairs) put(provider->resource, key, std::string_view(value));
    return provider.release();
}

std::string Provider::resource_message(const std::uint8_t (&process_id)[16],
                                       std::int64_t pid) const {
    std::string message = resource;
    put(message, "process.pid", pid);
    if (!instance_id_given) {  // A random UUID for each process, a new one after fork.
        char text[40];
        const auto* b = process_id;
        std::snprintf(text, sizeof text,
                      "%02x%02x%02x%02x-%02x%02x-4%01x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
                      b[1], b[2], b[3], b[4], b[5], b[6] & 15, b[7], (b[8] & 0x3F) | 0x80, b[9],
                      b[10], b[11], b[12], b[13], b[14], b[15]);
        put(message, "service.instance.id", std::string_view(text));
    }
    return message;
}

}  // namespace oteld::sdk
