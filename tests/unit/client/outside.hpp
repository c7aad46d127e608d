// Reads what a process publishes about itself the way a profiler does: from outside, by
// /proc/PID/maps and process_vm_readv, knowing nothing of the client.
//
// Used by: tests/unit/client. Threads: any. A process may look at itself, too.
// OTEP 4719 (process context).
#pragma once

#include "rings.hpp"

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace oteld::test {

struct SeenContext {
    std::size_t mappings = 0;  // Of that name; 1 where there is a context.
    std::string mapping;       // What the maps call it.
    std::string wrong;         // Why what is there is not a context. Empty: nothing is wrong.
    std::uint64_t published_at = 0;
    Pairs resource, attributes;

    [[nodiscard]] std::string at(const std::string& key) const;  // Of the resource.
};

// Waits while it is being changed. `unnamed`: by the signature at the beginning of each mapping,
// for kernels that give mappings no names.
[[nodiscard]] SeenContext look_at_process(pid_t pid, bool unnamed = false);

// The same by the address of its header: nothing while it is being changed.
[[nodiscard]] std::uint64_t context_address(pid_t pid);
[[nodiscard]] std::optional<SeenContext> context_at(pid_t pid, std::uint64_t address);

// Memory of a process. False: it cannot be read.
[[nodiscard]] bool read_memory(pid_t pid, std::uint64_t address, void* to, std::size_t bytes);

// Runs `prepare` and `body` in a child, and `look` in this process before each instruction of
// `body`, with the child stopped there. False: not to be had here, which has been said.
[[nodiscard]] bool at_every_instruction(const std::string& directory,
                                        const std::function<void()>& prepare,
                                        const std::function<void()>& body,
                                        const std::function<void(pid_t)>& look);

// Whether this kernel names anonymous mappings (CONFIG_ANON_VMA_NAME).
[[nodiscard]] bool kernel_names_mappings();

}  // namespace oteld::test
