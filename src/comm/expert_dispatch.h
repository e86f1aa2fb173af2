#pragma once
// ExpertDispatch: how tokens come to the ranks that hold their experts, and the experts' rows back, where ranks reach
// each other's memory. Nobody counts on the host, so that a call can be recorded.
#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace hylas {

// Experts [begin, begin + count) of the model.
struct ExpertRange {
  int32_t begin = 0, count = 0;
  bool has(int32_t expert) const { return expert >= begin && expert < begin + count; }
};

// One exchange: rank r of the group is home to counts[r] tokens; all tokens are those of the ranks one after another.
struct ExpertTokens {
  std::span<const int32_t> counts;
  ExpertRange held;  // by this rank
  Tensor ids;        // [own, k] i32: the experts of this rank's tokens
  Tensor x;          // [own, H] act or e4m3
  Tensor scales;     // of e4m3: [groups, own] f32, column t is row t's; not without gaps, and may begin anywhere
  // What dispatch() writes: every token's experts, and the rows of tokens with an expert that this rank holds; the
  // others' are left as they are.
  Tensor all_ids;     // [all, k] i32
  Tensor all_x;       // [all, H] as x; null at all ranks: they have all rows already
  Tensor all_scales;  // of e4m3: [groups, all or more] f32
  Tensor returned;    // [slices, own * k, H] f32 or bf16: room for the rows that other ranks send back
};

// What becomes of an exchange's tokens: sums[s][t] = sum over k in top-k order of weights[t][k] * (slice s of expert
// ids[t][k]'s row), then + sigmoid(shared_logit[t]) * shared[s][t], as Ops::moe_combine has it.
struct ExpertSums {
  // [slices, all * k, H] of the type of `returned`: row t * k + j is that of expert all_ids[t][j], if this rank holds
  // it. With `index` [1, any, H], and row index[t][j] is; -1: this rank does not hold it.
  Tensor rows;
  Tensor index;         // [all, k] i32; null: none
  Tensor weights;       // [own, k] f32
  Tensor shared;        // [slices, own, H] f32; null: none
  Tensor shared_logit;  // [own, 1] f32
  Tensor sums;          // [slices, own, H] f32
};

// Belongs to its rank's thread; all ranks of the group make the same calls in the same order, a dispatch() and then its
// combine(). The tensors are those of this rank, without gaps; others read or write them until combine() is over.
class ExpertDispatch {
 public:
  virtual ~ExpertDispatch() = default;
  virtual void dispatch(const ExpertTokens& tokens) = 0;
  virtual void combine(const ExpertSums& sums) = 0;
};

}  // namespace hylas
