// The documents of `oteld traces --json`, described in traces.hpp.
//
// Used by: daemon/commands/traces.cpp. Threads: values.
#pragma once

#include <string>
#include <vector>

#include "exporters/trace_query.hpp"

namespace oteld {

[[nodiscard]] std::string traces_json(const std::string& store,
                                      const std::vector<exporters::TraceSummary>& traces);
[[nodiscard]] std::string trace_json(const std::string& store, const exporters::TraceSummary& trace,
                                     const std::vector<exporters::StoredSpan>& spans);

}  // namespace oteld
