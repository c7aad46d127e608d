#include "daemon/status/render.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "daemon/status/json.hpp"
#include "daemon/status/table.hpp"
#include "daemon/status/words.hpp"

namespace oteld::status {
namespace {

constexpr std::size_t width_min = 60;
constexpr std::size_t name_width_max = 40;  // A service name longer than this is cut in the ledger.
constexpr std::size_t loss_head_width = 20;
constexpr std::size_t errors_max = 8;

// Always shown, with 0 too: nobody has to wonder whether a loss is not there or not shown.
constexpr std::string_view drop_reasons[] = {"ring_full", "too_large", "no_memory", "reentrant",
                                             "orphaned",  "no_lane",   "malformed"};
constexpr std::string_view reject_reasons[] = {"refused", "partial", "expired", "too_large",
                                               "discarded"};

std::string upper(std::string_view text) {
    std::string out;
    for (const char c : text) {
        out += c == '_' ? ' ' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    return out;
}

class Page {
public:
    Page(const Snapshot& snapshot, const RenderOptions& options)
        : s_(snapshot),
          painter_(options.colour),
          width_(std::max(options.width, width_min)),
          now_ns_(options.now_ns),
          rows_(sorted_applications(snapshot)),
          rows_max_(options.rows_max) {}

    std::string print() {
        verdict();
        if (s_.verdict == Verdict::cannot_tell || s_.version.empty()) return std::move(out_);
        applications();
        pipeline();
        losses();
        ledger();
        resources();
        last_errors();
        next();
        return std::move(out_);
    }

private:
    static std::vector<const Application*> sorted_applications(const Snapshot& snapshot);
    void verdict();
    void applications();
    void application_remarks(Table& table, const Application& application);
    void pipeline();
    void exporters();
    void losses();
    void loss_line(std::string_view head, const Counts& counts,
                   std::span<const std::string_view> reasons);
    void ledger();
    void equation(const Application& application, const ExporterShare& share);
    void resources();
    void last_errors();
    void next();

    void heading(std::string_view text, std::string_view rest = {}) {
        out_ += '\n' + painter_.paint(text, Style::bold);
        // Wrapped as if the heading were the beginning of the same sentence.
        const std::string all = wrap(std::string(text).append(" ").append(rest), width_, 2);
        if (!rest.empty())
            out_ += painter_.paint(std::string_view(all).substr(text.size()), Style::dim);
        out_ += '\n';
    }
    void line(std::string_view text, Style style = Style::plain, std::size_t indent = 4) {
        out_ += painter_.paint(wrap(text, width_, indent), style) + '\n';
    }
    [[nodiscard]] std::size_t rows() const { return std::min(rows_.size(), rows_max_); }

    const Snapshot& s_;
    Painter painter_;
    std::size_t width_;
    std::int64_t now_ns_;
    std::vector<const Application*> rows_;
    std::size_t rows_max_;
    std::string out_;
};

std::string process_words(const Application& application) {
    return application.process == 0 ? "-" : fmt::format("{}", application.process);
}

// Those that lose spans first, then the living, then by their last sign of life.
std::vector<const Application*> Page::sorted_applications(const Snapshot& snapshot) {
    std::vector<const Application*> rows;
    for (const Application& application : snapshot.applications) rows.push_back(&application);
    const auto key = [](const Application* a) {
        return std::tuple(a->lost_recently, a->life == Life::alive, a->last_seen_ns);
    };
    std::stable_sort(rows.begin(), rows.end(),
                     [&](const Application* a, const Application* b) { return key(a) > key(b); });
    return rows;
}

Style verdict_style(Verdict verdict) {
    switch (verdict) {
        case Verdict::healthy: return Style::good;
        case Verdict::degraded: return Style::warning;
        case Verdict::not_running:
        case Verdict::cannot_tell: return Style::bad;
    }
    return Style::bad;
}

void Page::verdict() {
    const bool runs = s_.verdict != Verdict::not_running;
    out_ += painter_.paint(s_.version.empty() ? "oteld" : "oteld " + s_.version, Style::bold);
    out_ += "  " + painter_.paint(upper(to_string(s_.verdict)), verdict_style(s_.verdict));
    if (runs && s_.pid != 0 && s_.phase != Phase::running) {
        out_ += ", " + painter_.paint(upper(to_string(s_.phase)), Style::warning);
    }
    if (s_.pid != 0) {
        out_ += fmt::format("  pid {}, {} {}", s_.pid, runs ? "up" : "ran",
                            duration_words(now_ns_ - s_.started_ns));
        const std::string config = "config: " + s_.config_source;
        const bool fits = s_.config_source.size() < 30;
        if (!s_.config_source.empty())
            out_ += fits && width_ >= 90 ? ", " + config : '\n' + wrap("  " + config, width_, 4);
    }
    out_ += '\n';
    for (const std::string& reason : s_.reasons) line("  " + reason);
    if (s_.reasons.empty() && s_.verdict == Verdict::healthy) {
        line(s_.applications.empty() ? "  no application has written a span yet"
                                     : "  spans arrive; none was lost in the last minute");
    }
    if (!s_.last_words.empty()) line("  last words: " + s_.last_words);
    for (const std::string& text : s_.directory.consequences) line("  note: " + text, Style::dim);
    for (const std::string& text : s_.notes) line("  note: " + text, Style::dim);
}

void Page::applications() {
    heading("APPLICATIONS", fmt::format("({}; counts in spans)", s_.applications.size()));
    if (rows_.empty()) {
        line(
            "  none: a program shows up here with its first span; `oteld load --spans 1000` is one "
            "to try");
        return;
    }
    Table table({{"service", false, 0, true},
                 {"pid", true},
                 {"state"},
                 {"spans/s", true},
                 {"started", true},
                 {"rings filled", true, 2},
                 {"lost", true},
                 {"user", true, 4},
                 {"program", false, 3, true},
                 {"last span", false, 1}});
    for (std::size_t i = 0; i < rows(); ++i) {
        const Application& a = *rows_[i];
        const std::uint64_t gone = a.lost + sum(a.dropped);
        const Style life = a.life == Life::crashed ? Style::bad
                           : a.life == Life::alive ? Style::good
                                                   : Style::dim;
        const std::string filled = a.ring_bytes == 0
                                       ? "-"
                                       : fmt::format("{}% of {}", a.ring_used * 100 / a.ring_bytes,
                                                     bytes_words(a.ring_bytes));
        table.row(
            {{a.service},
             {process_words(a)},
             {a.life == Life::crashed ? "DIED" : std::string(to_string(a.life)), life},
             {rate_words(a.spans_per_s)},
             {count_words(a.started)},
             {filled, a.ring_used * 4 >= a.ring_bytes * 3 && a.ring_bytes != 0 ? Style::warning
                                                                               : Style::plain},
             {count_words(gone), gone == 0 ? Style::plain : Style::warning},
             {fmt::format("uid {}", a.uid)},
             {a.executable},
             {ago_words(a.last_seen_ns, now_ns_)}});
        application_remarks(table, a);
    }
    out_ += table.print(width_, painter_);
    if (rows() < rows_.size())
        line(fmt::format("  ... and {} more: oteld status --json", rows_.size() - rows()));
}

void Page::application_remarks(Table& table, const Application& a) {
    if (a.life == Life::crashed) {
        const std::string when = clock_words(a.last_seen_ns, now_ns_);
        table.remark({fmt::format(
            "ended at {} with spans open (killed, crashed, or it left them): {} recovered and "
            "exported as unfinished, {} lost with it",
            when, count_words(a.recovered_open), count_words(a.lost))});
    }
    if (a.not_crash_visible != 0) {
        table.remark({fmt::format("{} outgrew the crash-visible slots: were it killed while they "
                                  "are open, they would be lost",
                                  spans_words(a.not_crash_visible)),
                      Style::dim});
    }
    if (a.skipped_records != 0) {
        table.remark(
            {fmt::format(
                 "{} of a kind that this oteld does not know: its client is newer than the daemon",
                 count_words(a.skipped_records, "record")),
             Style::dim});
    }
}

void Page::pipeline() {
    heading("PIPELINE", "(counts in spans)");
    const Directory& d = s_.directory;
    line(fmt::format("  rings   {}, {}, {} in {} ({}, {} free)",
                     count_words(s_.rings.segments, "file"), count_words(s_.rings.lanes, "lane"),
                     bytes_words(s_.rings.bytes), d.path, d.tmpfs ? "in memory" : "on disk",
                     bytes_words(d.free_bytes)));
    if (s_.rings.bus_errors != 0)
        line(fmt::format("    {} survived: ring files were cut short while they were read",
                         count_words(s_.rings.bus_errors, "bus error")),
             Style::warning, 6);
    for (const NamedFile& file : s_.rings.quarantined)
        line(fmt::format("    DAMAGED {}: {}", file.name, file.why), Style::bad, 6);
    for (const NamedFile& file : s_.rings.refused)
        line(fmt::format("    REFUSED {}: {}", file.name, file.why), Style::warning, 6);
    const std::string filled =
        fmt::format("  spool   {} of {} in use ({} of {})", bytes_words(s_.spool.used),
                    bytes_words(s_.spool.bytes), count_words(s_.spool.blocks),
                    count_words(s_.spool.blocks_max, "block"));
    line(s_.spool.full ? filled + "  FULL: draining has stopped" : filled,
         s_.spool.full ? Style::bad : Style::plain);
    exporters();
}

Style exporter_style(ExporterState state) {
    switch (state) {
        case ExporterState::idle: return Style::dim;
        case ExporterState::ok: return Style::good;
        case ExporterState::retrying: return Style::warning;
        case ExporterState::rejecting:
        case ExporterState::failed: return Style::bad;
    }
    return Style::plain;
}

void Page::exporters() {
    Table table({{"exporter", false, 0, true},
                 {"state"},
                 {"spans/s", true},
                 {"delivered", true},
                 {"waiting", true},
                 {"waiting bytes", true, 4},
                 {"requests", true, 3},
                 {"sent", true, 5},
                 {"failed", true, 2},
                 {"last ok", false, 1}});
    for (const Exporter& e : s_.exporters) {
        const bool fine = e.state == ExporterState::ok || e.state == ExporterState::idle;
        table.row({{e.name},
                   {fine ? std::string(to_string(e.state)) : upper(to_string(e.state)),
                    exporter_style(e.state)},
                   {rate_words(e.delivered_per_s)},
                   {count_words(e.delivered)},
                   {count_words(e.queue_spans)},
                   {bytes_words(e.queue_bytes)},
                   {count_words(e.requests)},
                   {bytes_words(e.sent_bytes)},
                   {count_words(e.errors)},
                   {ago_words(e.last_ok_ns, now_ns_)}});
        if (!e.destination.empty() && e.destination != e.name)
            table.remark({"to " + e.destination, Style::dim});
        if (!fine) {
            const std::string since = e.failing_since_ns == 0
                                          ? ""
                                          : ", for " + duration_words(now_ns_ - e.failing_since_ns);
            const std::string attempt =
                e.attempts == 0 ? "" : fmt::format(" (attempt {}{})", e.attempts, since);
            table.remark(
                {(e.words.empty() ? e.last_error : e.words) + attempt, exporter_style(e.state)});
        }
        for (const std::string& warning : e.warnings)
            table.remark({"warning: " + warning, Style::warning});
    }
    out_ += table.print(width_, painter_);
}

// reason 12 | reason 0 | ...: the known reasons always, others when they occur.
void Page::loss_line(std::string_view head, const Counts& counts,
                     std::span<const std::string_view> reasons) {
    std::string text = "  " + clip_text(head, loss_head_width - 1);
    text.append(loss_head_width + 2 - text_width(text), solid_blank);
    const char* separator = "";
    const auto add = [&](std::string_view reason, std::uint64_t spans) {
        text += fmt::format("{}{}{}{}", separator, reason, solid_blank, count_words(spans));
        separator = " | ";
    };
    for (const std::string_view reason : reasons) {
        const auto found = counts.find(std::string(reason));
        add(reason, found == counts.end() ? 0 : found->second);
    }
    for (const auto& [reason, spans] : counts) {
        if (std::find(reasons.begin(), reasons.end(), reason) == reasons.end()) add(reason, spans);
    }
    line(text, sum(counts) == 0 ? Style::plain : Style::warning, loss_head_width + 2);
}

void Page::losses() {
    Counts dropped;
    std::uint64_t lost = 0;
    std::uint64_t recently = 0;
    for (const Application& a : s_.applications) {
        for (const auto& [reason, spans] : a.dropped) dropped[reason] += spans;
        lost += a.lost;
        recently += a.lost_recently;
    }
    for (const Exporter& e : s_.exporters) recently += e.rejected_recently;
    heading(
        "LOSSES",
        fmt::format("in spans, over all applications since each started; in the last minute: {}",
                    count_words(recently)));
    loss_line("dropped", dropped, drop_reasons);
    loss_line("lost", {{"open in a process that died", lost}}, {});
    for (const Exporter& e : s_.exporters) {
        Counts rejected;
        Counts filtered;
        for (const Application& a : s_.applications) {
            for (const ExporterShare& share : a.exporters) {
                if (share.name != e.name) continue;
                for (const auto& [reason, spans] : share.rejected) rejected[reason] += spans;
                for (const auto& [rule, spans] : share.filtered) filtered[rule] += spans;
            }
        }
        loss_line(e.name, rejected, reject_reasons);
        if (!filtered.empty()) loss_line("  filtered by rule", filtered, {});
    }
}

std::string balance_words(std::int64_t balance) {
    return balance == 0 ? "0" : fmt::format("{:+}", balance);
}

std::string application_words(const Application& a) {
    const std::string name = clip_text(a.service, name_width_max);
    return a.process == 0 ? name : fmt::format("{} {}", name, a.process);
}

// One application and exporter: terms of losses always, others when they are not zero.
void Page::equation(const Application& a, const ExporterShare& share) {
    struct Term {
        std::string_view name;
        std::uint64_t spans;
        bool loss;
    };
    const Term terms[] = {{"unsampled", a.unsampled, false},
                          {"open", a.open, false},
                          {"in ring", a.in_ring, false},
                          {"filtered", sum(share.filtered), false},
                          {"in daemon", share.in_daemon, false},
                          {"delivered", share.delivered, false},
                          {"lost", a.lost, true},
                          {"dropped", sum(a.dropped), true},
                          {"rejected", sum(share.rejected), true}};
    const std::int64_t off = balance(a, share);
    const char blank = solid_blank;
    std::string text =
        fmt::format("  {} > {}: {}{}started", application_words(a),
                    clip_text(share.name, name_width_max), count_words(a.started), blank);
    char sign = '=';
    for (const Term& term : terms) {
        if (term.spans == 0 && !term.loss) continue;
        text += fmt::format(" {}{}{}{}{}", sign, blank, count_words(term.spans), blank, term.name);
        if (term.name.starts_with("in ")) text[text.rfind(' ')] = blank;
        sign = '+';
    }
    const bool lossy = a.lost + sum(a.dropped) + sum(share.rejected) != 0;
    line(text + fmt::format(", balance{}{}", blank, balance_words(off)),
         off != 0 || lossy ? Style::warning : Style::plain, 6);
}

void Page::ledger() {
    if (rows_.empty()) return;
    heading("LEDGER",
            "in spans: started = unsampled + open + in ring + filtered + in daemon + delivered + "
            "lost + dropped + rejected; "
            "terms that are 0 and no loss are left out");
    bool balanced = true;
    for (std::size_t i = 0; i < rows(); ++i) {
        for (const ExporterShare& share : rows_[i]->exporters) {
            equation(*rows_[i], share);
            balanced = balanced && balance(*rows_[i], share) == 0;
        }
    }
    line(balanced ? "  balance 0: every started span is accounted for"
                  : "  a balance other than 0: counters are read one after the other, so while "
                    "spans flow it is off by "
                    "what moved; it must be 0 when nothing moves",
         balanced ? Style::good : Style::warning);
}

void Page::resources() {
    heading("RESOURCES", "of the daemon");
    const Resources& r = s_.resources;
    line(fmt::format(
        "  memory {} (and {} shared with applications), cpu {:.1f}% of a core now, {:.1f} s in "
        "total, {}, {}",
        bytes_words(r.rss_bytes), bytes_words(r.shared_bytes), r.cpu_share * 100, r.cpu_seconds,
        count_words(r.fds, "open file"), count_words(r.threads, "thread")));
}

void Page::last_errors() {
    heading("LAST ERRORS");
    if (s_.last_errors.empty()) line("  none");
    for (std::size_t i = 0; i < std::min(s_.last_errors.size(), errors_max); ++i) {
        const LastError& e = s_.last_errors[i];
        const std::string times = e.count > 1 ? fmt::format(" (x{})", count_words(e.count)) : "";
        line(fmt::format("  {}  {}: {}{}", clock_words(e.time_ns, now_ns_), e.who, e.text, times));
    }
}

void Page::next() {
    const bool stores = std::any_of(s_.exporters.begin(), s_.exporters.end(),
                                    [](const Exporter& e) { return e.kind == "trace_store"; });
    std::string text = "  ";
    if (s_.verdict == Verdict::not_running) text += "oteld run | ";
    if (stores) text += "oteld traces | ";
    if (s_.verdict != Verdict::not_running) text += "oteld status --watch | ";
    text += "oteld rings";
    heading("NEXT");
    line(text);
}

}  // namespace

std::string render(const Snapshot& snapshot, const RenderOptions& options) {
    return Page(snapshot, options).print();
}

}  // namespace oteld::status
