// Where trace and span ids come from.
//
// Example:
//     oteld::TracerProvider provider{oteld::Settings{}.ids(oteld::xray_ids())};
//
// Used by: client.hpp's Settings. Needs the client.
// Threads: trace_id() and span_id() are called on any thread, on several at once, where a span
// starts. An exception that leaves them, or an id of zeros, is counted (hook_failures()) and a
// random id used.
// https://opentelemetry.io/docs/specs/otel/trace/sdk/#id-generators
#pragma once

#include <cstdint>
#include <memory>

namespace oteld {

class IdGenerator {
public:
    IdGenerator() = default;
    IdGenerator(const IdGenerator&) = delete;
    IdGenerator& operator=(const IdGenerator&) = delete;
    virtual ~IdGenerator() = default;

    virtual void trace_id(std::uint8_t (&id)[16]) = 0;  // Of a root; others have their parent's.
    virtual void span_id(std::uint8_t (&id)[8]) = 0;
    // Whether the last 7 bytes of a trace id are random: the W3C flag of that meaning.
    [[nodiscard]] virtual bool random() const noexcept { return false; }
};
using IdGeneratorPointer = std::shared_ptr<IdGenerator>;

// The default.
__attribute__((visibility("default"))) IdGeneratorPointer random_ids();
// AWS X-Ray: a trace id begins with the time, 32 bits of seconds since 1970; 96 bits are random.
// Each start then takes the slow way, some 30 ns more; each end does not.
__attribute__((visibility("default"))) IdGeneratorPointer xray_ids();

}  // namespace oteld
