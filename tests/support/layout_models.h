#pragma once
// Dummy models whose shapes admit every layout up to tp 4: 8 query and 2 KV heads, 4 key and 8 value heads, widths 512.
#include <string>

namespace hylas::test {

enum class LayoutKind { kDense, kMoe, kMoeFp8 };

struct LayoutModel {
  LayoutKind kind = LayoutKind::kDense;
  int layers = 8;  // 5: the last one is a linear layer, so the last stage may have no KV at all
  std::string name() const;
};

// Its config.json, written on the first call, for --load-format dummy.
std::string layout_model_path(const LayoutModel& model);

}  // namespace hylas::test
