#include "text/token_table.h"

#include <functional>

#include "base/check.h"

namespace hylas {

bool TokenTable::set(int32_t id, std::string_view bytes) {
  HYLAS_CHECK(id >= 0 && id < kIdsMax && !bytes.empty());
  if (static_cast<size_t>(id) < spans_.size() && spans_[id].length > 0) return this->bytes(id) == bytes;
  if (static_cast<size_t>(id) >= spans_.size()) spans_.resize(id + 1);
  spans_[id] = {blob_.size(), static_cast<uint32_t>(bytes.size())};
  blob_.append(bytes);
  if (2 * (used_ + 1) > slots_.size()) grow();
  insert(id);
  return true;
}

std::string_view TokenTable::bytes(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  return std::string_view(blob_).substr(spans_[id].begin, spans_[id].length);
}

std::optional<int32_t> TokenTable::find(std::string_view bytes) const {
  if (slots_.empty() || bytes.empty()) return std::nullopt;
  size_t mask = slots_.size() - 1;
  for (size_t slot = std::hash<std::string_view>()(bytes) & mask; slots_[slot] >= 0; slot = (slot + 1) & mask) {
    if (this->bytes(slots_[slot]) == bytes) return slots_[slot];
  }
  return std::nullopt;
}

void TokenTable::insert(int32_t id) {
  size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>()(bytes(id)) & mask;
  while (slots_[slot] >= 0) {
    if (bytes(slots_[slot]) == bytes(id)) return;
    slot = (slot + 1) & mask;
  }
  slots_[slot] = id;
  ++used_;
}

void TokenTable::grow() {
  std::vector<int32_t> old = std::move(slots_);
  slots_.assign(old.empty() ? 1024 : 2 * old.size(), -1);
  used_ = 0;
  for (int32_t id : old) {
    if (id >= 0) insert(id);
  }
}

}  // namespace hylas
