#pragma once
// Runs one sequence through a Decoder without an engine: chunks and decode steps of the caller's choice.
#include <memory>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "support/test_device.h"

namespace hylas::test {

struct RunnerOptions {
  DType act = DType::kF32;
  DType kv = DType::kF32;
  DType state = DType::kF32;
  int32_t page_size = 64;
  int32_t tokens_max = 1024;
  int threads = 2;
  bool with_mtp = false;
  std::string device = test_device();
  bool fp8_tensor_cores = false;  // on a GPU: every product that can takes activations in FP8
};

// Rows of f32 values.
struct Rows {
  int64_t columns = 0;
  std::vector<float> values;
  int64_t size() const { return columns ? static_cast<int64_t>(values.size()) / columns : 0; }
  const float* row(int64_t i) const { return values.data() + i * columns; }
};

class SequenceRunner {
 public:
  // `dir` holds a checkpoint; aborts the test on any error.
  SequenceRunner(const std::string& dir, const RunnerOptions& options);
  // A dummy model of `config`.
  SequenceRunner(const ModelConfig& config, const RunnerOptions& options);

  const ModelConfig& config() const { return config_; }
  StatePools& pools() { return pools_; }
  int32_t length() const { return length_; }

  // Forgets the sequence; the next prefill starts from zero state.
  void reset();
  // Runs `ids` as one chunk; logits of all its positions.
  Rows prefill(const std::vector<int32_t>& ids);
  // Cuts `ids` at multiples of `chunk` positions from the start of the sequence.
  Rows prefill_chunks(const std::vector<int32_t>& ids, int32_t chunk);
  // One token through the decode path; logits of it.
  Rows decode(int32_t id);
  // Greedy continuation of `count` tokens after a prefill whose last logits are given.
  std::vector<int32_t> greedy(const float* last_logits, int32_t count);

  // After the last prefill or decode: the final-norm states of its positions.
  const Rows& normed() const { return normed_; }
  // MTP hidden states for the positions [begin, begin + next_ids) given the target's (or the head's own) hidden states.
  Rows mtp(const Rows& hidden, const std::vector<int32_t>& next_ids, int32_t begin);
  Rows logits_of(const Rows& normed);

  // Cache content as f32: K or V (segment 0, 1) of a full layer [kv_heads, length, head_dim] of kind "kv" or "mtp_kv".
  std::vector<float> kv(int32_t layer, int segment, const std::string& kind = "kv") const;
  // A slot's layer state of kind "delta" or "conv" as f32.
  std::vector<float> state(const std::string& kind, int32_t layer) const;

 private:
  void build(std::unique_ptr<WeightSource> source);
  Batch make_batch(const std::vector<int32_t>& ids, int32_t begin, bool decode);
  Rows run(const std::vector<int32_t>& ids, bool decode);
  // `values` where the operators read them; valid until the slot `at` is used again.
  enum Slot { kIds, kPositions, kRowBegin, kKvLen, kPages, kRead, kWrite, kIndex, kSlots };
  Tensor ints(Slot at, const std::vector<int32_t>& values, std::initializer_list<int64_t> dims);
  std::vector<float> read(const Tensor& tensor) const;
  void write(const Rows& rows, const Tensor& to);

  RunnerOptions options_;
  ModelConfig config_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<WeightSource> source_;
  RankComms comms_;  // of a lone rank
  std::unique_ptr<Decoder> decoder_;
  StatePools pools_;
  Buffer memory_;
  Arena arena_;
  int32_t length_ = 0;
  Rows normed_;
  Buffer ints_[kSlots];
};

std::vector<float> to_f32(const Tensor& tensor);
int32_t argmax(const float* values, int64_t count);
double max_abs_diff(const float* a, const float* b, int64_t count);

}  // namespace hylas::test
