// What the drain thread knows, put into the words of `oteld status`: applications, rings, spool.
//
// Used by: drain_thread.cpp. Threads: drain thread. Reads counters one after the other: exact when
// nothing moves.
#pragma once

#include "daemon/batch/export_worker.hpp"
#include "daemon/intake/intake.hpp"
#include "daemon/status/snapshot.hpp"

#include <memory>
#include <vector>

namespace oteld::daemon {

void fill_intake(status::Snapshot& snapshot, const Intake& intake, const DaemonClock& clock,
                 Spool& spool, const std::vector<std::unique_ptr<ExportWorker>>& workers);

}  // namespace oteld::daemon
