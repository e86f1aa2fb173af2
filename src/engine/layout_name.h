#pragma once
// Short names and sizes as people write them: "pp4tp2", "141GB".
#include <cstdint>
#include <string>

#include "base/result.h"
#include "comm/topology.h"

namespace hylas {

// "tp8", "pp4tp2", "tp8ep8dp4": each of tp, pp, ep, dp at most once, in any order and case. kInvalid names what is
// wrong.
Result<ParallelSizes> parse_layout(const std::string& text);

// "141GB" (powers of ten), "80GiB" (powers of two), MB, MiB, TB, TiB, or plain bytes. kInvalid: `flag` and the text.
Result<int64_t> parse_bytes(const char* flag, const std::string& text);

}  // namespace hylas
