#include "model/token_embedding.h"

namespace hylas {

Result<TokenEmbedding> TokenEmbedding::load(const LoadContext& context) {
  const ModelConfig& config = context.config;
  const Range rows = vocab_rows(config, context.shard);
  TokenEmbedding embedding;
  embedding.vocab_begin_ = static_cast<int32_t>(rows.begin);
  embedding.is_shard_ = rows.count < config.vocab_size;
  HYLAS_ASSIGN(embedding.table_, context.source.tensor_rows(config.prefix + "embed_tokens.weight",
                                                            {config.vocab_size, config.hidden_size}, {&rows, 1}));
  return embedding;
}

// A token's row lies on one rank and is zero on the others, so the sum is exact.
void TokenEmbedding::forward(Ops& ops, const RankComms& comms, Arena& arena, const Tensor& ids,
                             const Tensor& out) const {
  if (!is_shard_) return ops.embed(ids, table_, vocab_begin_, out);
  ArenaScope scope(arena);
  const Tensor mine = arena.allocate(DType::kF32, {1, out.dim(0), out.dim(1)});
  const Tensor rows = mine.reshaped({out.dim(0), out.dim(1)});
  ops.embed(ids, table_, vocab_begin_, rows);
  comms.attn->all_reduce_slices(mine, rows);
  ops.convert(rows, out);
}

void TokenEmbedding::allocate(Arena& arena, int64_t tokens) const {
  if (!is_shard_) return;
  ArenaScope scope(arena);
  arena.allocate(DType::kF32, {1, tokens, table_.dim(1)});
}

}  // namespace hylas
