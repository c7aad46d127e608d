#include "process_context.hpp"

#include "clock.hpp"
#include "process.hpp"
#include "signals.hpp"

#include "oteld/detail/wire.hpp"
#include "oteld/value.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

// Younger than some of the headers that this is compiled with.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

namespace oteld::sdk {

// Readers compare `published_at` before and after they read the rest.
struct ContextHeader {
    char signature[8];
    std::uint32_t version;
    std::uint32_t payload_bytes;
    std::uint64_t published_at;  // CLOCK_BOOTTIME, ns; 0: being changed.
    std::uint64_t payload;       // An address in this process.
};
static_assert(sizeof(ContextHeader) == 32);

namespace {

constexpr char name[] = "OTEL_CTX";  // Of the mapping, and its signature.
constexpr std::uint32_t version = 2;

// The name of a memfd is seen without the kernel's help, which is not in every configuration.
void* map_file(std::size_t bytes) noexcept {
    rlimit limit{};
    // A file that grows beyond it ends the process.
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur < bytes) return MAP_FAILED;
    constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
    if (fd < 0) fd = memfd_create(name, flags);  // Linux before 6.3.
    if (fd < 0) return MAP_FAILED;
    void* map = MAP_FAILED;
    if (ftruncate(fd, static_cast<off_t>(bytes)) == 0)
        map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    close(fd);
    return map;
}

// Readers may also wait for this call, so that it follows each change. False: not in this kernel.
bool put_name(void* map, std::size_t bytes) noexcept {
    return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, map, bytes, name) == 0;
}

std::size_t page_bytes() noexcept { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

// Each store after the one before it: release, without a partner in this process.
void put(ContextHeader& header, const std::string& payload) noexcept {
    const std::uint64_t before = __atomic_load_n(&header.published_at, __ATOMIC_RELAXED);
    __atomic_store_n(&header.published_at, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&header.payload_bytes, static_cast<std::uint32_t>(payload.size()),
                     __ATOMIC_RELEASE);
    __atomic_store_n(&header.payload, reinterpret_cast<std::uintptr_t>(payload.data()),
                     __ATOMIC_RELEASE);
    __atomic_store_n(&header.published_at, std::max(clock_ns(CLOCK_BOOTTIME), before + 1),
                     __ATOMIC_RELEASE);
}

// Null: there is no memory, or nothing by which a reader would find it.
ContextHeader* publish(const std::string& payload) noexcept {
    const std::size_t bytes = page_bytes();
    void* map = map_file(bytes);
    const bool has_file = map != MAP_FAILED;
    if (!has_file)
        map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return nullptr;
    auto* header = static_cast<ContextHeader*>(map);
    if (madvise(map, bytes, MADV_DONTFORK) == 0) {
        std::memcpy(header->signature, name, sizeof header->signature);
        header->version = version;
        put(*header, payload);
        if (put_name(map, bytes) || has_file) return header;
    }
    munmap(map, bytes);
    return nullptr;
}

// ProcessContext { resource = 1, attributes = 2 }
std::string payload_of(const Process& process, const Provider& provider) {
    namespace wire = detail::wire;
    const std::string resource = provider.resource_message(process.process_id, process.pid);
    std::string payload(wire::bytes_field_bytes(1, resource.size()), '\0');
    wire::put_bytes(reinterpret_cast<std::uint8_t*>(payload.data()), 1, resource.data(),
                    resource.size());
    // How to read the threads' contexts: thread_context.cpp. No key has an index yet.
    append_key_value(payload, 2, "threadlocal.schema_version", "tlsdesc_v1_dev");
    append_key_value(payload, 2, "threadlocal.attribute_key_map",
                     Value(static_cast<const Value*>(nullptr), 0));
    return payload;
}

}  // namespace

static bool shareable(const Provider* provider) noexcept {
    return provider != nullptr && !provider->local && !provider->sampler.disabled;
}

void publish_context(Process& process, const Provider& provider, Occasion occasion) noexcept {
    guarded([&] {
        ProcessContext& context = process.context;
        const std::lock_guard lock(context.mutex);
        const bool changed = occasion == Occasion::global_changed;
        // Of two threads that change it at once, the last one here sees what has come of it.
        const Provider* wanted = changed ? known_global_provider() : &provider;
        const bool published = context.header != nullptr;
        if (!shareable(wanted) || wanted == context.provider || (published && !changed))
            return false;
        const bool calls_allowed =
            occasion == Occasion::rings_set_up || process.growth.load(std::memory_order_relaxed);
        if (!published && !calls_allowed) return false;
        std::string& payload = context.payloads[context.updates % 2];
        payload = payload_of(process, *wanted);
        if (published) {
            put(*context.header, payload);
            if (calls_allowed) put_name(context.header, page_bytes());
        } else {
            context.header = publish(payload);
        }
        if (context.header == nullptr) return false;
        context.provider = wanted;
        ++context.updates;
        return true;
    });
}

void publish_context(const Provider& provider, Occasion occasion) noexcept {
    if (!shareable(&provider)) return;  // Nor a process made for it.
    if (Process* process = this_process()) publish_context(*process, provider, occasion);
}

}  // namespace oteld::sdk
