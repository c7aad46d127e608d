#include "outside.hpp"

#include "ring_fixture.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>
#include <tuple>
#include <vector>

namespace oteld::test {
namespace {

constexpr std::string_view signature = "OTEL_CTX";
constexpr std::size_t header_bytes = 32;

struct Mapping {
    std::uint64_t begin;
    std::string name;
};

bool starts_with(std::string_view text, std::string_view with) {
    return text.substr(0, with.size()) == with;
}

bool is_context(const Mapping& mapping, pid_t pid, bool unnamed) {
    char found[8] = {};
    if (unnamed)
        return mapping.name.empty() && read_memory(pid, mapping.begin, found, sizeof found) &&
               std::string_view(found, sizeof found) == signature;
    for (const char* name : {"[anon_shmem:OTEL_CTX]", "[anon:OTEL_CTX]", "/memfd:OTEL_CTX"})
        if (starts_with(mapping.name, name)) return true;
    return false;
}

std::vector<Mapping> context_mappings(pid_t pid, bool unnamed) {
    std::vector<Mapping> found;
    std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
    for (std::string line; std::getline(maps, line);) {
        std::istringstream words(line);
        std::string range, rights, offset, device, inode;
        words >> range >> rights >> offset >> device >> inode;
        Mapping mapping{std::stoull(range, nullptr, 16), {}};
        std::getline(words >> std::ws, mapping.name);
        if (is_context(mapping, pid, unnamed)) found.push_back(mapping);
    }
    return found;
}

template <class T>
T number(const std::uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

// A decoder of its own for the few shapes that there are; what else it meets is wrong.
class Decoder {
public:
    explicit Decoder(std::string_view message) : rest_(message) {}
    bool next() {
        if (rest_.empty() || wrong_) return false;
        const std::uint64_t tag = varint();
        field_ = static_cast<std::uint32_t>(tag >> 3);
        if ((tag & 7) == 0) {
            number_ = varint();
            bytes_ = {};
        } else if ((tag & 7) == 2) {
            const std::uint64_t size = varint();
            wrong_ = wrong_ || size > rest_.size();
            if (wrong_) return false;
            bytes_ = rest_.substr(0, size);
            rest_.remove_prefix(size);
        } else {
            wrong_ = true;
        }
        return !wrong_;
    }
    [[nodiscard]] std::uint32_t field() const { return field_; }
    [[nodiscard]] std::string_view bytes() const { return bytes_; }
    [[nodiscard]] std::uint64_t value() const { return number_; }
    [[nodiscard]] bool wrong() const { return wrong_; }

private:
    std::uint64_t varint() {
        std::uint64_t value = 0;
        for (unsigned shift = 0; !rest_.empty() && shift < 64; shift += 7) {
            const auto byte = static_cast<std::uint8_t>(rest_.front());
            rest_.remove_prefix(1);
            value |= std::uint64_t{byte & 0x7FU} << shift;
            if (byte < 0x80) return value;
        }
        wrong_ = true;
        return 0;
    }
    std::string_view rest_, bytes_;
    std::uint32_t field_ = 0;
    std::uint64_t number_ = 0;
    bool wrong_ = false;
};

// AnyValue: text, whole numbers, arrays.
std::string value_text(std::string_view message) {
    Decoder value(message);
    std::string text;
    while (value.next()) {
        if (value.field() == 1) {
            text = '"' + std::string(value.bytes()) + '"';
        } else if (value.field() == 3) {
            text = std::to_string(value.value());
        } else if (value.field() == 5) {
            text = "[";
            Decoder items(value.bytes());
            while (items.next()) text += (text.size() > 1 ? "," : "") + value_text(items.bytes());
            text += items.wrong() ? "?" : "]";
        } else {
            return "?";
        }
    }
    return value.wrong() ? "?" : text;
}

bool add_pair(std::string_view message, Pairs& to) {
    Decoder pair(message);
    std::string key, value;
    while (pair.next()) (pair.field() == 1 ? key : value) = pair.bytes();
    to.emplace_back(key, value_text(value));
    return !pair.wrong() && !key.empty() && to.back().second.find('?') == std::string::npos;
}

bool decode(std::string_view payload, SeenContext& seen) {
    Decoder context(payload);
    bool well = true;
    while (context.next()) {
        if (context.field() == 1) {
            Decoder resource(context.bytes());
            while (resource.next())
                well = resource.field() == 1 && add_pair(resource.bytes(), seen.resource) && well;
            well = well && !resource.wrong();
        } else {
            well = context.field() == 2 && add_pair(context.bytes(), seen.attributes) && well;
        }
    }
    return well && !context.wrong();
}

#if defined(__x86_64__)
const std::function<void()>* stepped_body = nullptr;
void run_stepped_body(int) {
    (*stepped_body)();
    ::raise(SIGSTOP);
}
#endif

// False: it was changed meanwhile.
bool read_context(pid_t pid, std::uint64_t at, SeenContext& seen) {
    std::uint8_t header[header_bytes], again[header_bytes];
    const auto fail = [&seen](const char* why) {
        seen.wrong = why;
        return true;
    };
    if (!read_memory(pid, at, header, sizeof header)) return fail("the header cannot be read");
    if (std::string_view(reinterpret_cast<char*>(header), 8) != signature)
        return fail("no signature");
    if (number<std::uint32_t>(header + 8) != 2) return fail("not version 2");
    seen.published_at = number<std::uint64_t>(header + 16);
    if (seen.published_at == 0) return false;
    std::string payload(number<std::uint32_t>(header + 12), '\0');
    const bool read =
        read_memory(pid, number<std::uint64_t>(header + 24), payload.data(), payload.size());
    if (!read_memory(pid, at, again, sizeof again)) return fail("the header is gone");
    if (number<std::uint64_t>(again + 16) != seen.published_at) return false;
    if (!read) return fail("the payload cannot be read");
    return decode(payload, seen) ? true : fail("the payload is malformed");
}

}  // namespace

std::string SeenContext::at(const std::string& key) const {
    for (const auto& [name, value] : resource)
        if (name == key) return value;
    return "(none)";
}

SeenContext look_at_process(pid_t pid, bool unnamed) {
    SeenContext seen;
    wait_until([&] {
        seen = {};
        const std::vector<Mapping> mappings = context_mappings(pid, unnamed);
        seen.mappings = mappings.size();
        if (mappings.empty()) return true;
        seen.mapping = mappings[0].name;
        return read_context(pid, mappings[0].begin, seen);
    });
    return seen;
}

std::uint64_t context_address(pid_t pid) {
    const std::vector<Mapping> mappings = context_mappings(pid, false);
    REQUIRE(mappings.size() == 1);
    return mappings[0].begin;
}

std::optional<SeenContext> context_at(pid_t pid, std::uint64_t address) {
    SeenContext seen;
    if (!read_context(pid, address, seen)) return std::nullopt;
    return seen;
}

bool at_every_instruction(const std::string& directory, const std::function<void()>& prepare,
                          const std::function<void()>& body,
                          const std::function<void(pid_t)>& look) {
#if defined(__x86_64__)
    if (sanitized) {
        MESSAGE("not run: a sanitizer's code has too many instructions");
        return false;
    }
    // The body is a signal's handler, so that it begins when the child is traced.
    const LivingChild child(directory, [&] {
        stepped_body = &body;
        struct sigaction action {};
        action.sa_handler = run_stepped_body;
        EXPECT(::sigaction(SIGUSR1, &action, nullptr) == 0);
        prepare();
    });
    if (::ptrace(PTRACE_ATTACH, child.pid(), 0, 0) != 0) {
        MESSAGE("not run: ptrace is not allowed here");
        return false;
    }
    int status = 0;
    REQUIRE(::waitpid(child.pid(), &status, 0) == child.pid());
    for (long signal = SIGUSR1;; signal = 0) {
        look(child.pid());
        REQUIRE(::ptrace(PTRACE_SINGLESTEP, child.pid(), 0, signal) == 0);
        REQUIRE(::waitpid(child.pid(), &status, 0) == child.pid());
        REQUIRE(WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGSTOP) return true;
        REQUIRE(WSTOPSIG(status) == SIGTRAP);
    }
#else
    // An atomic operation may be a loop that no single step gets out of.
    static_cast<void>(std::tie(directory, prepare, body, look));
    MESSAGE("not run: single steps are for x86-64");
    return false;
#endif
}

bool read_memory(pid_t pid, std::uint64_t address, void* to, std::size_t bytes) {
    const iovec local{to, bytes};
    const iovec remote{reinterpret_cast<void*>(static_cast<std::uintptr_t>(address)), bytes};
    return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(bytes);
}

bool kernel_names_mappings() {
    constexpr std::size_t bytes = 4096;
    void* map = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return false;
    constexpr int set_vma = 0x53564d41;
    const bool named = ::prctl(set_vma, 0, map, bytes, "test") == 0;
    ::munmap(map, bytes);
    return named;
}

}  // namespace oteld::test
