#pragma once
// Prefill rows of the delta rule by FlashInfer's kernel (flashinfer_gdn.h), chosen with --linear-attn-backend
// flashinfer: what goes in is prepared by kernels of ours (delta_pack.h) in the workspace.
#include <optional>

#include "ops/cuda/delta_pack.h"
#include "ops/cuda/flashinfer_gdn.h"
#include "ops/cuda/workspace.h"

namespace hylas::cuda {

// bf16 activations, 128 keys and values: by shape alone, so that a row's bits do not depend on its batch.
bool delta_flashinfer_takes(const DeltaArgs& args);
// Rows [decode_rows, rows), in as many launches as the workspace asks for.
// `normalised`: queries and keys of these rows come l2-normalised.
void delta_flashinfer(const DeltaArgs& args, bool normalised, Workspace& workspace, Stream stream);

// The same of rows that come normalised and fit the workspace at once, launch by launch, so that others may go between
// and beside them: begin(), run() of each part in order, end().
class DeltaParts {
 public:
  // The parts of a prompt alone, or the batch in one part. The bits are those of one part. Null: they do not fit.
  static std::optional<DeltaParts> make(const DeltaArgs& args, const PrefillParts& cuts, Workspace& workspace);
  void begin(Stream stream) const;
  void run(int part, Stream stream) const;
  void end(Stream stream) const;

 private:
  DeltaArgs args_;
  DeltaHeads heads_;
  DeltaTokens packed_;
  GdnArgs gdn_;
};

}  // namespace hylas::cuda
