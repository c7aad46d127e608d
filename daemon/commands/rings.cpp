#include "daemon/commands/rings.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string_view>

#include "daemon/commands/rings_json.hpp"
#include "daemon/status/ring_report.hpp"
#include "daemon/status/table.hpp"
#include "daemon/status/terminal.hpp"
#include "daemon/status/words.hpp"
#include "shm/layout.hpp"
#include "shm/ring_directory.hpp"
#include "shm/span_view.hpp"

namespace oteld::daemon {
namespace {

using status::Cell;
using status::count_words;
using status::RingLane;
using status::RingReport;
using status::RingSpan;
using status::RingTableEntry;
using status::Style;
using status::Table;

std::int64_t realtime_ns() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

// Ring files by name, so that the order is the same each time.
std::vector<std::string> ring_files(const shm::DirectoryHandle& directory) {
    std::vector<std::string> names;
    // A descriptor of its own: closedir() takes it along.
    const int fd = openat(directory.fd.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(fd), closedir);
    if (listing == nullptr) return names;
    while (const dirent* entry = readdir(listing.get())) {
        const std::string_view name = entry->d_name;
        if (name.ends_with(shm::ring_suffix)) names.emplace_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
}

class Text {
public:
    explicit Text(const RingsOptions& options)
        : spans_(options.spans),
          width_(std::max<std::size_t>(status::terminal_width(), 60)),
          painter_(status::takes_colour()),
          now_ns_(realtime_ns()) {}

    void add(const RingReport& report) {
        if (!out_.empty()) out_ += '\n';
        header(report);
        lanes(report);
        tables(report);
        if (spans_) {
            for (std::size_t i = 0; i < report.lanes.size(); ++i) {
                for (const RingSpan& span : report.lanes[i].spans) add_span(report, i, span);
            }
        }
    }
    void add(const Error& error) {
        if (!out_.empty()) out_ += '\n';
        line(error.message, Style::bad);
    }
    [[nodiscard]] const std::string& text() const { return out_; }

private:
    void line(std::string_view text, Style style = Style::plain) {
        out_ += painter_.paint(status::wrap(text, width_, 4), style) + '\n';
    }

    void header(const RingReport& report) {
        std::string service = report.executable;
        for (const RingTableEntry& entry : report.tables) {
            if (entry.kind != RingTableEntry::Kind::resource) continue;
            service = entry.service;
            break;
        }
        out_ += painter_.paint(report.file, Style::bold) + "  ";
        out_ += report.alive ? painter_.paint("ALIVE", Style::good)
                             : painter_.paint("DEAD", Style::warning);
        out_ += fmt::format("  {} (pid {}, {}, uid {})\n", service, report.pid, report.executable,
                            report.uid);
        for (const std::string& fault : report.faults) line("  DAMAGED: " + fault, Style::bad);
        line(fmt::format(
            "  layout {}.{}, {}, process {}, segment {}, made {} ({}), clock {}{}{}", report.major,
            report.minor, status::bytes_words(report.bytes), report.process_id.substr(0, 8),
            report.segment_index, status::clock_words(report.created_ns, now_ns_),
            status::ago_words(report.created_ns, now_ns_), report.clock,
            report.other_boot ? ", from before this machine was started" : "",
            report.retired ? ", retired: the daemon has everything and removes it" : ""));
        std::string slots;
        for (const auto& [count, bytes] : report.slots) {
            slots += fmt::format("{}{} of {}", slots.empty() ? "" : ", ", count,
                                 status::bytes_words(bytes));
        }
        line(fmt::format("  {} of {}; open-span slots of each: {}; tables {} of {}",
                         count_words(report.lanes.size(), "lane"),
                         status::bytes_words(report.lane_bytes), slots.empty() ? "none" : slots,
                         status::bytes_words(report.tables_used),
                         status::bytes_words(report.tables_bytes)));
        if (report.counters.empty()) return;
        std::string counters = "  process: ";
        for (const auto& [name, count] : report.counters) {
            if (!counters.ends_with(' ')) counters += ", ";
            counters += fmt::format("{}{}{}", name, status::solid_blank, count_words(count));
        }
        line(counters);
    }

    static std::string owner_words(const RingLane& lane) {
        if (lane.owner_died) return "died";
        return lane.owner == 0 ? "free" : fmt::format("thread {}", lane.owner);
    }

    void lanes(const RingReport& report) {
        Table table({{"lane", true},
                     {"owner"},
                     {"claims", true, 3},
                     {"waiting", true},
                     {"of lane", true, 1},
                     {"open", true},
                     {"begun", true},
                     {"ended", true},
                     {"unsampled", true, 6},
                     {"dropped", true},
                     {"heap", true, 7},
                     {"drained", true},
                     {"malformed", true, 4},
                     {"skipped", true, 5},
                     {"written at", true, 8},
                     {"read at", true, 8}});
        std::size_t untouched = 0;
        for (std::size_t i = 0; i < report.lanes.size(); ++i) {
            const RingLane& lane = report.lanes[i];
            if (lane.claims == 0 && lane.written == 0 && !lane.corrupt) {
                ++untouched;
                continue;
            }
            add_lane(table, i, lane, report.lane_bytes);
        }
        if (untouched != report.lanes.size()) out_ += table.print(width_, painter_);
        if (untouched != 0)
            line(fmt::format("  {} never used", count_words(untouched, "lane")), Style::dim);
    }

    static void add_lane(Table& table, std::size_t index, const RingLane& lane,
                         std::uint64_t lane_bytes) {
        std::uint64_t dropped = 0;
        std::string why;
        for (const auto& [reason, spans] : lane.dropped) {
            dropped += spans;
            why += fmt::format("{}{} {}", why.empty() ? "" : ", ", reason, count_words(spans));
        }
        const auto bad = [](std::uint64_t count) {
            return Cell{count_words(count), count == 0 ? Style::plain : Style::warning};
        };
        const std::uint64_t filled = lane_bytes == 0 ? 0 : lane.waiting_bytes * 100 / lane_bytes;
        table.row({{fmt::format("{}", index)},
                   {owner_words(lane), lane.corrupt ? Style::bad : Style::plain},
                   {count_words(lane.claims)},
                   {count_words(lane.waiting_spans)},
                   {fmt::format("{}%", filled)},
                   {count_words(lane.open)},
                   {count_words(lane.begun)},
                   {count_words(lane.ended)},
                   {count_words(lane.unsampled)},
                   bad(dropped),
                   {count_words(lane.heap_spans)},
                   {count_words(lane.drained)},
                   bad(lane.malformed),
                   bad(lane.skipped),
                   {count_words(lane.written)},
                   {count_words(lane.read)}});
        if (!why.empty()) table.remark({"dropped: " + why, Style::warning});
        if (lane.recovered) table.remark({"its open spans have been recovered", Style::dim});
        if (lane.ending != 0)
            table.remark(
                {fmt::format("{} being ended", count_words(lane.ending, "open span")), Style::dim});
        if (lane.waiting_unknown != 0) {
            table.remark({fmt::format("{} of a type that this oteld does not know",
                                      count_words(lane.waiting_unknown, "record")),
                          Style::dim});
        }
    }

    void tables(const RingReport& report) {
        for (const RingTableEntry& entry : report.tables) {
            switch (entry.kind) {
                case RingTableEntry::Kind::resource:
                    line(fmt::format("  resource {}: {}", entry.index, entry.text));
                    break;
                case RingTableEntry::Kind::scope:
                    line(fmt::format("  scope {}: {} (resource {})", entry.index,
                                     entry.text.empty() ? "(no name)" : entry.text,
                                     entry.resource));
                    break;
                case RingTableEntry::Kind::unknown:
                    line("  table entry of a kind that this oteld does not know");
                    break;
                case RingTableEntry::Kind::damaged:
                    line("  table entry that is damaged", Style::bad);
                    break;
            }
        }
    }

    void add_span(const RingReport& report, std::size_t lane, const RingSpan& ring_span) {
        shm::FrameReader frames(ring_span.frame);
        shm::Frame frame;
        if (!ring_span.refused.empty() || !frames.next(frame)) {
            line(fmt::format("  lane {}: malformed record ({})", lane, ring_span.refused),
                 Style::bad);
            return;
        }
        const shm::Span span(frame.span);
        const auto start_ns = static_cast<std::int64_t>(span.start_unix_ns);
        const auto end_ns = static_cast<std::int64_t>(span.end_unix_ns);
        const std::string took = ring_span.open
                                     ? "open since " + status::ago_words(start_ns, now_ns_)
                                     : status::duration_words(end_ns - start_ns);
        line(fmt::format("  {} lane {}: {}  {}, started {}, trace {}, span {}{}{}",
                         ring_span.open ? "open" : "done", lane, status::clean_text(span.name),
                         took, status::clock_words(start_ns, now_ns_), hex(span.trace_id),
                         hex(span.span_id),
                         span.parent_span_id.empty() ? "" : ", parent " + hex(span.parent_span_id),
                         scope_words(report, ring_span.scope)),
             ring_span.open ? Style::warning : Style::plain);
    }

    static std::string scope_words(const RingReport& report, std::uint16_t scope) {
        for (const RingTableEntry& entry : report.tables) {
            if (entry.kind == RingTableEntry::Kind::scope && entry.index == scope &&
                !entry.text.empty()) {
                return ", scope " + entry.text;
            }
        }
        return {};
    }

    static std::string hex(std::string_view bytes) {
        std::string text;
        for (const char byte : bytes)
            text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
        return text;
    }

    bool spans_;
    std::size_t width_;
    status::Painter painter_;
    std::int64_t now_ns_;
    std::string out_;
};

}  // namespace

int rings_command(const RingsOptions& options) {
    int directory_fd = AT_FDCWD;
    std::vector<std::string> names = options.files;
    shm::DirectoryHandle directory;
    if (names.empty()) {
        auto opened = shm::open_ring_directory(options.directory, shm::DirectoryUse::inspect);
        if (!opened) {
            std::fprintf(stderr, "oteld: %s\n", opened.error().message.c_str());
            return 1;
        }
        directory = std::move(*opened);
        directory_fd = directory.fd.get();
        names = ring_files(directory);
    }

    bool all_well = true;
    Text text(options);
    RingsJson json;
    for (const std::string& name : names) {
        const auto report = status::read_ring(directory_fd, name, options.spans);
        // Gone between the listing and the look: a daemon that has drained it removes it.
        if (!report && report.error().code == ErrorCode::not_found && options.files.empty())
            continue;
        all_well = all_well && report && report->faults.empty();
        if (options.json) {
            report ? json.add(*report) : json.add(name, report.error());
        } else {
            report ? text.add(*report) : text.add(report.error());
        }
    }
    if (options.json) {
        status::write_out(json.document());
    } else if (names.empty()) {
        status::write_out("No ring files in " + directory.path +
                          ": no program writes spans there, or all are drained.\n");
    } else {
        status::write_out(text.text());
    }
    return all_well ? 0 : 1;
}

}  // namespace oteld::daemon
