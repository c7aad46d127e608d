// The C interface, and the API apart from the client, as other people's programs meet them:
// tests/programs/client_*.
#include "ring_fixture.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

namespace oteld::test {
namespace {

// Beside this program.
std::string beside(const std::string& name) {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
}

std::string client_library() {
    return std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() /
           "lib/liboteld.so.1";
}

Child run_program(const RingDirectory& directory, const std::string& name,
                  const std::string& argument = {}, const Environment& environment = {}) {
    const std::string path = beside(name);
    return run_child(
        directory.path(),
        [&] {
            ::execl(path.c_str(), name.c_str(), argument.empty() ? nullptr : argument.c_str(),
                    static_cast<char*>(nullptr));
            std::perror(path.c_str());
            ::_exit(127);
        },
        environment);
}

int code_of(const Child& child) { return WIFEXITED(child.status) ? WEXITSTATUS(child.status) : -1; }

Environment preload() {
    // The sanitizer's runtime wants to be first; here the client is, on purpose.
    return {{"LD_PRELOAD", client_library()},
            {"ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0"}};
}

}  // namespace

TEST_CASE("a C program records every field, and null, zeroed and ended handles are safe") {
    const RingDirectory directory;
    run_program(directory, "client_c_api").clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 7);
    CHECK(rings.open.empty());
    const ReadSpan& span = rings.span("every field");
    CHECK(span.kind == 5);
    CHECK(span.trace_id == "01020000000000000000000000000000");
    CHECK(span.parent_id == "0304000000000000");
    CHECK(span.flags == 0x301);
    CHECK(span.start == 1000);
    CHECK(span.end == 2000);
    CHECK(span.status == 2);
    CHECK(span.description == "boom");
    CHECK(span.attributes == Pairs{{"array", R"([1,"two"])"},
                                   {"map", R"({"in":3,"list":[1,"two"]})"},
                                   {"real", "1.5"},
                                   {"boolean", "true"},
                                   {"raw", "bytes:0102"},
                                   {"text", "\"words\""},
                                   {"integer", "-7"},
                                   {"set", "9"},
                                   {"set map", R"({"in":3,"list":[1,"two"]})"},
                                   {"set bool", "false"},
                                   {"set int", "2"},
                                   {"set double", "0.25"},
                                   {"set string", "\"s\""},
                                   {"set bytes", "bytes:ff"}});
    REQUIRE(span.events.size() == 2);
    CHECK(span.events[0].name == "event");
    CHECK(span.events[0].time == 1500);
    CHECK(span.events[0].attributes.size() == 2);
    CHECK(span.events[1].attributes.empty());
    REQUIRE(span.links.size() == 1);
    CHECK(span.links[0].flags == 0x101);
    CHECK(span.links[0].attributes == Pairs{{"in", "3"}});
    CHECK(rings.span("inner").parent_id == rings.span("outer").span_id);
    CHECK(rings.span("apart").parent_id == "");
    CHECK(rings.span("served").parent_id == rings.span("call").span_id);
    CHECK(rings.span("served").trace_id == rings.span("call").trace_id);
    const ReadSpan& hollow = rings.span("hollow");
    CHECK(hollow.at("hollow array") == "[]");
    CHECK(hollow.at("hollow map") == "{}");
    CHECK(hollow.at("odd") == "\"\"");
    CHECK(hollow.at("null string") == "\"\"");
    CHECK(hollow.at("null bytes") == "bytes:");
    CHECK(hollow.dropped_attributes == 1);  // The one without a key.
    CHECK(hollow.events.size() == 1);
    CHECK(hollow.links.empty());
    CHECK(hollow.status == 0);
    const ReadScope& scope = rings.scope_of(span);
    CHECK(scope.name == "c");
    CHECK(scope.version == "1.0");
    CHECK(scope.schema_url == "https://example.org/c");
    CHECK(rings.counted(shm::ProcessCounter::misuses) == 0);
}

TEST_CASE("a program without exceptions and RTTI records") {
    const RingDirectory directory;
    run_program(directory, "client_restricted").clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 4);
    CHECK(rings.span("function").parent_id == rings.span("call").span_id);
    CHECK(rings.span("marked").at("code.function.name").find("marked\"") != std::string::npos);
    REQUIRE(rings.span("exception").events.size() == 2);
    CHECK(rings.span("exception").events[0].attributes.at(1) ==
          std::pair<std::string, std::string>("exception.message", "\"words\""));
}

TEST_CASE("a library that uses the API alone is a no-op without a client") {
    for (const char* host : {"client_host", "client_host_no_pie"}) {
        CAPTURE(host);
        const RingDirectory directory;
        const Child child = run_program(directory, host);
        CHECK_MESSAGE(code_of(child) == 10, child.text);
        CHECK(directory.files() == 0);
    }
}

TEST_CASE("the same binaries record under LD_PRELOAD, position-independent or not") {
    for (const char* host : {"client_host", "client_host_no_pie"}) {
        CAPTURE(host);
        const RingDirectory directory;
        const Child child = run_program(directory, host, {}, preload());
        CHECK_MESSAGE(code_of(child) == 11, child.text);
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.spans.size() == 3);
        CHECK(rings.scope_of(rings.span("of the library")).name == "library");
        CHECK(rings.span("inner").parent_id == rings.span("of the library").span_id);
        CHECK(rings.span("of the library").description == "no");
        CHECK(rings.scope_of(rings.span("of the host")).name == "host");
    }
}

TEST_CASE("a plugin records through the static client of the program that loads it") {
    const RingDirectory directory;
    run_program(directory, "client_plugin_host", beside("libclient_library.so")).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 3);
    CHECK(rings.segments.size() == 1);
    CHECK(rings.span("of the library").parent_id == rings.span("of the host").span_id);
}

TEST_CASE(
    "a plugin may be unloaded before the threads that it recorded on end, and with spans open") {
    for (const std::string& library :
         {beside("libclient_plugin.so"), beside("libclient_library.so"),
          beside("libclient_unloadable.so")}) {
        CAPTURE(library);
        const bool has_client = library.find("plugin") != library.npos;
        const RingDirectory directory;
        const Child child = run_program(directory, "client_unload_host", library,
                                        has_client ? Environment{} : preload());
        child.clean();
        // The others stay loaded: -z nodelete, and gcc's unique symbols.
        if (library.find("unloadable") != library.npos) CHECK(child.said("unloaded"));
        const Rings rings = read_rings(directory.path());
        check_balance(rings);
        CHECK(rings.spans.size() == 3);
        CHECK(rings.span("ends with its library").status == 0);
        REQUIRE(rings.open.size() == 1);
        CHECK(rings.open[0].name == "outlives its library");
        CHECK(rings.open[0].at("n") == "1");
    }
}

}  // namespace oteld::test
