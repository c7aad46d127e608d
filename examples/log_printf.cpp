// Log lines that name the span in which they were written, with printf.

#include <oteld/api.hpp>

#include <cstdio>

namespace {

const oteld::Tracer shop = oteld::tracer("shop.orders");

void log(const char* message) {
    std::printf("trace_id=%s span_id=%s trace_flags=%s %s\n",
                oteld::current_trace_id_text().c_str(), oteld::current_span_id_text().c_str(),
                oteld::current_trace_flags_text().c_str(), message);
}

}  // namespace

int main() {
    log("ready");
    {
        auto checkout = shop.scope("checkout");
        log("checkout: order A-12345");
        {
            auto charge = shop.scope("charge card", oteld::client);
            log("charge card: 59.90 EUR");
        }
        log("checkout: paid");
    }
    log("done");
}
