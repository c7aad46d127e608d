// The OpenTelemetry tracing API of oteld: what a library depends on. Headers only.
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
