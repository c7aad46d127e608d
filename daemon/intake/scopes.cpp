#include "daemon/intake/scopes.hpp"

#include "daemon/intake/validate.hpp"
#include "shm/lane_reader.hpp"
#include "shm/span_view.hpp"

#include <cstring>

namespace oteld::daemon {
namespace {

// A copy of its own: the application may write on.
std::string copied(std::string_view text_untrusted) {
    std::string text(text_untrusted.size(), '\0');
    shm::copy_untrusted(text.data(), text_untrusted.data(), text.size());
    return text;
}

bool check(TableMessage kind, std::string& message) {
    const std::size_t bytes = message.size();
    std::uint32_t repaired = 0;
    message.resize(bytes + utf8_slack);
    const Refusal refusal = validate_table_message(
        kind, reinterpret_cast<std::uint8_t*>(message.data()), bytes, repaired);
    message.resize(bytes);
    message.shrink_to_fit();  // It is kept for long.
    return refusal == Refusal::none;
}

void repair(std::string& text) {
    if (text.empty()) return;
    const std::size_t bytes = text.size();
    text.resize(bytes + utf8_slack);
    (void)repair_utf8(reinterpret_cast<std::uint8_t*>(text.data()), bytes);
    text.resize(bytes);
    text.shrink_to_fit();
}

std::string service_name(std::string_view resource) {
    shm::FieldReader fields(resource);
    shm::WireField attribute;
    while (fields.next(attribute)) {
        if (attribute.field != 1) continue;
        shm::FieldReader parts(attribute.bytes);
        shm::WireField part;
        bool wanted = false;
        while (parts.next(part)) {
            if (part.field == 1) wanted = part.bytes == "service.name";
            if (part.field != 2 || !wanted) continue;
            shm::FieldReader value(part.bytes);
            shm::WireField text;
            if (value.next(text) && text.field == 1) return std::string(text.bytes);
        }
    }
    return {};
}

constexpr std::size_t allocation_overhead = 16;

std::size_t heap_of(const std::string& text) {
    return text.capacity() <= std::string().capacity() ? 0 : text.capacity() + allocation_overhead;
}

}  // namespace

const ResourceBytes* Scopes::first_resource() const noexcept {
    for (const auto& resource : resources_)
        if (resource) return resource.get();
    return nullptr;
}

void Scopes::read(std::string_view table_untrusted) {
    while (!damaged_ && table_untrusted.size() >= read_bytes_ + sizeof(shm::TableEntry)) {
        const std::string_view rest = table_untrusted.substr(read_bytes_);
        std::uint32_t bytes_untrusted;
        shm::copy_untrusted(&bytes_untrusted, rest.data(), sizeof bytes_untrusted);
        const std::uint32_t bytes = bytes_untrusted;
        if (bytes < sizeof(shm::TableEntry) || bytes % 8 != 0 || bytes > rest.size()) {
            damaged_ = true;
            ++malformed_;
            return;
        }
        if (!read_entry(rest.substr(0, bytes))) {
            ++malformed_;
            refused_bytes_ += bytes;
        }
        read_bytes_ += bytes;
    }
}

bool Scopes::read_entry(std::string_view entry_untrusted) {
    shm::TableEntry entry;
    shm::copy_untrusted(&entry, entry_untrusted.data(), sizeof entry);
    const std::size_t room = entry_untrusted.size() - sizeof entry;
    if (entry.message_bytes > room || entry.schema_url_bytes > room - entry.message_bytes)
        return false;
    const auto kind = static_cast<shm::TableKind>(entry.kind);
    if (kind != shm::TableKind::resource && kind != shm::TableKind::scope)
        return true;  // Of the future.
    const bool is_resource = kind == shm::TableKind::resource;
    if (entry.message_bytes > message_bytes_max || refused_bytes_ > bytes_max) return false;
    if (entry.index >= (is_resource ? shm::resources_max : shm::scopes_max)) return false;
    // The first of an index is the one that counts.
    if (is_resource ? resources_[entry.index] != nullptr : find(entry.index) != nullptr)
        return true;

    std::string schema_url = copied(entry_untrusted.substr(sizeof entry, entry.schema_url_bytes));
    std::string message =
        copied(entry_untrusted.substr(sizeof entry + entry.schema_url_bytes, entry.message_bytes));
    repair(schema_url);
    if (is_resource) return keep_resource(entry.index, std::move(message), std::move(schema_url));
    return keep_scope(entry, std::move(message), std::move(schema_url));
}

bool Scopes::keep_resource(std::size_t index, std::string message, std::string schema_url) {
    if (!check(TableMessage::resource, message)) return false;
    std::string service = service_name(message);
    if (!charge(sizeof(ResourceBytes) + 2 * allocation_overhead + heap_of(message) +
                heap_of(schema_url) + heap_of(service)))
        return false;
    resources_[index] = std::make_shared<const ResourceBytes>(
        ResourceBytes{std::move(message), std::move(schema_url), std::move(service)});
    return true;
}

bool Scopes::keep_scope(const shm::TableEntry& entry, std::string message, std::string schema_url) {
    if (entry.resource >= resources_.size() || !resources_[entry.resource] ||
        !check(TableMessage::scope, message))
        return false;
    std::unique_ptr<Page>& page = pages_[entry.index / page_scopes];
    if (!charge(sizeof(ScopeBytes) + allocation_overhead + heap_of(message) + heap_of(schema_url) +
                (page ? 0 : sizeof(Page) + allocation_overhead)))
        return false;
    if (!page) page = std::make_unique<Page>();
    auto scope = std::make_unique<ScopeBytes>();
    scope->resource = resources_[entry.resource];
    scope->scope = std::move(message);
    scope->scope_schema_url = std::move(schema_url);
    scope->measure();
    (*page)[entry.index % page_scopes] = std::move(scope);
    return true;
}

bool Scopes::charge(std::size_t bytes) noexcept {
    if (bytes > bytes_max - kept_bytes_ || bytes > TableMemory::bytes_max - user_.bytes)
        return false;
    kept_bytes_ += bytes;
    user_.bytes += bytes;
    return true;
}

}  // namespace oteld::daemon
