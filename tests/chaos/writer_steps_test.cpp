// Deaths of an application at every instruction that it executes.
//
// The daemon's own intake recovers a copy of the rings at each instruction boundary at which they
// differ from the one before: to the daemon, a death there is the same as that copy with its
// liveness words marked, which the kernel does. Some of the deaths are real ones, by SIGKILL.

#include "stepped.hpp"
#include "told.hpp"

#include "tests/unit/daemon/fake_host.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

using namespace oteld;
using namespace oteld::test;

namespace {

struct Story {
    const char* name;
    std::function<void(Script&)> tell;
    Settings settings = {};
    std::vector<std::pair<std::string, std::string>> environment = {};
    bool long_form_only = false;
    bool drained_before = false;  // The daemon drains the rings before the steps begin.
};

// As the kernel marks the liveness words of a process that dies.
void mark_dead(std::vector<std::uint8_t>& segment) {
    shm::SegmentHeader header;
    std::memcpy(&header, segment.data(), sizeof header);
    for (std::uint32_t lane = 0; lane < header.lane_count; ++lane) {
        std::uint8_t* at = segment.data() + header.lanes_offset + header.lane_stride * lane +
                           header.producer_offset + header.lock_offset;
        std::uint32_t word = 0;
        std::memcpy(&word, at, sizeof word);
        if ((word & shm::lock_tid_mask) != 0) std::memcpy(at, &shm::lock_owner_died, sizeof word);
    }
}

// The rings in a directory, and what has been told, since they were last looked at.
class Watched {
public:
    Watched(std::string directory, const Told& told)
        : directory_(std::move(directory)), told_(told) {}
    ~Watched() {
        for (const File& file : files_)
            ::munmap(const_cast<std::uint8_t*>(file.memory), file.bytes);
    }
    Watched(const Watched&) = delete;
    Watched& operator=(const Watched&) = delete;

    [[nodiscard]] bool changed() {
        bool any = find_new();
        for (File& file : files_) {
            if (std::memcmp(file.seen.data(), file.memory, file.bytes) == 0) continue;
            std::memcpy(file.seen.data(), file.memory, file.bytes);
            any = true;
        }
        if (std::memcmp(told_seen_.data(), &told_, sizeof told_) == 0) return any;
        std::memcpy(told_seen_.data(), &told_, sizeof told_);
        return true;
    }
    void copy_to(const std::string& directory) const {
        for (const File& file : files_) {
            std::vector<std::uint8_t> dead = file.seen;
            mark_dead(dead);
            const shm::UniqueFd to(::open((directory + '/' + file.name).c_str(),
                                          O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
            REQUIRE(::write(to.get(), dead.data(), dead.size()) ==
                    static_cast<ssize_t>(dead.size()));
        }
    }

private:
    struct File {
        std::string name;
        const std::uint8_t* memory;
        std::size_t bytes;
        std::vector<std::uint8_t> seen;
    };

    // A directory changes when a name does.
    bool find_new() {
        struct stat now {};
        REQUIRE(::stat(directory_.c_str(), &now) == 0);
        if (now.st_mtim.tv_sec == changed_at_.tv_sec && now.st_mtim.tv_nsec == changed_at_.tv_nsec)
            return false;
        changed_at_ = now.st_mtim;
        bool any = false;
        for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
            const std::string name = entry.path().filename();
            const auto known = [&name](const File& file) { return file.name == name; };
            if (entry.path().extension() != shm::ring_suffix ||
                std::any_of(files_.begin(), files_.end(), known))
                continue;
            const shm::UniqueFd fd(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
            const std::size_t bytes = entry.file_size();
            void* memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
            REQUIRE(memory != MAP_FAILED);
            files_.push_back({name, static_cast<const std::uint8_t*>(memory), bytes, {}});
            files_.back().seen.assign(files_.back().memory, files_.back().memory + bytes);
            any = true;
        }
        return any;
    }

    std::string directory_;
    const Told& told_;
    timespec changed_at_{};
    std::vector<File> files_;
    std::array<std::uint8_t, sizeof(Told)> told_seen_{};
};

// The counters of processes that are gone, over all rows.
struct Gone {
    std::uint64_t begun = 0, drained = 0, other = 0;

    explicit Gone(Host& host) {
        for (std::uint32_t i = 0; i < daemon::application_rows_max; ++i) {
            if (!host.spool.spool->rows().used(i)) continue;
            const daemon::ApplicationRow& row = host.spool.spool->rows().row(i);
            begun += row.gone_begun;
            drained += row.gone_drained;
            other += row.gone_malformed + row.malformed + row.skipped;
            for (const std::uint64_t dropped : row.gone_dropped) other += dropped;
        }
    }
};

// What is wrong with what the daemon makes of its directory, in which all are dead. `before`: spans
// that had been drained already.
std::string recover(Host& host, const Told& told, std::vector<shm::Span> before = {}) {
    const Gone was(host);
    for (int i = 0; i < 4; ++i) host.round();
    const Gone is(host);
    std::vector<shm::Span> spans = host.spans();
    spans.insert(spans.end(), before.begin(), before.end());
    std::string wrong = judge(told, spans);
    if (!host.intake->segments().empty()) wrong += "rings of the dead are left; ";
    if (is.drained - was.drained != spans.size()) wrong += "the ledger has another number; ";
    if (is.other != was.other) wrong += "spans were dropped, skipped or malformed; ";
    const std::uint64_t lost = is.begun - was.begun - (is.drained - was.drained);
    if (lost > beginning(told)) wrong += "lost: " + std::to_string(lost) + "; ";
    host.settle_all();
    return wrong;
}

std::function<void()> child_of(const Story& story, const std::string& directory, Told& told) {
    return [&story, directory, &told] {
        ::setenv("OTELD_DIR", directory.c_str(), 1);
        for (const auto& [name, value] : story.environment)
            ::setenv(name.c_str(), value.c_str(), 1);
        Script script(told, story.settings);
        story.tell(script);
    };
}

Counts die_at_every_instruction(const Story& story) {
    Host living;
    Host grave;
    Told& told = new_told();
    Stepped child(child_of(story, living.spool.directory.path, told));
    Watched watched(living.spool.directory.path, told);
    Counts counts;
    const auto die = [&] {
        ++counts.deaths;
        watched.copy_to(grave.spool.directory.path);
        const std::string wrong = recover(grave, told, living.spans());
        REQUIRE_MESSAGE(wrong.empty(), wrong, "at instruction ", counts.instructions);
    };
    while (child.run_to_steps()) {
        if (story.drained_before) living.round();
        do {
            if (watched.changed() && counts.worth_a_death()) die();
            ++counts.instructions;
        } while (child.step());
    }
    (void)watched.changed();
    die();
    return counts;
}

void die_for_real(const Story& story, std::uint64_t at) {
    Host host;
    Told& told = new_told();
    Stepped child(child_of(story, host.spool.directory.path, told));
    for (std::uint64_t steps = 0; steps < at && child.run_to_steps();) {
        if (story.drained_before) host.round();
        while (++steps < at && child.step()) continue;
    }
    child.kill();
    const std::string wrong = recover(host, told);
    REQUIRE_MESSAGE(wrong.empty(), wrong, "killed at instruction ", at);
}

void whole(Script& script, unsigned first, unsigned last, std::size_t bytes) {
    for (unsigned i = first; i <= last; ++i) script.whole(i, 1, bytes);
}

const Settings one_small_lane = Settings{}.lanes(1).lane_size(16 << 10);
const Settings only_one_small_lane = Settings{}.lanes(1).lane_size(16 << 10).growth(false);

void first_spans(Script& script) {
    begin_steps();
    script.whole(1);
    script.whole(2);
    end_steps();
}

void a_span_that_grows(Script& script) {
    whole(script, 1, 3, 10);
    begin_steps();
    Span span = script.begin(4);
    script.set(4, span);
    script.event(4, span);
    script.set(4, span, 600);   // To a slot of 4 KiB.
    script.set(4, span, 4000);  // To one of 16 KiB.
    script.end(4, span);
    script.whole(5);
    end_steps();
}

void around_the_end_of_the_lane(Script& script) {
    whole(script, 1, 12, 1000);
    begin_steps();
    whole(script, 13, 18, 900);
    end_steps();
}

void an_overflowing_lane(Script& script) {
    whole(script, 1, 12, 1000);
    begin_steps();
    whole(script, 13, 17, 1000);
    end_steps();
}

void a_span_too_large_for_its_lane(Script& script) {
    script.whole(1);
    Span span = script.begin(2);
    script.set(2, span, 9000);
    begin_steps();
    script.end(2, span);
    end_steps();
}

void threads_that_end(Script& script) {
    script.whole(1);
    std::vector<Span> open;
    std::thread([&] {
        begin_steps();  // To the thread's last instruction.
        script.whole(2);
        open.push_back(script.begin(3));
        script.set(3, open[0]);
    }).join();
    std::thread([&] {
        begin_steps();
        script.whole(4);
        script.end(3, open[0]);
    }).join();
}

void a_span_that_ends_elsewhere(Script& script) {
    Span span = script.begin(1);
    script.set(1, span);
    std::thread([&] {
        begin_steps();
        script.set(1, span);
        script.end(1, span);
        end_steps();
    }).join();
    begin_steps();
    script.whole(2);
    end_steps();
}

void more_open_spans_than_slots(Script& script) {
    auto& open = *new std::vector<Span>;  // Left open: no destructor may end them.
    for (unsigned i = 0; i < 31; ++i) open.push_back(script.begin(i));
    begin_steps();
    for (unsigned i = 31; i < 34; ++i) open.push_back(script.begin(i));
    script.set(33, open[33]);
    script.end(33, open[33]);
    script.whole(34);
    end_steps();
}

void attributes_beyond_the_limit(Script& script) {
    script.whole(1);
    begin_steps();
    Span span = script.begin(2);
    for (int i = 0; i < 5; ++i) script.set(2, span);
    script.end(2, span);
    script.whole(3);
    end_steps();
}

void a_child_of_fork(Script& script) {
    script.whole(1);
    Span inherited = script.begin(2);
    const pid_t child = ::fork();
    if (child == 0) {
        begin_steps();
        script.whole(3);
        inherited.end();  // It is the parent's.
        script.whole(4);
        end_steps();
        ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    script.end(2, inherited);
}

const std::vector<Story> stories = {
    {"a thread's first spans: a ring is made, a lane is claimed", first_spans},
    {"a span that grows from slot to slot", a_span_that_grows},
    {"around the end of the lane",
     around_the_end_of_the_lane,
     only_one_small_lane,
     {},
     false,
     true},
    {"an overflowing lane", an_overflowing_lane, one_small_lane},
    {"a span too large for its lane", a_span_too_large_for_its_lane, one_small_lane},
    {"threads that end, and their lane's next owner", threads_that_end},
    {"a span that ends on another thread", a_span_that_ends_elsewhere},
    {"more open spans than slots", more_open_spans_than_slots, {}, {}, true},
    {"attributes beyond the limit",
     attributes_beyond_the_limit,
     {},
     {{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3"}}},
    {"a child of fork", a_child_of_fork, {}, {}, true},
};

}  // namespace

TEST_CASE("an application may die at any instruction") {
    if (!can_step()) return;
    for (const Story& story : stories) {
        if (story.long_form_only && !long_form()) continue;
        const std::string name = story.name;
        CAPTURE(name);
        const Counts counts = die_at_every_instruction(story);
        // Each steps through half of the story on the average.
        const std::uint64_t kills =
            std::min<std::uint64_t>((long_form() ? 1'500'000 : 15'000) / counts.instructions, 200);
        for (std::uint64_t i = 0; i < kills; ++i)
            die_for_real(story, counts.instructions * (2 * i + 1) / (2 * kills));
        MESSAGE(name, ": ", counts.instructions, " instructions, ", counts.changes,
                " of them changed something, ", counts.deaths, " deaths there, ", kills,
                " more by SIGKILL");
    }
}
