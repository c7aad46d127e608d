// What a restart does with the spool that it finds: Spool::recover.
#include "daemon/spool/spool.hpp"

#include <algorithm>
#include <cstring>

namespace oteld::daemon {
namespace {

constexpr std::uint64_t all_words = (1ULL << spool_exporters_max) - 1;

bool named(const ExporterEntry& entry, const std::string& name) {
    return std::strncmp(entry.name, name.c_str(), sizeof entry.name) == 0;
}

// The next extent begins behind this one, aligned, in the `room` that is left.
bool can_step_over(const ExtentHeader& extent, std::uint64_t room) {
    return extent.bytes >= sizeof(ExtentHeader) && extent.bytes % extent_alignment == 0 &&
           extent.bytes <= room;
}

// The file is ours, but a machine may have crashed on a disk: whatever contradicts itself ends the
// block.
bool sound(const ExtentHeader& extent, std::uint64_t offset, std::uint64_t end,
           std::uint64_t live_from, std::uint64_t commit_seq) {
    if (end - offset < sizeof(ExtentHeader)) return false;
    if (!can_step_over(extent, end - offset)) return false;
    if (extent.payload_bytes > extent.bytes - sizeof(ExtentHeader)) return false;
    if (extent.seq < live_from || extent.seq > commit_seq) return false;
    if (extent.row >= application_rows_max || extent.spans > extent_spans_max) return false;
    if ((extent.exporter_mask & ~all_words) != 0) return false;
    for (unsigned e = 0; e < spool_exporters_max; ++e) {
        const SettledWord counts = SettledWord::unpack(extent.words[e]);
        std::uint64_t rejected = 0;
        for (const std::uint32_t spans : counts.rejected) rejected += spans;
        if (counts.settled > extent.spans || rejected > counts.settled) return false;
    }
    return true;
}

}  // namespace

Result<void> Spool::recover(const std::vector<std::string>& exporters) {
    note(file_->note());
    if (!journal_.replay())
        return Error{ErrorCode::corrupt,
                     "The spool's journal is damaged. Remove the file `spool`."};
    if (auto assigned = assign_exporters(exporters); !assigned) return assigned;
    restore_ledger();
    std::uint32_t damaged = 0;
    for (std::uint32_t block = 0; block < file_->blocks(); ++block)
        if (header_.block[block].end != 0 && !recover_block(block)) ++damaged;
    if (damaged != 0)
        note(std::to_string(damaged) +
             " damaged blocks of the spool were cut off where the damage begins.");
    std::sort(left_over_.begin(), left_over_.end(),
              [](const ExtentRef& a, const ExtentRef& b) { return a.header->seq < b.header->seq; });
    discard_removed(exporter_mask_);
    for (std::uint32_t block = 0; block < file_->blocks(); ++block) {
        if (header_.block[block].end != 0) free_if_settled(block);
        if (header_.block[block].end != 0) continue;
        if (block >= blocks_max_)
            file_->punch(block);
        else if (std::find(free_.begin(), free_.end(), block) == free_.end())
            free_.push_back(block);
    }
    std::sort(free_.begin(), free_.end(), std::greater<>());
    go_on_filling();
    // Blocks that were freed just now are gone for readers.
    std::erase_if(left_over_,
                  [this](const ExtentRef& extent) { return header_.block[extent.block].end == 0; });
    return {};
}

Result<void> Spool::assign_exporters(const std::vector<std::string>& exporters) {
    std::uint64_t live_words = 0;  // Words that extents in the file still speak of.
    for (std::uint32_t block = 0; block < file_->blocks(); ++block)
        for (std::uint64_t offset = 0;
             offset < header_.block[block].end && offset + sizeof(ExtentHeader) <= block_bytes;) {
            const ExtentHeader& extent = *extent_at(block, offset);
            if (!can_step_over(extent, block_bytes - offset)) break;
            live_words |= extent.exporter_mask;
            offset += extent.bytes;
        }
    std::uint64_t wanted = 0;
    for (unsigned word = 0; word < spool_exporters_max; ++word)
        for (const std::string& name : exporters)
            if (named(header_.exporters[word], name)) wanted |= 1ULL << word;

    for (const std::string& name : exporters) {
        unsigned word = 0;
        while (word < spool_exporters_max && !named(header_.exporters[word], name)) ++word;
        if (word == spool_exporters_max) {
            // A word that was never used, else one of an exporter that is gone and of which no
            // extent speaks.
            const auto usable = [&](unsigned w, bool fresh) {
                if (fresh) return header_.exporters[w].name[0] == '\0';
                return ((wanted | live_words) >> w & 1) == 0;
            };
            word = 0;
            while (word < spool_exporters_max && !usable(word, true)) ++word;
            if (word == spool_exporters_max) word = 0;
            while (word < spool_exporters_max && !usable(word, true) && !usable(word, false))
                ++word;
            if (word == spool_exporters_max)
                return Error{ErrorCode::full,
                             "The spool knows " + std::to_string(spool_exporters_max) +
                                 " exporters and still holds spans for all of them; " + name +
                                 " has no place. Let it drain, or remove the file `spool`."};
            add_exporter(word, name);
        }
        wanted |= 1ULL << word;
        exporter_words_.push_back(word);
    }
    exporter_mask_ = wanted;
    return {};
}

void Spool::add_exporter(unsigned word, const std::string& name) {
    ExporterEntry& entry = header_.exporters[word];
    char padded[sizeof entry.name] = {};
    name.copy(padded, sizeof padded - 1);
    for (std::size_t i = 0; i < sizeof padded; i += 8) {
        std::uint64_t value;
        std::memcpy(&value, padded + i, 8);
        journal_.set(*reinterpret_cast<std::uint64_t*>(entry.name + i), value);
    }
    // What was drained before this exporter was known was never meant for it.
    for (ApplicationRow& row : header_.rows) {
        if (row.state == static_cast<std::uint64_t>(RowState::free)) continue;
        ExporterTotals& totals = row.exporters[word];
        journal_.set(totals.absent, row.drained);
        if (totals.delivered != 0) journal_.set(totals.delivered, 0);
        for (std::uint64_t& rejected : totals.rejected)
            if (rejected != 0) journal_.set(rejected, 0);
    }
    journal_.commit();
}

// The emptiest block in use takes the next extents: restarts must not leave a spool of blocks that
// hold little.
void Spool::go_on_filling() {
    for (std::uint32_t block = 0; block < std::min(file_->blocks(), blocks_max_); ++block) {
        const std::uint64_t end = header_.block[block].end;
        if (end == 0 || end > block_bytes / 2) continue;
        if (current_ == no_block || end < header_.block[current_].end) current_ = block;
    }
    if (current_ != no_block && !file_->allocate(current_)) current_ = no_block;
}

bool Spool::recover_block(std::uint32_t block) {
    BlockEntry& entry = header_.block[block];
    const std::uint64_t end = std::min(entry.end, block_bytes);
    std::uint64_t offset = 0;
    std::uint64_t folded = 0;  // `entry.folded`, at the end of an extent whatever it says.
    while (offset < end) {
        ExtentHeader& extent = *extent_at(block, offset);
        if (!sound(extent, offset, end, entry.live_from, header_.commit_seq)) break;
        LanePosition& position =
            lane_positions_[{{extent.device, extent.inode, extent.birth}, extent.lane}];
        if (extent.cursor_to >= position.cursor_to)
            position = {extent.cursor_to, extent.lane_drained, extent.lane_malformed,
                        extent.lane_skipped};
        // An extent before `folded` is in its row's totals already; a later one counts from its own
        // words.
        if (offset >= entry.folded) {
            rows_.hold(extent.row);
            bool wanted = false;
            for (unsigned e = 0; e < spool_exporters_max; ++e) {
                if ((extent.exporter_mask >> e & 1) == 0) continue;
                const SettledWord counts = SettledWord::unpack(extent.words[e]);
                ledger_.share(extent.row, e).pending += extent.spans;
                ledger_.settled(extent.row, e, SettledWord{}, counts);
                if (counts.settled == extent.spans) continue;
                ++blocks_[block].unsettled;
                wanted = true;
            }
            if (wanted) left_over_.push_back({&extent, block});
        }
        if (offset < entry.folded) folded = offset + extent.bytes;
        offset += extent.bytes;
    }
    if (offset == entry.end && folded == entry.folded) return true;
    journal_.set(entry.end, offset);
    journal_.set(entry.folded, folded);
    if (offset == 0) journal_.set(entry.live_from, 0);
    journal_.commit();
    return false;
}

void Spool::restore_ledger() {
    for (std::uint32_t i = 0; i < application_rows_max; ++i)
        for (unsigned e = 0; e < spool_exporters_max; ++e) {
            const ExporterTotals& totals = header_.rows[i].exporters[e];
            Ledger::Share& share = ledger_.share(i, e);
            share.absent = totals.absent;
            share.delivered = totals.delivered;
            std::copy(std::begin(totals.rejected), std::end(totals.rejected),
                      share.rejected.begin());
        }
}

void Spool::discard_removed(std::uint64_t configured) {
    // settle() may free a block, and with it the extents that come later in this list.
    for (const ExtentRef& extent : left_over_) {
        if (header_.block[extent.block].end == 0) continue;
        for (unsigned e = 0; e < spool_exporters_max; ++e) {
            const bool removed = (extent.header->exporter_mask & ~configured) >> e & 1;
            const std::uint32_t rest = extent.header->spans - settled_spans(extent, e);
            if (removed && rest != 0)
                settle(extent, e, rest, rest, exporters::RejectReason::discarded);
        }
    }
}

}  // namespace oteld::daemon
