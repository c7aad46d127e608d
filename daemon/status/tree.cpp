#include "daemon/status/tree.hpp"

#include <algorithm>
#include <map>

#include "shm/span_view.hpp"

namespace oteld::status {

namespace {

constexpr std::size_t depth_shown_max = 64;  // Deeper lines are indented no further.

class TreeBuilder {
public:
    explicit TreeBuilder(const std::vector<exporters::StoredSpan>& spans)
        : placed_(spans.size(), false) {
        for (const exporters::StoredSpan& span : spans) views_.emplace_back(span.message);
        for (std::size_t i = 0; i < views_.size(); ++i) by_id_.emplace(views_[i].span_id, i);
        for (std::size_t i = 0; i < views_.size(); ++i) file(i);
    }

    std::vector<TreeNode> build() {
        place(roots_, 0, {});
        for (const auto& [parent, orphans] : orphans_) {
            TreeNode heading;
            heading.missing_parent = parent;
            heading.open = {false};
            heading.has_children = true;
            nodes_.push_back(std::move(heading));
            place(orphans, 1, {false});
        }
        for (std::size_t i = 0; i < views_.size(); ++i) {
            if (!placed_[i]) place({i}, 0, {});  // Parents in a circle.
        }
        return std::move(nodes_);
    }

private:
    struct Waiting {
        std::size_t span;
        std::size_t depth;
        std::vector<bool> open;  // Of the ancestors.
        bool last;
    };

    // Spans come by start time, and so do the lists.
    void file(std::size_t index) {
        const std::string_view parent = views_[index].parent_span_id;
        if (parent.empty()) {
            roots_.push_back(index);
        } else if (by_id_.contains(parent)) {
            children_[parent].push_back(index);
        } else {
            orphans_[std::string(parent)].push_back(index);
        }
    }

    // Depth first; a stack of what waits, the next one on top.
    void place(const std::vector<std::size_t>& siblings, std::size_t depth,
               const std::vector<bool>& open) {
        std::vector<Waiting> stack;
        push(stack, siblings, depth, open);
        while (!stack.empty()) {
            const Waiting next = std::move(stack.back());
            stack.pop_back();
            if (placed_[next.span]) continue;
            placed_[next.span] = true;
            TreeNode node;
            node.span = next.span;
            node.depth = next.depth;
            node.open = next.open;
            if (node.open.size() < depth_shown_max) node.open.push_back(!next.last);
            const auto found = children_.find(views_[next.span].span_id);
            // Of several spans with one id only the first has the children.
            const bool parent = found != children_.end() && by_id_.at(found->first) == next.span;
            node.has_children = parent;
            if (parent) push(stack, found->second, next.depth + 1, node.open);
            nodes_.push_back(std::move(node));
        }
    }

    void push(std::vector<Waiting>& stack, const std::vector<std::size_t>& siblings,
              std::size_t depth, const std::vector<bool>& open) {
        std::vector<std::size_t> unplaced;
        for (const std::size_t span : siblings) {
            if (!placed_[span]) unplaced.push_back(span);
        }
        for (std::size_t i = unplaced.size(); i-- > 0;) {
            stack.push_back({unplaced[i], depth, open, i + 1 == unplaced.size()});
        }
    }

    std::vector<shm::Span> views_;
    std::vector<bool> placed_;
    std::map<std::string_view, std::size_t> by_id_;
    std::map<std::string_view, std::vector<std::size_t>> children_;
    std::vector<std::size_t> roots_;
    std::map<std::string, std::vector<std::size_t>> orphans_;
    std::vector<TreeNode> nodes_;
};

}  // namespace

std::vector<TreeNode> tree_of(const std::vector<exporters::StoredSpan>& spans) {
    return TreeBuilder(spans).build();
}

}  // namespace oteld::status
