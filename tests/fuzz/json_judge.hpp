// Says whether a text is the JSON form of an OTLP message, by two parsers that are not oteld's:
// protobuf's for the message, nlohmann's for the text.
//
// Used by: fuzz_validate.cpp, fuzz_otlp_json.cpp. Threads: any.
// https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
#pragma once

#include <string_view>

namespace google::protobuf {
class Message;
}

namespace oteld::fuzz {

// Ends the process unless `json` is strict JSON without a repeated key, and says all that `message`
// says and nothing else. A message with unknown fields is never equal.
void expect_json_of(const google::protobuf::Message& message, std::string_view json);

}  // namespace oteld::fuzz
