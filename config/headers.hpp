// Request headers of an OTLP exporter: which are allowed, and the form they have in a variable.
//
// Used by: exporter_keys.cpp, defaults.cpp. Threads: any. No message ever carries a header's value,
// because that is where the credentials are.
#pragma once

#include "config/result.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace oteld::config {

using Header = std::pair<std::string, std::string>;

// Fails when the name is no token or belongs to the protocol, or when the value could end the
// header (CR, LF) or cannot travel. Returns the header with its name in lower case, as gRPC
// demands.
[[nodiscard]] Result<Header> checked_header(std::string_view name, std::string_view value);

// "key1=value1,key2=value2": W3C Baggage without properties, values percent-decoded.
[[nodiscard]] Result<std::vector<Header>> parse_header_list(std::string_view text);

}  // namespace oteld::config
