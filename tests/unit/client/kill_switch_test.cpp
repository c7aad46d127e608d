// The daemon's kill switch, seen from the client: what is recorded while it is off, and when it
// goes on again.
#include "ring_fixture.hpp"

#include "oteld/client.hpp"
#include "shm/segment_map.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>

namespace oteld::test {
namespace {

Tracer test_tracer() { return tracer("test"); }

// The control page as a daemon keeps it; written before the file has its name.
class ControlFile {
public:
    ControlFile(const std::string& directory, bool on, std::uint64_t generation = 1) {
        const std::string temporary = directory + "/control.new";
        const int fd = ::open(temporary.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
        EXPECT(fd >= 0);
        EXPECT(::ftruncate(fd, sizeof(shm::ControlPage)) == 0);
        void* map =
            ::mmap(nullptr, sizeof(shm::ControlPage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        ::close(fd);
        EXPECT(map != MAP_FAILED);
        page_ = static_cast<shm::ControlPage*>(map);
        page_->magic = shm::control_magic;
        page_->major = shm::layout_major;
        page_->header_bytes = sizeof(shm::ControlPage);
        page_->generation = generation;
        put(on);
        EXPECT(::rename(temporary.c_str(), (directory + "/control").c_str()) == 0);
    }
    ~ControlFile() { ::munmap(page_, sizeof *page_); }
    ControlFile(const ControlFile&) = delete;
    ControlFile& operator=(const ControlFile&) = delete;

    void put(bool on) {
        const std::uint32_t next = page_->active ^ 1U;
        page_->content[next].enabled = on ? 1 : 0;
        __atomic_store_n(&page_->active, next, __ATOMIC_RELEASE);
    }

private:
    shm::ControlPage* page_;
};

// What a daemon leaves in every segment that it finds.
void put_in_segments(const std::string& path, bool on, std::uint64_t generation = 1) {
    const shm::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
        if (entry.path().extension() != shm::ring_suffix) continue;
        const auto map =
            shm::SegmentMap::open(fd.get(), entry.path().filename(), shm::SegmentAccess::drain);
        EXPECT(map);
        __atomic_store_n(&(*map)->daemon()->control_generation, generation, __ATOMIC_RELAXED);
        __atomic_store_n(&(*map)->daemon()->recording_off, on ? 0 : 1, __ATOMIC_RELEASE);
    }
}

bool records() { return test_tracer().span("probe").recording(); }

}  // namespace

TEST_CASE("while recording is off a program makes no ring, and once it is on, it does") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        ControlFile control(directory.path(), false);
        for (int i = 0; i < 1000; ++i) EXPECT(!records());
        std::thread([] { EXPECT(!records()); }).join();
        EXPECT(directory.rings() == 0);
        control.put(true);
        wait_until(records);
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 1);
}

TEST_CASE("while recording is off no hook sees a span, before the first ring and after") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        ControlFile control(directory.path(), false);
        auto memory = std::make_shared<InMemoryExporter>();
        const TracerProvider provider{Settings{}.processor(memory)};
        const Tracer tracer = provider.tracer("hooked");
        EXPECT(!tracer.span("off").recording());
        control.put(true);
        EXPECT(memory->spans().empty());
        // A ring is tried again after a second; until then only the hooks see spans.
        wait_until([&] { return tracer.span("on").recording() && directory.rings() == 1; });
        const std::size_t seen = memory->spans().size();
        control.put(false);
        EXPECT(!tracer.span("off").recording());
        control.put(true);
        EXPECT(tracer.span("on").recording());
        EXPECT(memory->spans().size() == seen + 1);
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.spans.size() == 2);
}

TEST_CASE("a control page of a later daemon turns recording on, too") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        const ControlFile off(directory.path(), false, 1);
        EXPECT(!records());
        const ControlFile on(directory.path(), true, 2);
        wait_until(records);
    }).clean();
}

TEST_CASE("the first span that ends after the switch stops every thread of the process") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        ControlFile control(directory.path(), true);
        auto open = test_tracer().span("open");
        std::atomic<int> stage{0};
        std::thread other([&] {
            EXPECT(records());
            stage = 1;
            wait_until([&] { return stage == 2; });
            // It has ended nothing since.
            for (int i = 0; i < 100; ++i) EXPECT(!records());
            EXPECT(!tracer("another scope").span("s").recording());
            stage = 3;
            wait_until([&] { return stage == 4; });
            EXPECT(records());
        });
        wait_until([&] { return stage == 1; });
        control.put(false);
        put_in_segments(directory.path(), false);
        open.set("while off", true);
        auto last = test_tracer().span("last");
        EXPECT(last.recording());
        last.end();
        EXPECT(!records());
        stage = 2;
        wait_until([&] { return stage == 3; });
        open.end();  // What had begun is recorded to its end.
        EXPECT(!records());
        EXPECT(spans_dropped() == 0);
        control.put(true);
        put_in_segments(directory.path(), true);
        EXPECT(records());
        stage = 4;
        other.join();
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.span("open").at("while off") == "true");
    CHECK(rings.spans.size() == 2 + 3);
    CHECK(rings.open.empty());
    REQUIRE(rings.segments.size() == 1);
    CHECK(rings.segments[0].scopes.size() == 1);  // Registered once.
}

TEST_CASE("what is not recorded passes its parent on") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        const ControlFile control(directory.path(), false);
        EXPECT(!test_tracer().scope("root").context().valid());
        const std::uint8_t trace_id[16] = {1};
        const std::uint8_t span_id[8] = {2};
        const SpanContext remote(trace_id, span_id, 1, true);
        const auto child = test_tracer().span("child", parent(remote));
        const SpanContext context = child.context();
        EXPECT(context.sampled());
        EXPECT(std::memcmp(context.span_id(), span_id, sizeof span_id) == 0);
    }).clean();
}

TEST_CASE("where the page is unknown or replaced, the word in the segment counts") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        EXPECT(records());
        put_in_segments(directory.path(), false);  // No page was ever there.
        EXPECT(records());
        EXPECT(!records());
        put_in_segments(directory.path(), true);
        EXPECT(records());
    }).clean();
    const RingDirectory second;
    run_child(second.path(), [&] {
        const ControlFile control(second.path(), true, 1);
        EXPECT(records());
        put_in_segments(second.path(), false, 2);
        EXPECT(records());
        EXPECT(!records());
        put_in_segments(second.path(), true, 2);
        EXPECT(records());
    }).clean();
}

TEST_CASE("off for one moment and on in the next loses no span") {
    const RingDirectory directory;
    run_child(directory.path(), [&] {
        ControlFile control(directory.path(), true);
        (void)test_tracer();  // Threads that intern a scope at once may do so twice.
        std::atomic<bool> stop{false};
        std::thread daemon([&] {
            for (bool on = false; !stop; on = !on) {
                control.put(on);
                put_in_segments(directory.path(), on);
            }
            control.put(true);
            put_in_segments(directory.path(), true);
        });
        std::vector<std::thread> writers;
        writers.reserve(3);
        for (int t = 0; t < 3; ++t) {
            writers.emplace_back([] {
                for (int i = 0; i < 20000; ++i) (void)test_tracer().span("s");
            });
        }
        for (std::thread& writer : writers) writer.join();
        stop = true;
        daemon.join();
        wait_until(records);  // At a moment when it was off, no further ring was made: a second.
    }).clean();
    const Rings rings = read_rings(directory.path());
    check_balance(rings);
    CHECK(rings.segments.at(0).scopes.size() == 1);
}

}  // namespace oteld::test
