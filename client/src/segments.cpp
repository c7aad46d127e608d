#include "segments.hpp"

#include "clock.hpp"
#include "hooks.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace oteld::sdk {

namespace {

constexpr std::uint64_t scope_bytes_max = 64 << 10;  // Of one scope in the tables.

// An entry of the table log, before it is copied into one segment or all.
struct TableItem {
    shm::TableKind kind;
    std::uint16_t index;
    std::uint16_t resource;
    std::string_view schema_url;
    std::string message;

    [[nodiscard]] std::uint64_t bytes() const noexcept {
        return shm::table_entry_bytes(schema_url.size(), message.size());
    }
    bool append(shm::Segment& segment) const noexcept {
        return shm::append_table(segment, kind, index, resource, schema_url.data(),
                                 schema_url.size(), message.data(), message.size());
    }
};

}  // namespace

pthread_mutex_t* liveness_word(const Lane& lane) noexcept {
    const shm::Segment& segment = lane.segment->segment;
    return reinterpret_cast<pthread_mutex_t*>(segment.private_page(lane.index) - 8);
}

// A fork's child holds copies of its parent's descriptors; left open they would keep unlinked rings
// in memory.
void close_inherited(const Process& parent) noexcept {
    for (const SegmentEntry* entry : parent.segments) {
        struct stat facts {};
        const shm::Segment& segment = entry->segment;
        // The program may have closed everything and reused the number.
        if (fstat(segment.fd, &facts) == 0 && facts.st_dev == segment.device &&
            facts.st_ino == segment.inode)
            close(segment.fd);
    }
}

void map_control(Process& process, const shm::RingDirectory& directory) noexcept {
    const int fd =
        openat(directory.fd, shm::control_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return;
    struct stat facts {};
    // In a sticky directory others may plant files: only the directory's owner and root write the
    // control page.
    if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_ino != process.control_inode &&
        facts.st_size >= static_cast<off_t>(sizeof(shm::ControlPage)) &&
        (!directory.sticky || facts.st_uid == directory.owner || facts.st_uid == 0)) {
        void* map = mmap(nullptr, sizeof(shm::ControlPage), PROT_READ, MAP_SHARED, fd, 0);
        if (map != MAP_FAILED) {
            const auto* page = static_cast<const shm::ControlPage*>(map);
            if (page->magic == shm::control_magic && page->major == shm::layout_major) {
                process.control_inode = facts.st_ino;
                process.control.store(page,
                                      std::memory_order_release);  // An older mapping stays: others
                                                                   // may be reading it.
            } else {
                munmap(map, sizeof(shm::ControlPage));
            }
        }
    }
    close(fd);
}

bool same_generation(const Process& process) noexcept {
    const shm::ControlPage* page = process.control.load(std::memory_order_acquire);
    const shm::DaemonSegment* first = process.first_daemon.load(std::memory_order_acquire);
    if (first == nullptr || page == nullptr) return false;
    const std::uint64_t current = __atomic_load_n(&first->control_generation, __ATOMIC_RELAXED);
    return current == 0 || current == page->generation;
}

// The copy that is valid now; the other is the one being written.
static const shm::ControlContent& content_of(const shm::ControlPage& page) noexcept {
    // Acquire: pairs with the daemon's release of `active`.
    return page.content[__atomic_load_n(&page.active, __ATOMIC_ACQUIRE) & 1U];
}

bool recording_off(const Process& process) noexcept {
    const shm::ControlPage* page = process.control.load(std::memory_order_acquire);
    const shm::DaemonSegment* first = process.first_daemon.load(std::memory_order_acquire);
    // A page that another has replaced says nothing any more.
    if (page != nullptr && (first == nullptr || same_generation(process)))
        return __atomic_load_n(&content_of(*page).enabled, __ATOMIC_RELAXED) == 0;
    return first != nullptr && __atomic_load_n(&first->recording_off, __ATOMIC_RELAXED) != 0;
}

static shm::SegmentIdentity identity_of(const Process& process) {
    shm::SegmentIdentity identity{};
    std::memcpy(identity.process_id, process.process_id, sizeof identity.process_id);
    identity.segment_index = static_cast<std::uint32_t>(process.segments.size());
    identity.clock = clock_is_tsc ? shm::ClockKind::tsc : shm::ClockKind::monotonic;
    identity.anchor_monotonic_ns = clock_ns(CLOCK_MONOTONIC);
    identity.anchor_ticks = ticks();
    identity.anchor_realtime_ns = clock_ns(CLOCK_REALTIME);
    std::strncpy(identity.executable, executable_name().c_str(), sizeof identity.executable - 1);
    Random random{};
    random.seed();
    const std::uint64_t name[2] = {random.next(), random.next()};
    std::memcpy(identity.name, name, sizeof identity.name);
    return identity;
}

static void explain(Process& process, shm::CreateError error, std::uint64_t bytes) noexcept {
    if (process.warned || error == shm::CreateError::no_directory)
        return;  // No daemon here: nothing to say.
    process.warned = true;
    const auto kib = static_cast<unsigned long>(bytes >> 10);
    switch (error) {
        case shm::CreateError::permission:
            return warn(
                "spans are not recorded: no permission to create a file in the ring directory (see "
                "OTELD_DIR)");
        case shm::CreateError::file_size_limit:
            return warn("spans are not recorded: RLIMIT_FSIZE is below the %lu KiB of a ring", kib);
        case shm::CreateError::memory_limit:
            return warn("a ring of %lu KiB was not made: it would come near the memory limit", kib);
        case shm::CreateError::full:
            return warn(
                "a ring of %lu KiB was not made: the ring directory's file system is full; make "
                "room there or enlarge it",
                kib);
        default: return warn("a ring of %lu KiB could not be made", kib);
    }
}

// The first resource stands in for one that did not fit.
static std::uint16_t index_of(const std::vector<const Provider*>& list,
                              const Provider* provider) noexcept {
    const auto found = std::find(list.begin(), list.end(), provider);
    return static_cast<std::uint16_t>(found == list.end() ? 0 : found - list.begin());
}

static TableItem resource_item(const Process& process, const Provider& provider,
                               std::size_t index) {
    return {shm::TableKind::resource, static_cast<std::uint16_t>(index), 0,
            std::string_view(provider.resource_schema_url).substr(0, UINT16_MAX),
            provider.resource_message(process.process_id, process.pid)};
}

static TableItem scope_item(const Process& process, const Scope& scope, std::size_t index) {
    return {shm::TableKind::scope, static_cast<std::uint16_t>(index),
            index_of(process.resources, scope.active.load(std::memory_order_relaxed)),
            std::string_view(scope.schema_url).substr(0, UINT16_MAX), scope.message};
}

// All that is registered, as a new segment has to carry it.
static std::vector<TableItem> table_items(const Process& process) {
    std::vector<TableItem> items;
    for (std::size_t i = 0; i < process.resources.size(); ++i)
        items.push_back(resource_item(process, *process.resources[i], i));
    for (std::size_t i = 0; i < process.scopes.size(); ++i)
        items.push_back(scope_item(process, *process.scopes[i], i));
    return items;
}

// Into every segment or, when one has no room, into none.
static bool append_everywhere(const Process& process, const TableItem& item) noexcept {
    for (const SegmentEntry* entry : process.segments) {
        if (item.bytes() > entry->segment.tables_bytes - entry->segment.tables_end) return false;
    }
    bool appended = true;
    for (SegmentEntry* entry : process.segments) appended = item.append(entry->segment) && appended;
    return appended;
}

void register_resource(Process& process, const Provider* provider) {
    const std::size_t known = process.resources.size();
    if (std::find(process.resources.begin(), process.resources.end(), provider) !=
        process.resources.end())
        return;
    if (known < shm::resources_max &&
        append_everywhere(process, resource_item(process, *provider, known))) {
        process.resources.push_back(provider);
    } else {
        process.count(shm::ProcessCounter::resources_overflowed);
    }
}

// The scope's index and provider hold for this process, unless another provider has become the
// global one meanwhile, or this one was shut down: then the next start goes the slow way again.
static void put_generation(const Process& process, Scope& scope,
                           const Provider* provider) noexcept {
    // Pairs with start()'s acquire, and with set_global_provider().
    scope.generation.store(process.generation, std::memory_order_seq_cst);
    if ((scope.own == nullptr && !is_global(provider)) ||
        provider->stopped.load(std::memory_order_seq_cst))
        scope.generation.store(Scope::unregistered, std::memory_order_seq_cst);
}

void register_scope(Process& process, Scope& scope, const Provider* provider) {
    // Else every start goes the slow way; of silent scopes it ends early.
    const bool quick = !provider->starts_slowly() && !silent(*provider, scope);
    const std::uint32_t before = scope.index.load(std::memory_order_relaxed);
    const bool again = before < process.scopes.size() && process.scopes[before] == &scope &&
                       scope.active.load(std::memory_order_relaxed) == provider;
    if (again) {  // Recording had been turned off meanwhile: the tables have it already.
        if (quick) put_generation(process, scope, provider);
        return;
    }
    scope.active.store(
        provider,
        std::memory_order_release);  // Pairs with prepare(), which looks at it before the mutex.
    register_resource(process, provider);
    const std::size_t known = process.scopes.size();
    const TableItem item = scope_item(process, scope, known);
    std::uint32_t index = 0xFFFF;  // The daemon names it "overflow".
    if (known < shm::scopes_max && item.bytes() <= scope_bytes_max &&
        append_everywhere(process, item)) {
        process.scopes.push_back(&scope);
        index = static_cast<std::uint32_t>(known);
    } else {
        process.count(shm::ProcessCounter::scopes_overflowed);
    }
    scope.index.store(index, std::memory_order_relaxed);
    if (quick) put_generation(process, scope, provider);
}

static void initialise_lane(Process& process, SegmentEntry& entry, std::uint32_t index,
                            const shm::Geometry& geometry) noexcept {
    shm::Segment& segment = entry.segment;
    auto* lane = new (segment.private_page(index) + lane_state_offset) Lane{};
    lane->generation = process.generation;
    lane->segment = &entry;
    lane->daemon = segment.daemon;
    lane->index = index;
    lane->slots.initialise(segment.lane(index), geometry.slot_count, geometry.slot_bytes);
    lane->writer.initialise(segment.lane(index) + segment.data_offset, geometry.data_bytes,
                            segment.producer(index), segment.daemon_lanes + index);
    lane->random.seed();
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(liveness_word(*lane), &attributes);
    pthread_mutexattr_destroy(&attributes);
    (geometry.data_bytes != 0 ? process.lanes : process.banks).push_back(lane);
}

// The control page's generation if its daemon lives, else 0. In another time namespace the
// heartbeat looks old or yet to come: then there is none.
static std::uint64_t live_generation(const Process& process) noexcept {
    constexpr std::uint64_t heartbeat_age_max_ns = 5000000000U;  // It comes with each nap.
    const shm::ControlPage* page = process.control.load(std::memory_order_acquire);
    if (page == nullptr) return 0;
    const std::uint64_t beat = __atomic_load_n(&page->heartbeat_monotonic_ns, __ATOMIC_RELAXED);
    return clock_ns(CLOCK_MONOTONIC) - beat < heartbeat_age_max_ns ? page->generation : 0;
}

// A dead segment of this user's is worth less than a living program's spans.
static void reclaim(Process& process, shm::RingDirectory& directory, const shm::RoomToMake& room) {
    std::vector<shm::FileId> own;
    for (const SegmentEntry* entry : process.segments)
        own.push_back({entry->segment.device, entry->segment.inode});
    const shm::Reclaimed gone =
        shm::reclaim_dead_segments(directory, room, own, live_generation(process));
    directory.bytes_free += gone.bytes;
    process.reclaimed.files += gone.files;
    process.reclaimed.spans += gone.spans;
}

// Other programs may take the room that was made, so it is tried again.
static shm::CreateError create_where_room_is(Process& process, shm::RingDirectory& directory,
                                             const shm::Geometry& geometry,
                                             const shm::SegmentIdentity& identity,
                                             shm::Segment& segment) {
    constexpr int attempts_max = 3;
    const std::uint64_t bytes =
        geometry.file_bytes(static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)));
    const std::uint64_t needed =
        bytes + shm::bytes_left_free(directory.bytes, directory.spool_bytes);
    shm::CreateError error = shm::CreateError::full;
    for (int i = 0; i < attempts_max && error == shm::CreateError::full; ++i) {
        if (directory.bytes_free < needed) {
            const std::uint64_t least = needed - directory.bytes_free;
            reclaim(process, directory, {least, std::max(least, bytes * 2)});
        }
        if (directory.bytes_free < needed) return error;
        error = shm::create_segment(directory, geometry, identity, segment);
        if (!shm::look_at_room(directory)) return error;
    }
    return error;
}

// After the ring is there: what was removed before it, or is now, has a place to be counted in.
static void count_reclaimed(Process& process, shm::RingDirectory& directory, std::uint64_t bytes) {
    // What programs left behind a moment ago a living daemon has yet to see, and removes itself.
    if (directory.bytes_free < directory.bytes / 2 && live_generation(process) == 0)
        reclaim(process, directory, {0, bytes * 2});
    const shm::Reclaimed reclaimed = std::exchange(process.reclaimed, {});
    if (reclaimed.files == 0) return;
    process.count(shm::ProcessCounter::reclaimed_files, reclaimed.files);
    process.count(shm::ProcessCounter::reclaimed_spans, reclaimed.spans);
}

// The client's own cap, or the daemon's where that is smaller. A daemon that writes nonsense can
// only make it smaller.
std::uint64_t bytes_allowed(const Process& process) noexcept {
    const shm::ControlPage* page = process.control.load(std::memory_order_acquire);
    if (page == nullptr) return process.bytes_max;
    const std::uint64_t wanted =
        __atomic_load_n(&content_of(*page).process_bytes_max, __ATOMIC_RELAXED);
    return wanted == 0 ? process.bytes_max : std::min(wanted, process.bytes_max);
}

SegmentEntry* add_segment(Process& process, shm::Geometry geometry, bool while_off) {
    // The list is never moved: see make_process().
    if (process.segments.size() == process.segments.capacity() || borrows(process)) return nullptr;
    // Now, so that nothing throws any more once the segment is in the lists.
    std::vector<Lane*>& list = geometry.data_bytes != 0 ? process.lanes : process.banks;
    if (list.capacity() - list.size() < geometry.lanes)
        list.reserve(std::max(list.size() * 2, list.size() + geometry.lanes));
    const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    const std::vector<TableItem> items = table_items(process);
    std::uint64_t items_bytes = 0;
    for (const TableItem& item : items) items_bytes += item.bytes();
    geometry.tables_bytes =
        std::max(geometry.tables_bytes, items_bytes * 2);  // Room for as much again.
    const std::uint64_t bytes = geometry.file_bytes(page);
    if (process.bytes + bytes > bytes_allowed(process)) return nullptr;
    if (!memory_allows(bytes)) {
        explain(process, shm::CreateError::memory_limit, bytes);
        return nullptr;
    }
    Directory directory;
    if (directory.error != shm::CreateError::none) {
        explain(process, directory.error, bytes);
        return nullptr;
    }
    if (process.control.load(std::memory_order_relaxed) == nullptr || !same_generation(process))
        map_control(process, directory.facts);
    if (!while_off && recording_off(process)) {
        forget_scopes();
        return nullptr;
    }
    auto entry = std::make_unique<SegmentEntry>();
    const shm::SegmentIdentity identity = identity_of(process);
    shm::CreateError error =
        create_where_room_is(process, directory.facts, geometry, identity, entry->segment);
    for (const TableItem& item : items) {
        if (error == shm::CreateError::none && !item.append(entry->segment))
            error = shm::CreateError::io;
    }
    if (error == shm::CreateError::none)
        error = shm::publish_segment(directory.facts, identity, entry->segment);
    if (error != shm::CreateError::none) {
        shm::unmap_segment(entry->segment);
        explain(process, error, bytes);
        return nullptr;
    }
    entry->index = identity.segment_index;
    entry->data_bytes = geometry.data_bytes;
    process.bytes += bytes;
    process.segments.push_back(entry.get());
    const shm::DaemonSegment* first = process.first_daemon.load(std::memory_order_relaxed);
    if (first == nullptr || __atomic_load_n(&first->retired, __ATOMIC_RELAXED) != 0) {
        // Release: spans on other threads read them without the mutex.
        process.first_daemon.store(entry->segment.daemon, std::memory_order_release);
        process.counters.store(entry->segment.header, std::memory_order_release);
    }
    if (process.segments.size() > 1) process.count(shm::ProcessCounter::growths);
    count_reclaimed(process, directory.facts, bytes);
    for (std::uint32_t i = 0; i < geometry.lanes; ++i)
        initialise_lane(process, *entry, i, geometry);
    if (geometry.data_bytes != 0) process.lane_may_be_free.store(true, std::memory_order_relaxed);
    return entry.release();  // Never freed: spans may end as long as the process lives.
}

}  // namespace oteld::sdk
