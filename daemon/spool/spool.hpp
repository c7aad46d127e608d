// The spool: where drained spans are safe until every exporter has settled them.
//
// Used by: the drain (places and commits extents, settles), exporters (read what was committed).
// Threads: drain thread only, except that committed frames may be read by any thread until they are
// settled. One release store commits an extent together with its lane's cursor, its application's
// counters and the state of its block. Blocks come from a free list, so a slow exporter pins only
// what it still needs. When no block is to be had, place() says so and the spans stay in their
// rings.
#pragma once

#include "config/result.hpp"
#include "daemon/batch/ledger.hpp"
#include "daemon/spool/application_rows.hpp"
#include "daemon/spool/journal.hpp"
#include "daemon/spool/spool_file.hpp"
#include "shm/segment_map.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace oteld::daemon {

// A lane across daemons and files.
struct LaneKey {
    shm::FileIdentity file;
    std::uint32_t lane = 0;
    friend bool operator==(const LaneKey&, const LaneKey&) = default;
};
struct LaneKeyHash {
    std::size_t operator()(const LaneKey& key) const noexcept {
        return key.file.inode * 0x9E3779B97F4A7C15ULL ^ key.file.birth ^ key.lane;
    }
};
// What the last committed extent of a lane says.
struct LanePosition {
    std::uint64_t cursor_to = 0;
    std::uint64_t drained = 0;
    std::uint64_t malformed = 0;
    std::uint64_t skipped = 0;
};

// What a step is about to commit; the spool adds the sequence number.
struct ExtentDraft {
    LaneKey lane;
    std::uint32_t row = 0;
    std::uint64_t cursor_from = 0;
    LanePosition after;
    std::uint32_t spans = 0;
    std::uint32_t malformed = 0;
    std::uint32_t skipped = 0;
    std::uint32_t recovered = 0;  // Of `spans`: open at the death of their process.
    std::uint64_t payload_bytes = 0;
    std::uint64_t now_ns = 0;
};

// A committed extent. Valid until all exporters have settled it.
struct ExtentRef {
    const ExtentHeader* header = nullptr;
    std::uint32_t block = 0;
};

struct SpoolState {
    std::uint64_t bytes = 0;
    std::uint64_t blocks_max = 0;
    std::uint64_t blocks = 0;       // In use.
    bool full = false;              // The last place() found nothing.
    bool file_system_full = false;  // ... because the file system had no memory left.
    std::string note;               // Something to tell a person; may be empty.
};

class Spool {
public:
    // Opens or creates the file, at most half as large as its file system, finishes what an earlier
    // daemon had begun, and settles the shares of exporters that are no longer configured as
    // discarded.
    [[nodiscard]] static Result<std::unique_ptr<Spool>> open(
        const shm::DirectoryHandle& directory, std::uint64_t bytes,
        const std::vector<std::string>& exporters);

    // The words of the exporters, in the order of `exporters`.
    [[nodiscard]] const std::vector<unsigned>& exporter_words() const noexcept {
        return exporter_words_;
    }

    // Where the payload of the next extent may be written: at least `bytes`, up to `room`. Null:
    // full.
    struct Place {
        std::uint8_t* payload = nullptr;
        std::size_t room = 0;
    };
    static constexpr std::size_t payload_bytes_max =
        block_bytes - sizeof(ExtentHeader) - block_slack;
    [[nodiscard]] Place place(std::size_t bytes) noexcept;
    // Commits what lies at the last place().
    ExtentRef commit(const ExtentDraft& draft) noexcept;

    // Settles the next spans of an extent for one exporter: `spans` in all, `rejected` of them for
    // `reason`. They must be the next ones (settled_spans()).
    void settle(const ExtentRef& extent, unsigned exporter, std::uint32_t spans,
                std::uint32_t rejected, exporters::RejectReason reason);
    [[nodiscard]] static std::uint32_t settled_spans(const ExtentRef& extent,
                                                     unsigned exporter) noexcept;

    // What an earlier daemon left to be sent, oldest first.
    [[nodiscard]] const std::vector<ExtentRef>& left_over() const noexcept { return left_over_; }
    void forget_left_over() { left_over_ = {}; }
    // Where the earlier daemon had come to in a lane, if an extent still says so.
    [[nodiscard]] const LanePosition* lane_position(const LaneKey& lane) const;

    // Folds a segment's counters into its row, once, whatever happens: before its file is removed.
    // folded() says so to a daemon that finds the file all the same, until forget_folded().
    void fold_segment(std::uint32_t row, const shm::FileIdentity& file,
                      const ApplicationRow& difference);
    [[nodiscard]] bool folded(const shm::FileIdentity& file) const noexcept;
    void forget_folded() noexcept;

    // Gives memory back. Call it when nothing has happened for a while.
    void trim() noexcept;

    [[nodiscard]] ApplicationRows& rows() noexcept { return rows_; }
    [[nodiscard]] Ledger& ledger() noexcept { return ledger_; }
    [[nodiscard]] SpoolState state() const;
    [[nodiscard]] std::uint64_t unsettled_extents() const noexcept;

private:
    struct Block {
        std::uint64_t unsettled = 0;  // Pairs of extent and exporter that are not settled.
    };

    Spool(std::unique_ptr<SpoolFile> file, std::uint32_t configured_blocks);

    // recovery.cpp
    [[nodiscard]] Result<void> recover(const std::vector<std::string>& exporters);
    [[nodiscard]] Result<void> assign_exporters(const std::vector<std::string>& exporters);
    void add_exporter(unsigned word, const std::string& name);
    [[nodiscard]] bool recover_block(std::uint32_t block);
    void restore_ledger();
    void go_on_filling();
    void discard_removed(std::uint64_t configured);

    void note(const std::string& sentence) { note_ += (note_.empty() ? "" : " ") + sentence; }
    void hold_a_block() noexcept;
    void free_if_settled(std::uint32_t block);
    void fold_block(std::uint32_t block);
    [[nodiscard]] bool take_block() noexcept;
    [[nodiscard]] ExtentHeader* extent_at(std::uint32_t block,
                                          std::uint64_t offset) const noexcept {
        return reinterpret_cast<ExtentHeader*>(file_->block(block) + offset);
    }

    static constexpr std::uint32_t no_block = ~0U;

    std::unique_ptr<SpoolFile> file_;
    SpoolHeader& header_;
    Journal journal_;
    Ledger ledger_;
    ApplicationRows rows_;
    std::uint32_t blocks_max_;  // Configured; the file may have more from before.
    std::vector<Block> blocks_;
    std::vector<std::uint32_t> free_;  // Warm ones last: taken first.
    std::uint32_t current_ = no_block;
    std::uint64_t exporter_mask_ = 0;
    std::vector<unsigned> exporter_words_;
    std::vector<ExtentRef> left_over_;
    std::unordered_map<LaneKey, LanePosition, LaneKeyHash> lane_positions_;
    bool full_ = false;
    bool file_system_full_ = false;
    std::string note_;
};

}  // namespace oteld::daemon
