#pragma once
// Checkpoints with reference outputs of Hugging Face transformers (tests/data/goldens/README.md).
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "weights/safetensors.h"

namespace hylas::test {

struct GoldenModel {
  std::string name;  // "mtp-moe"
  std::string dir;   // config.json, model.safetensors, golden_fp32.safetensors, tokenizer.json, ..
  // The name with everything but letters and digits replaced, as GoogleTest wants it.
  std::string test_name() const;
};
inline void PrintTo(const GoldenModel& model, std::ostream* out) { *out << model.name; }

// Those of tests/data/goldens; with HYLAS_GOLDENS set, also all below that directory. Sorted by name, each name once.
std::vector<GoldenModel> golden_models();
// The one of that name; aborts if there is none.
GoldenModel golden_model(const std::string& name);

// A file of reference tensors. Asking for a tensor that is not there aborts the test.
class GoldenFile {
 public:
  GoldenFile(const GoldenModel& model, const std::string& file_name);
  bool has(const std::string& name) const { return file_.tensors().contains(name); }
  std::vector<int64_t> shape(const std::string& name) const;
  std::vector<int32_t> i32(const std::string& name) const;  // from i32, i64, u8 or bool
  std::vector<float> f32(const std::string& name) const;    // from f32 or bf16
  std::vector<std::string> names() const;

 private:
  Tensor view(const std::string& name) const;
  SafetensorsFile file_;
};

}  // namespace hylas::test
