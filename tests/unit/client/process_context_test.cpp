// Who a process is, for profilers: published once, anew in a fork's child, changed with the global
// provider, and where it cannot be published nothing else happens.
#include "outside.hpp"
#include "ring_fixture.hpp"

#include "oteld/client.hpp"
#include "oteld/testing.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <set>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

SeenContext myself() { return look_at_process(::getpid()); }

std::string service(const SeenContext& seen) { return seen.at("service.name"); }

// Without a memfd, in the words of the kernel or of a filter.
void refuse_memfd() {
    refuse(SYS_memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING | 8U, EINVAL);
    refuse(SYS_memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING, ENOSYS);
}
constexpr std::uint32_t set_vma = 0x53564d41;
void refuse_names(int error) { refuse(SYS_prctl, 0, set_vma, error); }

}  // namespace

TEST_CASE(
    "from outside a process has the resource that its ring has, and says how to read threads") {
    const RingDirectory directory;
    const LivingChild child(directory.path(), [] {
        ::setenv("OTEL_SERVICE_NAME", "orders", 1);
        ::setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test", 1);
        EXPECT(myself().mappings == 0);
        (void)test_tracer().span("first");
        (void)test_tracer().span("second");
    });
    const SeenContext seen = look_at_process(child.pid());
    CHECK(seen.mappings == 1);
    CHECK(seen.wrong.empty());
    CHECK(service(seen) == "\"orders\"");
    CHECK(seen.at("deployment.environment.name") == "\"test\"");
    CHECK(seen.at("process.pid") == std::to_string(child.pid()));
    CHECK(seen.resource == read_rings(directory.path()).resource().attributes);
    CHECK(seen.attributes == Pairs{{"threadlocal.schema_version", "\"tlsdesc_v1_dev\""},
                                   {"threadlocal.attribute_key_map", "[]"}});
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    const auto now_ns = static_cast<std::uint64_t>(now.tv_sec) * 1000000000U +
                        static_cast<std::uint64_t>(now.tv_nsec);
    CHECK(seen.published_at <= now_ns);
    CHECK(now_ns - seen.published_at < 600000000000U);
    CHECK(look_at_process(child.pid()).published_at == seen.published_at);
}

TEST_CASE("the global provider's resource is published, before there is one that of the first") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const TracerProvider one{Settings{}.service("one")};
        const SeenContext first = myself();
        EXPECT(first.mappings == 1 && service(first) == "\"one\"");
        const TracerProvider two{Settings{}.service("two")};
        EXPECT(myself().published_at == first.published_at);
        two.make_global();
        const SeenContext second = myself();
        EXPECT(second.mappings == 1 && service(second) == "\"two\"");
        EXPECT(second.published_at > first.published_at);
        EXPECT(second.at("service.instance.id") == first.at("service.instance.id"));
        two.make_global();
        EXPECT(myself().published_at == second.published_at);
        one.make_global();
        EXPECT(service(myself()) == "\"one\"");
        (void)two.tracer("lib").span("of two");
        EXPECT(service(myself()) == "\"one\"");
    }).clean();
}

TEST_CASE("a tracer without a provider publishes the environment's, in place of a private one") {
    const RingDirectory directory;
    run_child(directory.path(),
              [] {
                  const TracerProvider own{Settings{}.service("of a library")};
                  EXPECT(service(myself()) == "\"of a library\"");
                  (void)test_tracer().span("s");
                  EXPECT(service(myself()) == "\"of the program\"");
              },
              {{"OTEL_SERVICE_NAME", "of the program"}})
        .clean();
}

TEST_CASE("a process is published without a ring directory, too") {
    const RingDirectory directory;
    run_child(directory.path() + "/none", [] {
        EXPECT(!test_tracer().span("s").recording());
        EXPECT(myself().mappings == 1);
        EXPECT(myself().wrong.empty());
    }).clean();
}

TEST_CASE("nothing is published of a client that is turned off, and of a recorder") {
    const RingDirectory directory;
    const auto use = [] {
        const TracerProvider provider{Settings{}.service("s")};
        provider.make_global();
        (void)test_tracer().span("s");
        EXPECT(myself().mappings == 0);
    };
    run_child(directory.path(), use, {{"OTEL_SDK_DISABLED", "true"}}).clean();
    run_child(directory.path(), [] {
        {
            const testing::Recorder recorder;
            (void)test_tracer().span("s");
            EXPECT(myself().mappings == 0);
        }
        (void)test_tracer().span("s");
        const SeenContext before = myself();
        EXPECT(before.mappings == 1);
        const testing::Recorder recorder;
        EXPECT(myself().published_at == before.published_at);
    }).clean();
}

TEST_CASE("a fork's child is somebody else, once it records, and the parent is who it was") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const TracerProvider provider{Settings{}.service("forking")};
        (void)provider.tracer("lib").span("parent");
        const SeenContext parent = myself();
        int told[2], asked[2];
        EXPECT(::pipe(told) == 0 && ::pipe(asked) == 0);
        const pid_t pid = ::fork();
        if (pid == 0) {
            EXPECT(myself().mappings == 0);
            (void)provider.tracer("lib").span("child");
            const SeenContext child = myself();
            EXPECT(child.mappings == 1 && child.wrong.empty());
            EXPECT(child.at("process.pid") == std::to_string(::getpid()));
            EXPECT(::write(told[1], "r", 1) == 1);
            char byte = 0;
            EXPECT(::read(asked[0], &byte, 1) == 1);
            ::_exit(0);
        }
        char byte = 0;
        ::close(told[1]);
        EXPECT(::read(told[0], &byte, 1) == 1);
        const SeenContext child = look_at_process(pid);
        EXPECT(::write(asked[1], "g", 1) == 1);
        expect_well(pid);
        EXPECT(service(child) == "\"forking\"");
        EXPECT(child.at("service.instance.id") != parent.at("service.instance.id"));
        EXPECT(myself().published_at == parent.published_at);
        EXPECT(myself().resource == parent.resource);
    }).clean();
}

TEST_CASE("a reader sees one provider or the other, whole, however often they change") {
    const RingDirectory directory;
    const LivingChild child(directory.path(), [] {
        static const TracerProvider one{Settings{}.service("one").resource("text", "1")};
        static const TracerProvider two{
            Settings{}.service("two").resource("text", std::string(3000, '2'))};
        std::thread([] {
            for (;;) {
                one.make_global();
                two.make_global();
            }
        }).detach();
    });
    std::set<std::string> services;
    std::uint64_t before = 0;
    wait_until([&] {
        for (int i = 0; i < 200; ++i) {
            const SeenContext seen = look_at_process(child.pid());
            REQUIRE(seen.mappings == 1);
            REQUIRE(seen.wrong == "");
            const std::string name = service(seen);
            const std::string text =
                name == "\"one\"" ? "\"1\"" : '"' + std::string(3000, '2') + '"';
            REQUIRE(seen.at("text") == text);
            REQUIRE(seen.published_at >= before);
            before = seen.published_at;
            services.insert(name);
        }
        return services.size() == 2;
    });
}

TEST_CASE(
    "at each instruction of a change a reader finds the old, the new, or a change under way") {
    const RingDirectory directory;
    static const TracerProvider* two = nullptr;
    const auto prepare = [] {
        static const TracerProvider first{Settings{}.service("one").resource("text", "1")};
        static const TracerProvider second{
            Settings{}.service("two").resource("text", std::string(300, '2'))};
        first.make_global();
        two = &second;
    };
    std::map<std::uint64_t, std::string> published;
    std::uint64_t address = 0;
    int changing = 0;
    const bool ran = at_every_instruction(
        directory.path(), prepare, [] { two->make_global(); },
        [&](pid_t pid) {
            if (address == 0) address = context_address(pid);
            const std::optional<SeenContext> seen = context_at(pid, address);
            if (!seen) {
                ++changing;
                return;
            }
            REQUIRE(seen->wrong == "");
            const std::string name = service(*seen);
            REQUIRE(seen->at("text").size() == (name == "\"one\"" ? 3U : 302U));
            REQUIRE(published.emplace(seen->published_at, name).first->second == name);
        });
    if (!ran) return;
    CHECK(changing > 0);
    REQUIRE(published.size() == 2);
    CHECK(published.begin()->second == "\"one\"");
    CHECK(published.rbegin()->second == "\"two\"");
}

TEST_CASE("an older kernel, a filter or a limit may leave no memfd, no name, or neither") {
    const struct {
        const char* what;
        void (*apply)();
        bool memfd;
        bool named;
    } cases[] = {
        {"no MFD_NOEXEC_SEAL",
         [] { refuse(SYS_memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING | 8U, EINVAL); }, true,
         kernel_names_mappings()},
        {"no names", [] { refuse_names(EINVAL); }, true, false},
        {"no memfd", refuse_memfd, false, kernel_names_mappings()},
        {"no memfd, no names",
         [] {
             refuse_memfd();
             refuse_names(EINVAL);
         },
         false, false},
        {"a limit on the size of files",
         [] {
             const rlimit less{4000, 4000};  // Room for what is said on standard error.
             EXPECT(::setrlimit(RLIMIT_FSIZE, &less) == 0);
         },
         false, kernel_names_mappings()},
    };
    for (const auto& one : cases) {
        CAPTURE(std::string(one.what));
        const RingDirectory directory;
        run_child(directory.path(), [&] {
            one.apply();
            errno = 77;
            (void)test_tracer().span("s");
            EXPECT(errno == 77);
            const SeenContext seen = myself();
            EXPECT(seen.wrong.empty());
            EXPECT(seen.mappings == (one.memfd || one.named ? 1U : 0U));
            if (one.memfd)
                EXPECT(seen.mapping.find(one.named ? "[anon_shmem:" : "/memfd:") == 0);
            else if (one.named)
                EXPECT(seen.mapping == "[anon:OTEL_CTX]");
            else  // Nobody would find it: it is not kept either.
                EXPECT(look_at_process(::getpid(), true).mappings == 0);
        }).clean();
    }
}

TEST_CASE("where the kernel takes the name, an anonymous mapping does") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        refuse_memfd();
        refuse_names(0);  // Done, it says, although it may not be.
        const TracerProvider one{Settings{}.service("one")};
        const TracerProvider two{Settings{}.service("two")};
        EXPECT(service(look_at_process(::getpid(), true)) == "\"one\"");
        two.make_global();
        const SeenContext seen = look_at_process(::getpid(), true);
        EXPECT(seen.mappings == 1 && seen.wrong.empty() && service(seen) == "\"two\"");
        const pid_t pid = ::fork();
        if (pid == 0) {
            EXPECT(look_at_process(::getpid(), true).mappings == 0);
            ::_exit(0);
        }
        expect_well(pid);
    }).clean();
}

TEST_CASE("with growth off a process is published while its provider is made, and not later") {
    const RingDirectory directory;
    run_child(directory.path(), [] {
        const TracerProvider provider{Settings{}.growth(false).service("fixed")};
        const SeenContext first = myself();
        EXPECT(first.mappings == 1 && service(first) == "\"fixed\"");
        const TracerProvider other{Settings{}.service("other")};
        provider.make_global();
        EXPECT(myself().published_at == first.published_at);
        const pid_t pid = ::fork();
        if (pid == 0) {
            (void)test_tracer().span("child");
            other.make_global();
            const TracerProvider third{Settings{}.service("third")};
            EXPECT(myself().mappings == 0);
            const TracerProvider own{Settings{}.growth(false).service("own")};
            EXPECT(service(myself()) == "\"own\"");
            ::_exit(0);
        }
        expect_well(pid);
        other.make_global();
        EXPECT(service(myself()) == "\"other\"");
    }).clean();
}

}  // namespace oteld::test
