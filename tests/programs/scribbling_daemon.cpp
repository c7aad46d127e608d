// A daemon that writes over everything it can reach while a client records, and that watches where
// the client writes.
//
//   scribbling_daemon SEED SECONDS WHAT
//
// WHAT is `daemon`: the daemon's pages of each segment and the control page, which are what a
// daemon has to write; or `all`: the lanes as well, with records, slots, counters and liveness
// words. The scribbler is a process of its own, as a daemon is. The client, a child, records in
// many ways on threads that come and go. Broken is what the client may never break:
//   - it lives, and comes to its end within a minute beyond SECONDS;
//   - the daemon's pages hold what the scribbler wrote there last, the header what the client wrote
//     first; the bytes between a lane's counters and its liveness word, behind the records, stay as
//     they are (with `daemon`), and so does another program's ring in the directory;
//   - pages of its own that lie between its mappings keep their pattern, and its mappings do not
//     become more and more.
// Prints {"segments": ..., "scribbles": ..., "spans": ..., "mappings": ...}. Exit code 1: broken,
// with a sentence on standard error.

#include "oteld/client.hpp"
#include "shm/layout.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace oteld;
using Clock = std::chrono::steady_clock;
using Dice = std::mt19937_64;

[[noreturn]] void broken(const std::string& what) {
    std::fprintf(stderr, "scribbling_daemon: %s\n", what.c_str());
    std::_Exit(1);
}

std::uint8_t* map_file(int directory, const char* name, std::uint64_t bytes) {
    const int fd = ::openat(directory, name, O_RDWR | O_CLOEXEC);
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || memory == MAP_FAILED) broken(std::string("cannot map ") + name);
    ::close(fd);
    return static_cast<std::uint8_t*>(memory);
}

// --- The client ---

// Pages of a pattern, made one by one while segments are: they come to lie between them.
class Canaries {
public:
    void add() {
        if (pages_.size() == 200) return;  // Segments are made at the beginning.
        const std::size_t bytes = 4096 << dice_() % 4;
        void* memory =
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) broken("no memory for a canary");
        std::memset(memory, pattern, bytes);
        pages_.push_back({static_cast<std::uint8_t*>(memory), bytes});
    }
    void check() const {
        for (const auto& [memory, bytes] : pages_)
            for (std::size_t i = 0; i < bytes; ++i)
                if (memory[i] != pattern)
                    broken("the client wrote into memory that is not its own");
    }

private:
    static constexpr std::uint8_t pattern = 0xC5;
    Dice dice_{1};
    std::vector<std::pair<std::uint8_t*, std::size_t>> pages_;
};

// Spans that pass from thread to thread; whoever takes one out ends it or goes on with it.
class Exchange {
public:
    Span swap(Span span, Dice& dice) {
        const std::lock_guard lock(mutex_);
        std::swap(span, spans_[dice() % spans_.size()]);
        return span;
    }

private:
    std::mutex mutex_;
    std::vector<Span> spans_ = std::vector<Span>(300);  // More than a lane has slots.
};

void record(Exchange& exchange, Dice dice, std::atomic<std::uint64_t>& spans) {
    const Tracer tracer = oteld::tracer("scribbled");
    for (unsigned i = dice() % 2000; i > 0; --i) {
        Span span = tracer.span("span", {{"i", i}});
        const unsigned roll = dice() % 1000;
        const std::size_t bytes = roll == 0   ? 70'000 + dice() % 40'000
                                  : roll < 10 ? 14'000 + dice() % 10'000
                                              : dice() % 700;
        span.set("text", std::string(bytes, 'x')).set("i", roll).set("text", "again");
        if (roll % 8 == 0) span.event("event", {{"n", i}}).link(span.context());
        if (roll % 4 == 0) span = exchange.swap(std::move(span), dice);
        spans.fetch_add(1, std::memory_order_relaxed);
    }
}

std::size_t mappings() {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    std::size_t count = 0;
    while (std::getline(maps, line)) ++count;
    return count;
}

[[noreturn]] void be_the_client(std::uint64_t seed, Clock::time_point until, int say) {
    const TracerProvider provider{Settings{}.service("scribbled over")};
    provider.make_global();
    Dice dice(seed + 1);
    Canaries canaries;
    Exchange exchange;
    std::atomic<std::uint64_t> spans{0};
    std::size_t most = 0;
    while (Clock::now() < until) {
        canaries.add();
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&, own = Dice(dice())] { record(exchange, own, spans); });
        canaries.add();
        for (std::thread& thread : threads) thread.join();
        (void)force_flush(std::chrono::milliseconds(1));
        (void)spans_dropped();
        canaries.check();
        most = std::max(most, mappings());
    }
    const std::uint64_t figures[2] = {spans.load(), most};
    if (::write(say, figures, sizeof figures) != sizeof figures) broken("nobody listens");
    std::exit(0);  // With static destructors, as a program that returns from main.
}

// --- The daemon ---

struct Watched {
    std::uint8_t* memory = nullptr;
    shm::SegmentHeader header{};
    std::vector<std::uint64_t> daemon_words;  // What was written there last.
};

constexpr char neighbour_name[] = "00000000000000000000000000000000.ring";

class Scribbler {
public:
    Scribbler(std::uint64_t seed, bool all, int directory)
        : all_(all), directory_(directory), dice_(seed) {
        make_control();
        make_neighbour();
    }

    void round() {
        look_for_segments();
        for (auto& [name, segment] : segments_) {
            for (int i = 0; i < 200; ++i) {
                daemon_pages(segment);
                if (all_) lanes(segment);
                control();
            }
            check(name, segment);
        }
    }
    void check_neighbour() const {
        if (std::memcmp(neighbour_, neighbour_was_.data(), neighbour_was_.size()) != 0)
            broken("the client wrote into another program's ring");
    }
    [[nodiscard]] std::size_t segments() const { return segments_.size(); }
    [[nodiscard]] std::uint64_t scribbles() const { return scribbles_; }

private:
    void make_control() {
        const auto page = std::make_unique<shm::ControlPage>();
        page->magic = shm::control_magic;
        page->major = shm::layout_major;
        page->minor = shm::layout_minor;
        page->header_bytes = sizeof *page;
        page->generation = 1;
        page->sleeping = 1;
        page->content[0].enabled = page->content[1].enabled = 1;
        write_file(shm::control_name, page.get(), sizeof *page);
        control_ = map_file(directory_, shm::control_name, sizeof *page);
    }
    // No client reads it: nothing but a stray write can change it.
    void make_neighbour() {
        neighbour_was_.resize(1 << 20);
        for (char& byte : neighbour_was_) byte = static_cast<char>(dice_());
        write_file(neighbour_name, neighbour_was_.data(), neighbour_was_.size());
        neighbour_ = map_file(directory_, neighbour_name, neighbour_was_.size());
    }
    void write_file(const char* name, const void* data, std::size_t bytes) const {
        const int fd = ::openat(directory_, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0 || ::write(fd, data, bytes) != static_cast<ssize_t>(bytes))
            broken(std::string("cannot write ") + name);
        ::close(fd);
    }

    void look_for_segments() {
        DIR* list = ::fdopendir(::openat(directory_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (list == nullptr) broken("cannot list the directory");
        while (const dirent* entry = ::readdir(list)) {
            const std::string name = entry->d_name;
            if (name.find(shm::ring_suffix) == std::string::npos || name == neighbour_name ||
                segments_.count(name) != 0)
                continue;
            take(name);
        }
        ::closedir(list);
    }
    void take(const std::string& name) {
        struct stat facts {};
        if (::fstatat(directory_, name.c_str(), &facts, 0) != 0) return;
        Watched segment;
        segment.memory =
            map_file(directory_, name.c_str(), static_cast<std::uint64_t>(facts.st_size));
        std::memcpy(&segment.header, segment.memory, sizeof segment.header);
        auto* words =
            reinterpret_cast<std::uint64_t*>(segment.memory + segment.header.daemon_offset);
        segment.daemon_words.assign(words, words + segment.header.daemon_bytes / 8);
        segments_.emplace(name, std::move(segment));
    }

    std::uint64_t nonsense() {
        ++scribbles_;
        return dice_() % 3 == 0 ? dice_() : dice_() % 4096;
    }
    static std::uint64_t load(const void* at) {
        return __atomic_load_n(static_cast<const std::uint64_t*>(at), __ATOMIC_RELAXED);
    }
    static void store(void* at, std::uint64_t value) {
        __atomic_store_n(static_cast<std::uint64_t*>(at), value, __ATOMIC_RELAXED);
    }
    static std::uint8_t* lane(Watched& segment, std::uint32_t index) {
        return segment.memory + segment.header.lanes_offset + segment.header.lane_stride * index;
    }

    void put_daemon_word(Watched& segment, std::uint64_t index, std::uint64_t value) {
        store(segment.memory + segment.header.daemon_offset + index * 8, value);
        segment.daemon_words[index] = value;
    }
    void daemon_pages(Watched& segment) {
        const auto index = static_cast<std::uint32_t>(dice_() % segment.header.lane_count);
        const std::uint64_t cursor_word =
            (sizeof(shm::DaemonSegment) + index * sizeof(shm::DaemonLane)) / 8;
        switch (dice_() % 8) {
            case 0: put_daemon_word(segment, 0, nonsense()); break;
            case 1: put_daemon_word(segment, 1, nonsense()); break;
            case 2:
                put_daemon_word(segment, dice_() % segment.daemon_words.size(), nonsense());
                break;
            case 3: put_daemon_word(segment, cursor_word, nonsense()); break;
            // Mostly neither retired nor off, and drained: or nothing would be recorded for long.
            case 4: put_daemon_word(segment, cursor_word, written(segment, index)); break;
            case 5:  // Nearly right: beyond what was written by a record or so.
                put_daemon_word(segment, cursor_word, written(segment, index) + dice_() % 512);
                break;
            default: put_daemon_word(segment, 0, 0);
        }
    }
    static std::uint64_t written(Watched& segment, std::uint32_t index) {
        return load(lane(segment, index) + segment.header.producer_offset);
    }
    void lanes(Watched& segment) {
        std::uint8_t* at =
            lane(segment, static_cast<std::uint32_t>(dice_() % segment.header.lane_count));
        const std::uint64_t slots = segment.header.slot_count[0] * segment.header.slot_bytes[0];
        switch (dice_() % 4) {
            case 0: store(at + dice_() % (segment.header.lane_stride / 8) * 8, nonsense()); break;
            case 1: store(at + dice_() % (slots / 8) * 8, nonsense()); break;
            case 2:
                store(at + segment.header.producer_offset + dice_() % 21 * 8, nonsense());
                break;
            default:
                if (dice_() % 64 == 0)
                    store(at + segment.header.producer_offset + segment.header.lock_offset,
                          nonsense());
        }
    }
    void control() {
        store(control_ + dice_() % (sizeof(shm::ControlPage) / 8) * 8, nonsense());
        if (dice_() % 4 != 0)
            for (const std::size_t content : {0, 1})
                store(control_ + offsetof(shm::ControlPage, content) +
                          content * sizeof(shm::ControlContent),
                      1);
    }

    void check(const std::string& name, Watched& segment) const {
        const std::uint8_t* daemon = segment.memory + segment.header.daemon_offset;
        for (std::size_t i = 0; i < segment.daemon_words.size(); ++i)
            if (load(daemon + i * 8) != segment.daemon_words[i])
                broken("the client wrote into the daemon's pages of " + name);
        if (std::memcmp(segment.memory, &segment.header, 512) != 0)
            broken("the client wrote into the header of " + name);
        if (all_) return;
        for (std::uint32_t i = 0; i < segment.header.lane_count; ++i) {
            const std::uint8_t* producer = lane(segment, i) + segment.header.producer_offset;
            const auto* from = producer + offsetof(shm::LaneProducer, reserved_1);
            for (const auto* at = from; at < producer + segment.header.lock_offset; ++at)
                if (*at != 0) broken("the client wrote past the records of " + name);
        }
    }

    const bool all_;
    const int directory_;
    Dice dice_;
    std::uint8_t* control_ = nullptr;
    std::uint8_t* neighbour_ = nullptr;
    std::string neighbour_was_;
    std::map<std::string, Watched> segments_;
    std::uint64_t scribbles_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    const char* path = std::getenv("OTELD_DIR");
    const int directory = path == nullptr ? -1 : ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (argc != 4 || directory < 0) {
        std::fprintf(stderr, "scribbling_daemon SEED SECONDS daemon|all, with OTELD_DIR set\n");
        return 1;
    }
    const std::uint64_t seed = std::strtoull(argv[1], nullptr, 10);
    const auto until = Clock::now() + std::chrono::seconds(std::atoi(argv[2]));
    Scribbler scribbler(seed, std::strcmp(argv[3], "all") == 0, directory);
    int pipe[2];
    if (::pipe(pipe) != 0) broken("no pipe");
    const pid_t client = ::fork();
    if (client == 0) be_the_client(seed, until, pipe[1]);
    int status = 0;
    while (::waitpid(client, &status, WNOHANG) == 0) {
        scribbler.round();
        if (Clock::now() < until + std::chrono::minutes(1)) continue;
        ::kill(client, SIGABRT);  // For the debugger, or the sanitizer's word.
        broken("the client hangs");
    }
    scribbler.check_neighbour();
    if (WIFSIGNALED(status)) broken(std::string("the client died: ") + strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        broken("the client ended with " + std::to_string(WEXITSTATUS(status)));
    std::uint64_t figures[2] = {};
    if (::read(pipe[0], figures, sizeof figures) != sizeof figures)
        broken("the client said nothing");
    std::printf("{\"segments\": %zu, \"scribbles\": %lu, \"spans\": %lu, \"mappings\": %lu}\n",
                scribbler.segments(), scribbler.scribbles(), figures[0], figures[1]);
}
