#include "tests/model/explorer.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace oteld::model {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15ULL;
    return hash ^ hash >> 29;
}

// The address that stands for a thread's reads of a unit of bytes.
const void* reads_of(const char* unit, std::size_t thread) {
    require(thread < 7, "at most 7 threads");
    return unit + 1 + thread;
}

}  // namespace

Explorer* Explorer::now_ = nullptr;

void require(bool holds, const char* what) {
    if (holds) return;
    Explorer& explorer = Explorer::now();
    if (explorer.violation_ == nullptr) explorer.violation_ = what;
    if (explorer.running_ != nullptr)
        swapcontext(&explorer.running_->context, &explorer.scheduler_);
}

Result Explorer::explore(const std::function<void(Explorer&)>& program, const Bounds& bounds) {
    Explorer explorer;
    explorer.bounds_ = bounds;
    now_ = &explorer;
    do {
        explorer.run_once(program);
        ++explorer.result_.runs;
        if (explorer.violation_) {
            explorer.result_.violation = explorer.violation_;
            explorer.tracing_ = true;  // The same order again, written down.
            explorer.run_once(program);
            break;
        }
        if (explorer.seen_.size() > bounds.states_max) {
            explorer.result_.violation = "more states than the bound";
            break;
        }
    } while (explorer.backtrack());
    explorer.result_.states = explorer.seen_.size();
    now_ = nullptr;
    return explorer.result_;
}

unsigned Explorer::process(bool mortal) {
    processes_.push_back({mortal, false});
    return static_cast<unsigned>(processes_.size() - 1);
}

void Explorer::thread(unsigned process, std::function<void()> body) {
    auto fiber = std::make_unique<Fiber>();
    fiber->process = process;
    fiber->body = std::move(body);
    fibers_.push_back(std::move(fiber));
}

// One order, given by choices_ as far as they go and by the first choice everywhere behind that.
void Explorer::run_once(const std::function<void(Explorer&)>& program) {
    for (std::unique_ptr<Fiber>& fiber : fibers_)
        if (fiber->stack) stacks_.push_back(std::move(fiber->stack));
    fibers_.clear();
    processes_.clear();
    index_.clear();
    locations_.clear();
    finally_ = nullptr;
    running_ = nullptr;
    violation_ = nullptr;
    deaths_ = 0;
    next_choice_ = 0;
    program(*this);
    for (;;) {
        std::vector<std::size_t> options;  // Fibers, then processes to kill.
        for (std::size_t i = 0; i < fibers_.size(); ++i)
            if (runnable(*fibers_[i])) options.push_back(i);
        const std::size_t kills_from = options.size();
        if (deaths_ < bounds_.deaths)
            for (std::size_t p = 0; p < processes_.size(); ++p)
                if (processes_[p].mortal && !process_over(static_cast<unsigned>(p)))
                    options.push_back(p);
        if (kills_from == 0) {
            const bool all_ended = std::all_of(fibers_.begin(), fibers_.end(), [&](const auto& f) {
                return f->ended || processes_[f->process].dead;
            });
            if (!all_ended) {
                violation_ = "nobody can go on";
                return;
            }
            break;
        }
        const std::size_t choice = choose(static_cast<std::uint32_t>(options.size()));
        if (choice >= kills_from) {
            processes_[options[choice]].dead = true;
            ++deaths_;
            if (tracing_) note("process " + std::to_string(options[choice]) + " dies");
        } else {
            Fiber& fiber = *fibers_[options[choice]];
            running_ = &fiber;
            if (!fiber.started) {
                fiber.started = true;
                if (!stacks_.empty()) {
                    fiber.stack = std::move(stacks_.back());
                    stacks_.pop_back();
                } else {
                    fiber.stack = std::make_unique<char[]>(stack_bytes);
                }
                getcontext(&fiber.context);
                fiber.context.uc_stack.ss_sp = fiber.stack.get();
                fiber.context.uc_stack.ss_size = stack_bytes;
                fiber.context.uc_link = &scheduler_;
                makecontext(&fiber.context, &Explorer::enter, 0);
            }
            swapcontext(&scheduler_, &fiber.context);
            running_ = nullptr;
            if (violation_) return;
        }
        // A state that another order has led to already: what follows is known.
        if (!tracing_ && next_choice_ > replayed_ && !seen_.insert(state()).second) return;
    }
    if (!tracing_) ++result_.ended;
    if (!tracing_ && deaths_ != 0) ++result_.deaths;
    if (finally_) finally_();
}

void Explorer::enter() {
    Explorer& explorer = *now_;
    Fiber& fiber = *explorer.running_;
    fiber.body();
    fiber.ended = true;
}

std::uint32_t Explorer::choose(std::uint32_t of) {
    if (of == 1) return 0;
    if (next_choice_ == choices_.size()) choices_.push_back({0, of});
    Choice& choice = choices_[next_choice_++];
    if (choice.of != of) throw std::logic_error("the program is not the same in each run");
    return choice.taken;
}

bool Explorer::backtrack() {
    choices_.resize(next_choice_);
    while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().of)
        choices_.pop_back();
    if (choices_.empty()) return false;
    ++choices_.back().taken;
    replayed_ = choices_.size() - 1;
    return true;
}

// Before each access: here the others may run.
void Explorer::yield() {
    Fiber& fiber = *running_;
    fiber.history = mix(fiber.history, 1);
    swapcontext(&fiber.context, &scheduler_);
}

std::size_t Explorer::running_index() const {
    const auto at = std::find_if(fibers_.begin(), fibers_.end(),
                                 [this](const auto& fiber) { return fiber.get() == running_; });
    return static_cast<std::size_t>(at - fibers_.begin());
}

void Explorer::note(const std::string& text) {
    if (running_ != nullptr) result_.trace += "thread " + std::to_string(running_index()) + " ";
    result_.trace += text + "\n";
}

std::string Explorer::name(std::size_t at) const {
    const auto named = names_.find(locations_[at].address);
    return named != names_.end() ? named->second : "word " + std::to_string(at);
}

std::size_t Explorer::location(const void* address, std::uint64_t initial) {
    const auto [found, added] = index_.try_emplace(address, locations_.size());
    if (added) locations_.push_back({address, {{initial, {}}}});
    return found->second;
}

Explorer::Location& Explorer::known(std::size_t at) {
    if (running_->view.size() <= at) running_->view.resize(at + 1);
    return locations_[at];
}

void Explorer::join(View& into, const View& other) {
    if (into.size() < other.size()) into.resize(other.size());
    for (std::size_t i = 0; i < other.size(); ++i) into[i] = std::max(into[i], other[i]);
}

std::uint64_t Explorer::load(const void* word, std::uint64_t initial, bool acquire) {
    yield();
    Fiber& fiber = *running_;
    const std::size_t at = location(word, initial);
    Location& place = known(at);
    const auto newest_index = static_cast<std::uint32_t>(place.messages.size() - 1);
    // The newest first, so that the first run of all is the ordinary one.
    const std::uint32_t seen = newest_index - choose(newest_index - fiber.view[at] + 1);
    fiber.view[at] = seen;
    const Message& message = place.messages[seen];
    if (acquire) join(fiber.view, message.view);
    fiber.history = mix(fiber.history, message.value + 0x100);
    if (tracing_)
        note("loads " + name(at) + ": " + std::to_string(message.value) +
             (seen == newest_index ? "" : " (an old value)"));
    return message.value;
}

void Explorer::store(void* word, std::uint64_t initial, std::uint64_t value, bool release) {
    yield();
    Fiber& fiber = *running_;
    const std::size_t at = location(word, initial);
    Location& place = known(at);
    fiber.view[at] = static_cast<std::uint32_t>(place.messages.size());
    place.messages.push_back({value, release ? fiber.view : View()});
    if (tracing_) note("stores " + name(at) + ": " + std::to_string(value));
}

std::uint64_t Explorer::exchange(void* word, std::uint64_t initial, bool acquire, bool release,
                                 const std::function<std::uint64_t(std::uint64_t)>& change) {
    yield();
    Fiber& fiber = *running_;
    const std::size_t at = location(word, initial);
    Location& place = known(at);
    const std::uint64_t old = place.messages.back().value;
    const View carried = place.messages.back().view;  // A release sequence goes on.
    if (acquire) join(fiber.view, carried);
    fiber.view[at] = static_cast<std::uint32_t>(place.messages.size());
    Message message{change(old), carried};
    if (release) join(message.view, fiber.view);
    place.messages.push_back(std::move(message));
    fiber.history = mix(fiber.history, old + 0x100);
    if (tracing_)
        note("exchanges " + name(at) + ": " + std::to_string(old) + " for " +
             std::to_string(place.messages.back().value));
    return old;
}

std::uint64_t Explorer::newest(const void* word, std::uint64_t initial) const {
    const auto found = index_.find(word);
    return found == index_.end() ? initial : locations_[found->second].messages.back().value;
}

// Plain bytes, by units of 8. A unit is a word whose values are its writes; each thread's reads of
// it are a word of that thread's own, so that a writer can be asked whether it knows of them all.
void Explorer::bytes_written(const void* from, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += 8) {
        const auto* unit = static_cast<const char*>(from) + i;
        const std::size_t at = location(unit, 0);
        Location& place = known(at);
        require(running_->view[at] + 1 == place.messages.size(),
                "bytes are written that another thread may still be writing");
        for (std::size_t other = 0; other < fibers_.size(); ++other) {
            const auto reads = index_.find(reads_of(unit, other));
            if (reads == index_.end() || fibers_[other].get() == running_) continue;
            const Location& read = known(reads->second);
            require(processes_[fibers_[other]->process].dead ||
                        running_->view[reads->second] + 1 == read.messages.size(),
                    "bytes are written that another thread may still be reading");
        }
        Location& written = known(at);
        running_->view[at] = static_cast<std::uint32_t>(written.messages.size());
        written.messages.push_back({running_->history, {}});
    }
}

void Explorer::bytes_read(const void* from, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += 8) {
        const auto* unit = static_cast<const char*>(from) + i;
        const std::size_t at = location(unit, 0);
        const std::size_t own = location(reads_of(unit, running_index()), 0);
        require(known(at).messages.size() == running_->view[at] + 1,
                "bytes are read that another thread may still be writing");
        Location& reads = known(own);
        running_->view[own] = static_cast<std::uint32_t>(reads.messages.size());
        reads.messages.push_back({running_->history, {}});
    }
}

bool Explorer::process_over(unsigned process) const {
    if (processes_[process].dead) return true;
    return std::all_of(fibers_.begin(), fibers_.end(),
                       [&](const auto& f) { return f->process != process || f->ended; });
}

bool Explorer::runnable(const Fiber& fiber) const {
    return !fiber.ended && !processes_[fiber.process].dead &&
           (!fiber.condition || fiber.condition());
}

bool Explorer::wait_for_end(unsigned process) {
    Fiber& fiber = *running_;
    fiber.condition = [this, process] { return process_over(process); };
    yield();
    fiber.condition = nullptr;
    const bool died = processes_[process].dead;
    // The kernel orders a death, as a join the end of a thread, before whoever notices it.
    for (const std::unique_ptr<Fiber>& other : fibers_)
        if (other->process == process) join(fiber.view, other->view);
    fiber.history = mix(fiber.history, died ? 3 : 2);
    if (tracing_) note(died ? "sees the death" : "sees the end");
    return died;
}

void Explorer::wait_until(std::function<bool()> condition) {
    Fiber& fiber = *running_;
    fiber.condition = std::move(condition);
    yield();
    fiber.condition = nullptr;
}

// Places are known by their addresses, not by the order in which they were met.
std::uint64_t Explorer::view_hash(const View& view) const {
    std::uint64_t hash = 0;
    for (std::size_t i = 0; i < view.size(); ++i)
        if (view[i] != 0)
            hash += mix(reinterpret_cast<std::uintptr_t>(locations_[i].address), view[i]);
    return hash;
}

std::uint64_t Explorer::state() const {
    std::uint64_t hash = 0;
    for (const std::unique_ptr<Fiber>& fiber : fibers_) {
        hash = mix(hash, fiber->history);
        hash = mix(hash, fiber->ended ? 5 : 4);
        hash = mix(hash, view_hash(fiber->view));
    }
    for (const Process& process : processes_) hash = mix(hash, process.dead ? 7 : 6);
    std::uint64_t words = 0;
    for (const Location& location : locations_) {
        if (location.messages.size() == 1) continue;
        std::uint64_t word = reinterpret_cast<std::uintptr_t>(location.address);
        for (const Message& message : location.messages)
            word = mix(mix(word, message.value), view_hash(message.view));
        words += word;
    }
    return mix(hash, words);
}

namespace {
std::size_t first_half(std::size_t bytes) { return bytes / 16 * 8; }
}  // namespace

void Model::copy_in(void* to, const void* from, std::size_t bytes) {
    Explorer& explorer = Explorer::now();
    const std::size_t half = first_half(bytes);
    explorer.bytes_written(to, half);
    std::memcpy(to, from, half);
    explorer.step_between_bytes();
    explorer.bytes_written(static_cast<char*>(to) + half, bytes - half);
    std::memcpy(static_cast<char*>(to) + half, static_cast<const char*>(from) + half, bytes - half);
}

void Model::copy_out(void* to, const void* from, std::size_t bytes) {
    Explorer& explorer = Explorer::now();
    const std::size_t half = first_half(bytes);
    explorer.bytes_read(from, half);
    std::memcpy(to, from, half);
    explorer.step_between_bytes();
    explorer.bytes_read(static_cast<const char*>(from) + half, bytes - half);
    std::memcpy(static_cast<char*>(to) + half, static_cast<const char*>(from) + half, bytes - half);
}

}  // namespace oteld::model
