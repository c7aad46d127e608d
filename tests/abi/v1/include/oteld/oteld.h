/* The client in C11, for C programs and for other languages to build on.
 *
 * Example:
 *     oteld_tracer shop =
 *         oteld_get_tracer(OTELD_STR("shop.orders"), OTELD_STR("1.4.0"), OTELD_STR(""));
 *     oteld_span span = {{0}};
 *     oteld_span_start(&span, shop, OTELD_STR("checkout"), NULL);
 *     oteld_span_set_int(&span, OTELD_STR("order.lines"), 3);
 *     oteld_span_end(&span, 0);
 *
 * Handles are values; lengths are explicit (OTELD_STR for literals); no callback is on the span
 * path. Every function is safe with a null pointer, a zeroed handle or an ended span, and does
 * nothing then. Threads: a span is used by one thread at a time and may end on another. Times are
 * Unix nanoseconds, 0 means now. Strings are UTF-8 and copied during the call; invalid bytes arrive
 * as '?'. Nothing returns an error: what had to be dropped is counted and shown by `oteld status`.
 */
#ifndef OTELD_OTELD_H
#define OTELD_OTELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oteld_str {
    const char* data;
    size_t size;
} oteld_str;
#ifdef __cplusplus /* Which has no compound literals. */
#define OTELD_STR(literal) (oteld_str{(literal), sizeof(literal) - 1})
#else
#define OTELD_STR(literal) ((oteld_str){(literal), sizeof(literal) - 1})
#endif

typedef struct oteld_tracer {
    const void* scope; /* Null: records nothing. */
} oteld_tracer;

/* Opaque; zero it before first use. Move it by plain copy and use only the copy. */
typedef struct oteld_span {
    uint64_t opaque[32];
} oteld_span;

/* Identity of a span, to link and to be a parent. All zero: none. */
typedef struct oteld_context {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t flags;  /* W3C: 1 sampled, 2 random trace id */
    uint8_t remote; /* 1: came over the wire */
} oteld_context;

enum {
    OTELD_INTERNAL = 1,
    OTELD_SERVER = 2,
    OTELD_CLIENT = 3,
    OTELD_PRODUCER = 4,
    OTELD_CONSUMER = 5
};
enum { OTELD_UNSET = 0, OTELD_OK = 1, OTELD_ERROR = 2 };

typedef enum oteld_type {
    OTELD_BOOL = 1,
    OTELD_INT = 2,
    OTELD_DOUBLE = 3,
    OTELD_STRING = 4,
    OTELD_BYTES = 5,
    OTELD_ARRAY = 6,
    OTELD_MAP = 7
} oteld_type;

struct oteld_attribute;
typedef struct oteld_value {
    oteld_type type;
    union {
        bool boolean;
        int64_t integer;
        double real;
        oteld_str string; /* OTELD_STRING and OTELD_BYTES */
        struct {
            const struct oteld_value* items;
            size_t count;
        } array;
        struct {
            const struct oteld_attribute* items;
            size_t count;
        } map;
    } as;
} oteld_value;

typedef struct oteld_attribute {
    oteld_str key;
    oteld_value value;
} oteld_attribute;

/* Zero it, then set what is wanted. */
typedef struct oteld_start {
    int kind;                    /* 0: OTELD_INTERNAL */
    bool root;                   /* No parent, whatever is current. */
    const oteld_context* parent; /* Null: the current context of the thread. */
    uint64_t start_time;
    const oteld_attribute* attributes; /* Part of the span from its first instant: a crash finds
                                          them all or no span. */
    size_t attribute_count;
} oteld_start;

/* Interns an instrumentation scope; call it once per library. Version and schema URL may be empty.
 */
oteld_tracer oteld_get_tracer(oteld_str name, oteld_str version, oteld_str schema_url);

/* Starts a span. `options` may be null. */
void oteld_span_start(oteld_span* span, oteld_tracer tracer, oteld_str name,
                      const oteld_start* options);
bool oteld_span_recording(const oteld_span* span);
oteld_context oteld_span_context(const oteld_span* span);

/* A key set twice keeps its last value. */
void oteld_span_set(oteld_span* span, oteld_str key, oteld_value value);
void oteld_span_set_bool(oteld_span* span, oteld_str key, bool value);
void oteld_span_set_int(oteld_span* span, oteld_str key, int64_t value);
void oteld_span_set_double(oteld_span* span, oteld_str key, double value);
void oteld_span_set_string(oteld_span* span, oteld_str key, oteld_str value);
void oteld_span_set_bytes(oteld_span* span, oteld_str key, const void* data, size_t size);

void oteld_span_event(oteld_span* span, oteld_str name, const oteld_attribute* attributes,
                      size_t count, uint64_t time);
void oteld_span_link(oteld_span* span, const oteld_context* to, const oteld_attribute* attributes,
                     size_t count);
/* OK > ERROR > UNSET; OK is final. The description counts only with OTELD_ERROR. */
void oteld_span_status(oteld_span* span, int code, oteld_str description);
void oteld_span_name(oteld_span* span, oteld_str name);
/* Only the first end counts. The handle is zeroed, its context excepted. */
void oteld_span_end(oteld_span* span, uint64_t end_time);

/* Makes a span's context current on this thread; returns what was current. Detach in reverse order
 * with both. */
typedef struct oteld_scope {
    uint64_t opaque[12];
} oteld_scope;
oteld_scope oteld_attach(const oteld_span* span);
void oteld_detach(oteld_scope* scope);
oteld_context oteld_current(void);

/* Ids in lower-case hex, for the fields trace_id and span_id of a log line. They write 33 and 17
 * bytes into `text` and return it; "" where there is no span. Flags print as %02x.
 * https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/ */
const char* oteld_trace_id_text(oteld_context context, char text[33]);
const char* oteld_span_id_text(oteld_context context, char text[17]);

/* Passing the context on to another process, in W3C trace context and baggage; with
 * OTEL_PROPAGATORS, in those of the two that it names. oteld_inject() calls `set` for each header
 * to send: of the span that is current, and its baggage. oteld_extract() asks `get` for the headers
 * of a request, by names in lower case (data null: there is none; what it returns is read before
 * its next call), and makes what they say current: the caller's span, trace state and baggage.
 * Detach it like oteld_attach()'s. Malformed headers count as absent.
 * https://www.w3.org/TR/trace-context-2/ https://www.w3.org/TR/baggage/ */
typedef void (*oteld_set_header)(void* carrier, oteld_str name, oteld_str value);
typedef oteld_str (*oteld_get_header)(void* carrier, oteld_str name);
void oteld_inject(oteld_set_header set, void* carrier);
oteld_scope oteld_extract(oteld_get_header get, void* carrier);

/* Baggage goes along to every service that is called: nothing secret belongs in it. The value that
 * is current for a key, as long as that stays current; data null: there is none. */
oteld_str oteld_baggage(oteld_str key);
/* Makes the current context current with this in its baggage, or without the key where the value's
 * data is null. Detach it like oteld_attach()'s. */
oteld_scope oteld_attach_baggage(oteld_str key, oteld_str value);

/* Waits until every span ended so far is safe with the daemon. False: timeout, or no daemon. */
bool oteld_flush(uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
