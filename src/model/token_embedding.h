#pragma once
// The embedding table, split by vocabulary over the attention group.
#include "base/result.h"
#include "model/step.h"

namespace hylas {

class TokenEmbedding {
 public:
  static Result<TokenEmbedding> load(const LoadContext& context);

  const Tensor& table() const { return table_; }  // [vocab rows of this rank, H]

  // out [tokens, H] act = the rows of ids [tokens] i32.
  void forward(Ops& ops, const RankComms& comms, Arena& arena, const Tensor& ids, const Tensor& out) const;
  // Accounts in `arena` for what forward() allocates at most.
  void allocate(Arena& arena, int64_t tokens) const;

 private:
  Tensor table_;
  int32_t vocab_begin_ = 0;
  bool is_shard_ = false;
};

}  // namespace hylas
