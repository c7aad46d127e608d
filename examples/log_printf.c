/* Log lines that name the span in which they were written, in C. */

#include <oteld/oteld.h>

#include <stdio.h>

static void log_line(const char* message) {
    const oteld_context span = oteld_current();
    char trace_id[33];
    char span_id[17];
    printf("trace_id=%s span_id=%s ", oteld_trace_id_text(span, trace_id),
           oteld_span_id_text(span, span_id));
    /* Flags of no span are no flags. */
    if (trace_id[0] != 0) printf("trace_flags=%02x %s\n", span.flags, message);
    if (trace_id[0] == 0) printf("trace_flags= %s\n", message);
}

int main(void) {
    const oteld_tracer shop =
        oteld_get_tracer(OTELD_STR("shop.orders"), OTELD_STR("1.4.0"), OTELD_STR(""));
    oteld_span checkout = {{0}};
    oteld_span charge = {{0}};
    log_line("ready");
    oteld_span_start(&checkout, shop, OTELD_STR("checkout"), NULL);
    oteld_scope in_checkout = oteld_attach(&checkout);
    log_line("checkout: order A-12345");
    oteld_span_start(&charge, shop, OTELD_STR("charge card"), NULL);
    oteld_scope in_charge = oteld_attach(&charge);
    log_line("charge card: 59.90 EUR");
    oteld_detach(&in_charge);
    oteld_span_end(&charge, 0);
    log_line("checkout: paid");
    oteld_detach(&in_checkout);
    oteld_span_end(&checkout, 0);
    log_line("done");
    return 0;
}
