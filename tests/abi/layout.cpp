// ABI v1 as numbers: what lies where in users' binaries. A line that fails means that programs
// built with earlier headers break: append instead. What is appended gets a line here.
//
// Used by: the build (tests/CMakeLists.txt), ./dev platforms for other compilers and machines. For
// machines with pointers of 64 bits. oteld.h's own numbers are in layout.c.
#include "oteld/api.hpp"
#include "oteld/context_stack.hpp"
#include "oteld/oteld.h"

#include <cstddef>
#include <type_traits>
#include <utility>

// Types and members take no parentheses, and sizes of pointers are meant.
// NOLINTBEGIN(bugprone-macro-parentheses, bugprone-sizeof-expression)
// TYPE(type, bytes, alignment): plain data, as C would lay it out.
#define TYPE(type, bytes, alignment)                                           \
    static_assert(sizeof(type) == bytes && alignof(type) == alignment, #type); \
    static_assert(std::is_standard_layout_v<type>, #type)
#define FIELD(type, field, offset, bytes)                              \
    static_assert(offsetof(type, field) == offset, #type "::" #field); \
    static_assert(sizeof(std::declval<type&>().field) == bytes, #type "::" #field)
#define CONSTANT(name, value) static_assert((name) == (value), #name)
// A class of the API, which libraries may hand to each other.
#define CLASS(type, bytes) static_assert(sizeof(type) == bytes && alignof(type) == 8, #type)

namespace oteld {

TYPE(abi::TraceState, 8, 4);
FIELD(abi::TraceState, references, 0, 4);
FIELD(abi::TraceState, bytes, 4, 4);

TYPE(abi::Context, 40, 8);
FIELD(abi::Context, trace_id, 0, 16);
FIELD(abi::Context, span_id, 16, 8);
FIELD(abi::Context, flags, 24, 1);
FIELD(abi::Context, remote, 25, 1);
FIELD(abi::Context, reserved, 26, 6);
FIELD(abi::Context, trace_state, 32, 8);

TYPE(abi::Shared, 16, 8);
FIELD(abi::Shared, references, 0, 4);
FIELD(abi::Shared, bytes, 4, 4);
FIELD(abi::Shared, destroy, 8, 8);

TYPE(abi::Values, 32, 8);
FIELD(abi::Values, references, 0, 4);
FIELD(abi::Values, reserved, 4, 4);
FIELD(abi::Values, key, 8, 8);
FIELD(abi::Values, value, 16, 8);
FIELD(abi::Values, next, 24, 8);

TYPE(abi::FullContext, 48, 8);
FIELD(abi::FullContext, span, 0, 40);
FIELD(abi::FullContext, values, 40, 8);

TYPE(abi::Stack, 56, 8);
FIELD(abi::Stack, context, 0, 48);
FIELD(abi::Stack, own, 48, 4);
FIELD(abi::Stack, held, 52, 4);

TYPE(abi::Limits, 24, 4);
FIELD(abi::Limits, attributes, 0, 4);
FIELD(abi::Limits, value_length, 4, 4);
FIELD(abi::Limits, events, 8, 4);
FIELD(abi::Limits, links, 12, 4);
FIELD(abi::Limits, event_attributes, 16, 4);
FIELD(abi::Limits, link_attributes, 20, 4);

TYPE(abi::Span, 192, 8);
FIELD(abi::Span, record, 0, 8);
FIELD(abi::Span, cursor, 8, 8);
FIELD(abi::Span, room_end, 16, 8);
FIELD(abi::Span, end, 24, 8);
FIELD(abi::Span, owner, 32, 8);
FIELD(abi::Span, generation, 40, 8);
FIELD(abi::Span, limits, 48, 8);
FIELD(abi::Span, slot, 56, 4);
FIELD(abi::Span, events, 60, 4);
FIELD(abi::Span, description_bytes, 64, 4);
FIELD(abi::Span, watched, 68, 4);
FIELD(abi::Span, links, 72, 4);
FIELD(abi::Span, repeated_keys, 76, 4);
FIELD(abi::Span, key_filter, 80, 64);
FIELD(abi::Span, context, 144, 40);
FIELD(abi::Span, reserved, 184, 8);

TYPE(abi::ScopeInfo, 72, 8);
FIELD(abi::ScopeInfo, name, 0, 8);
FIELD(abi::ScopeInfo, name_bytes, 8, 8);
FIELD(abi::ScopeInfo, version, 16, 8);
FIELD(abi::ScopeInfo, version_bytes, 24, 8);
FIELD(abi::ScopeInfo, schema_url, 32, 8);
FIELD(abi::ScopeInfo, schema_url_bytes, 40, 8);
FIELD(abi::ScopeInfo, attributes, 48, 8);
FIELD(abi::ScopeInfo, attributes_bytes, 56, 8);
FIELD(abi::ScopeInfo, provider, 64, 8);

// Entries of 1.0, then what came later, which headers have to ask for (abi::has()).
FIELD(abi::Table, size, 0, 4);
FIELD(abi::Table, version, 4, 4);
FIELD(abi::Table, scope, 8, 8);
FIELD(abi::Table, start, 16, 8);
FIELD(abi::Table, grow, 24, 8);
FIELD(abi::Table, end, 32, 8);
FIELD(abi::Table, now, 40, 8);
FIELD(abi::Table, current, 48, 8);
FIELD(abi::Table, attach, 56, 8);
FIELD(abi::Table, detach, 64, 8);
FIELD(abi::Table, flush, 72, 8);
FIELD(abi::Table, attach_all, 80, 8);
FIELD(abi::Table, propagators, 88, 8);
FIELD(abi::Table, set_propagators, 96, 8);
FIELD(abi::Table, stack_trace, 104, 8);
FIELD(abi::Table, started, 112, 8);
FIELD(abi::Table, exchange_stack, 120, 8);
CONSTANT(abi::table_bytes_of_1_0, 128);
TYPE(abi::Table, 128, 8);

CONSTANT(abi::remote_yes, 1);
CONSTANT(abi::remote_deferred, 2);
CONSTANT(abi::remote_decided, 4);
CONSTANT(abi::baggage_key, 1);
CONSTANT(abi::debug_key, 2);
CONSTANT(abi::lineage_key, 3);
CONSTANT(abi::control_bytes, 64);
CONSTANT(abi::control_dropped_at, 24);

TYPE(detail::RecordPrefix, 8, 4);
FIELD(detail::RecordPrefix, length, 0, 4);
FIELD(detail::RecordPrefix, type, 4, 1);
FIELD(detail::RecordPrefix, flags, 5, 1);
FIELD(detail::RecordPrefix, header_bytes, 6, 2);

TYPE(detail::SpanRecord, 64, 8);
FIELD(detail::SpanRecord, prefix, 0, 8);
FIELD(detail::SpanRecord, trace_id, 8, 16);
FIELD(detail::SpanRecord, span_id, 24, 8);
FIELD(detail::SpanRecord, parent_id, 32, 8);
FIELD(detail::SpanRecord, start, 40, 8);
FIELD(detail::SpanRecord, end, 48, 8);
FIELD(detail::SpanRecord, kind_status, 56, 1);
FIELD(detail::SpanRecord, trace_flags, 57, 1);
FIELD(detail::SpanRecord, scope, 58, 2);
FIELD(detail::SpanRecord, body_bytes, 60, 4);

CONSTANT(detail::time_is_ticks, 1ULL << 63);
CONSTANT(detail::record_duplicate_keys, 1);
CONSTANT(detail::record_has_description, 2);
CONSTANT(detail::record_parent_known, 4);
CONSTANT(detail::record_parent_remote, 8);
CONSTANT(static_cast<int>(detail::RecordType::span), 1);
CONSTANT(static_cast<int>(detail::RecordType::pad), 2);

CLASS(Tracer, 8);
CLASS(Span, 192);
CLASS(ContextScope, 96);
CLASS(ScopedSpan, 296);
CLASS(SpanContext, 40);
CLASS(Context, 48);
CLASS(ContextStack, 56);
CLASS(Baggage, 8);
CLASS(Propagators, 8);
CLASS(Scalar, 24);
CLASS(Value, 24);
CLASS(Attribute, 40);
CONSTANT(static_cast<int>(Propagator::tracecontext), 1);
CONSTANT(static_cast<int>(Propagator::xray_root), 7);

// A C program has room for what a span and a scope are in here.
static_assert(sizeof(oteld_span) >= sizeof(abi::Span) && alignof(oteld_span) >= alignof(abi::Span));

}  // namespace oteld
// NOLINTEND(bugprone-macro-parentheses, bugprone-sizeof-expression)
