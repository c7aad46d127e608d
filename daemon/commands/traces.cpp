#include "daemon/commands/traces.hpp"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "daemon/commands/traces_json.hpp"
#include "daemon/status/table.hpp"
#include "daemon/status/terminal.hpp"
#include "daemon/status/tree.hpp"
#include "daemon/status/words.hpp"
#include "exporters/text.hpp"
#include "exporters/trace_query.hpp"
#include "exporters/trace_store.hpp"

namespace oteld {

namespace {

using exporters::hex;
using exporters::TraceFilter;
using exporters::TraceQuery;
using exporters::TraceSummary;
using status::Painter;
using status::Style;

constexpr std::uint32_t tree_spans_max = 5000;
constexpr std::uint32_t json_spans_max = 10'000'000;
constexpr std::uint32_t candidates_shown = 10;
constexpr std::size_t wide_columns = 130;  // From here on there is room for whole trace ids.
constexpr std::size_t short_id_digits = 16;

constexpr int nothing_found = 1;
constexpr int bad_usage = 2;

int complain(const std::string& text, int exit_code) {
    std::fprintf(stderr, "oteld traces: %s\n", text.c_str());
    return exit_code;
}

std::uint64_t now_unix_ns() {
    using namespace std::chrono;
    return static_cast<std::uint64_t>(
        duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count());
}

bool takes_unicode() {
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
        const char* value = std::getenv(name);
        if (value == nullptr || *value == '\0') continue;
        const std::string_view locale(value);
        for (const char* mark : {"UTF-8", "utf-8", "UTF8", "utf8"}) {
            if (locale.find(mark) != std::string_view::npos) return true;
        }
        return false;
    }
    return false;
}

std::string service_text(const std::string& service) {
    return service.empty() ? "(no service)" : status::clean_text(service);
}

// "3 errors, 1 unfinished": words and not only colours, for a terminal without them and for grep.
status::Cell marks_of(const TraceSummary& trace) {
    std::string text;
    if (trace.failed() > 0) text = status::count_words(trace.failed(), "error");
    if (trace.unfinished > 0) {
        text += (text.empty() ? "" : ", ") + status::count_words(trace.unfinished) + " unfinished";
    }
    return {text, trace.unfinished > 0 ? Style::warning : Style::bad};
}

std::string list_text(const std::vector<TraceSummary>& traces, std::size_t width,
                      const Painter& painter, std::uint64_t now_ns) {
    const bool whole_ids = !status::is_terminal() || width >= wide_columns;
    status::Table table({{.head = "STARTED"},
                         {.head = "TRACE"},
                         {.head = "ROOT", .elastic = true},
                         {.head = "SERVICES", .spare = 2, .elastic = true},
                         {.head = "SPANS", .right = true, .spare = 1},
                         {.head = "DURATION", .right = true},
                         {.head = ""}});
    for (const TraceSummary& trace : traces) {
        std::string services;
        for (const std::string& service : trace.services)
            services += (services.empty() ? "" : ", ") + service_text(service);
        const std::string id = hex(trace.trace_id);
        const std::string name = trace.name.empty() ? "(no name)" : status::clean_text(trace.name);
        const bool failed = trace.failed() > 0;
        table.row(
            {{status::clock_words(static_cast<std::int64_t>(trace.start_unix_ns),
                                  static_cast<std::int64_t>(now_ns)),
              Style::dim},
             {whole_ids ? id : id.substr(0, short_id_digits)},
             {trace.has_root ? name : "(no root) " + name, failed ? Style::bad : Style::bold},
             {services},
             {status::count_words(trace.spans)},
             {(trace.unfinished > 0 ? "> " : "") + exporters::duration_text(trace.duration_ns)},
             marks_of(trace)});
    }
    return table.print(width, painter);
}

void print_list(const std::vector<TraceSummary>& traces, const TracesOptions& options) {
    const Painter painter(status::takes_colour());
    const std::size_t width = status::is_terminal() ? status::terminal_width() : 240;
    std::string text = list_text(traces, width, painter, now_unix_ns());
    if (status::is_terminal()) {
        std::string hint = "\n  One of them as a tree: oteld traces --trace " +
                           hex(traces[0].trace_id).substr(0, short_id_digits);
        if (options.limit != 0 && traces.size() == options.limit) {
            hint += "    More: --limit " + std::to_string(options.limit * 5);
        }
        text += painter.paint(hint, Style::dim) + "\n";
    }
    status::write_out(text);
}

bool has_filter(const TraceFilter& filter) {
    return !filter.service.empty() || filter.errors || filter.duration_ns_min != 0 ||
           filter.since_unix_ns != 0;
}

int list_traces(TraceQuery& query, const TraceFilter& filter, const TracesOptions& options,
                const std::string& store) {
    const auto traces = query.list(filter);
    if (!traces) return complain(traces.error().message + ".", nothing_found);
    if (options.json) {
        status::write_out(traces_json(store, *traces) + "\n");
    } else if (!(*traces).empty()) {
        print_list(*traces, options);
    }
    if (!(*traces).empty()) return 0;
    return complain(has_filter(filter)
                        ? "no trace in " + store + " matches; without options it lists all."
                        : "there is no trace in " + store + " yet.",
                    nothing_found);
}

int show_trace(TraceQuery& query, const TracesOptions& options, const std::string& store) {
    const auto found = query.find(options.trace, candidates_shown + 1);
    if (!found) {
        const bool usage = found.error().code == ErrorCode::invalid_argument;
        return complain(found.error().message + ".", usage ? bad_usage : nothing_found);
    }
    if ((*found).empty()) {
        return complain("no trace in " + store + " has an id that begins with " + options.trace +
                            "; it may have been pruned, or not have arrived yet.",
                        nothing_found);
    }
    if ((*found).size() > 1) {
        std::string text =
            "several traces have an id that begins with " + options.trace + "; give more digits:";
        for (std::size_t i = 0; i < (*found).size() && i < candidates_shown; ++i) {
            text +=
                "\n  " + hex((*found)[i].trace_id) + "  " + status::clean_text((*found)[i].name);
        }
        if ((*found).size() > candidates_shown) text += "\n  ...";
        return complain(text, nothing_found);
    }
    const TraceSummary& trace = (*found)[0];
    const auto spans = query.spans(trace.trace_id, options.json ? json_spans_max : tree_spans_max);
    if (!spans) return complain(spans.error().message + ".", nothing_found);
    if (options.json) {
        status::write_out(trace_json(store, trace, *spans) + "\n");
        return 0;
    }
    const status::TreeOptions tree{.width = status::terminal_width(),
                                   .colour = status::takes_colour(),
                                   .unicode = takes_unicode()};
    status::write_out(status::render_trace(trace, *spans, tree));
    return 0;
}

// ---- Times that people type ----

bool digits(std::string_view text, std::size_t at, std::size_t count, int& value) {
    if (at + count > text.size()) return false;
    value = 0;
    for (std::size_t i = at; i < at + count; ++i) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = value * 10 + (text[i] - '0');
    }
    return true;
}

// "Z", "+01:00" or nothing; seconds east of UTC.
bool zone(std::string_view text, int& seconds) {
    seconds = 0;
    if (text.empty() || text == "Z" || text == "z") return true;
    int hours = 0;
    int minutes = 0;
    if (text.size() != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':') return false;
    if (!digits(text, 1, 2, hours) || !digits(text, 4, 2, minutes) || hours > 23 || minutes > 59)
        return false;
    seconds = (hours * 60 + minutes) * 60 * (text[0] == '-' ? -1 : 1);
    return true;
}

std::optional<std::uint64_t> parse_rfc3339(std::string_view text) {
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, east = 0;
    const bool date = digits(text, 0, 4, year) && text.substr(4, 1) == "-" &&
                      digits(text, 5, 2, month) && text.substr(7, 1) == "-" &&
                      digits(text, 8, 2, day);
    if (!date) return std::nullopt;
    std::uint64_t fraction_ns = 0;
    if (text.size() > 10) {
        const char separator = text[10];
        const bool time = (separator == 'T' || separator == 't' || separator == ' ') &&
                          digits(text, 11, 2, hour) && text.substr(13, 1) == ":" &&
                          digits(text, 14, 2, minute) && text.substr(16, 1) == ":" &&
                          digits(text, 17, 2, second);
        if (!time) return std::nullopt;
        text.remove_prefix(19);
        if (!text.empty() && text[0] == '.') {
            std::size_t at = 1;
            std::uint64_t unit = 100'000'000;
            for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10) {
                fraction_ns += static_cast<std::uint64_t>(text[at] - '0') * unit;
            }
            if (at == 1) return std::nullopt;
            text.remove_prefix(at);
        }
        if (!zone(text, east)) return std::nullopt;
    }
    const std::chrono::year_month_day whole(std::chrono::year(year),
                                            std::chrono::month(static_cast<unsigned>(month)),
                                            std::chrono::day(static_cast<unsigned>(day)));
    if (!whole.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
    const std::int64_t days = std::chrono::sys_days(whole).time_since_epoch().count();
    const std::int64_t seconds = ((days * 24 + hour) * 60 + minute) * 60 + second - east;
    if (seconds < 0) return std::nullopt;
    constexpr std::uint64_t ns = 1'000'000'000;
    constexpr std::uint64_t latest = UINT64_MAX;  // In the year 2554.
    if (static_cast<std::uint64_t>(seconds) >= latest / ns) return latest;
    return static_cast<std::uint64_t>(seconds) * ns + fraction_ns;
}

}  // namespace

int traces_command(const TracesOptions& options) {
    TraceFilter filter{
        .service = options.service, .errors = options.errors, .limit = options.limit};
    if (!options.min_duration.empty()) {
        const auto duration = parse_span_duration(options.min_duration);
        if (!duration) {
            return complain("--min-duration " + options.min_duration +
                                " is no duration; write 250us, 100ms or 1.5s.",
                            bad_usage);
        }
        filter.duration_ns_min = *duration;
    }
    if (!options.since.empty()) {
        const auto since = parse_since(options.since, now_unix_ns());
        if (!since) {
            return complain(
                "--since " + options.since + " is no time; write 10m, 2h or 2026-11-24T20:00:00Z.",
                bad_usage);
        }
        filter.since_unix_ns = *since;
    }
    const std::string store = options.store.empty()
                                  ? options.state_directory + "/" + exporters::trace_store_name
                                  : options.store;
    auto query = TraceQuery::open(store);
    if (!query && query.error().code == ErrorCode::not_found) {
        return complain(
            query.error().message +
                ". An oteld whose pipeline has the trace_store exporter (the default without a "
                "configuration) makes one with the first spans; OTELD_STATE_DIR says where it is.",
            nothing_found);
    }
    if (!query) return complain(query.error().message + ".", nothing_found);
    return options.trace.empty() ? list_traces(*query, filter, options, store)
                                 : show_trace(*query, options, store);
}

std::optional<std::uint64_t> parse_span_duration(std::string_view text) {
    struct Unit {
        std::string_view name;
        double ns;
    };
    static constexpr std::array<Unit, 7> units{{{"ns", 1},
                                                {"us", 1e3},
                                                {"ms", 1e6},
                                                {"s", 1e9},
                                                {"m", 60e9},
                                                {"h", 3600e9},
                                                {"d", 86400e9}}};
    double sum = 0;
    if (text.empty()) return std::nullopt;
    while (!text.empty()) {
        double number = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number,
                                                  std::chars_format::fixed);
        if (error != std::errc() || number < 0) return std::nullopt;
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        std::size_t letters = 0;
        while (letters < text.size() && text[letters] >= 'a' && text[letters] <= 'z') ++letters;
        const std::string_view name = text.substr(0, letters);
        const Unit* unit = nullptr;
        for (const Unit& candidate : units) {
            if (candidate.name == name) unit = &candidate;
        }
        if (unit == nullptr) return std::nullopt;
        sum += number * unit->ns;
        text.remove_prefix(letters);
    }
    if (!(sum < 9e18)) return std::nullopt;
    return static_cast<std::uint64_t>(sum);
}

std::optional<std::uint64_t> parse_since(std::string_view text, std::uint64_t now_unix_ns) {
    if (const auto ago = parse_span_duration(text))
        return now_unix_ns > *ago ? now_unix_ns - *ago : 0;
    return parse_rfc3339(text);
}

}  // namespace oteld
