#include "config/substitute.hpp"

#include <string_view>

namespace oteld::config {
namespace {

bool is_name(std::string_view text) {
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    if (text.empty() || !letter(text[0])) return false;
    for (const char c : text) {
        if (!letter(c) && !(c >= '0' && c <= '9')) return false;
    }
    return true;
}

class Substitution {
public:
    Substitution(const std::string& source, const Environment& environment, Problems& problems,
                 std::vector<std::string>& warnings)
        : source_(source), environment_(environment), problems_(problems), warnings_(warnings) {}

    void visit(YamlNode& node) {
        if (node.kind == YamlNode::Kind::scalar) visit_scalar(node);
        for (YamlNode& item : node.items) visit(item);
        for (Member& member : node.members) visit(member.value);
    }

private:
    void visit_scalar(YamlNode& node) {
        if (node.text.find('$') == std::string::npos) return;
        std::string result;
        std::string_view rest = node.text;
        while (!rest.empty()) {
            const std::size_t dollar = rest.find('$');
            result += rest.substr(0, dollar);
            if (dollar == std::string_view::npos) break;
            rest.remove_prefix(dollar);
            if (rest.starts_with("${")) {
                if (!reference(node, rest, result)) return;
            } else {
                result += '$';
                rest.remove_prefix(rest.starts_with("$$") ? 2 : 1);
            }
        }
        if (result.size() > substituted_bytes_max) {
            report(node, "becomes longer than 64 KiB once its variables are filled in");
            return;
        }
        node.text = std::move(result);
        if (node.plain && is_null_word(node.text)) node.kind = YamlNode::Kind::null;
    }

    // Consumes one `${...}` at the front of `rest`.
    bool reference(const YamlNode& node, std::string_view& rest, std::string& result) {
        const std::size_t end = rest.find('}');
        if (end == std::string_view::npos) {
            return report(node, "\"${\" without \"}\"; write \"$$\" for a dollar sign");
        }
        const std::string_view whole = rest.substr(0, end + 1);
        std::string_view inside = rest.substr(2, end - 2);
        rest.remove_prefix(end + 1);
        const std::size_t colon_dash = inside.find(":-");
        const bool has_default = colon_dash != std::string_view::npos;
        const std::string_view fallback = has_default ? inside.substr(colon_dash + 2) : "";
        inside = inside.substr(0, colon_dash);
        if (inside.starts_with("env:")) inside.remove_prefix(4);
        if (inside.find(':') != std::string_view::npos) {
            return report(node, quoted(whole) +
                                    " is not read: only environment variables are, as "
                                    "${env:NAME} or ${env:NAME:-default}");
        }
        if (!is_name(inside)) {
            return report(node, quoted(whole) +
                                    " does not name a variable; write ${env:NAME}, "
                                    "${env:NAME:-default}, or \"$$\" for a dollar sign");
        }
        const std::optional<std::string> value = environment_(std::string(inside));
        if (value && !value->empty()) {
            result += *value;
        } else if (has_default) {
            result += fallback;
        } else {
            warnings_.push_back(Problem{
                source_,
                node.place,
                "the variable " + std::string(inside) + (value ? " is empty" : " is not set") +
                    " and has no default (${env:" + std::string(inside) +
                    ":-default}); nothing is put in its place",
                {}}.text());
        }
        return true;
    }

    bool report(const YamlNode& node, const std::string& message) {
        problems_.push_back({source_, node.place, message, {}});
        return false;
    }

    const std::string& source_;
    const Environment& environment_;
    Problems& problems_;
    std::vector<std::string>& warnings_;
};

}  // namespace

void substitute(YamlNode& node, const std::string& source, const Environment& environment,
                Problems& problems, std::vector<std::string>& warnings) {
    Substitution(source, environment, problems, warnings).visit(node);
}

}  // namespace oteld::config
