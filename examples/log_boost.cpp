// Log lines that name the span in which they were written, with Boost.Log.

#include <oteld/api.hpp>
#include <oteld/boost_log.hpp>

#include <boost/log/expressions.hpp>
#include <boost/log/trivial.hpp>
#include <boost/log/utility/setup/console.hpp>

#include <iostream>
#include <string>

int main() {
    namespace expr = boost::log::expressions;
    oteld::boost_log::add_attributes();
    boost::log::add_console_log(std::cout)->set_formatter(
        expr::stream << "trace_id=" << expr::attr<std::string>("TraceID")
                     << " span_id=" << expr::attr<std::string>("SpanID") << " trace_flags="
                     << expr::attr<std::string>("TraceFlags") << ' ' << expr::smessage);
    const oteld::Tracer shop = oteld::tracer("shop.orders");

    BOOST_LOG_TRIVIAL(info) << "ready";
    {
        auto checkout = shop.scope("checkout");
        BOOST_LOG_TRIVIAL(info) << "checkout: order "
                                << "A-12345";
        {
            auto charge = shop.scope("charge card", oteld::client);
            BOOST_LOG_TRIVIAL(info) << "charge card: " << 59.9 << " EUR";
        }
        BOOST_LOG_TRIVIAL(info) << "checkout: paid";
    }
    BOOST_LOG_TRIVIAL(info) << "done";
}
