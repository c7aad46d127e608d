#include "daemon/spool/extent_reader.hpp"

#include <cstring>

namespace oteld::daemon {

ExtentReader::ExtentReader(const ExtentHeader& extent) noexcept
    : begin_(reinterpret_cast<const std::uint8_t*>(&extent)),
      at_(sizeof(ExtentHeader)),
      end_(sizeof(ExtentHeader) + extent.payload_bytes) {}

bool ExtentReader::next(exporters::SpanRun& run) noexcept {
    // Checked although the file is the daemon's own: it may come from a machine that crashed.
    while (end_ - at_ >= sizeof(RunChunk)) {
        RunChunk chunk;
        std::memcpy(&chunk, begin_ + at_, sizeof chunk);
        if (chunk.bytes < sizeof chunk || chunk.bytes % 8 != 0 || chunk.bytes > end_ - at_)
            return false;
        const std::uint64_t here = at_;
        at_ += chunk.bytes;
        if (chunk.kind != static_cast<std::uint32_t>(ChunkKind::run)) continue;
        if (chunk.frame_bytes > chunk.bytes - sizeof chunk ||
            chunk.scope_offset > here - sizeof(ScopeChunk))
            return false;
        ScopeChunk scope;
        std::memcpy(&scope, begin_ + chunk.scope_offset, sizeof scope);
        const std::uint64_t texts = std::uint64_t{scope.resource_bytes} +
                                    scope.resource_schema_url_bytes + scope.scope_bytes +
                                    scope.scope_schema_url_bytes;
        if (texts > here - chunk.scope_offset - sizeof scope) return false;
        const char* text =
            reinterpret_cast<const char*>(begin_) + chunk.scope_offset + sizeof scope;
        const auto take = [&text](std::uint32_t bytes) {
            const std::string_view view(text, bytes);
            text += bytes;
            return view;
        };
        run.resource = take(scope.resource_bytes);
        run.resource_schema_url = take(scope.resource_schema_url_bytes);
        run.scope = take(scope.scope_bytes);
        run.scope_schema_url = take(scope.scope_schema_url_bytes);
        run.frames = {reinterpret_cast<const char*>(begin_) + here + sizeof chunk,
                      chunk.frame_bytes};
        run.spans = chunk.spans;
        return true;
    }
    return false;
}

}  // namespace oteld::daemon
