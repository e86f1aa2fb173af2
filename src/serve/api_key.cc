#include "serve/api_key.h"

#include <string_view>

namespace hylas {
namespace {

bool same_secret(std::string_view a, std::string_view b) {
  unsigned difference = a.size() != b.size();
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) difference |= unsigned(a[i]) ^ unsigned(b[i]);
  return difference == 0;
}

}  // namespace

bool brings_key(const std::string& authorization, const std::string& key) {
  return key.empty() || same_secret(authorization, "Bearer " + key);
}

}  // namespace hylas
