// What the tests of contexts across asynchronous code look at.
#pragma once

#include "oteld/api.hpp"

namespace oteld::test {

inline const ContextKey<int> number_key{"number"};

inline int number() {
    const Context context = current();
    const int* found = context.get(number_key);
    return found == nullptr ? -1 : *found;
}
inline Tracer test_tracer() { return tracer("test"); }
inline bool nothing_current() { return !current_span().valid() && number() == -1; }
inline bool is_current(const Span& span) {
    return current_span().span_id_hex() == span.context().span_id_hex();
}

}  // namespace oteld::test
