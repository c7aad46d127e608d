// The spans that were open when their process died, exported as unfinished.
//
// Used by: intake.cpp, once all lanes of a dead process are drained. Threads: drain thread only.
// One extent a lane, committed with an odd cursor, so it happens once even if the daemon dies in
// the middle. A span that had reached a lane, had been dropped, or was moving to a larger slot is
// not taken twice.
#pragma once

#include "daemon/intake/drain.hpp"
#include "daemon/intake/segment.hpp"

#include <optional>
#include <span>
#include <vector>

namespace oteld::daemon {

inline constexpr std::string_view unfinished_attribute = "oteld.unfinished";
inline constexpr std::string_view unfinished_description = "process died before the span ended";

// A record in private memory for what was published of an open span: its end the latest time in it,
// its status ERROR, `oteld.unfinished` set. `published` bytes at `record` are the span's header and
// body so far; `dropped` is what its control says about dropped parts (shm::dropped_fields()).
[[nodiscard]] std::vector<std::uint8_t> unfinished_record(const std::uint8_t* record_untrusted,
                                                          std::uint32_t published,
                                                          std::string_view dropped = {});

enum class Recovery { done, spool_full };
// Recovers every lane of the process that is not recovered yet. Extents to export are appended.
[[nodiscard]] Recovery recover_open_slots(std::span<Segment* const> process,
                                          std::uint64_t created_ticks, Spool& spool,
                                          const DaemonClock& clock, Drain& drain,
                                          std::vector<ExtentRef>& extents);

}  // namespace oteld::daemon
