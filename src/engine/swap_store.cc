#include "engine/swap_store.h"

#include "base/check.h"

namespace hylas {

void SwapStore::apply(const SwapOp& op, StatePools& pools) {
  const bool out = op.direction == SwapOp::Direction::kOut;
  HYLAS_CHECK(buffers_.contains(op.key) != out, "swap buffer {}", op.key);
  if (op.direction == SwapOp::Direction::kDrop) {
    buffers_.erase(op.key);
    return;
  }
  Buffer& buffer = buffers_[op.key];
  if (out) {
    buffer.pages = op.pages.size();
    buffer.bytes = std::make_unique_for_overwrite<std::byte[]>(pools.slot_bytes() + buffer.pages * pools.page_bytes());
  }
  HYLAS_CHECK(buffer.pages == op.pages.size(), "{} pages went out, {} come in", buffer.pages, op.pages.size());
  std::byte* at = buffer.bytes.get();
  out ? pools.read_slot(op.slot, at) : pools.write_slot(op.slot, at);
  at += pools.slot_bytes();
  for (int32_t page : op.pages) {
    out ? pools.read_page(page, at) : pools.write_page(page, at);
    at += pools.page_bytes();
  }
  if (!out) buffers_.erase(op.key);
}

}  // namespace hylas
