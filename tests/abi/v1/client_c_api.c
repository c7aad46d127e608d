/* Uses every function of oteld/oteld.h: once as it is meant, and with null, zeroed and ended
 * handles. Run by tests/unit/client/c_api_test.cpp, which reads what it recorded. Ends with 0 when
 * all that it can see itself is right. */
#include <oteld/oteld.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                             \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(42);                                                                 \
        }                                                                             \
    } while (0)

static oteld_value text(const char* words) {
    oteld_value value = {OTELD_STRING, {0}};
    value.as.string.data = words;
    value.as.string.size = strlen(words);
    return value;
}

static oteld_value integer(int64_t number) {
    oteld_value value = {OTELD_INT, {0}};
    value.as.integer = number;
    return value;
}

static void every_field(oteld_tracer tracer) {
    const oteld_value items[] = {integer(1), text("two")};
    oteld_value array = {OTELD_ARRAY, {0}};
    array.as.array.items = items;
    array.as.array.count = 2;
    const oteld_attribute pairs[] = {{OTELD_STR("in"), integer(3)}, {OTELD_STR("list"), array}};
    oteld_value map = {OTELD_MAP, {0}};
    map.as.map.items = pairs;
    map.as.map.count = 2;
    oteld_value real = {OTELD_DOUBLE, {0}};
    real.as.real = 1.5;
    oteld_value boolean = {OTELD_BOOL, {0}};
    boolean.as.boolean = true;
    oteld_value raw = {OTELD_BYTES, {0}};
    raw.as.string.data = "\x01\x02";
    raw.as.string.size = 2;
    const oteld_attribute attributes[] = {{OTELD_STR("array"), array},
                                          {OTELD_STR("map"), map},
                                          {OTELD_STR("real"), real},
                                          {OTELD_STR("boolean"), boolean},
                                          {OTELD_STR("raw"), raw},
                                          {OTELD_STR("text"), text("words")},
                                          {OTELD_STR("integer"), integer(-7)}};
    const oteld_context parent = {{1, 2}, {3, 4}, 1, 1};
    oteld_start start = {0};
    start.kind = OTELD_CONSUMER;
    start.parent = &parent;
    start.start_time = 1000;
    start.attributes = attributes;
    start.attribute_count = sizeof attributes / sizeof attributes[0];
    oteld_span span = {{0}};
    oteld_span_start(&span, tracer, OTELD_STR("first name"), &start);
    EXPECT(oteld_span_recording(&span));
    EXPECT(oteld_span_context(&span).trace_id[1] == 2);
    oteld_span_name(&span, OTELD_STR("every field"));
    oteld_span_set(&span, OTELD_STR("set"), integer(9));
    oteld_span_set(&span, OTELD_STR("set map"), map);
    oteld_span_set_bool(&span, OTELD_STR("set bool"), false);
    oteld_span_set_int(&span, OTELD_STR("set int"), 1);
    oteld_span_set_int(&span, OTELD_STR("set int"), 2);
    oteld_span_set_double(&span, OTELD_STR("set double"), 0.25);
    oteld_span_set_string(&span, OTELD_STR("set string"), OTELD_STR("s"));
    oteld_span_set_bytes(&span, OTELD_STR("set bytes"), "\xff", 1);
    oteld_span_event(&span, OTELD_STR("event"), pairs, 2, 1500);
    oteld_span_event(&span, OTELD_STR("event now"), NULL, 0, 0);
    const oteld_context other = {{5}, {6}, 1, 0};
    oteld_span_link(&span, &other, pairs, 1);
    oteld_span_status(&span, OTELD_ERROR, OTELD_STR("boom"));
    const oteld_span moved = span; /* A plain copy moves it. */
    span = moved;
    oteld_span_end(&span, 2000);
    EXPECT(!oteld_span_recording(&span));
    EXPECT(oteld_span_context(&span).span_id[0] != 0 || oteld_span_context(&span).span_id[7] != 0);
    oteld_span_end(&span, 3000);
    oteld_span_set_int(&span, OTELD_STR("late"), 1);
    oteld_span_name(&span, OTELD_STR("late"));
    oteld_span_status(&span, OTELD_OK, OTELD_STR(""));
    oteld_span_event(&span, OTELD_STR("late"), pairs, 2, 0);
    oteld_span_link(&span, &other, NULL, 0);
}

static void scopes(oteld_tracer tracer) {
    oteld_span outer = {{0}};
    oteld_span inner = {{0}};
    oteld_span apart = {{0}};
    const oteld_context none = {{0}, {0}, 0, 0};
    const oteld_context before = oteld_current();
    EXPECT(memcmp(&before, &none, sizeof none) == 0);
    char trace_id[33];
    char span_id[17];
    EXPECT(strcmp(oteld_trace_id_text(before, trace_id), "") == 0);
    EXPECT(strcmp(oteld_span_id_text(before, span_id), "") == 0);
    oteld_span_start(&outer, tracer, OTELD_STR("outer"), NULL);
    oteld_scope scope = oteld_attach(&outer);
    const oteld_context now = oteld_current();
    const oteld_context expected = oteld_span_context(&outer);
    EXPECT(memcmp(&now, &expected, sizeof now) == 0);
    EXPECT(strlen(oteld_trace_id_text(now, trace_id)) == 32);
    EXPECT(strlen(oteld_span_id_text(now, span_id)) == 16);
    unsigned first = 0;
    EXPECT(sscanf(span_id, "%2x", &first) == 1 && first == now.span_id[0]);
    oteld_span_start(&inner, tracer, OTELD_STR("inner"), NULL);
    oteld_start root = {0};
    root.root = true;
    oteld_span_start(&apart, tracer, OTELD_STR("apart"), &root);
    oteld_span_end(&apart, 0);
    oteld_span_end(&inner, 0);
    oteld_detach(&scope);
    oteld_detach(&scope);
    const oteld_context after = oteld_current();
    EXPECT(memcmp(&after, &none, sizeof none) == 0);
    oteld_span_end(&outer, 0);
}

typedef struct headers {
    char names[4][16];
    char values[4][64];
    int count;
} headers;

static void set_header(void* carrier, oteld_str name, oteld_str value) {
    headers* to = carrier;
    EXPECT(to->count < 4 && name.size < 16 && value.size < 64);
    memcpy(to->names[to->count], name.data, name.size);
    memcpy(to->values[to->count++], value.data, value.size);
}

static oteld_str get_header(void* carrier, oteld_str name) {
    const headers* from = carrier;
    oteld_str found = {NULL, 0};
    for (int i = 0; i < from->count; ++i) {
        if (strlen(from->names[i]) != name.size) continue;
        if (memcmp(from->names[i], name.data, name.size) != 0) continue;
        found.data = from->values[i];
        found.size = strlen(found.data);
    }
    return found;
}

static bool baggage_is(const char* key, const char* expected) {
    const oteld_str found = oteld_baggage((oteld_str){key, strlen(key)});
    if (expected == NULL || found.data == NULL) return expected == NULL && found.data == NULL;
    return found.size == strlen(expected) && memcmp(found.data, expected, found.size) == 0;
}

/* From the client's side of a call to the server's. */
static void propagation(oteld_tracer tracer) {
    headers sent = {{{0}}, {{0}}, 0};
    oteld_span call = {{0}};
    oteld_span_start(&call, tracer, OTELD_STR("call"), NULL);
    const oteld_context identity = oteld_span_context(&call);
    oteld_scope in_call = oteld_attach(&call);
    EXPECT(baggage_is("tenant", NULL));
    oteld_scope with_tenant = oteld_attach_baggage(OTELD_STR("tenant"), OTELD_STR("t 7"));
    oteld_scope with_shop = oteld_attach_baggage(OTELD_STR("shop"), OTELD_STR("eu"));
    EXPECT(baggage_is("tenant", "t 7") && baggage_is("shop", "eu") && baggage_is("other", NULL));
    oteld_scope without_shop = oteld_attach_baggage(OTELD_STR("shop"), (oteld_str){NULL, 0});
    EXPECT(baggage_is("tenant", "t 7") && baggage_is("shop", NULL));
    oteld_inject(set_header, &sent);
    oteld_detach(&without_shop);
    EXPECT(baggage_is("shop", "eu"));
    oteld_detach(&with_shop);
    oteld_detach(&with_tenant);
    EXPECT(baggage_is("tenant", NULL));
    oteld_detach(&in_call);
    oteld_span_end(&call, 0);
    EXPECT(sent.count == 2);
    char id[33];
    char expected[64];
    oteld_trace_id_text(identity, id);
    snprintf(expected, sizeof expected, "00-%s-", id);
    strcat(strcat(expected, oteld_span_id_text(identity, id)), "-03");
    EXPECT(strcmp(sent.names[0], "traceparent") == 0 && strcmp(sent.values[0], expected) == 0);
    EXPECT(strcmp(sent.names[1], "baggage") == 0 && strcmp(sent.values[1], "tenant=t%207") == 0);

    memcpy(sent.names[sent.count], "tracestate", 10);
    memcpy(sent.values[sent.count++], "shop=eu", 7);
    oteld_scope caller = oteld_extract(get_header, &sent);
    const oteld_context remote = oteld_current();
    EXPECT(memcmp(remote.span_id, identity.span_id, sizeof remote.span_id) == 0);
    EXPECT(remote.remote == 1 && remote.flags == identity.flags && baggage_is("tenant", "t 7"));
    oteld_span served = {{0}};
    oteld_span_start(&served, tracer, OTELD_STR("served"), NULL);
    headers passed_on = {{{0}}, {{0}}, 0};
    oteld_inject(set_header, &passed_on);
    EXPECT(get_header(&passed_on, OTELD_STR("tracestate")).size == 7);
    oteld_span_end(&served, 0);
    oteld_detach(&caller);
    EXPECT(oteld_current().span_id[0] == 0 && baggage_is("tenant", NULL));

    headers none = {{{0}}, {{0}}, 0};
    oteld_scope nothing = oteld_extract(get_header, &none);
    EXPECT(oteld_current().remote == 0);
    oteld_detach(&nothing);
    oteld_inject(NULL, NULL);
    oteld_scope no_getter = oteld_extract(NULL, NULL);
    oteld_detach(&no_getter);
    EXPECT(oteld_baggage((oteld_str){NULL, 9}).data == NULL);
    oteld_scope no_key = oteld_attach_baggage((oteld_str){NULL, 9}, OTELD_STR("value"));
    oteld_detach(&no_key);
}

/* Nothing here may crash, and only spans that were really started may be recorded. */
static void nothing_at_all(oteld_tracer tracer) {
    const oteld_str null = {NULL, 99};
    const oteld_tracer no_tracer = {NULL};
    oteld_span zero = {{0}};
    oteld_scope no_scope = {{0}};
    oteld_value odd = {(oteld_type)77, {0}};
    oteld_value hollow_array = {OTELD_ARRAY, {0}};
    hollow_array.as.array.count = 5;
    oteld_value hollow_map = {OTELD_MAP, {0}};
    hollow_map.as.map.count = 5;
    oteld_start hollow = {0};
    hollow.attribute_count = 5;
    oteld_span_start(NULL, tracer, OTELD_STR("x"), NULL);
    oteld_span_start(&zero, no_tracer, OTELD_STR("x"), NULL);
    EXPECT(!oteld_span_recording(&zero));
    EXPECT(!oteld_span_recording(NULL));
    oteld_span* const dead[] = {NULL, &zero};
    for (int i = 0; i < 2; ++i) {
        (void)oteld_span_context(dead[i]);
        oteld_span_set(dead[i], null, odd);
        oteld_span_set_bool(dead[i], null, true);
        oteld_span_set_int(dead[i], null, 1);
        oteld_span_set_double(dead[i], null, 1);
        oteld_span_set_string(dead[i], null, null);
        oteld_span_set_bytes(dead[i], null, NULL, 9);
        oteld_span_event(dead[i], null, NULL, 3, 0);
        oteld_span_link(dead[i], NULL, NULL, 3);
        oteld_span_status(dead[i], 99, null);
        oteld_span_name(dead[i], null);
        oteld_scope scope = oteld_attach(dead[i]);
        oteld_detach(&scope);
        oteld_span_end(dead[i], 0);
    }
    oteld_detach(NULL);
    oteld_detach(&no_scope);
    oteld_span_start(&zero, tracer, null, &hollow);
    EXPECT(oteld_span_recording(&zero));
    oteld_span_set(&zero, OTELD_STR("odd"), odd);
    oteld_span_set(&zero, OTELD_STR("hollow array"), hollow_array);
    oteld_span_set(&zero, OTELD_STR("hollow map"), hollow_map);
    oteld_span_set(&zero, null, odd);
    oteld_span_set_string(&zero, OTELD_STR("null string"), null);
    oteld_span_set_bytes(&zero, OTELD_STR("null bytes"), NULL, 9);
    oteld_span_event(&zero, null, NULL, 3, 0);
    oteld_span_link(&zero, NULL, NULL, 3);
    oteld_span_status(&zero, -1, null);
    oteld_span_status(&zero, 3, null);
    oteld_span_name(&zero, OTELD_STR("hollow"));
    oteld_span_end(&zero, 0);
}

int main(void) {
    const oteld_tracer tracer =
        oteld_get_tracer(OTELD_STR("c"), OTELD_STR("1.0"), OTELD_STR("https://example.org/c"));
    every_field(tracer);
    scopes(tracer);
    propagation(tracer);
    nothing_at_all(tracer);
    (void)oteld_get_tracer((oteld_str){NULL, 9}, (oteld_str){NULL, 9}, (oteld_str){NULL, 9});
    EXPECT(!oteld_flush(1)); /* Nobody drains here. */
    return 0;
}
