#include "daemon/spool/extent_writer.hpp"

namespace oteld::daemon {

void ExtentWriter::begin_run(ScopeBytes& scope) noexcept {
    end_run();
    if (scope.extent_number != number_) put_scope(scope);
    run_ = at_;
    run_scope_ = &scope;
    run_scope_offset_ = scope.offset;
    at_ += sizeof(RunChunk);
}

void ExtentWriter::end_run() noexcept {
    if (run_ == nullptr) return;
    if (run_spans_ == 0) {
        at_ = run_;  // Its only span was refused.
    } else {
        const auto frame_bytes = static_cast<std::uint32_t>(at_ - run_ - sizeof(RunChunk));
        while ((at_ - run_) % 8 != 0) *at_++ = 0;
        const RunChunk chunk{static_cast<std::uint32_t>(ChunkKind::run),
                             static_cast<std::uint32_t>(at_ - run_),
                             run_spans_,
                             run_scope_offset_,
                             frame_bytes,
                             0};
        std::memcpy(run_, &chunk, sizeof chunk);
    }
    run_ = nullptr;
    run_scope_ = nullptr;
    run_spans_ = 0;
}

void ExtentWriter::put_scope(ScopeBytes& scope) noexcept {
    const ScopeChunk chunk{static_cast<std::uint32_t>(ChunkKind::scope),
                           static_cast<std::uint32_t>(scope.chunk_bytes),
                           static_cast<std::uint32_t>(scope.resource->message.size()),
                           static_cast<std::uint32_t>(scope.resource->schema_url.size()),
                           static_cast<std::uint32_t>(scope.scope.size()),
                           static_cast<std::uint32_t>(scope.scope_schema_url.size())};
    scope.extent_number = number_;
    scope.offset =
        static_cast<std::uint32_t>(sizeof(ExtentHeader) + static_cast<std::size_t>(at_ - begin_));
    char* text = reinterpret_cast<char*>(at_ + sizeof chunk);
    std::memcpy(at_, &chunk, sizeof chunk);
    const std::string* const parts[] = {&scope.resource->message, &scope.resource->schema_url,
                                        &scope.scope, &scope.scope_schema_url};
    for (const std::string* part : parts) text += part->copy(text, part->size());
    at_ += chunk.bytes;
}

}  // namespace oteld::daemon
