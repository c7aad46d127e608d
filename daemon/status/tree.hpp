// The spans of one trace as a tree, and the tree as text.
//
// Used by: daemon/commands/traces.cpp. Threads: values.
// Whatever the parent ids say, each span appears exactly once: below its parent, else under the
// parent that is missing, else (parents in a circle) as a root of its own. Never recurses: a trace
// may be one chain of all its spans.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/status/table.hpp"
#include "exporters/trace_query.hpp"

namespace oteld::status {

// One line of the tree, in the order of display.
struct TreeNode {
    static constexpr std::size_t no_span = ~std::size_t{0};
    std::size_t span =
        no_span;  // Index of the span; no_span: a heading for spans whose parent is missing.
    std::string missing_parent;  // Of such a heading: the parent's id, in bytes.
    std::size_t depth = 0;
    std::vector<bool> open;  // For each ancestor level and its own: siblings follow below.
    bool has_children = false;
};

[[nodiscard]] std::vector<TreeNode> tree_of(const std::vector<exporters::StoredSpan>& spans);

struct TreeOptions {
    std::size_t width = 100;
    bool colour = false;
    bool unicode = true;  // Box-drawing characters; else ASCII.
};

// Heading, then each span with its duration and place in time, its attributes, events and links.
[[nodiscard]] std::string render_trace(const exporters::TraceSummary& trace,
                                       const std::vector<exporters::StoredSpan>& spans,
                                       const TreeOptions& options);

}  // namespace oteld::status
