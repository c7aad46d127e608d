// A spool in a temporary directory, and extents written by hand.
//
// Used by: tests/unit/daemon. Threads: one.
#pragma once

#include "daemon/batch/slice.hpp"
#include "daemon/intake/validate.hpp"
#include "daemon/spool/extent_writer.hpp"
#include "daemon/spool/spool.hpp"
#include "fake_segment.hpp"

#include <doctest/doctest.h>

#include <map>
#include <optional>

namespace oteld::test {

struct FakeSpool {
    explicit FakeSpool(std::vector<std::string> names = {"a", "b"}, std::uint64_t bytes = 4 << 20)
        : exporters(std::move(names)), spool_bytes(bytes) {
        auto opened = shm::open_ring_directory(directory.path, shm::DirectoryUse::daemon);
        scope.measure();
        REQUIRE(opened);
        handle = std::move(*opened);
        restart();
    }
    // As a daemon that was killed: nothing is said to the old one but that its memory is gone.
    void restart() {
        spool.reset();
        auto opened = daemon::Spool::open(handle, spool_bytes, exporters);
        REQUIRE_MESSAGE(opened, (opened ? "" : opened.error().message));
        spool = std::move(*opened);
    }
    [[nodiscard]] std::uint32_t row(std::uint8_t process = 1, std::string_view service = "orders") {
        daemon::ApplicationFacts facts;
        std::memset(facts.process_id, process, 16);
        facts.uid = 1000;
        facts.pid = process;
        facts.service = service;
        return spool->rows().find_or_add(facts, 1);
    }
    [[nodiscard]] unsigned word(std::size_t exporter) const {
        return spool->exporter_words()[exporter];
    }

    // Commits `spans` spans of one scope; `body_bytes` makes each of them that much larger.
    std::optional<daemon::ExtentRef> commit(std::uint32_t spans, std::uint32_t row_index,
                                            std::uint32_t lane = 0, std::size_t body_bytes = 10,
                                            std::uint32_t malformed = 0) {
        Record record;
        record.body = Bytes().field(5, std::string(body_bytes, 'n')).text;
        const std::string bytes = record.bytes();
        const auto length = static_cast<std::uint32_t>(bytes.size());
        const auto place = spool->place(1024 + spans * daemon::frame_room(length));
        if (place.payload == nullptr) return std::nullopt;
        daemon::ExtentWriter writer(place.payload, place.room, ++extent_number);
        for (std::uint32_t i = 0; i < spans; ++i) {
            daemon::SpanFrame frame;
            daemon::TickConverter clock;
            REQUIRE(daemon::write_span_frame(writer.frame(scope),
                                             reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                             length, clock, frame) == daemon::Refusal::none);
            writer.written(frame.bytes);
        }
        daemon::LanePosition& position = positions[lane];
        daemon::ExtentDraft draft;
        draft.lane = {file, lane};
        draft.row = row_index;
        draft.cursor_from = position.cursor_to;
        position.cursor_to += std::uint64_t{spans} * length;
        position.drained += spans;
        position.malformed += malformed;
        draft.after = position;
        draft.spans = spans;
        draft.malformed = malformed;
        draft.payload_bytes = writer.finish();
        draft.now_ns = 77;
        return spool->commit(draft);
    }
    void settle(const daemon::ExtentRef& extent, std::size_t exporter, std::uint32_t spans,
                std::uint32_t rejected = 0,
                exporters::RejectReason reason = exporters::RejectReason::refused) {
        spool->settle(extent, word(exporter), spans, rejected, reason);
    }
    [[nodiscard]] const daemon::Ledger::Share& share(std::uint32_t row_index,
                                                     std::size_t exporter) const {
        return spool->ledger().share(row_index, word(exporter));
    }

    TemporaryDirectory directory;
    shm::DirectoryHandle handle;
    std::vector<std::string> exporters;
    std::uint64_t spool_bytes;
    std::unique_ptr<daemon::Spool> spool;
    shm::FileIdentity file{1, 2, 3};
    daemon::ScopeBytes scope{std::make_shared<const daemon::ResourceBytes>(
                                 daemon::ResourceBytes{"RES", "res-url", "svc"}),
                             "SCOPE", "scope-url"};
    std::uint64_t extent_number = 0;
    std::map<std::uint32_t, daemon::LanePosition> positions;
};

}  // namespace oteld::test
