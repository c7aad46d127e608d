#include "config/yaml.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>
#include <map>
#include <sstream>
#include <stdexcept>

namespace oteld::config {
namespace {

Place place_of(const YAML::Mark& mark) {
    if (mark.is_null()) return {};
    return {mark.line + 1, mark.column + 1};
}

// Ends the parse from inside a callback; caught below, never seen outside this file.
struct Refused : std::runtime_error {
    Refused(Place where, const std::string& why) : std::runtime_error(why), place(where) {}
    Place place;
};

// Builds the tree from the parser's events. A map's keys arrive as ordinary nodes, so each open
// collection remembers whether the next node is a key.
class TreeBuilder : public YAML::EventHandler {
public:
    TreeBuilder(const std::string& source, Problems& problems)
        : source_(source), problems_(problems) {}

    YamlNode take_root() { return std::move(root_); }

    void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
    void OnDocumentEnd() override {}

    void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        YamlNode node;
        node.place = place_of(mark);
        add(std::move(node), anchor);
    }

    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  const std::string& value) override {
        YamlNode node;
        node.kind = YamlNode::Kind::scalar;
        node.place = place_of(mark);
        node.text = value;
        node.plain = tag == "?";
        if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(node.place, tag);
        add(std::move(node), anchor);
    }

    void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        const auto found = anchored_.find(anchor);
        if (found == anchored_.end()) {
            throw Refused(place_of(mark), "an alias inside the node that it names is not allowed");
        }
        count_copy(found->second, place_of(mark), 0);
        add(found->second, YAML::NullAnchor);
    }

    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                         YAML::EmitterStyle::value /*style*/) override {
        open(YamlNode::Kind::sequence, mark, tag, anchor);
    }
    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                    YAML::EmitterStyle::value /*style*/) override {
        open(YamlNode::Kind::map, mark, tag, anchor);
    }
    void OnSequenceEnd() override { close(); }
    void OnMapEnd() override { close(); }

private:
    struct Open {
        YamlNode node;
        YAML::anchor_t anchor = YAML::NullAnchor;
        bool has_key = false;
        std::string key;
        Place key_place;
    };

    void open(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
              YAML::anchor_t anchor) {
        Open opened;
        opened.node.kind = kind;
        opened.node.place = place_of(mark);
        opened.anchor = anchor;
        if (tag != "?" && tag != "!" && !tag.empty()) refuse_tag(opened.node.place, tag);
        if (open_.size() >= static_cast<std::size_t>(yaml_depth_max)) {
            throw Refused(opened.node.place, "nested deeper than " +
                                                 std::to_string(yaml_depth_max) +
                                                 " levels; no configuration needs that");
        }
        open_.push_back(std::move(opened));
    }

    void close() {
        Open closed = std::move(open_.back());
        open_.pop_back();
        add(std::move(closed.node), closed.anchor);
    }

    void add(YamlNode node, YAML::anchor_t anchor) {
        count_node(node.place);
        if (anchor != YAML::NullAnchor) anchored_[anchor] = node;
        if (open_.empty()) {
            root_ = std::move(node);
            return;
        }
        Open& parent = open_.back();
        if (parent.node.kind == YamlNode::Kind::sequence) {
            parent.node.items.push_back(std::move(node));
        } else if (parent.has_key) {
            parent.has_key = false;
            add_member(parent, std::move(node));
        } else {
            take_key(parent, std::move(node));
        }
    }

    void take_key(Open& map, YamlNode node) {
        if (node.kind != YamlNode::Kind::scalar) {
            throw Refused(node.place, "a key must be a word");
        }
        if (node.text == "<<" && node.plain) {
            throw Refused(node.place, "merge keys (<<) are not read; write the keys out");
        }
        map.has_key = true;
        map.key = std::move(node.text);
        map.key_place = node.place;
    }

    void add_member(Open& map, YamlNode value) {
        // What a map lacks, and a value that stands nowhere ("key:"), is best shown at the key.
        const bool single =
            value.kind == YamlNode::Kind::scalar || value.kind == YamlNode::Kind::sequence;
        if (!single) value.place = map.key_place;
        for (const Member& earlier : map.node.members) {
            if (earlier.key != map.key) continue;
            problems_.push_back({source_,
                                 map.key_place,
                                 quoted(map.key) + " is given twice; the first one is on line " +
                                     std::to_string(earlier.place.line),
                                 {}});
            return;
        }
        map.node.members.push_back({std::move(map.key), map.key_place, std::move(value)});
    }

    void count_node(Place place) {
        if (++nodes_ <= yaml_nodes_max) return;
        throw Refused(place, "more than " + std::to_string(yaml_nodes_max) +
                                 " keys and values (aliases count each time that they are used)");
    }

    // Every copy is paid for before it is made; depth too, so that an alias cannot smuggle it in.
    void count_copy(const YamlNode& node, Place place, std::size_t depth) {
        count_node(place);
        copied_bytes_ += node.text.size();
        if (copied_bytes_ > yaml_copied_bytes_max) {
            throw Refused(place, "aliases repeat more than 4 MiB of text");
        }
        if (open_.size() + depth > static_cast<std::size_t>(yaml_depth_max)) {
            throw Refused(place, "nested deeper than " + std::to_string(yaml_depth_max) +
                                     " levels; no configuration needs that");
        }
        for (const YamlNode& item : node.items) count_copy(item, place, depth + 1);
        for (const Member& member : node.members) {
            copied_bytes_ += member.key.size();
            count_copy(member.value, place, depth + 1);
        }
    }

    [[noreturn]] static void refuse_tag(Place place, const std::string& tag) {
        throw Refused(place, "the tag " + quoted(tag) + " is not read; remove it");
    }

    const std::string& source_;
    Problems& problems_;
    std::vector<Open> open_;
    std::map<YAML::anchor_t, YamlNode> anchored_;
    YamlNode root_;
    std::size_t nodes_ = 0;
    std::size_t copied_bytes_ = 0;
};

// "${" opens a map inside of { } and [ ], which is where nobody expects YAML's complaint to come
// from.
std::string brace_hint(std::string_view text, const YAML::Mark& mark) {
    for (int line = 0; line < mark.line && !text.empty(); ++line) {
        const std::size_t end = text.find('\n');
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    const bool there = text.substr(0, text.find('\n')).find("${") != std::string_view::npos;
    return there ? " (inside of { } and [ ] a value with ${...} needs quotes)" : "";
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
    for (const Member& member : members) {
        if (member.key == key) return &member.value;
    }
    return nullptr;
}

bool is_null_word(std::string_view text) {
    return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

ParsedYaml parse_yaml(std::string_view text, const std::string& source) {
    ParsedYaml parsed;
    const auto refuse = [&](Place place, const std::string& why) {
        parsed.problems.push_back({source, place, why, {}});
    };
    if (text.size() > yaml_bytes_max) {
        refuse({}, "larger than 1 MiB; this is not a configuration of oteld");
        return parsed;
    }
    if (text.find('\0') != std::string_view::npos) {
        refuse({}, "holds a NUL byte; write it as UTF-8 text");
        return parsed;
    }
    TreeBuilder builder(source, parsed.problems);
    try {
        std::istringstream stream{std::string(text)};
        YAML::Parser parser(stream);
        if (parser.HandleNextDocument(builder)) {
            parsed.root = builder.take_root();
            TreeBuilder second(source, parsed.problems);
            if (parser.HandleNextDocument(second)) {
                refuse(second.take_root().place, "a second document; only one is read");
            }
        }
    } catch (const Refused& refused) {
        refuse(refused.place, refused.what());
    } catch (const YAML::Exception& exception) {
        refuse(place_of(exception.mark),
               "not valid YAML: " + exception.msg + brace_hint(text, exception.mark));
    } catch (const std::exception& exception) {
        refuse({}, std::string("not valid YAML: ") + exception.what());
    }
    return parsed;
}

}  // namespace oteld::config
