// Which span each thread is in, for profilers: what a thread's record says while contexts come and
// go, seen by the thread itself and from outside while it is stopped.
// OTEP 4947
#include "outside.hpp"
#include "ring_fixture.hpp"

#include "oteld/api.hpp"
#include "oteld/context_stack.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

// The client's, as any reader knows it.
extern "C" __thread void* otel_thread_ctx_v1;

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

struct Record {
    std::uint8_t trace_id[16];
    std::uint8_t span_id[8];
    std::uint8_t valid;
    std::uint8_t flags;
    std::uint16_t attribute_bytes;
};
static_assert(sizeof(Record) == 28);

// Of the calling thread. Volatile: it is to be looked at anew each time.
Record record() {
    Record copy{};
    const auto* from = static_cast<const volatile std::uint8_t*>(otel_thread_ctx_v1);
    for (std::size_t i = 0; from != nullptr && i < sizeof copy; ++i)
        reinterpret_cast<std::uint8_t*>(&copy)[i] = from[i];
    return copy;
}

bool says(const Record& record, const SpanContext& span) {
    return record.valid == 1 && std::memcmp(record.trace_id, span.trace_id(), 16) == 0 &&
           std::memcmp(record.span_id, span.span_id(), 8) == 0 && record.flags == span.flags() &&
           record.attribute_bytes == 0;
}
bool says_nothing() { return record().valid != 1; }
bool says_what_is_current() {
    const SpanContext now = current_span();
    return now.valid() ? says(record(), now) : says_nothing();
}

SpanContext remote(std::uint8_t id, std::uint8_t flags, std::uint8_t span = 1,
                   std::uint8_t id_end = 0) {
    std::uint8_t trace_id[16] = {id};
    trace_id[15] = id_end;
    const std::uint8_t span_id[8] = {span};
    return {trace_id, span_id, flags, true};
}

volatile std::sig_atomic_t signals = 0;
void attach_in_handler(int) {
    const auto scope = attach(remote(9, 1));
    signals = signals + 1;
}

// Where the pointer of a thread of this program is, from the thread's own pointer.
std::uint64_t thread_pointer_to_pointer() {
    return reinterpret_cast<std::uintptr_t>(&otel_thread_ctx_v1) -
           reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer());
}

// The thread pointer of one that is stopped. 0: not to be had.
std::uint64_t thread_pointer(pid_t thread) {
#if defined(__x86_64__)
    std::uint64_t registers[27] = {};
    constexpr int set = NT_PRSTATUS;
    constexpr std::size_t fs_base = 21;
#else
    std::uint64_t registers[2] = {};
    constexpr int set = NT_ARM_TLS;
    constexpr std::size_t fs_base = 0;
#endif
    iovec all{registers, sizeof registers};
    if (::ptrace(PTRACE_GETREGSET, thread, set, &all) != 0) return 0;
    return registers[fs_base];
}

// What a reader finds of a thread, which is stopped for it. False: not allowed to.
bool record_from_outside(pid_t pid, pid_t thread, Record& found) {
    if (::ptrace(PTRACE_ATTACH, thread, 0, 0) != 0) return false;
    int status = 0;
    REQUIRE(::waitpid(thread, &status, __WALL) == thread);
    const std::uint64_t base = thread_pointer(thread);
    REQUIRE(base != 0);
    std::uint64_t at = 0;
    REQUIRE(read_memory(pid, base + thread_pointer_to_pointer(), &at, sizeof at));
    found = {};
    if (at != 0) REQUIRE(read_memory(pid, at, &found, sizeof found));
    REQUIRE(::ptrace(PTRACE_DETACH, thread, 0, 0) == 0);
    return true;
}

}  // namespace

TEST_CASE("program and library export the symbol that readers look for") {
    CHECK(::dlsym(RTLD_DEFAULT, "otel_thread_ctx_v1") == &otel_thread_ctx_v1);
    const std::string library =
        std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() /
        "lib/liboteld.so.1";
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        void* handle = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
        EXPECT(handle != nullptr);
        EXPECT(::dlsym(handle, "otel_thread_ctx_v1") != nullptr);
    }).clean();
}

TEST_CASE("a thread's record follows its scopes, and says nothing when none is left") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        // This thread's may be there already: a case before this one has had a scope.
        std::thread([] {
            EXPECT(otel_thread_ctx_v1 == nullptr);
            const auto scope = test_tracer().scope("a thread's first");
            EXPECT(otel_thread_ctx_v1 != nullptr);
        }).join();
        { const auto span = test_tracer().span("not current"); }
        EXPECT(says_nothing());
        {
            const auto outer = test_tracer().scope("outer");
            EXPECT(outer.recording());
            EXPECT(says(record(), outer.context()));
            const void* const place = otel_thread_ctx_v1;
            EXPECT(reinterpret_cast<std::uintptr_t>(place) % 2 == 0);
            {
                const auto inner = test_tracer().scope("inner");
                EXPECT(says(record(), inner.context()));
                EXPECT(otel_thread_ctx_v1 == place);
            }
            EXPECT(says(record(), outer.context()));
            auto ended = test_tracer().scope("ended early");
            ended.end();
            EXPECT(says(record(), outer.context()));
        }
        EXPECT(says_nothing());
        EXPECT(otel_thread_ctx_v1 != nullptr);
        {
            auto first = test_tracer().scope("first");
            auto second = test_tracer().scope("second");
            first.end();  // Takes the second with it.
            EXPECT(says_nothing());
        }
        EXPECT(says_nothing());
    }).clean();
}

TEST_CASE("spans that are not sampled or came from elsewhere are shown, a context without is not") {
    const RingDirectory directory;
    run_child(directory.path() + "/none", [] {
        {
            const auto scope = attach(remote(1, 0));
            EXPECT(says(record(), remote(1, 0)));
            const auto child = test_tracer().scope("not recorded");
            EXPECT(says(record(), remote(1, 0)));
            const auto empty = attach(Context());
            EXPECT(says_nothing());
            const auto sampled = attach(Context().with_span(remote(2, 3)));
            EXPECT(says(record(), remote(2, 3)));
        }
        EXPECT(says_nothing());
    }).clean();
    run_child(directory.path(),
              [] {
                  const auto scope = test_tracer().scope("not sampled");
                  EXPECT(!scope.recording() && scope.context().valid());
                  EXPECT(says(record(), scope.context()));
                  EXPECT((record().flags & 1) == 0);
              },
              {{"OTEL_TRACES_SAMPLER", "always_off"}})
        .clean();
}

TEST_CASE("from one context to another whatever differs is shown") {
    const SpanContext contexts[] = {remote(1, 1),       remote(1, 1, 2),    remote(1, 0, 2),
                                    remote(1, 0, 2, 1), remote(2, 0, 2, 1), remote(0, 3, 2, 1)};
    const SpanContext none[] = {SpanContext(), remote(0, 1), remote(1, 1, 0)};
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        for (const SpanContext& from : contexts) {
            const auto before = attach(from);
            EXPECT(says(record(), from));
            for (const SpanContext& to : contexts) {
                {
                    const auto scope = attach(to);
                    EXPECT(says(record(), to));
                }
                EXPECT(says(record(), from));
            }
            for (const SpanContext& to : none) {
                const auto scope = attach(to);
                EXPECT(says_nothing());
            }
            EXPECT(says(record(), from));
        }
    }).clean();
}

TEST_CASE("each thread has a record of its own") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const auto scope = test_tracer().scope("main");
        const void* const mine = otel_thread_ctx_v1;
        for (int i = 0; i < 3; ++i) {
            std::thread([&] {
                EXPECT(says_nothing());
                const auto other = test_tracer().scope("other", parent(scope.context()));
                EXPECT(otel_thread_ctx_v1 != mine);
                EXPECT(says(record(), other.context()));
            }).join();
        }
        std::thread([] {
            const auto first = attach(Context().with_span(remote(1, 1)));
            EXPECT(says(record(), remote(1, 1)));
        }).join();
        EXPECT(says(record(), scope.context()));
    }).clean();
}

TEST_CASE("a stack of contexts is shown while it is on a thread, on whichever") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const auto scope = test_tracer().scope("thread");
        ContextStack stack{Context().with_span(remote(3, 1))};
        stack.enter();
        EXPECT(says(record(), remote(3, 1)));
        auto inner = test_tracer().scope("inner");
        EXPECT(says(record(), inner.context()));
        stack.leave();
        EXPECT(says(record(), scope.context()));
        std::thread([&] {
            const StackScope entered(stack);
            EXPECT(says(record(), inner.context()));
            inner.end();
            EXPECT(says(record(), remote(3, 1)));
        }).join();
        EXPECT(says(record(), scope.context()));
    }).clean();
}

TEST_CASE("a fork's child shows what it inherited, and then its own") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const auto scope = test_tracer().scope("parent");
        const pid_t pid = ::fork();
        if (pid == 0) {
            EXPECT(says(record(), scope.context()));
            const auto own = test_tracer().scope("child");
            EXPECT(own.recording());
            EXPECT(says(record(), own.context()));
            ::_exit(0);
        }
        int status = 0;
        EXPECT(::waitpid(pid, &status, 0) == pid && status == 0);
        EXPECT(says(record(), scope.context()));
    }).clean();
}

TEST_CASE("handlers that attach contexts leave the record of what they interrupt as it was") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        struct sigaction action {};
        action.sa_handler = attach_in_handler;
        EXPECT(::sigaction(SIGALRM, &action, nullptr) == 0);
        const auto warm = test_tracer().scope("warm");
        const itimerval often{{0, 50}, {0, 50}};
        EXPECT(::setitimer(ITIMER_REAL, &often, nullptr) == 0);
        while (signals < 300) {
            const auto outer = attach(remote(1, 1));
            EXPECT(says_what_is_current());
            {
                const auto inner = attach(remote(2, 0));
                for (int i = 0; i < 50; ++i) (void)test_tracer().span("interrupted");
                EXPECT(says_what_is_current());
            }
            EXPECT(says_what_is_current());
        }
        const itimerval never{};
        EXPECT(::setitimer(ITIMER_REAL, &never, nullptr) == 0);
    }).clean();
}

TEST_CASE(
    "at each instruction of a change a thread's record is one of its contexts, or not valid") {
    static const SpanContext contexts[] = {remote(1, 1), remote(1, 1, 2), remote(1, 0, 2),
                                           remote(2, 1, 3), remote(2, 3, 3, 1)};
    constexpr std::size_t count = sizeof contexts / sizeof contexts[0];
    const RingDirectory directory;
    const auto change = [] {
        for (const SpanContext& from : contexts) {
            const auto outer = attach(from);
            for (const SpanContext& to : contexts) {
                const auto inner = attach(to);
            }
        }
    };
    std::size_t seen[count] = {};
    std::size_t nothing = 0;
    std::uint64_t at = 0;
    const bool ran = at_every_instruction(directory.path(), change, change, [&](pid_t pid) {
        if (at == 0)
            REQUIRE(read_memory(pid, thread_pointer(pid) + thread_pointer_to_pointer(), &at,
                                sizeof at));
        Record found{};
        REQUIRE(read_memory(pid, at, &found, sizeof found));
        if (found.valid != 1) {
            ++nothing;
            return;
        }
        for (std::size_t i = 0; i < count; ++i) {
            if (!says(found, contexts[i])) continue;
            ++seen[i];
            return;
        }
        FAIL("neither one nor the other");
    });
    if (!ran) return;
    CHECK(nothing > 0);
    for (const std::size_t times : seen) CHECK(times > 0);
}

TEST_CASE("from outside each thread that is stopped says which span it is in") {
    const RingDirectory directory;
    int told[2];
    REQUIRE(::pipe(told) == 0);
    struct Told {
        pid_t thread;
        std::uint8_t main_span[8], other_span[8];
    };
    const LivingChild child(directory.path(), [&] {
        static const auto scope = test_tracer().scope("main");
        Told all{};
        std::memcpy(all.main_span, scope.context().span_id(), 8);
        std::atomic<bool> ready{false};
        std::thread([&] {
            static const auto other = test_tracer().scope("other");
            std::memcpy(all.other_span, other.context().span_id(), 8);
            all.thread = static_cast<pid_t>(::syscall(SYS_gettid));
            ready = true;
            for (;;) ::pause();
        }).detach();
        wait_until([&] { return ready.load(); });
        EXPECT(::write(told[1], &all, sizeof all) == static_cast<ssize_t>(sizeof all));
    });
    Told all{};
    REQUIRE(::read(told[0], &all, sizeof all) == static_cast<ssize_t>(sizeof all));
    ::close(told[0]);
    ::close(told[1]);
    Record main{}, other{};
    if (!record_from_outside(child.pid(), child.pid(), main) ||
        !record_from_outside(child.pid(), all.thread, other)) {
        MESSAGE("not run: ptrace is not allowed here");
        return;
    }
    CHECK(main.valid == 1);
    CHECK(other.valid == 1);
    CHECK(std::memcmp(main.span_id, all.main_span, 8) == 0);
    CHECK(std::memcmp(other.span_id, all.other_span, 8) == 0);
    CHECK(std::memcmp(main.trace_id, other.trace_id, 16) != 0);
}

}  // namespace oteld::test
