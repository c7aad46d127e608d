// `oteld load`: an application like any other that writes spans through the client, to size hosts
// and to audit losses.
//
// Used by: daemon/main.cpp, tests. Threads: starts `threads` of them; they share nothing on the
// span path. Includes the client's public headers only; it never touches what the daemon knows.
#pragma once

#include <cstdint>
#include <string>

namespace oteld {

struct LoadOptions {
    std::uint64_t spans = 0;  // total over the threads; 0: as many as `seconds` allows
    double seconds = 0;       // 0: until `spans` are written
    double rate = 0;          // spans per second over all threads; 0: as fast as it can
    unsigned threads = 1;
    unsigned attributes = 5;  // beside load.thread and load.seq
    std::string service = "oteld-load";
    std::uint64_t leave_open = 0;  // spans started and never ended, on top of `spans`
    std::string
        progress;  // file of one count per thread: the last load.seq whose end() has returned
};

// The last line on standard output is JSON: started, ended, dropped, open, seconds. Exit code 0, or
// 1 when nothing could be written.
[[nodiscard]] int load_command(const LoadOptions& options);

}  // namespace oteld
