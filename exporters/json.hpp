// Writes JSON piece by piece onto a string; nothing is kept in between.
//
// Used by: otlp_json.cpp, daemon/commands/rings_json.cpp, daemon/commands/traces_json.cpp. Threads:
// any, on the caller's string.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace oteld::exporters {

void append_json_string(std::string& out, std::string_view text);  // With its quotes.
void append_json_double(std::string& out, double number);          // As OTLP: "NaN", "Infinity".
void append_json_base64(std::string& out, std::string_view bytes);

// `append(out, element)` writes each of them.
template <class Range, class Append>
void append_json_list(std::string& out, const Range& range, const Append& append) {
    out += '[';
    const char* separator = "";
    for (const auto& element : range) {
        out += separator;
        append(out, element);
        separator = ",";
    }
    out += ']';
}

// One object, as long as this lives; its members in the order of the calls. A value of another kind
// goes behind what member() returns.
class JsonObject {
public:
    explicit JsonObject(std::string& out) : out_(out) { out_ += '{'; }
    ~JsonObject() { out_ += '}'; }
    JsonObject(const JsonObject&) = delete;
    JsonObject& operator=(const JsonObject&) = delete;

    std::string& member(std::string_view name) {
        if (!first_) out_ += ',';
        first_ = false;
        append_json_string(out_, name);
        return out_ += ':';
    }
    void text(std::string_view name, std::string_view value) {
        append_json_string(member(name), value);
    }
    void number(std::string_view name, std::uint64_t value) {
        member(name) += std::to_string(value);
    }
    void boolean(std::string_view name, bool value) { member(name) += value ? "true" : "false"; }

private:
    std::string& out_;
    bool first_ = true;
};

}  // namespace oteld::exporters
