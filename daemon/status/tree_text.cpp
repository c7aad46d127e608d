#include <algorithm>
#include <cmath>

#include "daemon/status/tree.hpp"
#include "daemon/status/words.hpp"
#include "exporters/text.hpp"
#include "shm/span_view.hpp"

namespace oteld::status {

namespace {

using exporters::append_printable;
using exporters::append_value;
using exporters::duration_text;
using exporters::hex;

constexpr std::size_t duration_columns = 10;
constexpr std::size_t value_bytes_max = 400;  // --json has it whole.
constexpr std::size_t block_lines_max = 30;   // Of a text with line breaks, such as a stack trace.
constexpr std::string_view unfinished_key = "oteld.unfinished";

std::string printable(std::string_view text) {
    std::string out;
    append_printable(out, text);
    return out;
}

struct Strokes {
    std::string_view branch, last, pass, blank, dot, arrow, error, bar, open_end, rail, block;
};
constexpr Strokes drawn{"├─ ", "└─ ", "│  ", "   ", "•", "→", "✗", "━", "╍", "·", "┆"};
constexpr Strokes typed{"|- ", "`- ", "|  ", "   ", "*", "->", "x", "=", "~", ".", ":"};

class TreeText {
public:
    TreeText(const exporters::TraceSummary& trace, const std::vector<exporters::StoredSpan>& spans,
             const TreeOptions& options)
        : trace_(trace),
          spans_(spans),
          painter_(options.colour),
          strokes_(options.unicode ? drawn : typed),
          width_(std::max<std::size_t>(options.width, 40)) {
        bar_columns_ = width_ < 80 ? 0 : std::min<std::size_t>(width_ / 4, 40);
    }

    std::string render() {
        heading();
        for (const TreeNode& node : tree_of(spans_)) {
            if (node.span == TreeNode::no_span) {
                missing(node);
            } else {
                span(node);
            }
        }
        if (trace_.spans > spans_.size()) {
            note("Only the first " + count_words(spans_.size()) + " of " +
                 count_words(trace_.spans) + " spans are shown; --json has all.");
        }
        if (trace_.pruned > 0)
            note(spans_words(trace_.pruned) + " of this trace were deleted to make room.");
        return std::move(out_);
    }

private:
    void heading() {
        out_ += "trace " + painter_.paint(hex(trace_.trace_id), Style::bold) + "\n";
        out_ += "  " + exporters::local_date_time(trace_.start_unix_ns) + "   " +
                painter_.paint(duration_text(trace_.duration_ns), Style::bold) + "   " +
                spans_words(trace_.spans);
        if (trace_.failed() > 0)
            out_ += "   " + painter_.paint(count_words(trace_.failed(), "error"), Style::bad);
        if (trace_.unfinished > 0) {
            out_ += "   " +
                    painter_.paint(count_words(trace_.unfinished) + " unfinished", Style::warning);
        }
        std::string services;
        for (const std::string& service : trace_.services) {
            services += (services.empty() ? "" : ", ") +
                        (service.empty() ? "(no service)" : printable(service));
        }
        out_ += "\n  " + clip_text(services, width_ - 2) + "\n\n";
    }

    void missing(const TreeNode& node) {
        out_ += painter_.paint("(missing parent " + hex(node.missing_parent) + ")", Style::warning);
        out_ +=
            painter_.paint("  not stored here: another system's, dropped, pruned, or not ended yet",
                           Style::dim) +
            "\n";
    }

    // The lines left of a node's own text, and left of what is told below it.
    void indents(const TreeNode& node, std::string& own, std::string& below) const {
        for (std::size_t i = node.depth == 0 ? node.open.size() : 1; i + 1 < node.open.size();
             ++i) {
            own += node.open[i] ? strokes_.pass : strokes_.blank;
        }
        below = own;
        if (node.depth > 0) {
            own += node.open.back() ? strokes_.branch : strokes_.last;
            below += node.open.back() ? strokes_.pass : strokes_.blank;
        }
        below += node.has_children ? strokes_.pass : strokes_.blank;
        shorten(own);
        shorten(below);
    }

    // A deep tree keeps room for its text: the lines of its outer levels are left out.
    void shorten(std::string& indent) const {
        const std::size_t columns_max = (width_ - bar_columns_) / 3 / 3 * 3;
        if (text_width(indent) <= columns_max) return;
        std::size_t from = 0;
        while (text_width(std::string_view(indent).substr(from)) > columns_max - 3) {
            ++from;
            while (from < indent.size() &&
                   (static_cast<unsigned char>(indent[from]) & 0xc0) == 0x80)
                ++from;
        }
        indent = ".. " + indent.substr(from);
    }

    void span(const TreeNode& node) {
        const exporters::StoredSpan& stored = spans_[node.span];
        const shm::Span view(stored.message);
        const bool unfinished = exporters::is_unfinished(view);
        std::string own;
        std::string below;
        indents(node, own, below);
        span_line(view, stored.service, own, unfinished);
        if (unfinished)
            detail(below, strokes_.error, "unfinished: its process died before it ended",
                   Style::warning);
        if (view.status_code == 2 && !unfinished) {
            const std::string text =
                view.status_message.empty() ? "" : ": " + printable(view.status_message);
            detail(below, strokes_.error, "error" + text, Style::bad);
        }
        if (view.status_code == 1) detail(below, strokes_.dot, "status ok", Style::good);
        attributes(below, view.attributes(), view.dropped_attributes_count);
        for (const shm::Event& event : view.events()) show_event(below, event, view.start_unix_ns);
        dropped(below, view.dropped_events_count, "event");
        for (const shm::Link& link : view.links()) show_link(below, link);
        dropped(below, view.dropped_links_count, "link");
    }

    // Name, service and kind on the left; duration and place in time on the right.
    void span_line(const shm::Span& view, const std::string& service, const std::string& indent,
                   bool unfinished) {
        const std::size_t right = duration_columns + (bar_columns_ == 0 ? 0 : bar_columns_ + 2);
        const std::size_t left = width_ - right - 2 - text_width(indent);
        const bool error = view.status_code == 2;
        const std::string name =
            clip_text(view.name.empty() ? "(no name)" : printable(view.name), left);
        std::string more =
            "  " + (service.empty() ? std::string("(no service)") : printable(service));
        if (view.kind > 1) more += std::string("  ") + std::string(exporters::kind_text(view.kind));
        more = left > text_width(name) + 6 ? clip_text(more, left - text_width(name)) : "";
        const Style style = unfinished ? Style::warning : error ? Style::bad : Style::bold;
        out_ += painter_.paint(indent, Style::dim) + painter_.paint(name, style) +
                painter_.paint(more, Style::dim);
        out_.append(left - text_width(name) - text_width(more) + 2, ' ');

        const std::uint64_t duration =
            view.end_unix_ns > view.start_unix_ns ? view.end_unix_ns - view.start_unix_ns : 0;
        const std::string time = (unfinished ? "> " : "") + duration_text(duration);
        out_.append(duration_columns - std::min(duration_columns, text_width(time)), ' ');
        out_ += painter_.paint(time, unfinished ? Style::warning
                                     : error    ? Style::bad
                                                : Style::plain);
        if (bar_columns_ != 0) out_ += "  " + bar(view, duration, unfinished, error);
        out_ += '\n';
    }

    // Where the span lies in its trace. One that never ended reaches the end as a broken line.
    [[nodiscard]] std::string bar(const shm::Span& view, std::uint64_t duration, bool unfinished,
                                  bool error) const {
        const std::uint64_t whole = std::max<std::uint64_t>(trace_.duration_ns, 1);
        const std::uint64_t offset = view.start_unix_ns > trace_.start_unix_ns
                                         ? view.start_unix_ns - trace_.start_unix_ns
                                         : 0;
        const auto column = [&](std::uint64_t ns) {
            const double share =
                static_cast<double>(std::min(ns, whole)) / static_cast<double>(whole);
            return static_cast<std::size_t>(std::lround(share * static_cast<double>(bar_columns_)));
        };
        const std::size_t from = std::min(column(offset), bar_columns_ - 1);
        const std::size_t to =
            std::clamp(column(offset + std::min(duration, whole)), from + 1, bar_columns_);
        const auto line = [](std::string_view stroke, std::size_t times) {
            std::string text;
            for (std::size_t i = 0; i < times; ++i) text += stroke;
            return text;
        };
        const Style style = unfinished ? Style::warning : error ? Style::bad : Style::good;
        const std::string filled = line(strokes_.bar, to - from);
        const std::string rest =
            line(unfinished ? strokes_.open_end : strokes_.rail, bar_columns_ - to);
        return painter_.paint(line(strokes_.rail, from), Style::dim) +
               painter_.paint(filled, style) +
               painter_.paint(rest, unfinished ? style : Style::dim);
    }

    void detail(const std::string& indent, std::string_view mark, const std::string& text,
                Style style) {
        const std::string lead = std::string(mark) + " ";
        const std::string lines = wrap(text, text_columns(indent) - text_width(lead), 0);
        bool first = true;
        for_lines(lines, [&](std::string_view line) {
            out_ += painter_.paint(indent, Style::dim);
            out_ += painter_.paint(first ? lead : std::string(text_width(lead), ' '), style);
            out_ += painter_.paint(line, style) + "\n";
            first = false;
        });
    }

    // key=value, several in a line as they fit; text with line breaks as a block below.
    void attributes(const std::string& indent, const shm::Repeated<shm::Attribute>& attributes,
                    std::uint32_t dropped_count) {
        const std::size_t columns = text_columns(indent);
        std::vector<shm::Attribute> blocks;
        std::size_t used = 0;
        for (const shm::Attribute& attribute : attributes) {
            if (attribute.key == unfinished_key) continue;
            if (attribute.value.kind() == shm::AnyValue::Kind::string &&
                attribute.value.text().find('\n') != std::string_view::npos) {
                blocks.push_back(attribute);
                continue;
            }
            const std::string key = printable(attribute.key) + "=";
            std::string value;
            append_value(value, attribute.value, value_bytes_max);
            const std::size_t wide = text_width(key) + text_width(value);
            if (used != 0 && used + 2 + wide > columns) {
                out_ += '\n';
                used = 0;
            }
            if (used == 0) out_ += painter_.paint(indent, Style::dim);
            if (used != 0) out_ += "  ";
            used += (used == 0 ? 0 : 2) + wide;
            out_ += painter_.paint(key, Style::dim);
            if (wide <= columns) {
                out_ += value;
            } else {
                broken_value(indent, value, columns, text_width(key));
            }
        }
        if (used != 0) out_ += '\n';
        for (const shm::Attribute& attribute : blocks) block(indent, attribute);
        dropped(indent, dropped_count, "attribute");
    }

    // A value longer than a line goes on in the next ones.
    void broken_value(const std::string& indent, std::string_view value, std::size_t columns,
                      std::size_t used) {
        while (!value.empty()) {
            std::size_t bytes = 0;
            while (bytes < value.size()) {
                std::size_t next = bytes + 1;
                while (next < value.size() &&
                       (static_cast<unsigned char>(value[next]) & 0xc0) == 0x80)
                    ++next;
                const std::size_t wide = text_width(value.substr(bytes, next - bytes));
                if (used + wide > columns && bytes != 0) break;
                used += wide;
                bytes = next;
            }
            out_ += value.substr(0, bytes);
            value.remove_prefix(bytes);
            if (value.empty()) break;
            out_ += '\n' + painter_.paint(indent, Style::dim) + "  ";
            used = 2;
        }
    }

    void block(const std::string& indent, const shm::Attribute& attribute) {
        out_ += painter_.paint(indent + printable(attribute.key) + "=", Style::dim) + "\n";
        const std::string lead = indent + "  " + std::string(strokes_.block) + " ";
        std::size_t shown = 0;
        std::size_t more = 0;
        for_lines(attribute.value.text(), [&](std::string_view line) {
            if (shown == block_lines_max) {
                ++more;
                return;
            }
            ++shown;
            out_ += painter_.paint(lead, Style::dim) +
                    clip_text(printable(line), text_columns(lead)) + "\n";
        });
        if (more != 0)
            out_ +=
                painter_.paint(lead + count_words(more, "more line") + " (--json)", Style::dim) +
                "\n";
    }

    void show_event(const std::string& indent, const shm::Event& event,
                    std::uint64_t span_start_ns) {
        const bool exception = event.name == "exception";
        const bool before = event.time_unix_ns < span_start_ns;
        const std::uint64_t offset =
            before ? span_start_ns - event.time_unix_ns : event.time_unix_ns - span_start_ns;
        out_ += painter_.paint(indent, Style::dim);
        out_ +=
            painter_.paint(std::string(strokes_.dot) + " ", exception ? Style::bad : Style::plain);
        out_ += painter_.paint(event.name.empty() ? "(no name)" : printable(event.name),
                               exception ? Style::bad : Style::bold);
        out_ += painter_.paint((before ? "  -" : "  +") + duration_text(offset), Style::dim) + "\n";
        attributes(indent + "  ", event.attributes(), event.dropped_attributes_count);
    }

    void show_link(const std::string& indent, const shm::Link& link) {
        out_ += painter_.paint(indent, Style::dim) + std::string(strokes_.arrow) +
                " link to span " + hex(link.span_id);
        if (link.trace_id != trace_.trace_id) out_ += " of trace " + hex(link.trace_id);
        if (!link.trace_state.empty())
            out_ += painter_.paint("  state " + printable(link.trace_state), Style::dim);
        out_ += '\n';
        attributes(indent + "  ", link.attributes(), link.dropped_attributes_count);
    }

    void dropped(const std::string& indent, std::uint32_t count, std::string_view what) {
        if (count == 0) return;
        out_ += painter_.paint(indent, Style::dim) +
                painter_.paint("(" + count_words(count, what) + " dropped)", Style::warning) + "\n";
    }

    void note(const std::string& text) {
        out_ += "\n" + painter_.paint(wrap(text, width_, 0), Style::warning) + "\n";
    }

    [[nodiscard]] std::size_t text_columns(std::string_view indent) const {
        const std::size_t used = text_width(indent);
        return width_ > used + 20 ? width_ - used : 20;
    }

    template <class Each>
    static void for_lines(std::string_view text, Each each) {
        while (!text.empty()) {
            const std::size_t end = std::min(text.find('\n'), text.size());
            each(text.substr(0, end));
            text.remove_prefix(std::min(end + 1, text.size()));
        }
    }

    const exporters::TraceSummary& trace_;
    const std::vector<exporters::StoredSpan>& spans_;
    Painter painter_;
    Strokes strokes_;
    std::size_t width_;
    std::size_t bar_columns_ = 0;
    std::string out_;
};

}  // namespace

std::string render_trace(const exporters::TraceSummary& trace,
                         const std::vector<exporters::StoredSpan>& spans,
                         const TreeOptions& options) {
    return TreeText(trace, spans, options).render();
}

}  // namespace oteld::status
