// Tables of other versions: what headers make of a client that is older or newer than they are.
// Run by test_abi.py with the number of entries that this program's client has.
#include <oteld/api.hpp>
#include <oteld/context_stack.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace oteld {
namespace {

// As a later minor version would have it: further entries behind those of 1.0.
struct LaterTable : abi::Table {
    int (*later)() noexcept;
    int (*last)() noexcept;
};
LaterTable table{};
int used = 0;

const void* scope(const abi::ScopeInfo*) noexcept { return &table; }
// Nothing is recorded, which is enough to see that it was asked.
std::uint8_t* start(abi::Span* span, const void*, const abi::Context*, std::uint64_t,
                    std::uint32_t) noexcept {
    ++used;
    span->record = nullptr;
    span->context = {};
    return nullptr;
}
abi::FullContext none{};
const abi::FullContext* current_here() noexcept { return &none; }
std::size_t stack_trace(char*, std::size_t) noexcept { return 7; }
bool exchange_stack(abi::Stack* stack) noexcept {
    stack->held = stack->held == stack->own ? 0 : stack->own;
    return true;
}
int later() noexcept { return 42; }

// What headers of a later version would have: the entry where there is one, else what they did
// before it was there.
int call_later() {
    const abi::Table* client = abi::client();
    if (client == nullptr || !abi::has(*client, &LaterTable::later)) return 0;
    return static_cast<const LaterTable*>(client)->later();
}

}  // namespace
}  // namespace oteld

extern "C" __attribute__((visibility("default"))) const oteld::abi::Table* oteld_client_v1() {
    return &oteld::table;
}

// Prints: spans that the client was asked for, what a later entry said, whether a stack was
// entered.
int main(int, char** arguments) {
    using namespace oteld;
    table.size = static_cast<std::uint32_t>(std::atoi(arguments[1]));
    table.version = 1;
    table.scope = scope;
    table.start = start;
    table.current = current_here;
    table.stack_trace = stack_trace;
    table.exchange_stack = exchange_stack;
    table.later = later;
    // What is beyond `size` is not there: a call of it would end the program.
    std::memset(reinterpret_cast<char*>(&table) + table.size, 0, sizeof table - table.size);
    (void)oteld::tracer("any").span("span").recording();
    oteld::ContextStack stack{oteld::Context()};
    stack.enter();
    const bool entered = stack.entered();
    stack.leave();
    std::printf("%d %d %d\n", used, call_later(), entered ? 1 : 0);
    return 0;
}
