// The process context: who this process is, where profilers and eBPF tools look for it: the
// resource of its default provider, in a small mapping called OTEL_CTX.
//
// Used by: client_api.cpp, setup.cpp, table.cpp and process.cpp, wherever a provider is made or
// becomes the global one; never on the span path. Threads: any. Never throws, never fails towards
// its callers: what the system refuses is not published.
// OTEP 4719, format version 2.
#pragma once

#include "provider.hpp"

#include <cstddef>
#include <mutex>
#include <string>

namespace oteld::sdk {

struct Process;
struct ContextHeader;  // As it lies in the mapping.

// A part of Process: a fork's child does not inherit the mapping and makes one of its own.
struct ProcessContext {
    std::mutex mutex;                    // Taken with and without that of the process held.
    ContextHeader* header = nullptr;     // Null: nothing is published.
    const Provider* provider = nullptr;  // Whose resource it is.
    // The last two, in turn: a reader may be in the middle of the older one.
    std::string payloads[2];
    std::size_t updates = 0;
};

enum class Occasion {
    provider_made,   // Published where nothing is yet.
    global_changed,  // Published, in place of what is.
    // As provider_made, but by a program that turns growth off. It may be in a sandbox later, so on
    // other occasions such a process makes no system call for this.
    rings_set_up,
};

// Nothing is published of a provider that is disabled or records only locally.
void publish_context(const Provider& provider, Occasion occasion) noexcept;
void publish_context(Process& process, const Provider& provider, Occasion occasion) noexcept;

}  // namespace oteld::sdk
