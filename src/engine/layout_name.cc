#include "engine/layout_name.h"

#include <array>
#include <cctype>
#include <charconv>
#include <set>
#include <utility>

namespace hylas {
namespace {

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

Result<ParallelSizes> parse_layout(const std::string& text) {
  const std::string name = lower(text);
  ParallelSizes sizes;
  const std::array parts = {std::pair{"tp", &sizes.tp}, std::pair{"pp", &sizes.pp}, std::pair{"ep", &sizes.ep},
                            std::pair{"dp", &sizes.dp}};
  std::set<std::string> seen;
  const char* at = name.data();
  const char* const end = at + name.size();
  bool good = at < end;
  while (good && at < end) {
    good = false;
    for (const auto& [part, size] : parts) {
      if (std::string(at, std::min(end, at + 2)) != part || !seen.insert(part).second) continue;
      const auto parsed = std::from_chars(at + 2, end, *size);
      good = parsed.ec == std::errc() && *size >= 1 && *size <= 4096;
      at = parsed.ptr;
      break;
    }
  }
  if (good) return sizes;
  return error(ErrorCode::kInvalid, "the layout '{}' is not of the form tp8, pp4tp2 or tp8ep8dp4", text);
}

Result<int64_t> parse_bytes(const char* flag, const std::string& text) {
  constexpr std::array<std::pair<const char*, double>, 8> kUnits = {
      {{"", 1}, {"b", 1}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40}}};
  const std::string name = lower(text);
  double number = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
  for (const auto& [unit, factor] : kUnits) {
    const double bytes = number * factor;
    if (parsed.ec == std::errc() && std::string(parsed.ptr) == unit && bytes >= 1 && bytes < 1e18) {
      return static_cast<int64_t>(bytes);
    }
  }
  return error(ErrorCode::kInvalid, "{} '{}' is not an amount of memory such as 141GB or 80GiB", flag, text);
}

}  // namespace hylas
