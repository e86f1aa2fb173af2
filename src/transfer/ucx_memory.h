#pragma once
// What a process tells its peers, so that they can write into its memory through UCX.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hylas {

struct UcxMemory {
  std::string worker;               // UCX's address of the process
  std::vector<uint64_t> addresses;  // [region]
  std::vector<uint64_t> bytes;      // [region]
  std::vector<std::string> keys;    // [region], packed; empty for a region without bytes
};

std::string encode(const UcxMemory& memory);
// kInvalid: not what encode() wrote. UCX believes what it is given, so a sum guards its part against damage.
Result<UcxMemory> decode_ucx_memory(std::string_view bytes);

}  // namespace hylas
