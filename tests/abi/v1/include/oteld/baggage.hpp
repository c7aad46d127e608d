// Baggage: keys and values that travel with a request, from service to service.
//
// Example:
//     const auto baggage = oteld::current().baggage().set("tenant", "t-7").remove("debug");
//     auto scope = oteld::attach(oteld::current().with_baggage(baggage));
//     if (const auto tenant = baggage.get("tenant")) span.set("tenant", *tenant);
//
// Used by: who sets it (a tenant, a shop's id) and who reads it further on; Context carries it, the
// propagators write and read it. It is sent to everybody who is called: nothing secret belongs in
// it. It is not copied to spans.
// Threads: an immutable value; set() and remove() give another one. Never throws; out of memory
// gives back what there was. What get() and iteration return lives as long as this Baggage or a
// copy of it. https://www.w3.org/TR/baggage/ https://opentelemetry.io/docs/specs/otel/baggage/api/
#pragma once

#include "oteld/detail/abi.hpp"

#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

namespace oteld {

struct BaggageEntry {
    std::string_view key;
    std::string_view value;     // As it is meant: percent-encoding is the header's affair.
    std::string_view metadata;  // The properties of its header, as text: "p1;p2=v".
};

namespace detail {

// Entries lie one behind the other, without padding: three lengths, then key, value and metadata.
struct BaggageLengths {
    std::uint32_t key, value, metadata;
    [[nodiscard]] std::size_t bytes() const noexcept {
        return sizeof(BaggageLengths) + std::size_t{key} + value + metadata;
    }
};

inline char* bytes_of(abi::Shared* shared) noexcept { return reinterpret_cast<char*>(shared + 1); }
inline const char* bytes_of(const abi::Shared* shared) noexcept {
    return reinterpret_cast<const char*>(shared + 1);
}

inline BaggageLengths lengths_at(const char* entry) noexcept {
    BaggageLengths lengths{};
    std::memcpy(&lengths, entry, sizeof lengths);
    return lengths;
}

inline BaggageEntry entry_at(const char* entry) noexcept {
    const BaggageLengths lengths = lengths_at(entry);
    const char* text = entry + sizeof lengths;
    return {{text, lengths.key},
            {text + lengths.key, lengths.value},
            {text + lengths.key + lengths.value, lengths.metadata}};
}

// Builds the one piece of memory that a Baggage refers to.
class BaggageBuilder {
public:
    BaggageBuilder() noexcept = default;
    BaggageBuilder(const BaggageBuilder&) = delete;
    BaggageBuilder& operator=(const BaggageBuilder&) = delete;
    ~BaggageBuilder() { abi::release(made_); }

    // Room for so many bytes beyond what is there. False: out of memory.
    [[nodiscard]] bool reserve(std::size_t more) noexcept {
        const std::size_t used = made_ == nullptr ? 0 : made_->bytes;
        if (more > INT32_MAX || used > INT32_MAX) return false;
        void* memory = std::realloc(static_cast<void*>(made_), sizeof(abi::Shared) + used + more);
        if (memory == nullptr) return false;
        if (made_ == nullptr) {
            made_ = new (memory) abi::Shared{{1}, 0, nullptr};
        } else {
            made_ = static_cast<abi::Shared*>(memory);
        }
        return true;
    }
    // From here on there has to be room.
    void copy(const abi::Shared* from) noexcept {
        std::memcpy(end(), bytes_of(from), from->bytes);
        made_->bytes += from->bytes;
    }
    void add(const BaggageEntry& entry) noexcept {
        remove(entry.key);
        char* at = end();
        const BaggageLengths lengths{static_cast<std::uint32_t>(entry.key.size()),
                                     static_cast<std::uint32_t>(entry.value.size()),
                                     static_cast<std::uint32_t>(entry.metadata.size())};
        std::memcpy(at, &lengths, sizeof lengths);
        at += sizeof lengths;
        for (const std::string_view part : {entry.key, entry.value, entry.metadata}) {
            if (!part.empty()) std::memcpy(at, part.data(), part.size());
            at += part.size();
        }
        made_->bytes += static_cast<std::uint32_t>(lengths.bytes());
    }
    void remove(std::string_view key) noexcept {
        if (made_ == nullptr) return;
        for (char* at = bytes_of(made_); at != end();) {
            const std::size_t bytes = lengths_at(at).bytes();
            if (entry_at(at).key == key) {
                std::memmove(at, at + bytes, static_cast<std::size_t>(end() - at) - bytes);
                made_->bytes -= static_cast<std::uint32_t>(bytes);
            } else {
                at += bytes;
            }
        }
    }
    // Null: empty.
    [[nodiscard]] abi::Shared* take() noexcept {
        if (made_ == nullptr || made_->bytes == 0) return nullptr;
        return std::exchange(made_, nullptr);
    }

private:
    [[nodiscard]] char* end() noexcept { return bytes_of(made_) + made_->bytes; }

    abi::Shared* made_ = nullptr;
};

}  // namespace detail

class Baggage {
public:
    using Entry = BaggageEntry;

    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Entry;
        using difference_type = std::ptrdiff_t;
        using pointer = const Entry*;
        using reference = Entry;

        iterator() noexcept = default;
        explicit iterator(const char* at) noexcept : at_(at) {}
        [[nodiscard]] Entry operator*() const noexcept { return detail::entry_at(at_); }
        iterator& operator++() noexcept {
            at_ += detail::lengths_at(at_).bytes();
            return *this;
        }
        iterator operator++(int) noexcept { return std::exchange(*this, std::next(*this)); }
        friend bool operator==(iterator a, iterator b) noexcept { return a.at_ == b.at_; }
        friend bool operator!=(iterator a, iterator b) noexcept { return a.at_ != b.at_; }

    private:
        const char* at_ = nullptr;
    };

    Baggage() noexcept = default;
    Baggage(const Baggage& other) noexcept : raw_(other.raw_) { abi::retain(raw_); }
    Baggage(Baggage&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
    Baggage& operator=(Baggage other) noexcept {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~Baggage() { abi::release(raw_); }

    [[nodiscard]] bool empty() const noexcept { return raw_ == nullptr; }
    [[nodiscard]] std::size_t size() const noexcept {
        return static_cast<std::size_t>(std::distance(begin(), end()));
    }
    // In the order in which they were set.
    [[nodiscard]] iterator begin() const noexcept {
        return iterator(raw_ == nullptr ? nullptr : detail::bytes_of(raw_));
    }
    [[nodiscard]] iterator end() const noexcept {
        return iterator(raw_ == nullptr ? nullptr : detail::bytes_of(raw_) + raw_->bytes);
    }

    [[nodiscard]] std::optional<std::string_view> get(std::string_view key) const noexcept {
        if (const auto found = entry(key)) return found->value;
        return std::nullopt;
    }
    [[nodiscard]] std::optional<Entry> entry(std::string_view key) const noexcept {
        for (const Entry one : *this) {
            if (one.key == key) return one;
        }
        return std::nullopt;
    }

    // A key that is there gets the new value. An empty key changes nothing. Only keys that are
    // tokens (letters, digits, some marks) reach other processes: others have no place in a header.
    // Values are UTF-8. Metadata, too, is sent only where its characters may stand in a header.
    [[nodiscard]] Baggage set(std::string_view key, std::string_view value,
                              std::string_view metadata = {}) const noexcept {
        detail::BaggageBuilder builder;
        const std::size_t more =
            sizeof(detail::BaggageLengths) + key.size() + value.size() + metadata.size();
        if (key.empty() || !builder.reserve((raw_ == nullptr ? 0 : raw_->bytes) + more))
            return *this;
        if (raw_ != nullptr) builder.copy(raw_);
        builder.add({key, value, metadata});
        return Baggage(builder.take());
    }
    [[nodiscard]] Baggage remove(std::string_view key) const noexcept {
        detail::BaggageBuilder builder;
        if (raw_ == nullptr || !builder.reserve(raw_->bytes)) return *this;
        builder.copy(raw_);
        builder.remove(key);
        return Baggage(builder.take());
    }

    // For Context and the propagators. Takes over a reference.
    explicit Baggage(abi::Shared* raw) noexcept : raw_(raw) {}
    [[nodiscard]] abi::Shared* raw() const noexcept { return raw_; }

private:
    abi::Shared* raw_ = nullptr;
};

}  // namespace oteld
