// Reading small files, and saying in words why one cannot be read.
//
// Used by: config/ for the configuration itself and for the files that tls names. Threads: any.
#pragma once

#include "config/result.hpp"

#include <cstddef>
#include <string>

namespace oteld::config {

// At most `bytes_max` bytes; a larger file is an error. Reads pipes too (`--config <(...)`).
[[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t bytes_max);

// Empty when `path` is a file that this process may read now; else a sentence part that says why
// not.
[[nodiscard]] std::string why_unreadable(const std::string& path);

}  // namespace oteld::config
