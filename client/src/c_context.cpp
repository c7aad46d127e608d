// The C interface to what goes from process to process: propagation, baggage.
//
// The W3C's formats only: the others would cost the library 12 KiB more.

#include "c_api.hpp"
#include "oteld/propagation.hpp"

namespace oteld::c {
namespace {

oteld_str to_c(std::string_view text) noexcept { return {text.data(), text.size()}; }

bool configured(Propagator one) noexcept {
    for (std::uint64_t rest = propagators().packed(); rest != 0; rest >>= 8) {
        if ((rest & 0xFF) == static_cast<std::uint64_t>(one)) return true;
    }
    return false;
}

oteld_scope attach(const Context& context) noexcept {
    oteld_scope scope{};
    auto* to = reinterpret_cast<RawScope*>(&scope);
    to->attached = context.raw().span;
    abi::client()->attach_all(&context.raw(), &to->previous);
    to->active = 1;
    return scope;
}

}  // namespace
}  // namespace oteld::c

OTELD_EXPORT void oteld_inject(oteld_set_header set, void* carrier) {
    if (set == nullptr) return;
    const auto setter = [&](std::string_view name, std::string_view value) {
        set(carrier, oteld::c::to_c(name), oteld::c::to_c(value));
    };
    const oteld::Context context = oteld::current();
    const oteld::detail::Writer to(setter);
    if (oteld::c::configured(oteld::Propagator::tracecontext))
        oteld::detail::inject_trace_context(context, to);
    if (oteld::c::configured(oteld::Propagator::baggage))
        oteld::detail::inject_baggage(context, to);
}

OTELD_EXPORT oteld_scope oteld_extract(oteld_get_header get, void* carrier) {
    if (get == nullptr) return {};
    const auto getter = [&](std::string_view name) {
        return oteld::c::view(get(carrier, oteld::c::to_c(name)));
    };
    oteld::Context context;
    const oteld::detail::Reader from(getter);
    if (oteld::c::configured(oteld::Propagator::tracecontext))
        oteld::detail::extract_trace_context(from, context);
    if (oteld::c::configured(oteld::Propagator::baggage))
        oteld::detail::extract_baggage(from, context);
    return oteld::c::attach(context);
}

OTELD_EXPORT oteld_str oteld_baggage(oteld_str key) {
    const auto found = oteld::current().baggage().get(oteld::c::view(key));
    return found ? oteld::c::to_c(*found) : oteld_str{};
}

OTELD_EXPORT oteld_scope oteld_attach_baggage(oteld_str key, oteld_str value) {
    const oteld::Context now = oteld::current();
    const oteld::Baggage before = now.baggage();
    return oteld::c::attach(now.with_baggage(
        value.data == nullptr ? before.remove(oteld::c::view(key))
                              : before.set(oteld::c::view(key), oteld::c::view(value))));
}
