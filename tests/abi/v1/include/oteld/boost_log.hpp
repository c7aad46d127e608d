// The ids of the current span in the records of Boost.Log: three attributes.
//
// Example:
//     namespace expr = boost::log::expressions;
//     oteld::boost_log::add_attributes();
//     sink->set_formatter(expr::stream << "trace_id=" << expr::attr<std::string>("TraceID")
//                                      << " span_id=" << expr::attr<std::string>("SpanID") << ' '
//                                      << expr::smessage);
//     BOOST_LOG_TRIVIAL(info) << "order " << order.id << " shipped";
//
// "TraceID", "SpanID" and "TraceFlags" are std::strings in lower-case hex, empty when no span is
// current. Each is taken where the record is opened, so asynchronous sinks have those of the thread
// that logs. In a format string: %TraceID%. For sinks that write all attributes under their names,
// as structured ones do, OpenTelemetry's names are trace_id, span_id and trace_flags:
//     core->add_global_attribute("trace_id", oteld::boost_log::trace_id());
//
// Used by: programs with Boost.Log (Boost 1.74 or later), which this header alone includes; they
// link it. Threads: any. Throws what Boost.Log throws; a record costs an allocation for each.
// https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
#pragma once

#include "oteld/context.hpp"

#include <boost/log/attributes/attribute.hpp>
#include <boost/log/attributes/function.hpp>
#include <boost/log/core/core.hpp>

#include <string>

namespace oteld::boost_log {

[[nodiscard]] inline boost::log::attribute trace_id() {
    return boost::log::attributes::make_function(
        [] { return std::string(current_trace_id_text().view()); });
}
[[nodiscard]] inline boost::log::attribute span_id() {
    return boost::log::attributes::make_function(
        [] { return std::string(current_span_id_text().view()); });
}
[[nodiscard]] inline boost::log::attribute trace_flags() {
    return boost::log::attributes::make_function(
        [] { return std::string(current_trace_flags_text().view()); });
}

// To all loggers. An attribute of the same name that is there already stays.
inline void add_attributes() {
    const auto core = boost::log::core::get();
    core->add_global_attribute("TraceID", trace_id());
    core->add_global_attribute("SpanID", span_id());
    core->add_global_attribute("TraceFlags", trace_flags());
}

}  // namespace oteld::boost_log
