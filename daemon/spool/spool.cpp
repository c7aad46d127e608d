#include "daemon/spool/spool.hpp"

#include <sys/statvfs.h>

#include <algorithm>
#include <cstring>

namespace oteld::daemon {
namespace {

std::uint64_t aligned(std::uint64_t bytes) {
    return (bytes + extent_alignment - 1) / extent_alignment * extent_alignment;
}

// Spool and rings share a file system: neither may crowd out the other. At least one block.
std::uint64_t blocks_in_half_of(const shm::DirectoryHandle& directory) {
    static_assert(block_bytes == 1 << 20, "Sentences for people speak of MiB.");
    struct statvfs space {};
    if (::fstatvfs(directory.fd.get(), &space) != 0 || space.f_blocks == 0) return blocks_max;
    const std::uint64_t half = static_cast<std::uint64_t>(space.f_blocks) * space.f_frsize / 2;
    return half < sizeof(SpoolHeader) + block_bytes ? 1
                                                    : (half - sizeof(SpoolHeader)) / block_bytes;
}

std::uint32_t bits(std::uint64_t mask) {
    return static_cast<std::uint32_t>(__builtin_popcountll(mask));
}

}  // namespace

Spool::Spool(std::unique_ptr<SpoolFile> file, std::uint32_t configured_blocks)
    : file_(std::move(file)),
      header_(file_->header()),
      journal_(header_),
      rows_(header_, journal_, ledger_),
      blocks_max_(configured_blocks),
      blocks_(file_->blocks()) {}

Result<std::unique_ptr<Spool>> Spool::open(const shm::DirectoryHandle& directory,
                                           std::uint64_t bytes,
                                           const std::vector<std::string>& exporters) {
    const std::uint64_t wanted = std::clamp<std::uint64_t>(bytes / block_bytes, 2, blocks_max);
    const std::uint64_t blocks = std::min(wanted, blocks_in_half_of(directory));
    auto file = SpoolFile::open(directory, static_cast<std::uint32_t>(blocks));
    if (!file) return file.error();
    std::unique_ptr<Spool> spool(new Spool(std::move(*file), static_cast<std::uint32_t>(blocks)));
    if (auto recovered = spool->recover(exporters); !recovered) return recovered.error();
    if (blocks < wanted)
        spool->note("The spool takes " + std::to_string(blocks) + " MiB at most instead of " +
                    std::to_string(wanted) + " MiB (receivers.shm.spool_size): half of " +
                    directory.path +
                    " is for rings. Enlarge that file system if a backend that is away is to be "
                    "waited for longer (mount -o remount,size=; docker: --shm-size).");
    spool->hold_a_block();
    return spool;
}

// From now on there is always one with memory, so that a file system that rings have filled can be
// drained all the same. What an earlier daemon held may be any of them.
void Spool::hold_a_block() noexcept {
    for (std::size_t i = free_.size(); i-- > 0 && current_ == no_block;) {
        if (!file_->allocate(free_[i])) continue;
        current_ = free_[i];
        free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
    }
    file_system_full_ = current_ == no_block;
}

Spool::Place Spool::place(std::size_t bytes) noexcept {
    const std::uint64_t needed = sizeof(ExtentHeader) + bytes + block_slack;
    if (current_ != no_block && block_bytes - header_.block[current_].end < needed) {
        const std::uint32_t filled = current_;
        current_ = no_block;
        free_if_settled(filled);  // It may hold nothing that anybody waits for.
    }
    if (current_ == no_block && !take_block()) {
        full_ = true;
        return {};
    }
    full_ = false;
    const std::uint64_t end = header_.block[current_].end;
    return {file_->block(current_) + end + sizeof(ExtentHeader),
            block_bytes - end - sizeof(ExtentHeader) - block_slack};
}

bool Spool::take_block() noexcept {
    if (free_.empty()) return false;
    // Warm blocks lie at the end. When even the last one is cold and finds no memory, none will.
    file_system_full_ = !file_->allocate(free_.back());
    if (file_system_full_) return false;
    current_ = free_.back();
    free_.pop_back();
    return true;
}

ExtentRef Spool::commit(const ExtentDraft& draft) noexcept {
    BlockEntry& block = header_.block[current_];
    ExtentHeader& extent = *extent_at(current_, block.end);
    const std::uint64_t seq = header_.commit_seq + 1;
    extent = ExtentHeader{};
    extent.seq = seq;
    extent.bytes = aligned(sizeof(ExtentHeader) + draft.payload_bytes);
    extent.device = draft.lane.file.device;
    extent.inode = draft.lane.file.inode;
    extent.birth = draft.lane.file.birth;
    extent.lane = draft.lane.lane;
    extent.row = draft.row;
    extent.cursor_from = draft.cursor_from;
    extent.cursor_to = draft.after.cursor_to;
    extent.lane_drained = draft.after.drained;
    extent.lane_malformed = draft.after.malformed;
    extent.lane_skipped = draft.after.skipped;
    extent.spans = draft.spans;
    extent.malformed = draft.malformed;
    extent.skipped = draft.skipped;
    extent.exporter_mask = draft.spans == 0 ? 0 : exporter_mask_;
    extent.payload_bytes = draft.payload_bytes;

    ApplicationRow& row = header_.rows[draft.row];
    journal_.set(header_.commit_seq, seq);
    if (block.live_from == 0) journal_.set(block.live_from, seq);
    journal_.set(block.end, block.end + extent.bytes);
    journal_.set(row.drained, row.drained + draft.spans);
    journal_.set(row.last_seen_ns, draft.now_ns);
    if (draft.recovered != 0) journal_.set(row.recovered, row.recovered + draft.recovered);
    if (draft.malformed != 0) journal_.set(row.malformed, row.malformed + draft.malformed);
    if (draft.skipped != 0) journal_.set(row.skipped, row.skipped + draft.skipped);
    journal_.commit();

    blocks_[current_].unsettled += bits(extent.exporter_mask);
    rows_.hold(draft.row);
    ledger_.committed(draft.row, extent.exporter_mask, draft.spans);
    const ExtentRef reference{&extent, current_};
    return reference;
}

std::uint32_t Spool::settled_spans(const ExtentRef& extent, unsigned exporter) noexcept {
    return SettledWord::unpack(__atomic_load_n(&extent.header->words[exporter], __ATOMIC_RELAXED))
        .settled;
}

void Spool::settle(const ExtentRef& extent, unsigned exporter, std::uint32_t spans,
                   std::uint32_t rejected, exporters::RejectReason reason) {
    auto* header = const_cast<ExtentHeader*>(extent.header);
    const SettledWord before = SettledWord::unpack(header->words[exporter]);
    SettledWord after = before;
    after.settled += spans;
    after.rejected[static_cast<std::size_t>(reason)] += rejected;
    // One store settles: how many, and what became of them. Release pairs with the recovery of the
    // next daemon.
    __atomic_store_n(&header->words[exporter], after.pack(), __ATOMIC_RELEASE);
    ledger_.settled(header->row, exporter, before, after);
    if (after.settled != header->spans) return;
    --blocks_[extent.block].unsettled;
    free_if_settled(extent.block);
}

void Spool::free_if_settled(std::uint32_t block) {
    BlockEntry& entry = header_.block[block];
    if (blocks_[block].unsettled != 0 || entry.end == 0) return;
    fold_block(block);
    journal_.set(entry.live_from, 0);
    journal_.set(entry.end, 0);
    journal_.set(entry.folded, 0);
    journal_.commit();
    // The block that is being filled starts again from its beginning, while its pages are warm.
    if (block == current_) return;
    if (block < blocks_max_)
        free_.push_back(block);
    else
        file_->punch(block);  // Of a spool that was larger: never used again.
}

void Spool::fold_block(std::uint32_t block) {
    constexpr std::uint32_t entries_per_extent =
        spool_exporters_max * (1 + exporters::reject_reasons) + 1;
    BlockEntry& entry = header_.block[block];
    std::uint64_t offset = entry.folded;
    while (offset != entry.end) {
        // As many extents as the journal holds; `folded` moves with their counts, so a restart goes
        // on from there.
        while (offset != entry.end && journal_.room(entries_per_extent)) {
            const ExtentHeader& extent = *extent_at(block, offset);
            ApplicationRow& row = header_.rows[extent.row];
            for (unsigned e = 0; e < spool_exporters_max; ++e) {
                if ((extent.exporter_mask >> e & 1) == 0) continue;
                const SettledWord counts = SettledWord::unpack(extent.words[e]);
                journal_.add(row.exporters[e].delivered, counts.delivered());
                for (std::size_t i = 0; i < counts.rejected.size(); ++i)
                    journal_.add(row.exporters[e].rejected[i], counts.rejected[i]);
            }
            rows_.release(extent.row);
            offset += extent.bytes;
        }
        journal_.set(entry.folded, offset);
        journal_.commit();
    }
}

void Spool::fold_segment(std::uint32_t index, const shm::FileIdentity& file,
                         const ApplicationRow& difference) {
    ApplicationRow& row = header_.rows[index];
    journal_.add(row.gone_begun, difference.gone_begun);
    journal_.add(row.gone_unsampled, difference.gone_unsampled);
    for (std::size_t i = 0; i < std::size(row.gone_dropped); ++i)
        journal_.add(row.gone_dropped[i], difference.gone_dropped[i]);
    journal_.add(row.gone_drained, difference.gone_drained);
    journal_.add(row.gone_malformed, difference.gone_malformed);
    journal_.add(row.gone_heap_spans, difference.gone_heap_spans);
    journal_.add(row.malformed, difference.malformed);
    if (difference.crashed != 0) journal_.set(row.crashed, 1);
    journal_.set(header_.folded_device, file.device);
    journal_.set(header_.folded_inode, file.inode);
    journal_.set(header_.folded_birth, file.birth);
    journal_.commit();
}

bool Spool::folded(const shm::FileIdentity& file) const noexcept {
    return file.inode != 0 && header_.folded_device == file.device &&
           header_.folded_inode == file.inode && header_.folded_birth == file.birth;
}

void Spool::forget_folded() noexcept {
    journal_.set(header_.folded_device, 0);
    journal_.set(header_.folded_inode, 0);
    journal_.set(header_.folded_birth, 0);
    journal_.commit();
}

void Spool::trim() noexcept {
    if (current_ != no_block) free_if_settled(current_);
    // The block being filled stays warm, or the one that is next; that is all an idle daemon needs.
    for (const std::uint32_t block : free_)
        if (current_ != no_block || block != free_.back()) file_->punch(block);
}

const LanePosition* Spool::lane_position(const LaneKey& lane) const {
    const auto found = lane_positions_.find(lane);
    return found == lane_positions_.end() ? nullptr : &found->second;
}

SpoolState Spool::state() const {
    SpoolState state;
    state.blocks_max = blocks_max_;
    state.bytes = blocks_max_ * block_bytes;
    for (std::uint32_t i = 0; i < file_->blocks(); ++i)
        if (header_.block[i].end != 0) ++state.blocks;
    state.full = full_;
    state.file_system_full = file_system_full_;
    state.note = note_;
    return state;
}

std::uint64_t Spool::unsettled_extents() const noexcept {
    std::uint64_t count = 0;
    for (const Block& block : blocks_) count += block.unsettled;
    return count;
}

}  // namespace oteld::daemon
