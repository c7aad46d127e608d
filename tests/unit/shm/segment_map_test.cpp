#include "shm/segment_map.hpp"

#include "../daemon/fake_segment.hpp"
#include "shm/file_lock.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>

using namespace oteld;
using namespace oteld::shm;
using namespace oteld::test;

namespace {

Result<std::unique_ptr<SegmentMap>> open_map(const TemporaryDirectory& directory,
                                             const std::string& name = "a.ring") {
    return SegmentMap::open(directory.fd, name, SegmentAccess::drain);
}

}  // namespace

TEST_CASE("a sound segment is mapped and its parts are where the header says") {
    TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    auto map = open_map(directory);
    REQUIRE(map);
    CHECK((*map)->lane_count() == 2);
    CHECK((*map)->owner() == ::geteuid());
    CHECK_FALSE((*map)->other_boot());
    segment.producer(1)->begun = 77;
    segment.data(1)[5] = 99;
    CHECK((*map)->lane(1).producer->begun == 77);
    CHECK((*map)->lane(1).data[5] == 99);
    (*map)->lane(1).daemon->drained = 55;
    CHECK(segment.daemon_lane(1)->drained == 55);
    (*map)->daemon()->retired = 1;
    CHECK(segment.daemon()->retired == 1);
    CHECK((*map)->tables_untrusted().size() ==
          reinterpret_cast<SegmentHeader*>(segment.memory)->tables_end);
}

TEST_CASE("what follows the mapping changes nothing: the geometry was copied") {
    TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    auto map = open_map(directory);
    REQUIRE(map);
    const std::uint8_t* data = (*map)->lane(1).data;
    std::memset(segment.memory, 0xFF, 512);
    CHECK((*map)->lane(1).data == data);
    reinterpret_cast<SegmentHeader*>(segment.memory)->tables_end = ~0ULL;
    CHECK((*map)->tables_untrusted().size() == (*map)->header().tables_bytes);
}

TEST_CASE("a layout of the future is refused and named") {
    TemporaryDirectory directory;
    FakeSegment::Shape shape;
    shape.change = [](SegmentHeader& header) { header.major = 9, header.minor = 4; };
    FakeSegment segment(directory, "a.ring", shape);
    auto map = open_map(directory);
    REQUIRE_FALSE(map);
    CHECK(map.error().code == ErrorCode::unsupported);
    CHECK(map.error().message.find("9.4") != std::string::npos);
    CHECK(map.error().message.find("a.ring") != std::string::npos);
}

TEST_CASE("a newer minor layout is read") {
    TemporaryDirectory directory;
    FakeSegment::Shape shape;
    shape.change = [](SegmentHeader& header) { header.minor = 7; };
    FakeSegment segment(directory, "a.ring", shape);
    CHECK(open_map(directory));
}

TEST_CASE("geometries that contradict themselves or the file are refused") {
    FakeSegment::Shape shape;
    const SegmentHeader good = FakeSegment::shape_header(shape);
    REQUIRE(geometry_fault(good, good.file_bytes) == nullptr);
    using Change = void (*)(SegmentHeader&);
    const Change changes[] = {
        [](SegmentHeader& h) { h.file_bytes += 4096; },
        [](SegmentHeader& h) { h.header_bytes = 8; },
        [](SegmentHeader& h) { h.header_bytes = 0xFFFFFFFF; },
        [](SegmentHeader& h) { h.page_bytes = 0; },
        [](SegmentHeader& h) { h.page_bytes = 4097; },
        [](SegmentHeader& h) { h.lane_count = 0; },
        [](SegmentHeader& h) { h.lane_count = lanes_max + 1; },
        [](SegmentHeader& h) { h.lane_count = 3; },
        [](SegmentHeader& h) { h.tables_offset = ~0ULL - 7; },
        [](SegmentHeader& h) { h.tables_bytes = ~0ULL; },
        [](SegmentHeader& h) { h.tables_offset = 0; },
        [](SegmentHeader& h) { h.tables_offset += 1; },
        [](SegmentHeader& h) { h.daemon_offset += 8; },
        [](SegmentHeader& h) { h.daemon_offset = h.lanes_offset; },
        [](SegmentHeader& h) { h.daemon_bytes = 0; },
        [](SegmentHeader& h) { h.daemon_bytes = ~0ULL << 12; },
        [](SegmentHeader& h) { h.lanes_offset = ~0ULL << 6; },
        [](SegmentHeader& h) { h.lanes_offset += 64; },
        [](SegmentHeader& h) { h.lane_stride = ~0ULL; },
        [](SegmentHeader& h) { h.lane_stride = 1ULL << 63; },
        [](SegmentHeader& h) { h.lane_stride = 0; },
        [](SegmentHeader& h) { h.slot_count[0] = 65; },
        [](SegmentHeader& h) { h.slot_count[1] = 64; },
        [](SegmentHeader& h) { h.slot_count[0] = 0xFFFFFFFF; },
        [](SegmentHeader& h) { h.slot_bytes[0] = 20; },
        [](SegmentHeader& h) { h.slot_bytes[0] = 513; },
        [](SegmentHeader& h) { h.slot_bytes[2] = 0xFFFFFFF8; },
        [](SegmentHeader& h) { h.slot_bytes[2] = 400 << 10; },
        [](SegmentHeader& h) { h.data_bytes = 12345; },
        [](SegmentHeader& h) { h.data_bytes = 1ULL << 40; },
        [](SegmentHeader& h) { h.data_bytes = 32 << 10; },
        [](SegmentHeader& h) { h.data_offset = 0; },
        [](SegmentHeader& h) { h.data_offset = ~0ULL << 6; },
        [](SegmentHeader& h) { h.data_offset += 4; },
        [](SegmentHeader& h) { h.producer_offset = h.data_offset; },
        [](SegmentHeader& h) { h.producer_offset = ~0ULL << 6; },
        [](SegmentHeader& h) { h.producer_offset += 64; },
        [](SegmentHeader& h) { h.lock_offset = 4096; },
        [](SegmentHeader& h) { h.lock_offset = 4090; },
        [](SegmentHeader& h) { h.lock_offset = 0xFFFFFFFC; },
        [](SegmentHeader& h) { h.clock_kind = 0; },
        [](SegmentHeader& h) { h.clock_kind = 3; },
    };
    int number = 0;
    for (const Change change : changes) {
        SegmentHeader bad = good;
        change(bad);
        CAPTURE(number++);
        CHECK(geometry_fault(bad, good.file_bytes) != nullptr);
    }
}

TEST_CASE("no random header leads to a place outside the file") {
    std::uint64_t state = 88172645463325252ULL;
    const auto random = [&state] {
        state ^= state << 13;
        state ^= state >> 7;
        return state ^= state << 17;
    };
    const SegmentHeader good = FakeSegment::shape_header({});
    std::uint32_t accepted = 0;
    for (int i = 0; i < 200000; ++i) {
        SegmentHeader header = good;
        auto* bytes = reinterpret_cast<std::uint8_t*>(&header);
        for (int n = 0; n < 2; ++n) bytes[8 + random() % 128] = static_cast<std::uint8_t>(random());
        if (geometry_fault(header, good.file_bytes) != nullptr) continue;
        ++accepted;
        const std::uint64_t last =
            header.lanes_offset + header.lane_stride * (header.lane_count - 1);
        REQUIRE(last + header.producer_offset + sizeof(LaneProducer) <= good.file_bytes);
        REQUIRE(last + header.data_offset + header.data_bytes <= good.file_bytes);
        for (std::uint32_t slot = 0; slot < slot_total(header); ++slot) {
            const SlotPlace place = slot_place(header, slot);
            REQUIRE(last + place.offset + sizeof(SlotControl) + place.record_bytes <=
                    good.file_bytes);
        }
    }
    CHECK(accepted > 0);
}

TEST_CASE("what is no ring file is refused without being touched") {
    TemporaryDirectory directory;
    CHECK(open_map(directory, "none.ring").error().code == ErrorCode::not_found);
    REQUIRE(::mkdirat(directory.fd, "dir.ring", 0700) == 0);
    CHECK_FALSE(open_map(directory, "dir.ring"));
    FakeSegment segment(directory, "a.ring");
    REQUIRE(::symlinkat("a.ring", directory.fd, "link.ring") == 0);
    CHECK(open_map(directory, "link.ring").error().code == ErrorCode::corrupt);
    REQUIRE(::mkfifoat(directory.fd, "fifo.ring", 0600) == 0);
    CHECK_FALSE(open_map(directory, "fifo.ring"));  // And does not wait for a writer.
    const int empty = ::openat(directory.fd, "empty.ring", O_CREAT | O_RDWR, 0600);
    CHECK(open_map(directory, "empty.ring").error().code == ErrorCode::corrupt);
    ::close(empty);
}

TEST_CASE("a file that shrinks under the daemon reads as zeroes and is noticed") {
    TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    std::memset(segment.data(0), 0xAB, 4096);
    FakeSegment other(directory, "b.ring");
    auto map = open_map(directory);
    auto untouched = open_map(directory, "b.ring");
    REQUIRE(map);
    REQUIRE(untouched);
    const volatile std::uint8_t* data = (*map)->lane(0).data;
    CHECK(data[100] == 0xAB);
    CHECK_FALSE((*map)->truncated());
    const std::uint64_t survived = faults_survived();
    REQUIRE(::ftruncate(segment.fd, 4096) == 0);
    CHECK(data[100] == 0);
    CHECK((*map)->truncated());
    CHECK(faults_survived() == survived + 1);
    (*map)->lane(0).daemon->read_cursor =
        8;  // The daemon's own pages are gone as well; it lives on.
    CHECK_FALSE((*untouched)->truncated());
}

TEST_CASE("a fault outside every segment is still fatal") {
    TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    auto map = open_map(directory);  // Installs the handler.
    REQUIRE(map);
    const int fd = ::openat(directory.fd, "hole", O_CREAT | O_RDWR, 0600);
    auto* memory = static_cast<volatile char*>(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0));
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        const char value = memory[0];
        ::_exit(value == 0 ? 70 : 71);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    // Killed by it, or ended by the handler that a sanitizer had installed before ours: not read
    // on.
    const bool fatal = WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) < 70;
    CHECK(fatal);
    CHECK(status != 0);
    ::close(fd);
}

TEST_CASE("an owner is alive while a lane word is held, or its file lock") {
    TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    auto map = open_map(directory);
    REQUIRE(map);
    CHECK((*map)->owner_alive());
    *segment.lock_word(0) = lock_owner_died;
    CHECK((*map)->owner_alive());  // The other lane's thread lives.
    *segment.lock_word(1) = 0;
    CHECK_FALSE((*map)->owner_alive());

    int to_child[2], to_parent[2];
    REQUIRE(::pipe(to_child) == 0);
    REQUIRE(::pipe(to_parent) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
        struct flock lock {};
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        char byte = ::fcntl(segment.fd, F_SETLK, &lock) == 0 ? 'y' : 'n';
        (void)!::write(to_parent[1], &byte, 1);
        (void)!::read(to_child[0], &byte, 1);
        ::_exit(0);
    }
    char byte = 0;
    REQUIRE(::read(to_parent[0], &byte, 1) == 1);
    REQUIRE(byte == 'y');
    CHECK((*map)->owner_alive());
    REQUIRE(::write(to_child[1], &byte, 1) == 1);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    CHECK_FALSE((*map)->owner_alive());
}

TEST_CASE("nobody is alive who has the file neither mapped nor open, whatever the words say") {
    TemporaryDirectory directory;
    FakeSegment::Shape shape;
    shape.change = [](SegmentHeader& header) { header.mapping_lock = 1; };
    auto segment = std::make_unique<FakeSegment>(directory, "a.ring", shape);
    auto map = open_map(directory);
    REQUIRE(map);
    CHECK_FALSE((*map)->owner_alive());
    REQUIRE(take_lock(segment->fd, F_OFD_SETLK, mapping_lock_at));
    CHECK((*map)->owner_alive());
    // It is the mapping that counts, not the descriptor.
    void* mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, segment->fd, 0);
    REQUIRE(mapped != MAP_FAILED);
    segment.reset();
    CHECK((*map)->owner_alive());
    ::munmap(mapped, 4096);
    CHECK_FALSE((*map)->owner_alive());
}

TEST_CASE("nobody of another boot is alive, whatever the words say") {
    TemporaryDirectory directory;
    FakeSegment::Shape shape;
    shape.change = [](SegmentHeader& header) { header.boot_id[3] ^= 1; };
    FakeSegment segment(directory, "a.ring", shape);
    auto map = open_map(directory);
    REQUIRE(map);
    CHECK((*map)->other_boot());
    CHECK_FALSE((*map)->owner_alive());
}

TEST_CASE("a process that could not read its boot's id is of this boot") {
    TemporaryDirectory directory;
    FakeSegment::Shape shape;
    shape.change = [](SegmentHeader& header) { std::memset(header.boot_id, 0, 16); };
    FakeSegment segment(directory, "a.ring", shape);
    auto map = open_map(directory);
    REQUIRE(map);
    CHECK_FALSE((*map)->other_boot());
    CHECK((*map)->owner_alive());
    segment.die();
    CHECK_FALSE((*map)->owner_alive());
}

TEST_CASE("identity: the same file twice is equal, a file's successor is not") {
    TemporaryDirectory directory;
    FakeSegment segment(directory, "a.ring");
    auto first = open_map(directory);
    auto again = open_map(directory);
    REQUIRE(first);
    REQUIRE(again);
    CHECK((*first)->identity() == (*again)->identity());
    ::unlinkat(directory.fd, "a.ring", 0);
    FakeSegment::Shape shape;
    shape.process = 8;
    FakeSegment next(directory, "a.ring", shape);
    auto other = open_map(directory);
    REQUIRE(other);
    CHECK_FALSE((*first)->identity() == (*other)->identity());
}
