#pragma once
// Prefill rows of attention by FlashInfer's FlashAttention 3 (flashinfer_fa3.h), chosen with
// --prefill-attention-backend fa3. Its copy engine wants keys and values in one piece and in bf16: they are gathered in
// the workspace.
#include "ops/cuda/attention.h"
#include "ops/cuda/workspace.h"

namespace hylas::cuda {

// bf16 queries of 256 dimensions over KV in bf16 or FP8: by shape alone, so that a row's bits do not depend on its
// batch.
bool attention_fa3_takes(const AttentionArgs& args);
// Rows [decode_rows, rows), in as many launches as the workspace asks for. It must hold one KV head of the longest row:
// 1024 bytes a position.
void attention_fa3(const AttentionArgs& args, Workspace& workspace, Stream stream);

}  // namespace hylas::cuda
