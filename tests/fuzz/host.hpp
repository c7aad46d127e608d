// A ring directory of its own with a spool in it, for one run of one target.
//
// Used by: fuzz_drain.cpp, fuzz_spool.cpp. Threads: one.
#pragma once

#include "daemon/batch/slice.hpp"
#include "daemon/spool/spool.hpp"
#include "shm/ring_directory.hpp"
#include "shm/span_view.hpp"
#include "tests/fuzz/input.hpp"
#include "tests/unit/daemon/fake_segment.hpp"

#include <memory>
#include <string>
#include <vector>

namespace oteld::fuzz {

class SpoolHost {
public:
    static constexpr std::uint64_t spool_bytes = 2 * daemon::block_bytes;

    SpoolHost() {
        auto opened = shm::open_ring_directory(directory.path, shm::DirectoryUse::daemon);
        OTELD_EXPECT(opened);
        handle = std::move(*opened);
    }
    // As a daemon that was killed and started again. False: it would not start, and says why.
    [[nodiscard]] bool restart(const std::vector<std::string>& exporters) {
        spool.reset();
        auto opened = daemon::Spool::open(handle, spool_bytes, exporters);
        OTELD_EXPECT(opened || !opened.error().message.empty());
        if (!opened) return false;
        spool = std::move(*opened);
        OTELD_EXPECT(spool->exporter_words().size() == exporters.size());
        return true;
    }

    test::TemporaryDirectory directory;
    shm::DirectoryHandle handle;
    std::unique_ptr<daemon::Spool> spool;
};

inline bool lies_in(std::string_view part, const daemon::ExtentHeader& extent) {
    const auto* begin = reinterpret_cast<const char*>(&extent);
    return part.data() >= begin && part.data() + part.size() <= begin + extent.bytes;
}

// The runs of an extent as exporters get them; all of them lie in it.
inline std::vector<exporters::SpanRun> runs_of(const daemon::ExtentRef& extent) {
    std::vector<exporters::SpanRun> runs;
    daemon::append_runs(daemon::rest_of(extent, 0), runs);
    for (const exporters::SpanRun& run : runs)
        for (const std::string_view part :
             {run.resource, run.resource_schema_url, run.scope, run.scope_schema_url, run.frames})
            OTELD_EXPECT(lies_in(part, *extent.header));
    return runs;
}

inline std::vector<shm::Span> spans_of(const exporters::SpanRun& run) {
    std::vector<shm::Span> spans;
    shm::FrameReader frames(run.frames);
    for (shm::Frame frame; frames.next(frame);) spans.emplace_back(frame.span);
    return spans;
}

}  // namespace oteld::fuzz
