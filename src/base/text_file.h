#pragma once
// Small text files of a checkpoint directory.
#include <string>

#include "base/result.h"

namespace hylas {

// The whole file. kNotFound if there is none, kIo if it cannot be read. Thread-safe.
Result<std::string> read_text_file(const std::string& path);

}  // namespace hylas
