// Making a segment: complete or not at all, and readable by the daemon's half.
#include "shm/segment_create.hpp"

#include "shm/segment_map.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace oteld::shm {
namespace {

struct Place {
    std::string path = "/dev/shm/oteld-create-XXXXXX";
    RingDirectory directory;

    Place() {
        REQUIRE(::mkdtemp(path.data()) != nullptr);
        REQUIRE(open_ring_directory(directory, path.c_str()) == CreateError::none);
    }
    ~Place() {
        ::close(directory.fd);
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(path))
            names.push_back(entry.path().filename());
        std::sort(names.begin(), names.end());
        return names;
    }
};

SegmentIdentity identity(std::uint8_t name) {
    SegmentIdentity identity{};
    identity.process_id[0] = 7;
    identity.segment_index = 3;
    identity.clock = ClockKind::monotonic;
    identity.anchor_ticks = 11;
    std::strcpy(identity.executable, "program");
    identity.name[0] = name;
    return identity;
}

Segment make(const Place& place, std::uint8_t name, const Geometry& geometry = {}) {
    Segment segment;
    REQUIRE(create_segment(place.directory, geometry, identity(name), segment) ==
            CreateError::none);
    REQUIRE(publish_segment(place.directory, identity(name), segment) == CreateError::none);
    return segment;
}

std::string name_of(std::uint8_t first) {
    char text[48];
    std::snprintf(text, sizeof text, "%02x%030d.ring", first, 0);
    return text;
}

// Runs in a child, whose end frees its locks.
int status_of(const std::function<int()>& body) {
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) ::_exit(body());
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    return status;
}

}  // namespace

TEST_CASE("a segment has no name until it is complete, and then the daemon can read it") {
    const Place place;
    Segment segment;
    REQUIRE(create_segment(place.directory, Geometry{}, identity(1), segment) == CreateError::none);
    CHECK(place.files().empty());
    REQUIRE(publish_segment(place.directory, identity(1), segment) == CreateError::none);
    CHECK(place.files() == std::vector<std::string>{name_of(1)});

    auto map = SegmentMap::open(place.directory.fd, name_of(1), SegmentAccess::inspect);
    REQUIRE(map);
    const SegmentHeader& header = (*map)->header();
    CHECK(header.lane_count == 2);
    CHECK(header.data_bytes == 128 << 10);
    CHECK(header.segment_index == 3);
    CHECK(header.process_id[0] == 7);
    CHECK(header.anchor_ticks == 11);
    CHECK(std::string(header.executable) == "program");
    CHECK(header.pid == static_cast<std::uint32_t>(::getpid()));
    unmap_segment(segment);
}

TEST_CASE("both halves agree on where everything lies, for every geometry that a client uses") {
    Geometry bank;
    bank.lanes = 16;
    bank.data_bytes = 0;
    bank.slot_count[0] = 64;
    bank.slot_count[1] = bank.slot_count[2] = 0;
    Geometry large;
    large.lanes = 1;
    large.data_bytes = lane_data_bytes_max;
    Geometry small;
    small.data_bytes = 16 << 10;
    small.slot_count[0] = 8;
    small.slot_count[1] = 1;
    small.slot_count[2] = 0;
    Geometry many;
    many.lanes = 100;
    std::uint8_t name = 0;
    for (const Geometry& geometry : {Geometry{}, bank, large, small, many}) {
        const Place place;
        Segment segment = make(place, ++name, geometry);
        auto map = SegmentMap::open(place.directory.fd, name_of(name), SegmentAccess::drain);
        REQUIRE(map);
        REQUIRE((*map)->lane_count() == geometry.lanes);
        for (std::uint32_t i = 0; i < geometry.lanes; ++i) {
            const LaneView lane = (*map)->lane(i);
            segment.producer(i)->write_cursor = 8ULL * (i + 1);
            CHECK(lane.producer->write_cursor == 8ULL * (i + 1));
            segment.producer(i)->lock_words[0] = 100 + i;
            CHECK(*lane.lock_word == 100 + i);
            segment.producer(i)->lock_words[0] = 0;
            std::memcpy(segment.lane(i), "slot", 4);
            CHECK(std::memcmp(lane.slots, "slot", 4) == 0);
            if (geometry.data_bytes != 0) {
                std::memcpy(segment.lane(i) + segment.data_offset, "data", 4);
                CHECK(std::memcmp(lane.data, "data", 4) == 0);
            }
            lane.daemon->read_cursor = 16ULL * (i + 1);
            CHECK(segment.daemon_lanes[i].read_cursor == 16ULL * (i + 1));
        }
        (*map)->daemon()->retired = 1;
        CHECK(segment.daemon->retired == 1);
        unmap_segment(segment);
    }
}

TEST_CASE("the private page behind a lane is not in the file") {
    const Place place;
    Segment segment = make(place, 1);
    std::memset(segment.private_page(0), 0xEE, segment.page_bytes);
    std::vector<std::uint8_t> file(segment.file_bytes);
    REQUIRE(::pread(segment.fd, file.data(), file.size(), 0) == static_cast<ssize_t>(file.size()));
    CHECK(std::find(file.begin(), file.end(), 0xEE) == file.end());
    unmap_segment(segment);
}

TEST_CASE("the mode follows the directory's setgid bit") {
    for (const bool setgid : {false, true}) {
        Place place;
        place.directory.group_readable = setgid;
        Segment segment = make(place, 1);
        struct stat info {};
        REQUIRE(::fstat(segment.fd, &info) == 0);
        CHECK((info.st_mode & 07777) == (setgid ? 0660 : 0600));
        unmap_segment(segment);
    }
}

TEST_CASE("a table log takes entries until it is full, and the rest not at all") {
    const Place place;
    Geometry geometry;
    geometry.tables_bytes = 4096;
    Segment segment = make(place, 1, geometry);
    const std::string message(984, 'm');
    for (int i = 0; i < 4; ++i) {
        CHECK(append_table(segment, TableKind::scope, static_cast<std::uint16_t>(i), 0, "url", 3,
                           message.data(), message.size()));
    }
    CHECK_FALSE(
        append_table(segment, TableKind::scope, 4, 0, "url", 3, message.data(), message.size()));
    CHECK(append_table(segment, TableKind::resource, 5, 0, nullptr, 0, nullptr, 0));
    CHECK(segment.header->tables_end ==
          4 * table_entry_bytes(3, message.size()) + table_entry_bytes(0, 0));
    const std::string url(70000, 'u');
    CHECK_FALSE(append_table(segment, TableKind::scope, 6, 0, url.data(), url.size(), nullptr, 0));
    unmap_segment(segment);
}

TEST_CASE(
    "a directory that is a file or missing is refused; one behind a link is taken, as the daemon "
    "does") {
    const Place place;
    const std::string file = place.path + "/file";
    const std::string link = place.path + "/link";
    REQUIRE(::close(::open(file.c_str(), O_CREAT | O_WRONLY, 0600)) == 0);
    REQUIRE(::symlink(place.path.c_str(), link.c_str()) == 0);
    RingDirectory directory;
    CHECK(open_ring_directory(directory, (place.path + "/missing").c_str()) ==
          CreateError::no_directory);
    CHECK(open_ring_directory(directory, file.c_str()) == CreateError::no_directory);
    CHECK(directory.fd == -1);
    REQUIRE(open_ring_directory(directory, link.c_str()) == CreateError::none);
    ::close(directory.fd);
}

TEST_CASE("the personal directory is refused when it is a link, or of another mode") {
    const std::string personal = "/dev/shm/oteld-" + std::to_string(::geteuid());
    if (::access(personal.c_str(), F_OK) == 0) {
        MESSAGE("not run: there is a personal directory");
        return;
    }
    const Place place;
    REQUIRE(::symlink(place.path.c_str(), personal.c_str()) == 0);
    RingDirectory directory;
    const CreateError link = open_ring_directory(directory, personal.c_str());
    ::unlink(personal.c_str());
    CHECK(link == CreateError::no_directory);
    REQUIRE(::mkdir(personal.c_str(), 0755) == 0);
    const CreateError mode = open_ring_directory(directory, personal.c_str());
    ::rmdir(personal.c_str());
    CHECK(mode == CreateError::permission);
    CHECK(directory.fd == -1);
}

TEST_CASE(
    "reclaim removes the dead segments of this user, oldest first, and says what was in them") {
    const Place place;
    for (std::uint8_t name = 1; name <= 3; ++name) {
        CHECK(status_of([&] {
                  Segment segment = make(place, name);
                  segment.producer(0)->begun = 13 + 10ULL * name;  // Also what is still open.
                  segment.producer(0)->ended = 10ULL * name;
                  segment.producer(0)->dropped[0] = 3;
                  segment.producer(1)->dropped[1] = 4;  // Begun in the other lane.
                  segment.daemon_lanes[0].drained = 5;
                  segment.daemon_lanes[1].malformed = 1;
                  const auto counter = static_cast<std::uint32_t>(ProcessCounter::reclaimed_spans);
                  segment.header->counters[counter] = 100;
                  return 0;
              }) == 0);
    }
    CHECK(reclaim_dead_segments(place.directory, {1ULL << 30, 1ULL << 30}, {}, 0).files == 0);
    const Reclaimed one = reclaim_dead_segments(place.directory, {0, 1}, {}, 0);
    CHECK(one.files == 1);
    CHECK(one.spans == 10 + 100);
    CHECK(place.files() == std::vector<std::string>{name_of(2), name_of(3)});
    const Reclaimed rest = reclaim_dead_segments(place.directory, {0, 1ULL << 40}, {}, 0);
    CHECK(rest.files == 2);
    CHECK(rest.spans == 20 + 30 + 200);
    CHECK(place.files().empty());
}

TEST_CASE("reclaim takes a few at a time") {
    const Place place;
    for (std::uint8_t name = 20; name >= 1; --name)
        CHECK(status_of([&] { return make(place, name).fd < 0 ? 1 : 0; }) == 0);
    CHECK(reclaim_dead_segments(place.directory, {0, 1ULL << 40}, {}, 0).files == 16);
    CHECK(place.files().size() == 4);
}

TEST_CASE("reclaim takes a segment that nobody has mapped, though its words are held") {
    const Place place;
    for (const std::uint32_t mapping_lock : {1U, 0U}) {
        CAPTURE(mapping_lock);
        CHECK(status_of([&] {
                  Segment segment = make(place, 1);
                  if (segment.header->mapping_lock != 1) return 1;
                  segment.header->mapping_lock = mapping_lock;
                  // As of a thread that execs: the kernel leaves it alone.
                  segment.producer(0)->lock_words[0] = 4242;
                  return 0;
              }) == 0);
        CHECK(reclaim_dead_segments(place.directory, {0, 1ULL << 40}, {}, 0).files == mapping_lock);
    }
}

TEST_CASE("reclaim leaves to a living daemon what it has mapped") {
    const Place place;
    for (std::uint8_t name = 1; name <= 3; ++name) {
        CHECK(status_of([&] {
                  make(place, name).daemon->control_generation = name;
                  return 0;
              }) == 0);
    }
    CHECK(reclaim_dead_segments(place.directory, {0, 1ULL << 40}, {}, 2).files == 2);
    CHECK(place.files() == std::vector<std::string>{name_of(2)});
    CHECK(reclaim_dead_segments(place.directory, {0, 1ULL << 40}, {}, 0).files == 1);
}

TEST_CASE("reclaim leaves living segments alone, its own and their locks too") {
    const Place place;
    Segment own = make(place, 1);
    int ready[2];
    int stop[2];
    REQUIRE(::pipe(ready) == 0);
    REQUIRE(::pipe(stop) == 0);
    const pid_t other = ::fork();
    REQUIRE(other >= 0);
    if (other == 0) {
        ::close(stop[1]);
        const Segment theirs = make(place, 2);
        char byte = 'r';
        if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
        ::_exit(::read(stop[0], &byte, 1) == 0 && theirs.fd >= 0 ? 0 : 1);
    }
    char byte = 0;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    const std::vector<FileId> mine{{own.device, own.inode}};
    const Reclaimed reclaimed = reclaim_dead_segments(place.directory, {0, 1ULL << 40}, mine, 0);
    CHECK(reclaimed.files == 0);
    CHECK(place.files().size() == 2);
    // A process loses its lock on a file when it closes any descriptor of it: looking must not have
    // opened this one.
    CHECK(status_of([&] {
              struct flock lock {};
              lock.l_type = F_WRLCK;
              lock.l_whence = SEEK_SET;
              lock.l_start = owner_lock_at;
              lock.l_len = 1;
              const int fd = ::openat(place.directory.fd, name_of(1).c_str(), O_RDWR);
              return ::fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK ? 0 : 1;
          }) == 0);
    for (const int fd : {ready[0], ready[1], stop[0], stop[1]}) ::close(fd);
    int status = 1;
    REQUIRE(::waitpid(other, &status, 0) == other);
    CHECK(status == 0);
    unmap_segment(own);
}

TEST_CASE("reclaim is not misled by damaged files, directories and foreign names") {
    const Place place;
    REQUIRE(::mkdir((place.path + "/" + name_of(1)).c_str(), 0700) == 0);
    REQUIRE(::mkfifo((place.path + "/" + name_of(2)).c_str(), 0600) == 0);
    REQUIRE(::symlink("/etc/passwd", (place.path + "/" + name_of(3)).c_str()) == 0);
    const auto file = [&](std::uint8_t name, const void* data, std::size_t bytes) {
        const int fd = ::open((place.path + "/" + name_of(name)).c_str(), O_CREAT | O_RDWR, 0600);
        REQUIRE(::write(fd, data, bytes) == static_cast<ssize_t>(bytes));
        ::close(fd);
    };
    SegmentHeader header{};
    file(4, "short", 5);
    file(5, &header, sizeof header);
    header.magic = segment_magic;
    header.major = layout_major;
    header.file_bytes = sizeof header;
    header.lane_count = lanes_max;
    header.lane_stride = 4000;
    header.producer_offset = 4000;
    header.daemon_offset = 4000;
    header.lanes_offset = 4000;
    file(6, &header, sizeof header);
    CHECK(reclaim_dead_segments(place.directory, {0, 1ULL << 40}, {}, 0).files == 0);
    CHECK(place.files().size() == 6);
}

}  // namespace oteld::shm
