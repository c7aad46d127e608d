// Segments and records built by hand from shm/layout.hpp, so that these tests do not depend on the
// client.
//
// Used by: tests/unit/daemon and tests/unit/shm. Threads: one. Knows the layout, not the client's
// behaviour.
#pragma once

#include "oteld/detail/record.hpp"
#include "oteld/detail/wire.hpp"
#include "shm/layout.hpp"
#include "shm/segment_map.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace oteld::test {

namespace wire = detail::wire;
using detail::SpanRecord;

struct TemporaryDirectory {
    TemporaryDirectory() {
        // On tmpfs when there is one, as rings are.
        std::string pattern = std::filesystem::exists("/dev/shm") ? "/dev/shm/oteld-test-XXXXXX"
                                                                  : "/tmp/oteld-XXXXXX";
        if (::mkdtemp(pattern.data()) == nullptr) std::abort();
        path = pattern;
        fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    ~TemporaryDirectory() {
        ::close(fd);
        std::filesystem::remove_all(path);
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    std::string path;
    int fd = -1;
};

// Protobuf by hand.
class Bytes {
public:
    Bytes& field(std::uint32_t number, std::string_view bytes) {
        varint_raw(wire::tag(number, wire::bytes_type));
        varint_raw(bytes.size());
        text.append(bytes);
        return *this;
    }
    Bytes& varint(std::uint32_t number, std::uint64_t value) {
        varint_raw(wire::tag(number, wire::varint_type));
        return varint_raw(value);
    }
    Bytes& fixed64(std::uint32_t number, std::uint64_t value) {
        varint_raw(wire::tag(number, wire::fixed64_type));
        text.append(reinterpret_cast<const char*>(&value), 8);
        return *this;
    }
    Bytes& fixed32(std::uint32_t number, std::uint32_t value) {
        varint_raw(wire::tag(number, wire::fixed32_type));
        text.append(reinterpret_cast<const char*>(&value), 4);
        return *this;
    }
    Bytes& varint_raw(std::uint64_t value) {
        std::uint8_t buffer[wire::varint_bytes_max];
        text.append(reinterpret_cast<const char*>(buffer),
                    static_cast<std::size_t>(wire::put_varint(buffer, value) - buffer));
        return *this;
    }
    std::string text;
};

inline std::string string_value(std::string_view value) { return Bytes().field(1, value).text; }
inline std::string int_value(std::uint64_t value) { return Bytes().varint(3, value).text; }
inline std::string key_value(std::string_view key, std::string_view any_value) {
    return Bytes().field(1, key).field(2, any_value).text;
}
inline std::string name_and_attribute(std::string_view name, std::string_view key = "k",
                                      std::uint64_t value = 1) {
    return Bytes().field(5, name).field(9, key_value(key, int_value(value))).text;
}

struct Record {
    std::array<std::uint8_t, 16> trace_id{1, 2, 3};
    std::array<std::uint8_t, 8> span_id{4, 5, 6};
    std::array<std::uint8_t, 8> parent_id{};
    std::uint64_t start = 1000;
    std::uint64_t end = 2000;
    std::uint8_t kind = 1;
    std::uint8_t status = 0;
    std::uint8_t trace_flags = 1;
    std::uint8_t flags = 0;
    std::uint16_t scope = 0;
    std::string body = name_and_attribute("work");
    std::string description;

    [[nodiscard]] std::string bytes() const {
        SpanRecord record{};
        std::memcpy(record.trace_id, trace_id.data(), 16);
        std::memcpy(record.span_id, span_id.data(), 8);
        std::memcpy(record.parent_id, parent_id.data(), 8);
        record.start = start;
        record.end = end;
        record.kind_status = static_cast<std::uint8_t>(kind | status << 4);
        record.trace_flags = trace_flags;
        record.scope = scope;
        record.body_bytes = static_cast<std::uint32_t>(body.size());
        record.prefix.type = static_cast<std::uint8_t>(detail::RecordType::span);
        record.prefix.flags = flags;
        record.prefix.header_bytes = sizeof record;
        std::string tail = body;
        if (!description.empty()) {
            record.prefix.flags |= detail::record_has_description;
            const auto length = static_cast<std::uint32_t>(description.size());
            tail.append(reinterpret_cast<const char*>(&length), 4).append(description);
        }
        record.prefix.length =
            static_cast<std::uint32_t>((sizeof record + tail.size() + 7) / 8 * 8);
        std::string all(reinterpret_cast<const char*>(&record), sizeof record);
        all += tail;
        all.resize(record.prefix.length);
        return all;
    }
};

inline Record numbered(std::uint64_t number) {
    Record record;
    std::memcpy(record.span_id.data(), &number, 8);
    return record;
}

// Two lanes of 16 KiB with 4 + 1 + 1 slots unless told otherwise.
class FakeSegment {
public:
    struct Shape {
        std::uint32_t lanes = 2;
        std::uint64_t data_bytes = 16 << 10;
        std::uint32_t slot_count[3] = {4, 1, 1};
        std::uint32_t slot_bytes[3] = {512, 4096, 16384};
        std::uint32_t index = 0;
        std::uint8_t process = 7;
        bool owner_alive = true;
        std::function<void(shm::SegmentHeader&)> change;
    };

    explicit FakeSegment(const TemporaryDirectory& directory, const std::string& file_name)
        : FakeSegment(directory, file_name, Shape{}) {}
    FakeSegment(const TemporaryDirectory& directory, const std::string& file_name,
                const Shape& shape)
        : FakeSegment(directory.fd, file_name, shape) {}
    FakeSegment(int directory_fd, const std::string& file_name, const Shape& shape)
        : name(file_name) {
        header = shape_header(shape);
        fd = ::openat(directory_fd, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || ::posix_fallocate(fd, 0, static_cast<off_t>(header.file_bytes)) != 0)
            std::abort();
        bytes = header.file_bytes;
        memory = static_cast<std::uint8_t*>(
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        if (shape.change) shape.change(header);
        std::memcpy(memory, &header, sizeof header);
        if (shape.owner_alive)
            for (std::uint32_t i = 0; i < header.lane_count; ++i) *lock_word(i) = 4242;
        add_table(shm::TableKind::resource, 0, 0,
                  Bytes().field(1, key_value("service.name", string_value("orders"))).text);
        add_table(shm::TableKind::scope, 0, 0, Bytes().field(1, "scope-a").field(2, "1.0").text);
    }
    ~FakeSegment() {
        ::munmap(memory, bytes);
        ::close(fd);
    }
    FakeSegment(const FakeSegment&) = delete;
    FakeSegment& operator=(const FakeSegment&) = delete;

    static shm::SegmentHeader shape_header(const Shape& shape) {
        shm::SegmentHeader header{};
        header.magic = shm::segment_magic;
        header.major = shm::layout_major;
        header.minor = shm::layout_minor;
        header.header_bytes = sizeof header;
        header.page_bytes = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
        const std::uint64_t page = header.page_bytes;
        const auto up = [page](std::uint64_t value) { return (value + page - 1) / page * page; };
        header.lane_count = shape.lanes;
        header.tables_offset = up(sizeof header);
        header.tables_bytes = up(8192);
        header.daemon_offset = header.tables_offset + header.tables_bytes;
        header.daemon_bytes =
            up(sizeof(shm::DaemonSegment) + sizeof(shm::DaemonLane) * shape.lanes);
        header.lanes_offset = header.daemon_offset + header.daemon_bytes;
        for (int i = 0; i < 3; ++i) {
            header.slot_count[i] = shape.slot_count[i];
            header.slot_bytes[i] = shape.slot_bytes[i];
        }
        header.data_offset = up(shm::slots_bytes(header));
        header.data_bytes = shape.data_bytes;
        header.producer_offset = header.data_offset + up(shape.data_bytes);
        header.lane_stride = header.producer_offset + page;
        header.lock_offset = static_cast<std::uint32_t>(page - 8);
        header.file_bytes = header.lanes_offset + header.lane_stride * shape.lanes;
        header.segment_index = shape.index;
        const auto boot = shm::current_boot_id();
        std::memcpy(header.boot_id, boot.data(), 16);
        std::memset(header.process_id, shape.process, 16);
        header.pid = 4242;
        header.clock_kind = static_cast<std::uint32_t>(shm::ClockKind::monotonic);
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC, &now);
        header.anchor_monotonic_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                                     static_cast<std::uint64_t>(now.tv_nsec);
        header.anchor_ticks = header.anchor_monotonic_ns;
        ::clock_gettime(CLOCK_REALTIME, &now);
        header.anchor_realtime_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                                    static_cast<std::uint64_t>(now.tv_nsec);
        std::strcpy(header.executable, "/usr/bin/fake");
        return header;
    }

    std::uint8_t* lane(std::uint32_t index) {
        return memory + header.lanes_offset + header.lane_stride * index;
    }
    shm::LaneProducer* producer(std::uint32_t index) {
        return reinterpret_cast<shm::LaneProducer*>(lane(index) + header.producer_offset);
    }
    std::uint32_t* lock_word(std::uint32_t index) {
        return reinterpret_cast<std::uint32_t*>(lane(index) + header.producer_offset +
                                                header.lock_offset);
    }
    std::uint8_t* data(std::uint32_t index) { return lane(index) + header.data_offset; }
    shm::DaemonSegment* daemon() {
        return reinterpret_cast<shm::DaemonSegment*>(memory + header.daemon_offset);
    }
    shm::DaemonLane* daemon_lane(std::uint32_t index) {
        return reinterpret_cast<shm::DaemonLane*>(memory + header.daemon_offset +
                                                  sizeof(shm::DaemonSegment)) +
               index;
    }

    void add_table(shm::TableKind kind, std::uint16_t index, std::uint16_t resource,
                   const std::string& message, const std::string& schema_url = {}) {
        shm::TableEntry entry{};
        entry.kind = static_cast<std::uint16_t>(kind);
        entry.index = index;
        entry.resource = resource;
        entry.schema_url_bytes = static_cast<std::uint16_t>(schema_url.size());
        entry.message_bytes = static_cast<std::uint32_t>(message.size());
        entry.bytes = static_cast<std::uint32_t>(
            (sizeof entry + schema_url.size() + message.size() + 7) / 8 * 8);
        auto* live = reinterpret_cast<shm::SegmentHeader*>(memory);
        std::uint8_t* at = memory + header.tables_offset + live->tables_end;
        std::memcpy(at, &entry, sizeof entry);
        auto* text = reinterpret_cast<char*>(at + sizeof entry);
        schema_url.copy(text, schema_url.size());
        message.copy(text + schema_url.size(), message.size());
        __atomic_store_n(&live->tables_end, live->tables_end + entry.bytes, __ATOMIC_RELEASE);
    }

    // Publishes raw bytes, with a pad when they do not fit before the end of the lap.
    void put_raw(std::uint32_t index, const std::string& record) {
        shm::LaneProducer* p = producer(index);
        std::uint64_t cursor = p->write_cursor;
        const std::uint64_t rest = header.data_bytes - cursor % header.data_bytes;
        if (record.size() > rest) {
            const detail::RecordPrefix pad{static_cast<std::uint32_t>(rest),
                                           static_cast<std::uint8_t>(detail::RecordType::pad), 0,
                                           8};
            std::memcpy(data(index) + cursor % header.data_bytes, &pad, sizeof pad);
            cursor += rest;
        }
        std::memcpy(data(index) + cursor % header.data_bytes, record.data(), record.size());
        __atomic_store_n(&p->write_cursor, cursor + record.size(), __ATOMIC_RELEASE);
    }
    void put(std::uint32_t index, const Record& record) {
        ++producer(index)->begun;
        put_raw(index, record.bytes());
        ++producer(index)->ended;
    }

    // Leaves a span open in a slot. `published` cuts it; 0: all of it.
    void open_slot(std::uint32_t index, std::uint32_t slot, const Record& record,
                   std::uint32_t published = 0) {
        const shm::SlotPlace place = shm::slot_place(header, slot);
        auto* control = reinterpret_cast<shm::SlotControl*>(lane(index) + place.offset);
        std::string all = record.bytes();
        const auto whole = static_cast<std::uint32_t>(sizeof(SpanRecord) + record.body.size());
        auto* written = reinterpret_cast<SpanRecord*>(all.data());
        written->prefix.length = 0;
        written->body_bytes = 0;
        written->end = 0;
        std::memcpy(control + 1, all.data(), whole);
        control->end_cursor = shm::slot_open;
        ++producer(index)->begun;
        __atomic_store_n(&control->published, published == 0 ? whole : published, __ATOMIC_RELEASE);
    }
    shm::SlotControl* slot(std::uint32_t index, std::uint32_t slot_index) {
        return reinterpret_cast<shm::SlotControl*>(lane(index) +
                                                   shm::slot_place(header, slot_index).offset);
    }
    void die() {
        for (std::uint32_t i = 0; i < header.lane_count; ++i) *lock_word(i) = shm::lock_owner_died;
    }

    std::string name;
    int fd = -1;
    std::uint64_t bytes = 0;
    std::uint8_t* memory = nullptr;
    shm::SegmentHeader header{};
};

}  // namespace oteld::test
