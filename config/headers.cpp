#include "config/headers.hpp"

#include "config/problem.hpp"

#include <algorithm>
#include <array>

namespace oteld::config {
namespace {

Error refuse(const std::string& message) { return {ErrorCode::invalid_config, message}; }

// What the exporter or the protocol beneath it sets; a second value would garble the request.
constexpr std::array<std::string_view, 10> reserved = {
    "connection", "content-encoding", "content-length", "content-type",      "host",
    "te",         "trailer",          "upgrade",        "transfer-encoding", "user-agent"};

bool is_token(std::string_view name) {
    constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
    return !name.empty() && std::all_of(name.begin(), name.end(), [&](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || marks.find(c) != marks.npos;
    });
}

std::string_view trimmed(std::string_view text) {
    while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
    while (text.ends_with(' ') || text.ends_with('\t')) text.remove_suffix(1);
    return text;
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool percent_decode(std::string_view text, std::string& decoded) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            decoded += text[i];
            continue;
        }
        if (i + 2 >= text.size()) return false;
        const int high = hex_digit(text[i + 1]);
        const int low = hex_digit(text[i + 2]);
        if (high < 0 || low < 0) return false;
        decoded += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return true;
}

}  // namespace

Result<Header> checked_header(std::string_view name, std::string_view value) {
    std::string lower(name);
    for (char& c : lower) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    if (!is_token(lower)) {
        return refuse("the header name " + quoted(name) +
                      " may hold letters, digits and !#$%&'*+-.^_`|~ only");
    }
    if (std::find(reserved.begin(), reserved.end(), lower) != reserved.end() ||
        lower.starts_with("grpc-") || lower.ends_with("-bin")) {
        return refuse("the header " + quoted(name) + " belongs to the protocol; remove it");
    }
    constexpr std::size_t value_bytes_max = 8 << 10;
    if (value.size() > value_bytes_max) {
        return refuse("the value of the header " + quoted(name) +
                      " is longer than 8 KiB, which servers refuse");
    }
    const bool printable = std::all_of(value.begin(), value.end(), [](char c) {
        return static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f;
    });
    if (!printable) {
        return refuse("the value of the header " + quoted(name) +
                      " holds a line break or another character that is not printable ASCII");
    }
    return Header(std::move(lower), value);
}

Result<std::vector<Header>> parse_header_list(std::string_view text) {
    std::vector<Header> headers;
    while (!text.empty()) {
        const std::size_t comma = text.find(',');
        const std::string_view entry = trimmed(text.substr(0, comma));
        text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
        if (entry.empty()) continue;
        const std::size_t equals = entry.find('=');
        if (equals == std::string_view::npos) {
            return refuse("must be key1=value1,key2=value2, and entry " +
                          std::to_string(headers.size() + 1) +
                          " has no \"=\" (a comma inside a value is written %2C)");
        }
        const std::string_view name = trimmed(entry.substr(0, equals));
        const std::string_view value = trimmed(entry.substr(equals + 1));
        if (value.find(';') != std::string_view::npos) {
            return refuse("the value of the header " + quoted(name) +
                          " has a \";\" in it: properties are not read, and a semicolon is "
                          "written %3B");
        }
        std::string decoded;
        if (!percent_decode(value, decoded)) {
            return refuse("the value of the header " + quoted(name) +
                          " has a \"%\" without two hexadecimal digits; a percent sign is "
                          "written %25");
        }
        auto header = checked_header(name, decoded);
        if (!header) return header.error();
        const auto same = std::find_if(headers.begin(), headers.end(), [&](const Header& earlier) {
            return earlier.first == header->first;
        });
        if (same == headers.end()) {
            headers.push_back(std::move(*header));
        } else {
            same->second = std::move(header->second);
        }
    }
    return headers;
}

}  // namespace oteld::config
