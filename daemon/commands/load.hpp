// `oteld load`: writes spans through the client, like any application; to size hosts with and to
// audit with.
//
// Used by: main.cpp. The one file of the daemon that includes the client's public headers.
// Threads: starts its own.
#pragma once

#include <cstdint>
#include <string>

namespace oteld::daemon {

// Spans, rate and leave_open are totals over the threads.
struct LoadOptions {
    std::uint64_t spans = 0;  // 0: until `seconds` are over.
    double seconds = 0;
    double rate = 0;  // Spans per second; 0: as fast as it can.
    unsigned threads = 1;
    unsigned attributes = 5;  // Beyond load.thread and load.seq.
    std::string service = "oteld-load";
    std::uint64_t leave_open = 0;  // Spans started and never ended, on top of `spans`.
    std::string progress;          // File of little-endian 64-bit counts, one per thread.
};

// The last line on stdout is JSON: {"started","ended","dropped","open","seconds"}. Exit code 0
// or 1.
int load_command(const LoadOptions& options);

}  // namespace oteld::daemon
