// Writes the payload of one extent: a scope where it is first needed, then runs of frames of one
// scope.
//
// Used by: the drain and the recovery of open slots, for each step. Threads: drain thread; writes
// only into the place that the spool gave. Never writes beyond `room`: ask fits() before each
// frame.
#pragma once

#include "daemon/intake/utf8.hpp"
#include "daemon/spool/layout.hpp"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

namespace oteld::daemon {

struct ResourceBytes {
    std::string message;  // An OTLP Resource.
    std::string schema_url;
    std::string service;  // Its service.name, for people.
};

// What a record's scope index stands for; private copies, checked once.
struct ScopeBytes {
    std::shared_ptr<const ResourceBytes> resource;
    std::string scope;  // An OTLP InstrumentationScope.
    std::string scope_schema_url;

    // How much room its ScopeChunk takes.
    std::size_t chunk_bytes = 0;
    void measure() noexcept {
        const std::size_t bytes = sizeof(ScopeChunk) + resource->message.size() +
                                  resource->schema_url.size() + scope.size() +
                                  scope_schema_url.size();
        chunk_bytes = (bytes + 7) / 8 * 8;
    }
    // Where it lies in the extent with this number, so that each extent carries it once.
    std::uint64_t extent_number = 0;
    std::uint32_t offset = 0;
};

class ExtentWriter {
public:
    // `number` differs from one writer to the next.
    ExtentWriter(std::uint8_t* payload, std::size_t room, std::uint64_t number) noexcept
        : begin_(payload), at_(payload), end_(payload + room), number_(number) {}

    // Whether a frame with that much room around it fits, whatever its scope needs.
    [[nodiscard]] bool fits(const ScopeBytes& scope, std::size_t frame_room_bytes) const noexcept {
        return static_cast<std::size_t>(end_ - at_) >=
               scope.chunk_bytes + sizeof(RunChunk) + 16 + frame_room_bytes;
    }
    // Where the next frame of this scope goes.
    [[nodiscard]] std::uint8_t* frame(ScopeBytes& scope) noexcept {
        if (__builtin_expect(run_scope_ != &scope, 0)) begin_run(scope);
        return at_;
    }
    void written(std::size_t frame_bytes) noexcept {
        at_ += frame_bytes;
        ++run_spans_;
        ++spans_;
    }
    [[nodiscard]] std::uint32_t spans() const noexcept { return spans_; }
    // Ends the last run; returns the bytes of the payload.
    [[nodiscard]] std::uint64_t finish() noexcept {
        end_run();
        return static_cast<std::uint64_t>(at_ - begin_);
    }

private:
    void begin_run(ScopeBytes& scope) noexcept;
    void end_run() noexcept;
    void put_scope(ScopeBytes& scope) noexcept;

    std::uint8_t* begin_;
    std::uint8_t* at_;
    std::uint8_t* end_;
    std::uint64_t number_;
    const ScopeBytes* run_scope_ = nullptr;
    std::uint8_t* run_ = nullptr;
    std::uint32_t run_scope_offset_ = 0;
    std::uint32_t run_spans_ = 0;
    std::uint32_t spans_ = 0;
};

}  // namespace oteld::daemon
