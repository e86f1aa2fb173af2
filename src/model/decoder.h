#pragma once
// Decoder: the model, written once over Ops. A pipeline stage constructs and loads only its own layers.
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "cache/state_pools.h"
#include "comm/rank_comms.h"
#include "model/config.h"
#include "model/sharding.h"
#include "ops/ops.h"
#include "tensor/arena.h"
#include "weights/source.h"

namespace hylas {

// Which part of the model a rank holds, and in which types it computes. One value says it all.
struct DecoderOptions {
  DType act = DType::kBF16;   // activations: f32 | bf16
  DType kv = DType::kBF16;    // KV pages: f32 | bf16 | fp8_e4m3
  DType state = DType::kF32;  // recurrent state: f32 | f16 | bf16
  int32_t layer_begin = 0;
  int32_t layer_end = -1;  // -1: all layers
  bool with_mtp = false;
  int32_t page_size = 64;
  Shard shard;
  int32_t dispatch_tokens = 128;  // that a rank sends to other ranks' experts at a time (model/expert_exchange.h)
};

// The state table of this rank: its own layers and heads (cache/state_layout.h): kinds "kv", "delta", "conv" and, with
// MTP, "mtp_kv".
StateLayout state_layout(const ModelConfig& config, const DecoderOptions& options);

// Not thread-safe: the rank's thread. Lifetime: `ops`, `source`, `comms` and `pools` outlive it. With several ranks in
// a stage all of them make the same calls in the same order.
class Decoder {
 public:
  static Result<std::unique_ptr<Decoder>> make(const ModelConfig& config, const DecoderOptions& options,
                                               WeightSource& source, Ops& ops, const RankComms& comms);
  ~Decoder();

  // Bytes of the activation arena that a step of at most `tokens` tokens and `rows_logits` rows of logits needs.
  size_t arena_bytes(int64_t tokens, int64_t rows_logits) const;

  // First stage: token ids to hidden states.                                     -> [tokens, H] act, from `arena`
  Tensor embed(const Batch& batch, Arena& arena);
  // Runs this stage's layers on `hidden` [tokens, H] act, in place (the residual stream). `group_tokens`: the tokens of
  // every dp group in this step, this rank's included; one group needs none.
  void forward(const Batch& batch, StatePools& pools, const Tensor& hidden, Arena& arena,
               std::span<const int32_t> group_tokens = {});
  // Last stage: final norm of the rows `index` [R] i32 of `hidden`.               -> [R, H] act
  Tensor final_norm(const Tensor& hidden, const Tensor& index, Arena& arena);
  // Last stage: logits of normed rows [R, H].                                     -> [R, vocab] f32
  Tensor logits(const Tensor& normed, Arena& arena);

  // MTP head (model.md section 3.4): `normed` [tokens, H] act are the target's final-norm states at the batch's
  // positions (or the MTP's own, for later drafts), `next_ids` [tokens] i32 the tokens one position on; KV goes to
  // "mtp_kv".                                                                     -> [tokens, H] act, for logits()
  Tensor mtp_forward(const Batch& batch, StatePools& pools, const Tensor& normed, const Tensor& next_ids, Arena& arena);

 private:
  struct Impl;
  explicit Decoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hylas
