#include "daemon/intake/scopes.hpp"

#include "fake_segment.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace oteld;
using namespace oteld::daemon;
using namespace oteld::test;

namespace {

// A table log by hand.
struct Table {
    void add(shm::TableKind kind, std::size_t index, const std::string& message) {
        shm::TableEntry entry{};
        entry.kind = static_cast<std::uint16_t>(kind);
        entry.index = static_cast<std::uint16_t>(index);
        entry.message_bytes = static_cast<std::uint32_t>(message.size());
        entry.bytes = static_cast<std::uint32_t>((sizeof entry + message.size() + 7) / 8 * 8);
        log.append(reinterpret_cast<const char*>(&entry), sizeof entry).append(message);
        log.resize((log.size() + 7) / 8 * 8);
    }
    void resource() {
        add(shm::TableKind::resource, 0,
            Bytes().field(1, key_value("service.name", string_value("orders"))).text);
    }
    void scope(std::size_t index, std::size_t name_bytes = 20) {
        add(shm::TableKind::scope, index, Bytes().field(1, std::string(name_bytes, 's')).text);
    }
    std::string log;
};

}  // namespace

TEST_CASE("all scopes that there may be are known, each with its resource") {
    TableMemory memory;
    {
        Scopes scopes(memory);
        Table table;
        table.resource();
        for (std::size_t i = 0; i < shm::scopes_max; ++i) table.scope(i, 60);
        scopes.read(table.log);
        for (std::size_t i = 0; i < shm::scopes_max; ++i) {
            const ScopeBytes* scope = scopes.find(static_cast<std::uint16_t>(i));
            REQUIRE(scope != nullptr);
            CHECK(scope->resource->service == "orders");
        }
        CHECK(scopes.find(shm::scopes_max) == nullptr);
        CHECK(scopes.find(0xFFFF) == nullptr);
        CHECK(scopes.malformed() == 0);
        CHECK(memory.bytes > shm::scopes_max * (sizeof(ScopeBytes) + 60));
        CHECK(memory.bytes <= Scopes::bytes_max);
    }
    CHECK(memory.bytes == 0);
}

TEST_CASE("a lonely index does not take the room of all below it") {
    TableMemory memory;
    Scopes scopes(memory);
    Table table;
    table.resource();
    table.scope(shm::scopes_max - 1);
    scopes.read(table.log);
    CHECK(scopes.find(shm::scopes_max - 1) != nullptr);
    CHECK(scopes.find(shm::scopes_max - 2) == nullptr);
    CHECK(memory.bytes < 2000);
}

TEST_CASE("the first entry of an index counts; the same again costs nothing") {
    TableMemory memory;
    Scopes scopes(memory);
    Table table;
    table.resource();
    table.scope(3, 40);
    scopes.read(table.log);
    const ScopeBytes* first = scopes.find(3);
    const std::size_t bytes = memory.bytes;
    for (int i = 0; i < 1000; ++i) table.scope(3, 50);
    scopes.read(table.log);
    CHECK(scopes.find(3) == first);
    CHECK(memory.bytes == bytes);
    CHECK(scopes.malformed() == 0);
}

TEST_CASE("what a segment makes the daemon remember is bounded, and what a user's segments do") {
    TableMemory memory;
    Table table;
    table.resource();
    for (std::size_t i = 0; i < shm::scopes_max; ++i) table.scope(i, 4000);
    std::vector<std::unique_ptr<Scopes>> segments;
    for (int i = 0; i < 100; ++i) {
        segments.push_back(std::make_unique<Scopes>(memory));
        segments.back()->read(table.log);
        CHECK(segments.back()->malformed() > 0);
        if (i == 0) {
            CHECK(memory.bytes <= Scopes::bytes_max);
            CHECK(memory.bytes > Scopes::bytes_max / 2);
            CHECK(segments.back()->find(0) != nullptr);
        }
    }
    CHECK(memory.bytes <= TableMemory::bytes_max);
    CHECK(memory.bytes > TableMemory::bytes_max - 10000);
    segments.clear();
    CHECK(memory.bytes == 0);
}
