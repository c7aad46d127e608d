// Functions that take their context with them: threads, futures, a pool.
#include "async_fixture.hpp"
#include "ring_fixture.hpp"

#include "oteld/api.hpp"
#include "oteld/bind.hpp"

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace oteld::test {
namespace {

// As small as a pool can be: one thread, which runs what it is given.
class Pool {
public:
    ~Pool() {
        post({});
        thread_.join();
    }
    void post(std::function<void()> job) {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
        changed_.notify_one();
    }

private:
    void run() {
        for (;;) {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return !jobs_.empty(); });
            const std::function<void()> job = std::move(jobs_.front());
            jobs_.pop_front();
            lock.unlock();
            if (!job) return;
            job();
        }
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> jobs_;
    std::thread thread_{[this] { run(); }};
};

// What the tests below ask of the rings: spans called "work" are children of "parent".
void check_children(const Rings& rings, std::size_t count) {
    check_balance(rings);
    std::size_t found = 0;
    for (const ReadSpan& span : rings.spans) {
        if (span.name != "work") continue;
        CHECK(span.parent_id == rings.span("parent").span_id);
        ++found;
    }
    CHECK(found == count);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

}  // namespace

TEST_CASE("a bound function takes span and values to a thread, a jthread, a future and a pool") {
    const Rings rings = in_child([] {
        const auto values = attach(current().with(number_key, 7));
        auto parent = test_tracer().scope("parent");
        const auto work = [] {
            EXPECT(number() == 7);
            (void)test_tracer().scope("work");
        };
        std::thread(bind(work)).join();
#if defined(__cpp_lib_jthread)  // libc++ 19 has none.
        std::jthread(bind([&work](const std::stop_token&) { work(); })).join();
#else
        work();
#endif
        std::async(std::launch::async, bind(work)).get();
        Pool pool;
        std::promise<void> done;
        pool.post(bind(work));
        // Unbound, behind it, on the same thread: nothing is left there.
        pool.post([&done] {
            EXPECT(nothing_current());
            done.set_value();
        });
        done.get_future().wait();
    });
    check_children(rings, 4);
}

TEST_CASE("a bound function may be movable only, take and return anything, and be constant") {
    const Rings rings = in_child([] {
        const Context context = Context().with(number_key, 3);
        auto owner = bind(context, [owned = std::make_unique<int>(4)](std::unique_ptr<int> given) {
            *given += *owned + number();
            return given;
        });
        static_assert(!std::is_copy_constructible_v<decltype(owner)>);
        EXPECT(*owner(std::make_unique<int>(10)) == 17);
        EXPECT(*std::move(owner)(std::make_unique<int>(20)) == 27);
        int target = 0;
        const auto reference = bind(context, [&target]() -> int& { return target; });
        reference() = 5;
        EXPECT(target == 5);
        struct Thing {
            int member;
        } thing{4};
        EXPECT(bind(context, &Thing::member)(thing) == 4);
        static_assert(!std::is_invocable_v<decltype(owner), int>);
        EXPECT(nothing_current());
    });
    check_balance(rings);
}

TEST_CASE("an exception leaves a bound function with its context detached") {
    const Rings rings = in_child([] {
        bool caught = false;
        try {
            bind(Context().with(number_key, 1), [] {
                const auto inner = test_tracer().scope("left");
                throw std::runtime_error("gone");
            })();
        } catch (const std::runtime_error&) {
            caught = nothing_current();
        }
        EXPECT(caught);
    });
    check_balance(rings);
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("completions that follow a bound function do not inherit its context") {
    const Rings rings = in_child([] {
        Pool pool;
        std::promise<void> done;
        const auto job = [work = bind(Context().with(number_key, 1), [] { return number(); }),
                          &done] {
            EXPECT(work() == 1);
            EXPECT(nothing_current());  // Where a pool would call what waits for the result.
            done.set_value();
        };
        pool.post(job);
        done.get_future().wait();
    });
    check_balance(rings);
}

TEST_CASE("work that outlives its parent's end is still its child, in a chain of threads") {
    const Rings rings = in_child([] {
        std::promise<void> ended;
        std::thread worker;
        {
            auto parent = test_tracer().scope("parent");
            worker = std::thread(bind([after = ended.get_future().share()] {
                after.wait();
                std::thread(bind([] { (void)test_tracer().scope("work"); })).join();
                (void)test_tracer().scope("work");
            }));
        }
        EXPECT(nothing_current());
        ended.set_value();
        worker.join();
    });
    check_children(rings, 2);
}

TEST_CASE("one bound function may run on many threads at once") {
    const Rings rings = in_child([] {
        auto parent = test_tracer().scope("parent");
        const auto work = bind([] {
            for (int i = 0; i < 50; ++i) (void)test_tracer().scope("work");
        });
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) threads.emplace_back(std::cref(work));
        for (std::thread& thread : threads) thread.join();
    });
    check_children(rings, 200);
}

}  // namespace oteld::test
