#include "tests/fuzz/json_judge.hpp"

#include "tests/fuzz/input.hpp"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/stubs/strutil.h>
#include <google/protobuf/unknown_field_set.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <set>
#include <vector>

namespace oteld::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Json = nlohmann::json;

// The parser keeps the last of two members of one name; a writer must not write two.
Json parse_strictly(std::string_view text) {
    std::vector<std::set<std::string>> objects;
    const auto look = [&objects](int, Json::parse_event_t event, const Json& parsed) {
        if (event == Json::parse_event_t::object_start) objects.emplace_back();
        if (event == Json::parse_event_t::object_end) objects.pop_back();
        if (event == Json::parse_event_t::key)
            OTELD_EXPECT(objects.back().insert(parsed.get<std::string>()).second);
        return true;
    };
    Json json = Json::parse(text, look, false);
    OTELD_EXPECT(!json.is_discarded());
    return json;
}

// OTLP's one difference from protobuf's JSON: ids are hexadecimal.
std::string text_of_bytes(const FieldDescriptor& field, const std::string& bytes) {
    std::string text;
    if (!field.name().ends_with("_id")) {
        google::protobuf::Base64Escape(bytes, &text);
        return text;
    }
    for (const char c : bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
        text += digits;
    }
    return text;
}

void expect_double(const Json& json, double value) {
    if (value != value) return OTELD_EXPECT(json == "NaN");
    if (value - value != 0) return OTELD_EXPECT(json == (value > 0 ? "Infinity" : "-Infinity"));
    OTELD_EXPECT(json.is_number());
    const auto read = json.get<double>();
    OTELD_EXPECT(read == value && std::signbit(read) == std::signbit(value));
}

void expect_message(const Json& json, const Message& message);

// `index`: of a repeated field, else -1.
void expect_value(const Json& json, const Message& message, const FieldDescriptor& field,
                  int index) {
    const auto& reflection = *message.GetReflection();
    switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
            return expect_message(
                json, index < 0 ? reflection.GetMessage(message, &field)
                                : reflection.GetRepeatedMessage(message, &field, index));
        case FieldDescriptor::CPPTYPE_STRING: {
            const std::string value = reflection.GetString(message, &field);
            const bool is_text = field.type() == FieldDescriptor::TYPE_STRING;
            return OTELD_EXPECT(json == (is_text ? value : text_of_bytes(field, value)));
        }
        // Numbers of 64 bits are strings: JavaScript has none.
        case FieldDescriptor::CPPTYPE_INT64:
            return OTELD_EXPECT(json == std::to_string(reflection.GetInt64(message, &field)));
        case FieldDescriptor::CPPTYPE_UINT64:
            return OTELD_EXPECT(json == std::to_string(reflection.GetUInt64(message, &field)));
        case FieldDescriptor::CPPTYPE_INT32:
            return OTELD_EXPECT(json.is_number_integer() &&
                                json == reflection.GetInt32(message, &field));
        case FieldDescriptor::CPPTYPE_UINT32:
            return OTELD_EXPECT(json.is_number_integer() &&
                                json == reflection.GetUInt32(message, &field));
        case FieldDescriptor::CPPTYPE_BOOL:
            return OTELD_EXPECT(json.is_boolean() && json == reflection.GetBool(message, &field));
        case FieldDescriptor::CPPTYPE_DOUBLE:
            return expect_double(json, reflection.GetDouble(message, &field));
        default: OTELD_EXPECT(!"a type that OTLP has");
    }
}

void expect_message(const Json& json, const Message& message) {
    OTELD_EXPECT(json.is_object());
    const auto& reflection = *message.GetReflection();
    OTELD_EXPECT(reflection.GetUnknownFields(message).empty());
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    std::size_t expected = fields.size();
    for (const FieldDescriptor* field : fields) {
        const auto member = json.find(field->json_name());
        OTELD_EXPECT(member != json.end());
        if (!field->is_repeated()) {
            expect_value(*member, message, *field, -1);
            continue;
        }
        const int count = reflection.FieldSize(message, field);
        OTELD_EXPECT(member->is_array() && member->size() == static_cast<std::size_t>(count));
        for (int i = 0; i < count; ++i) expect_value((*member)[i], message, *field, i);
    }
    // An attribute without a value is written with an empty one: the same to every reader.
    const FieldDescriptor* value = message.GetDescriptor()->FindFieldByName("value");
    if (value != nullptr && !reflection.HasField(message, value) &&
        json.value("value", Json()) == Json::object())
        ++expected;
    OTELD_EXPECT(json.size() == expected);
}

}  // namespace

void expect_json_of(const Message& message, std::string_view json) {
    expect_message(parse_strictly(json), message);
}

}  // namespace oteld::fuzz
