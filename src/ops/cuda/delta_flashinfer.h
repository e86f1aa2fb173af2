#pragma once
// Prefill rows of the delta rule by FlashInfer's kernel (flashinfer_gdn.h), chosen with --linear-attn-backend
// flashinfer: what goes in is prepared by kernels of ours (delta_pack.h) in the workspace.
#include "ops/cuda/delta.h"
#include "ops/cuda/workspace.h"

namespace hylas::cuda {

// bf16 activations, 128 keys and values: by shape alone, so that a row's bits do not depend on its batch.
bool delta_flashinfer_takes(const DeltaArgs& args);
// Rows [decode_rows, rows), in as many launches as the workspace asks for.
// `normalised`: queries and keys of these rows come l2-normalised.
void delta_flashinfer(const DeltaArgs& args, bool normalised, Workspace& workspace, Stream stream);

}  // namespace hylas::cuda
