// Walks the runs of a committed extent, as exporters are given them.
//
// Used by: daemon/batch. Threads: any, as long as the extent is not settled. What it returns points
// into the spool.
#pragma once

#include "daemon/spool/layout.hpp"
#include "exporters/exporter.hpp"

#include <cstdint>

namespace oteld::daemon {

class ExtentReader {
public:
    explicit ExtentReader(const ExtentHeader& extent) noexcept;

    // False: no more runs.
    [[nodiscard]] bool next(exporters::SpanRun& run) noexcept;

private:
    const std::uint8_t* begin_;
    std::uint64_t at_;
    std::uint64_t end_;
};

}  // namespace oteld::daemon
