// Runs a small program of several threads in every order that matters: each interleaving of its
// accesses to shared words, each value that a load may see under release and acquire, and the death
// of a process between any two accesses.
//
// Used by: tests/model/*_test.cpp, which run the product's own templates (shm/lane_writer.hpp and
// the like) with `Model` in the place of shm::Hardware. Threads: one; the program's threads are
// fibers.
//
// The memory is the view-based form of C++'s release and acquire: a word keeps every value that was
// stored in it, a thread sees any of them that is not older than what it knows, a release store
// carries what its thread knows, and an acquire load learns that. Loads that are satisfied before
// an earlier load (load buffering) are not modelled. A relaxed store may be seen before earlier
// ones. Bytes of records are plain memory, and a read of bytes that another thread may be writing,
// or has written without an edge in between, is an error.
//
// A death is the kernel's: it happens between two accesses, and whoever notices it (dead()) sees
// all that the process had stored.
//
// States that were met before are not explored again: what a thread does next depends only on what
// it has read so far, so the histories of reads and the contents of the words say it all. Hence the
// rules for a program: the same shared words at the same addresses in each run, no clock and no
// random numbers; and nothing on a thread's stack that owns memory, as a stack is abandoned.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace oteld::model {

class Explorer;

// The program did wrong: ends the exploration. Callable from the product's noexcept functions, as
// it unwinds nothing: the thread is simply not gone on with.
void require(bool holds, const char* what);

struct Bounds {
    unsigned deaths = 0;                    // Of all processes together.
    std::uint64_t states_max = 20'000'000;  // More: the exploration fails, it is not cut short.
};

struct Result {
    std::string violation;  // Empty: none.
    std::string trace;      // The steps that lead to it.
    std::uint64_t states = 0;
    std::uint64_t runs = 0;
    std::uint64_t ended = 0;   // Runs that came to their end, so their final check was made.
    std::uint64_t deaths = 0;  // Of these, in which a process died.
};

class Explorer {
public:
    // `program` is run anew for each order: it makes its shared words, then adds threads.
    [[nodiscard]] static Result explore(const std::function<void(Explorer&)>& program,
                                        const Bounds& bounds);

    // For the program. A process is a group of threads that dies as a whole; `mortal`: it may.
    unsigned process(bool mortal);
    void thread(unsigned process, std::function<void()> body);
    // What traces call a word.
    void name(const void* word, std::string text) { names_[word] = std::move(text); }
    // After the last step of each run, with everything visible.
    void finally(std::function<void()> check) { finally_ = std::move(check); }

    // Inside a thread.
    [[nodiscard]] static Explorer& now() noexcept { return *now_; }
    // Blocks until the process is dead or all its threads have ended; then everything that it
    // did or had seen is visible. True: it died.
    bool wait_for_end(unsigned process);
    // Blocks until the condition holds on the newest values, and learns nothing by it: for a
    // program whose threads would otherwise spin.
    void wait_until(std::function<bool()> condition);

    // shm::Hardware's verbs; Model below calls them.
    std::uint64_t load(const void* word, std::uint64_t initial, bool acquire);
    void store(void* word, std::uint64_t initial, std::uint64_t value, bool release);
    std::uint64_t exchange(void* word, std::uint64_t initial, bool acquire, bool release,
                           const std::function<std::uint64_t(std::uint64_t)>& change);
    void bytes_written(const void* from, std::size_t bytes);
    void bytes_read(const void* from, std::size_t bytes);
    void step_between_bytes() { yield(); }
    // The newest value, for wait_until() and finally().
    [[nodiscard]] std::uint64_t newest(const void* word, std::uint64_t initial) const;

private:
    using View = std::vector<std::uint32_t>;  // By location: the oldest value that may be seen.
    struct Message {
        std::uint64_t value;
        View view;  // Empty: a relaxed store.
    };
    struct Location {
        const void* address = nullptr;
        std::vector<Message> messages;
    };
    struct Fiber {
        unsigned process = 0;
        std::function<void()> body;
        ucontext_t context{};
        std::unique_ptr<char[]> stack;
        View view;
        std::uint64_t history = 0;  // A hash of all that it has read, and how far it is.
        std::function<bool()> condition;
        bool ended = false;
        bool started = false;
    };
    struct Process {
        bool mortal = false;
        bool dead = false;
    };
    struct Choice {
        std::uint32_t taken;
        std::uint32_t of;
    };
    static constexpr std::size_t stack_bytes = 64 << 10;

    void run_once(const std::function<void(Explorer&)>& program);
    std::uint32_t choose(std::uint32_t of);
    bool backtrack();
    void yield();
    friend void require(bool holds, const char* what);
    static void enter();
    [[nodiscard]] std::size_t location(const void* address, std::uint64_t initial);
    [[nodiscard]] bool process_over(unsigned process) const;
    [[nodiscard]] bool runnable(const Fiber& fiber) const;
    [[nodiscard]] std::size_t running_index() const;
    static void join(View& into, const View& other);
    [[nodiscard]] std::uint64_t view_hash(const View& view) const;
    [[nodiscard]] std::uint64_t state() const;
    [[nodiscard]] std::string name(std::size_t at) const;
    [[nodiscard]] Location& known(std::size_t at);  // Widens the running thread's view.
    void note(const std::string& text);

    static Explorer* now_;
    Bounds bounds_;
    std::vector<Choice> choices_;
    std::size_t next_choice_ = 0;
    std::size_t replayed_ = 0;  // Choices of the run before that this one shares.
    std::unordered_set<std::uint64_t> seen_;
    Result result_;

    // Of the run under way.
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<Process> processes_;
    std::map<const void*, std::size_t> index_;
    std::vector<Location> locations_;
    std::map<const void*, std::string> names_;
    std::function<void()> finally_;
    Fiber* running_ = nullptr;
    ucontext_t scheduler_{};
    const char* violation_ = nullptr;
    bool tracing_ = false;
    unsigned deaths_ = 0;
    std::vector<std::unique_ptr<char[]>> stacks_;  // Kept from run to run.
};

// In the place of shm::Hardware.
struct Model {
    template <class T>
    static T load_relaxed(const T& word) {
        return static_cast<T>(Explorer::now().load(&word, word, false));
    }
    template <class T>
    static T load_acquire(const T& word) {
        return static_cast<T>(Explorer::now().load(&word, word, true));
    }
    template <class T>
    static void store_relaxed(T& word, T value) {
        Explorer::now().store(&word, word, value, false);
    }
    template <class T>
    static void store_release(T& word, T value) {
        Explorer::now().store(&word, word, value, true);
    }
    template <class T>
    static T exchange_acquire(T& word, T value) {
        return static_cast<T>(Explorer::now().exchange(&word, word, true, false,
                                                       [=](std::uint64_t) { return value; }));
    }
    template <class T>
    static T fetch_or_release(T& word, T bits) {
        return static_cast<T>(Explorer::now().exchange(
            &word, word, false, true, [=](std::uint64_t old) { return old | bits; }));
    }
    // Record bytes: in two halves, between which anything may happen.
    static void copy_in(void* to, const void* from, std::size_t bytes);
    static void copy_out(void* to, const void* from, std::size_t bytes);
};

// A mistake that tests make on purpose.
struct WithoutRelease : Model {
    template <class T>
    static void store_release(T& word, T value) {
        Model::store_relaxed(word, value);
    }
};

}  // namespace oteld::model
