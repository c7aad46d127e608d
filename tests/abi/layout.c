/* The C interface of v1 as numbers, as layout.cpp has the C++ one. */
#include "oteld/oteld.h"

#define TYPE(type, bytes, alignment) \
    _Static_assert(sizeof(type) == bytes && _Alignof(type) == alignment, #type)
#define FIELD(type, field, offset, bytes)                              \
    _Static_assert(offsetof(type, field) == offset, #type "." #field); \
    _Static_assert(sizeof(((type*)0)->field) == bytes, #type "." #field)
#define CONSTANT(name, value) _Static_assert((name) == (value), #name)

TYPE(oteld_str, 16, 8);
FIELD(oteld_str, data, 0, 8);
FIELD(oteld_str, size, 8, 8);

TYPE(oteld_tracer, 8, 8);
FIELD(oteld_tracer, scope, 0, 8);

TYPE(oteld_span, 256, 8);
FIELD(oteld_span, opaque, 0, 256);

TYPE(oteld_scope, 96, 8);
FIELD(oteld_scope, opaque, 0, 96);

TYPE(oteld_context, 26, 1);
FIELD(oteld_context, trace_id, 0, 16);
FIELD(oteld_context, span_id, 16, 8);
FIELD(oteld_context, flags, 24, 1);
FIELD(oteld_context, remote, 25, 1);

TYPE(oteld_value, 24, 8);
FIELD(oteld_value, type, 0, 4);
FIELD(oteld_value, as, 8, 16);
FIELD(oteld_value, as.boolean, 8, 1);
FIELD(oteld_value, as.integer, 8, 8);
FIELD(oteld_value, as.real, 8, 8);
FIELD(oteld_value, as.string, 8, 16);
FIELD(oteld_value, as.array.items, 8, 8);
FIELD(oteld_value, as.array.count, 16, 8);
FIELD(oteld_value, as.map.items, 8, 8);
FIELD(oteld_value, as.map.count, 16, 8);

TYPE(oteld_attribute, 40, 8);
FIELD(oteld_attribute, key, 0, 16);
FIELD(oteld_attribute, value, 16, 24);

TYPE(oteld_start, 40, 8);
FIELD(oteld_start, kind, 0, 4);
FIELD(oteld_start, root, 4, 1);
FIELD(oteld_start, parent, 8, 8);
FIELD(oteld_start, start_time, 16, 8);
FIELD(oteld_start, attributes, 24, 8);
FIELD(oteld_start, attribute_count, 32, 8);

CONSTANT(OTELD_INTERNAL, 1);
CONSTANT(OTELD_SERVER, 2);
CONSTANT(OTELD_CLIENT, 3);
CONSTANT(OTELD_PRODUCER, 4);
CONSTANT(OTELD_CONSUMER, 5);
CONSTANT(OTELD_UNSET, 0);
CONSTANT(OTELD_OK, 1);
CONSTANT(OTELD_ERROR, 2);
CONSTANT(OTELD_BOOL, 1);
CONSTANT(OTELD_INT, 2);
CONSTANT(OTELD_DOUBLE, 3);
CONSTANT(OTELD_STRING, 4);
CONSTANT(OTELD_BYTES, 5);
CONSTANT(OTELD_ARRAY, 6);
CONSTANT(OTELD_MAP, 7);
