// The tables of the trace store. A change bumps trace_store_version.
//
// Used by: trace_store_*.cpp (write), trace_query.cpp (reads). Times are Unix nanoseconds, clamped
// to 63 bits.
//
//   origins         one row per distinct resource and scope, with how many spans use it
//   traces          one row per trace: what a list shows, kept up to date by each batch
//   trace_services  which services took part
//   spans           the Span message as it came, and what one filters and sorts by
#pragma once

namespace oteld::exporters {

inline constexpr int trace_store_version = 1;               // PRAGMA user_version.
inline constexpr int trace_store_application = 0x4f54454c;  // PRAGMA application_id: "OTEL".

inline constexpr char trace_store_schema[] = R"sql(
CREATE TABLE origins(
  id INTEGER PRIMARY KEY,
  service TEXT NOT NULL,
  resource BLOB NOT NULL,             -- OTLP Resource
  resource_schema_url TEXT NOT NULL,
  scope BLOB NOT NULL,                -- OTLP InstrumentationScope
  scope_schema_url TEXT NOT NULL,
  spans INTEGER NOT NULL DEFAULT 0,
  UNIQUE(resource, scope, resource_schema_url, scope_schema_url));
CREATE TABLE traces(
  id INTEGER PRIMARY KEY,
  trace_id BLOB NOT NULL UNIQUE,
  start_ns INTEGER NOT NULL,          -- of its first span
  end_ns INTEGER NOT NULL,            -- of its last
  spans INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  unfinished INTEGER NOT NULL,
  pruned INTEGER NOT NULL,            -- spans that were deleted to make room
  has_root INTEGER NOT NULL,          -- 0: name and service are those of the earliest span
  name_start_ns INTEGER NOT NULL,
  name TEXT NOT NULL,
  service TEXT NOT NULL,
  updated_ms INTEGER NOT NULL);       -- when its last span came in
CREATE INDEX traces_by_start ON traces(start_ns);
CREATE INDEX traces_by_update ON traces(updated_ms, id);
CREATE TABLE trace_services(
  trace INTEGER NOT NULL,
  service TEXT NOT NULL,
  PRIMARY KEY(trace, service)) WITHOUT ROWID;
CREATE TABLE spans(
  id INTEGER PRIMARY KEY,
  trace INTEGER NOT NULL,
  span_id BLOB NOT NULL,
  parent_id BLOB NOT NULL,
  origin INTEGER NOT NULL,
  service TEXT NOT NULL,
  name TEXT NOT NULL,
  start_ns INTEGER NOT NULL,
  duration_ns INTEGER NOT NULL,
  status INTEGER NOT NULL,
  error INTEGER NOT NULL,
  unfinished INTEGER NOT NULL,
  message BLOB NOT NULL,              -- OTLP Span
  UNIQUE(trace, span_id));
)sql";

// A count that writing and pruning both keep.
inline constexpr char count_origin_sql[] = "UPDATE origins SET spans = spans + ? WHERE id = ?";

}  // namespace oteld::exporters
