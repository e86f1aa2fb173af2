#include "engine/drawn_tokens.h"

#include "base/check.h"

namespace hylas {

Result<DrawnTokens::OnDevice> DrawnTokens::allocate(Device& device, int32_t size) {
  OnDevice made;
  HYLAS_ASSIGN(made.memory, Buffer::make(device, size * sizeof(int32_t)));
  made.whole = Tensor(made.memory.data(), DType::kI32, {size});
  return made;
}

Result<DrawnTokens> DrawnTokens::make(Device& device, int32_t sequences_max) {
  DrawnTokens made;
  made.device_ = &device;
  HYLAS_ASSIGN(made.last_tokens_, allocate(device, sequences_max));
  HYLAS_ASSIGN(made.drawn_, allocate(device, sequences_max));
  made.host_.resize(size_t{kFetchesMax} * static_cast<size_t>(sequences_max));
  made.lock_ = PageLock(device, made.host_.data(), made.host_.size() * sizeof(int32_t));
  return made;
}

int32_t DrawnTokens::fetch(int64_t count) {
  const int32_t fetch = next_;
  next_ = (next_ + 1) % kFetchesMax;
  int32_t* to = host_.data() + fetch * drawn_.whole.dim(0);
  device_->copy_to_locked(to, drawn_.whole.data, static_cast<size_t>(count) * sizeof(int32_t));
  return fetch;
}

void DrawnTokens::take(int32_t fetch, std::span<RowResult> rows) const {
  const int32_t* token = host_.data() + fetch * drawn_.whole.dim(0);
  for (RowResult& row : rows) {
    if (row.did_sample) row.sampled.token = *token++;
  }
}

}  // namespace hylas
