#include "daemon/spool/application_rows.hpp"

#include <algorithm>
#include <cstring>

namespace oteld::daemon {
namespace {

constexpr std::uint32_t overflow_row = application_rows_max - 1;

bool is(const ApplicationRow& row, RowState state) {
    return row.state == static_cast<std::uint64_t>(state);
}

bool same_service(const ApplicationRow& a, const ApplicationRow& b) {
    return a.uid == b.uid && std::memcmp(a.service, b.service, sizeof a.service) == 0;
}

// Text in a row is changed a word at a time, as everything else there.
template <std::size_t N>
void set_text(Journal& journal, char (&text)[N], std::string_view value) {
    static_assert(N % 8 == 0);
    char padded[N] = {};
    value.copy(padded, N - 1);
    for (std::size_t i = 0; i < N; i += 8) {
        std::uint64_t word;
        std::memcpy(&word, padded + i, 8);
        journal.set(*reinterpret_cast<std::uint64_t*>(text + i), word);
    }
}

}  // namespace

std::uint32_t ApplicationRows::find_or_add(const ApplicationFacts& facts, std::uint64_t now_ns) {
    if (const auto known = find(facts)) return *known;
    const std::uint32_t index = free_row();
    ApplicationRow& row = header_.rows[index];
    if (index == overflow_row) {
        if (is(row, RowState::free)) {
            journal_.set(row.state, static_cast<std::uint64_t>(RowState::overflow));
            journal_.set(row.first_seen_ns, now_ns);
            set_text(journal_, row.service, "(other applications)");
            journal_.commit();
        }
        return index;
    }
    ledger_.clear_row(index);
    write_identity(row, facts, now_ns);
    return index;
}

std::optional<std::uint32_t> ApplicationRows::find(const ApplicationFacts& facts) const {
    std::uint64_t id[2];
    std::memcpy(id, facts.process_id, sizeof id);
    for (std::uint32_t i = 0; i < application_rows_max; ++i) {
        const ApplicationRow& row = header_.rows[i];
        if (is(row, RowState::process) && row.uid == facts.uid && row.process_id[0] == id[0] &&
            row.process_id[1] == id[1])
            return i;
    }
    return std::nullopt;
}

bool ApplicationRows::full() const {
    return std::none_of(header_.rows, header_.rows + overflow_row,
                        [](const ApplicationRow& row) { return is(row, RowState::free); });
}

void ApplicationRows::write_identity(ApplicationRow& row, const ApplicationFacts& facts,
                                     std::uint64_t now_ns) {
    // A free row may hold an earlier one's numbers.
    auto* words = reinterpret_cast<std::uint64_t*>(&row);
    for (std::size_t i = 0; i < sizeof row / 8; ++i)
        if (words[i] != 0) journal_.set(words[i], 0);
    std::uint64_t id[2];
    std::memcpy(id, facts.process_id, sizeof id);
    journal_.set(row.uid, facts.uid);
    journal_.set(row.process_id[0], id[0]);
    journal_.set(row.process_id[1], id[1]);
    journal_.set(row.pid, facts.pid);
    journal_.set(row.first_seen_ns, now_ns);
    set_text(journal_, row.service, facts.service);
    set_text(journal_, row.executable, facts.executable);
    journal_.set(row.state, static_cast<std::uint64_t>(RowState::process));
    journal_.commit();
}

std::uint32_t ApplicationRows::free_row() {
    std::uint32_t oldest = overflow_row;
    for (std::uint32_t i = 0; i < overflow_row; ++i) {
        const ApplicationRow& row = header_.rows[i];
        if (is(row, RowState::free)) return i;
        if (!is(row, RowState::process) || holds_[i] != 0) continue;
        if (oldest == overflow_row || row.last_seen_ns < header_.rows[oldest].last_seen_ns)
            oldest = i;
    }
    if (oldest == overflow_row) return overflow_row;
    merge(oldest);
    return is(header_.rows[oldest], RowState::free) ? oldest : free_row();
}

void ApplicationRows::merge(std::uint32_t from) {
    ApplicationRow& source = header_.rows[from];
    for (std::uint32_t i = 0; i < overflow_row; ++i) {
        ApplicationRow& target = header_.rows[i];
        if (!is(target, RowState::merged) || !same_service(source, target)) continue;
        // Every counter from `drained` on, totals of exporters included.
        const std::size_t first = offsetof(ApplicationRow, drained) / 8;
        auto* from_words = reinterpret_cast<std::uint64_t*>(&source);
        auto* to_words = reinterpret_cast<std::uint64_t*>(&target);
        for (std::size_t w = first; w < sizeof source / 8; ++w)
            if (from_words[w] != 0) journal_.set(to_words[w], to_words[w] + from_words[w]);
        journal_.set(target.last_seen_ns, std::max(target.last_seen_ns, source.last_seen_ns));
        journal_.set(source.state, static_cast<std::uint64_t>(RowState::free));
        journal_.commit();
        ledger_.move_row(from, i);
        return;
    }
    // The first of its service becomes the row that the next ones are merged into.
    journal_.set(source.process_id[0], 0);
    journal_.set(source.process_id[1], 0);
    journal_.set(source.pid, 0);
    journal_.set(source.state, static_cast<std::uint64_t>(RowState::merged));
    journal_.commit();
}

}  // namespace oteld::daemon
