// A program that its daemon takes for dead, wrongly, and that goes on.
//
//   declared_dead load --service NAME --progress FILE
//
// What shows that a process lives is a lane that a thread holds, or the lock on its rings' files.
// Here the threads that recorded have ended, and the program loses the lock as POSIX has it: by
// closing another descriptor of the same file, as a program does that copies a directory. One span
// is still open then.
//   1. It ends ten spans, says "lost" and waits for a line.
//   2. It ends the span that is open, and ten more on each of two threads; says "back", waits.
//   3. It leaves main, and a last span ends.
// load.thread and load.seq are as those of `oteld load`, load.thread 0 until the loss, 1 and 2
// after it; the span that is open at the loss has number 11 of 0, the last one 11 of 2.

#include "oteld/client.hpp"
#include "shm/layout.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace {

oteld::Span begin(const oteld::Tracer& tracer, int thread, int seq) {
    return tracer.span("load", {{"load.thread", thread}, {"load.seq", seq}});
}

// Returns how many of its own files it has opened and closed.
int touch_own_rings(const char* directory) {
    int touched = 0;
    DIR* list = ::opendir(directory);
    while (const dirent* entry = list == nullptr ? nullptr : ::readdir(list)) {
        const std::string path = std::string(directory) + "/" + entry->d_name;
        if (path.find(oteld::shm::ring_suffix) == std::string::npos) continue;
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        oteld::shm::SegmentHeader header;
        if (fd >= 0 && ::read(fd, &header, sizeof header) == sizeof header &&
            header.pid == static_cast<std::uint32_t>(::getpid()))
            ++touched;
        ::close(fd);
    }
    if (list != nullptr) ::closedir(list);
    return touched;
}

void say_and_wait(const char* what) {
    std::puts(what);
    std::fflush(stdout);
    while (true) {
        const int c = std::getchar();
        if (c == '\n' || c == EOF) return;
    }
}

}  // namespace

int main(int argc, char** argv) {
    const char* directory = std::getenv("OTELD_DIR");
    if (argc < 4 || directory == nullptr) return 1;
    const oteld::TracerProvider provider{oteld::Settings{}.service(argv[3])};
    const oteld::Tracer tracer = provider.tracer("declared dead");
    oteld::Span open;
    std::thread([&] {
        for (int i = 1; i <= 10; ++i) begin(tracer, 0, i).end();
        open = begin(tracer, 0, 11);
    }).join();
    if (touch_own_rings(directory) == 0) return 1;
    say_and_wait("lost");
    open.end();
    for (int thread = 1; thread <= 2; ++thread)
        std::thread([&, thread] {
            for (int i = 1; i <= 10; ++i) begin(tracer, thread, i).end();
        }).join();
    const oteld::Span held = begin(tracer, 2, 11);  // Its lane's thread lives: the process does.
    say_and_wait("back");
}
