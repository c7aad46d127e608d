// Records in the ways that `oteld load` does not, until it is killed: spans that end on other
// threads than they began on, big ones, threads that come and go, lanes that grow, children of
// fork().
//
//   restless load --service NAME --threads N --progress FILE --seed N
//
// Takes `oteld load`'s options and keeps its promises, so that tests/integration/lib/load.py can
// audit it: there are N sequences of spans, numbered by load.thread; in each the spans follow one
// another with load.seq 1, 2, 3, ...; word n of the progress file is the last load.seq of sequence
// n whose end() has returned. A sequence belongs to no thread: every step of a span is done by
// whichever thread takes it up. The second half of the sequences is for fork's children, one each.
// What restless.text says is restless.bytes long and one letter only. Exit code 1: it cannot begin.

#include "oteld/client.hpp"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using Dice = std::minstd_rand;

bool one_in(Dice& dice, unsigned n) { return dice() % n == 0; }

void pause_us(unsigned us) { std::this_thread::sleep_for(std::chrono::microseconds(us)); }

// One span after the other.
struct Sequence {
    unsigned number = 0;
    std::uint64_t seq = 0;
    oteld::Span span;
    bool open = false;
};

class Recorder {
public:
    Recorder(oteld::Tracer tracer, std::atomic<std::uint64_t>* progress)
        : tracer_(tracer), progress_(progress) {}

    // The next thing that happens to the sequence's span.
    void step(Sequence& it, Dice& dice) {
        if (!it.open)
            begin(it);
        else if (one_in(dice, 3))
            end(it);
        else
            add(it, dice);
    }
    void begin(Sequence& it) {
        it.span = tracer_.span("restless", {{"load.thread", it.number}, {"load.seq", ++it.seq}});
        it.open = true;
    }
    void end(Sequence& it) {
        it.span.end();
        it.open = false;
        progress_[it.number].store(it.seq, std::memory_order_release);
    }
    static void add(Sequence& it, Dice& dice) {
        switch (dice() % 4) {
            case 0: it.span.event("step", {{"n", it.seq}}); break;
            case 1: it.span.link(it.span.context()).name("renamed"); break;
            default: {
                const std::string text(text_bytes(dice), static_cast<char>('a' + it.seq % 26));
                it.span.set({{"restless.bytes", text.size()}, {"restless.text", text}});
            }
        }
    }

private:
    // Mostly small. Some move the span to a larger slot or to the heap, a few need a larger lane.
    static std::size_t text_bytes(Dice& dice) {
        const unsigned roll = dice() % 1000;
        if (roll == 0) return 70'000 + dice() % 40'000;
        if (roll < 10) return 14'000 + dice() % 10'000;
        if (roll < 60) return 1000 + dice() % 5000;
        return dice() % 200;
    }

    oteld::Tracer tracer_;
    std::atomic<std::uint64_t>* progress_;
};

// Threads that take a sequence each, do one step with it and put it back; after some steps they
// end, and others take their places.
class Crowd {
public:
    Crowd(Recorder& recorder, unsigned sequences, unsigned seed)
        : recorder_(recorder), dice_(seed), all_(sequences) {
        // Number 0 is the main thread's.
        for (unsigned i = 1; i < sequences; ++i) {
            all_[i].number = i;
            idle_.push_back(&all_[i]);
        }
    }
    void top_up() {
        const unsigned wanted = 1 + dice_() % 8;
        while (living_ < wanted) {
            ++living_;
            std::thread([this, seed = dice_()] { run(Dice(seed)); }).detach();
        }
    }

private:
    void run(Dice dice) {
        for (unsigned steps = dice() % 300; steps > 0; --steps) {
            if (Sequence* it = take(dice)) {
                recorder_.step(*it, dice);
                put(it);
            }
            if (one_in(dice, 8)) pause_us(dice() % 200);
        }
        --living_;
    }
    Sequence* take(Dice& dice) {
        const std::lock_guard lock(mutex_);
        if (idle_.empty()) return nullptr;
        std::swap(idle_[dice() % idle_.size()], idle_.back());
        Sequence* it = idle_.back();
        idle_.pop_back();
        return it;
    }
    void put(Sequence* it) {
        const std::lock_guard lock(mutex_);
        idle_.push_back(it);
    }

    Recorder& recorder_;
    Dice dice_;
    std::vector<Sequence> all_;
    std::atomic<unsigned> living_{0};
    std::mutex mutex_;
    std::vector<Sequence*> idle_;
};

// A child dies with its parent, or leaves by itself with its last span open.
[[noreturn]] void be_a_child(Recorder& recorder, unsigned number, Sequence& inherited, Dice dice) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    inherited.span.set("inherited", true);
    inherited.span.end();  // Does nothing: it is the parent's.
    Sequence own;
    own.number = number;
    for (unsigned steps = 20 + dice() % 200; steps > 0; --steps) {
        recorder.step(own, dice);
        if (one_in(dice, 4)) pause_us(dice() % 300);
    }
    if (!own.open) recorder.begin(own);
    _exit(0);
}

std::atomic<std::uint64_t>* map_progress(const std::string& path, unsigned words) {
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || ftruncate(file, static_cast<off_t>(words * sizeof(std::uint64_t))) != 0)
        return nullptr;
    void* map =
        mmap(nullptr, words * sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return map == MAP_FAILED ? nullptr : static_cast<std::atomic<std::uint64_t>*>(map);
}

}  // namespace

int main(int argc, char** argv) {
    std::map<std::string, std::string> options;
    for (int i = 2; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
    const auto number = [&](const char* name) {
        return static_cast<unsigned>(std::strtoul(options[name].c_str(), nullptr, 10));
    };
    const unsigned sequences = number("--threads");
    std::atomic<std::uint64_t>* progress = map_progress(options["--progress"], sequences);
    if (progress == nullptr || sequences < 4) {
        std::fprintf(stderr, "restless: it needs --threads 4 or more, and --progress FILE\n");
        return 1;
    }
    const oteld::TracerProvider provider{oteld::Settings{}.service(options["--service"])};
    Recorder recorder(provider.tracer("restless"), progress);
    Dice dice(number("--seed"));
    Crowd crowd(recorder, sequences / 2, number("--seed") + 1);
    Sequence own;
    for (unsigned next_child = sequences / 2;;) {
        recorder.begin(own);
        crowd.top_up();
        if (next_child < sequences && one_in(dice, 4)) {
            const unsigned child = next_child++;
            if (fork() == 0) be_a_child(recorder, child, own, dice);
        }
        Recorder::add(own, dice);
        recorder.end(own);
        while (waitpid(-1, nullptr, WNOHANG) > 0) continue;
        pause_us(dice() % 2000);
    }
}
