// The OpenTelemetry tracing API of oteld: what a library depends on. Headers only.
//
// Example:
//     const oteld::Tracer shop = oteld::tracer("shop.orders", "1.4.0");  // Once in a library.
//
//     void checkout(const Order& order) {
//         auto span = shop.scope("checkout", {{"order.id", order.id}});  // Ends with the block.
//         ship(order);  // What starts in it is a child of it.
//     }
//
// Without a client in the process every call is a no-op; linking oteld::client (or preloading
// liboteld.so) turns the same binary's spans on. Threads: see each class.
#pragma once

#include "oteld/context.hpp"
#include "oteld/propagation.hpp"
#include "oteld/span.hpp"
#include "oteld/traced.hpp"
#include "oteld/tracer.hpp"
#include "oteld/value.hpp"
