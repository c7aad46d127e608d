#include "config/endpoint.hpp"

#include "config/problem.hpp"
#include "config/units.hpp"

#include <algorithm>

namespace oteld::config {
namespace {

Error refuse(const std::string& message) { return {ErrorCode::invalid_config, message}; }

struct Authority {
    std::string host;  // With brackets when it is an IPv6 address.
    std::uint64_t port = 0;
};

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
    if (text.size() < prefix.size()) return false;
    return std::equal(prefix.begin(), prefix.end(), text.begin(), [](char want, char have) {
        return want == (have >= 'A' && have <= 'Z' ? static_cast<char>(have + 32) : have);
    });
}

bool has_blank_or_control(std::string_view text) {
    return std::any_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; });
}

// What was typed, without the password that may be in it.
std::string shown(std::string_view typed) {
    const std::size_t at = typed.rfind('@');
    if (at == std::string_view::npos) return quoted(typed);
    const std::size_t scheme = typed.find("://");
    const std::string front(scheme < at ? typed.substr(0, scheme + 3) : "");
    return quoted(front + "...@" + std::string(typed.substr(at + 1)));
}

// "host", "host:port", "[::1]:port". `default_port` 0: a port must be there.
Result<Authority> parse_authority(std::string_view text, std::string_view typed,
                                  std::uint64_t default_port, const std::string& example) {
    if (text.find('@') != std::string_view::npos) {
        return refuse(shown(typed) +
                      " has a user name in it; put credentials under headers (authorization)");
    }
    Authority authority;
    std::string_view port;
    if (text.starts_with('[')) {
        const std::size_t end = text.find(']');
        if (end == std::string_view::npos) return refuse(quoted(typed) + " lacks a \"]\"");
        authority.host = text.substr(0, end + 1);
        port = text.substr(end + 1);
        const std::string_view inside = text.substr(1, end - 1);
        if (inside.find(':') == inside.npos ||
            inside.find_first_not_of("0123456789abcdefABCDEF:.%") != inside.npos) {
            return refuse(quoted(typed) + " has no IPv6 address between \"[\" and \"]\"");
        }
    } else {
        const std::size_t colon = text.find(':');
        authority.host = text.substr(0, colon);
        port = colon == std::string_view::npos ? "" : text.substr(colon);
        if (port.find(':', 1) != std::string_view::npos) {
            return refuse(quoted(typed) + " has too many colons; write an IPv6 address as " +
                          "[::1]:4317");
        }
        if (authority.host.find_first_of("/?#\\\"'<>$,;()[]{}|^`") != std::string::npos) {
            return refuse(quoted(typed) + " has no host name that could exist");
        }
    }
    if (authority.host.empty()) {
        return refuse(quoted(typed) + " names no host; write it as " + example);
    }
    if (port.empty()) {
        if (default_port == 0) {
            return refuse(quoted(typed) + " names no port; write it as " + example);
        }
        authority.port = default_port;
        return authority;
    }
    const bool plain = port.starts_with(':') && port.find('_') == port.npos;
    const auto number = plain ? parse_whole(port.substr(1)) : std::nullopt;
    if (!number || *number < 1 || *number > 65535) {
        return refuse(quoted(typed) + " must name a port from 1 to 65535");
    }
    authority.port = *number;
    return authority;
}

Result<Endpoint> parse_unix(std::string_view path, std::string_view typed) {
    if (path.starts_with("///")) path.remove_prefix(2);
    if (!path.starts_with('/') || path.starts_with("//")) {
        return refuse(quoted(typed) + " needs the whole path of the socket: unix:///run/x.sock");
    }
    constexpr std::size_t socket_path_bytes_max = 107;
    if (path.size() > socket_path_bytes_max) {
        return refuse(quoted(typed) + " is longer than a socket's path can be (107 bytes)");
    }
    Endpoint endpoint;
    endpoint.target = "unix:" + std::string(path);
    endpoint.scheme_decided = true;
    return endpoint;
}

}  // namespace

Result<Endpoint> parse_grpc_endpoint(std::string_view typed, bool insecure) {
    const std::string example = "host:4317, http://host:4317 or https://host:4317";
    if (typed.empty()) return refuse("is empty; write it as " + example);
    if (has_blank_or_control(typed)) return refuse(quoted(typed) + " has a blank in it");
    if (typed.starts_with("unix:")) return parse_unix(typed.substr(5), typed);

    Endpoint endpoint;
    endpoint.secure = !insecure;
    std::string_view rest = typed;
    std::string prefix;
    std::uint64_t default_port = 0;
    if (starts_with_ignoring_case(typed, "http://") ||
        starts_with_ignoring_case(typed, "https://")) {
        endpoint.scheme_decided = true;
        endpoint.secure = starts_with_ignoring_case(typed, "https://");
        default_port = endpoint.secure ? 443 : 80;
        rest.remove_prefix(endpoint.secure ? 8 : 7);
        if (rest.ends_with('/')) rest.remove_suffix(1);
        if (rest.find_first_of("/?#") != std::string_view::npos) {
            return refuse(shown(typed) +
                          " has a path, which gRPC has no use for: remove it, or take OTLP over "
                          "HTTP (otlp_http)");
        }
    } else if (typed.starts_with("dns:///")) {
        prefix = "dns:///";
        rest.remove_prefix(prefix.size());
    } else if (typed.find("://") != std::string_view::npos) {
        return refuse(shown(typed) + " has a scheme that is not known here; write it as " +
                      example + ", or unix:///path");
    }
    const auto authority = parse_authority(rest, typed, default_port, example);
    if (!authority) return authority.error();
    endpoint.target = prefix + authority->host + ":" + std::to_string(authority->port);
    if (authority->port == 4318) {
        endpoint.warning = "port 4318 is where OTLP over HTTP usually listens; gRPC is at 4317";
    } else if (authority->port == 80 && rest.find(":80") == std::string_view::npos) {
        endpoint.warning = "no port was given, so 80 is used; OTLP over gRPC usually is at 4317";
    }
    return endpoint;
}

Result<Endpoint> parse_http_endpoint(std::string_view typed, HttpUrl kind) {
    const std::string example = "http://host:4318 or https://host:4318";
    if (typed.empty()) return refuse("is empty; write it as " + example);
    if (has_blank_or_control(typed)) return refuse(quoted(typed) + " has a blank in it");
    const bool secure = starts_with_ignoring_case(typed, "https://");
    if (!secure && !starts_with_ignoring_case(typed, "http://")) {
        return refuse(shown(typed) + " must begin with http:// or https://; write it as " +
                      example);
    }
    const std::string_view rest = typed.substr(secure ? 8 : 7);
    const std::size_t path_at = std::min(rest.find_first_of("/?#"), rest.size());
    const std::string_view host = rest.substr(0, path_at);
    std::string path(rest.substr(path_at));
    const auto authority = parse_authority(host, typed, secure ? 443 : 80, example);
    if (!authority) return authority.error();
    if (path.find('#') != std::string::npos) {
        return refuse(shown(typed) + " has a \"#\" in it; remove what follows");
    }
    if (kind == HttpUrl::base) {
        if (path.find('?') != std::string::npos) {
            return refuse(shown(typed) +
                          " has a query, and v1/traces is to be appended; give the whole URL as "
                          "the traces endpoint instead");
        }
        if (!path.ends_with('/')) path += '/';
        path += "v1/traces";
    } else if (!path.starts_with('/')) {
        path.insert(0, "/");
    }
    Endpoint endpoint;
    endpoint.secure = secure;
    endpoint.scheme_decided = true;
    endpoint.target = (secure ? "https://" : "http://") + std::string(host) + path;
    if (authority->port == 4317) {
        endpoint.warning = "port 4317 is where OTLP over gRPC usually listens; HTTP is at 4318";
    } else if (kind == HttpUrl::base && path.ends_with("/v1/traces/v1/traces")) {
        endpoint.warning =
            "v1/traces is appended to an endpoint and is in it already; give the whole URL as "
            "the traces endpoint instead";
    }
    return endpoint;
}

}  // namespace oteld::config
