// Log lines that name the span in which they were written, with spdlog.

#include <oteld/api.hpp>
#include <oteld/spdlog.hpp>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

int main() {
    spdlog::set_default_logger(spdlog::stdout_logger_st("shop"));
    spdlog::set_formatter(oteld::spdlog_formatter("trace_id=%W span_id=%w trace_flags=%k %v"));
    const oteld::Tracer shop = oteld::tracer("shop.orders");

    spdlog::info("ready");
    {
        auto checkout = shop.scope("checkout");
        spdlog::info("checkout: order {}", "A-12345");
        {
            auto charge = shop.scope("charge card", oteld::client);
            spdlog::info("charge card: {:.2f} EUR", 59.9);
        }
        spdlog::info("checkout: paid");
    }
    spdlog::info("done");
}
