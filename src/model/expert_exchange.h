#pragma once
// Expert parallelism: tokens travel to the ranks that hold their experts, the experts' rows travel back, and each
// token's home adds them in top-k order: the lone rank's sum, bit for bit. Where ranks reach each other's memory
// (RankComms::experts) a token's row travels once to each rank, and nothing is known on the host but how many tokens
// there are; otherwise the host counts and sends the row once for each expert.
#include <cstdint>
#include <span>
#include <vector>

#include "model/step.h"

namespace hylas {

struct MoeWeights {
  int32_t experts_total = 0, experts_per_token = 0;
  int64_t hidden = 0;
  int64_t slices = 1;        // partial sums of a down projection on this rank
  LinearWeight router;       // [experts_total, H]
  LinearWeight shared_gate;  // [1, H]
  ExpertWeights experts;     // those of this rank
  SharedExpertWeights shared;
};

// Logits, choice and weights of tokens, from `arena`.
struct Routing {
  Tensor logits;        // [tokens, experts_total] f32
  Tensor shared_logit;  // [tokens, 1] f32
  Tensor ids;           // [tokens, k] i32
  Tensor weights;       // [tokens, k] f32
};
Routing allocate_routing(Arena& arena, const MoeWeights& weights, int64_t tokens);
Routing route(Ops& ops, Arena& arena, const MoeWeights& weights, const ActRows& x);

class ExpertExchange {
 public:
  ExpertExchange() = default;
  // `common`: the tokens given to forward() are those of the whole stage (or of its only dp group); otherwise those of
  // the own dp group. A rank sends out `dispatch_tokens` at a time, so that what arrives fits a buffer of known size.
  ExpertExchange(const Shard& shard, bool common, int32_t dispatch_tokens, bool on_device)
      : shard_(shard), common_(common), on_device_(on_device), dispatch_tokens_(dispatch_tokens) {}

  // In which form forward() reads the tokens of this step: the same at all ranks.
  RowForm input_form(const Step& step, const MoeWeights& weights, DType act) const;
  // x [tokens, H] act, its values in any case -> [1, tokens, H] f32 from the arena: the same on all ranks that hold
  // these tokens.
  Tensor forward(const Step& step, const MoeWeights& weights, const ActRows& x) const;
  void allocate(Arena& arena, const MoeWeights& weights, int64_t tokens, DType act) const;

 private:
  struct Buffers;
  Buffers allocate_block(Arena& arena, const MoeWeights& weights, int64_t sent, int64_t received, DType act) const;
  void run_block(const Step& step, const MoeWeights& weights, const Tensor& x, const Tensor& out) const;
  struct DeviceBuffers;
  DeviceBuffers allocate_device_block(Arena& arena, const MoeWeights& weights, int64_t own, int64_t all,
                                      const ExpertRowForms& forms) const;
  // The same on the device alone, of rows [begin, begin + the own count) of x. `counts`: the block's tokens of every
  // rank; `x_is_all`: x has them already.
  void run_device_block(const Step& step, const MoeWeights& weights, const ActRows& x, int64_t begin,
                        std::span<const int32_t> counts, bool x_is_all, const Tensor& out) const;
  // What the experts' products of a block read and make, of tokens of all ranks.
  ExpertRowForms forms_of(const Step& step, const MoeWeights& weights, std::span<const int32_t> counts,
                          DType act) const;
  std::vector<int32_t> home_counts(const Step& step, int64_t tokens) const;
  // The block of tokens from `from` on of every rank.
  std::vector<int32_t> block_counts(std::span<const int32_t> homes, int32_t from) const;

  Shard shard_;
  bool common_ = true;
  bool on_device_ = false;
  int32_t dispatch_tokens_ = 128;
};

}  // namespace hylas
