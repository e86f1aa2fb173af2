// The only file that sees FlashInfer 0.6.13. Its kernel takes a scheduler as a parameter: ours reads the rows as the
// batch has them, so no lengths go over the host and rows may be left out.
#include "ops/cuda/flashinfer_gdn.h"

// The library's headers do not include what they use.
#include <cute/tensor.hpp>
#include <flashinfer/flat/common.hpp>

#include <flashinfer/flat/hopper/device/device_universal.hpp>
#include <flashinfer/flat/hopper/kernel/flat_kernel_builder_delta_rule.hpp>

#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace {

namespace fk = flat::kernel;

// One block for each (row, value head).
struct RowScheduler {
  struct Params {
    dim3 grid;
    int32_t num_seqs = 0;  // WorkDesc::is_valid reads it
    int32_t value_heads = 0;
    int32_t group = 0;  // value heads of a key head
    int32_t first_token = 0;
    const int32_t* row_begin = nullptr;
    const int32_t* state_write = nullptr;
  };

  CUTE_DEVICE explicit RowScheduler(const Params&) {}
  // Filled in afterwards: the library's problem has no place for it.
  template <class Problem, class Cluster, class Tile>
  static Params to_underlying_arguments(const Problem&, const cutlass::KernelHardwareInfo&, const Cluster&,
                                        const Tile&) {
    return {};
  }
  static dim3 get_grid_shape(const Params& params) { return params.grid; }

  template <class Problem>
  CUTE_DEVICE fk::WorkDesc<fk::GVATag> get_next_work(const Params& params, const Problem&) {
    const int32_t row = static_cast<int32_t>(blockIdx.x) / params.value_heads;
    const int32_t head = static_cast<int32_t>(blockIdx.x) % params.value_heads;
    const int32_t begin = params.row_begin[row], count = params.row_begin[row + 1] - begin;
    const bool work = !given && count > 0 && params.state_write[row] >= 0;
    given = true;
    return {.seq_idx = work ? row : -1,
            .private_q_head_idx = head / params.group,
            .private_v_head_idx = head,
            .tok_offset = begin - params.first_token,
            .seq_len = work ? count : 0};  // the warp that stores looks at nothing else
  }

  bool given = false;
};

template <fk::Tag kTag>
using Yes = fk::Option<kTag, cute::true_type>;
using Options = std::tuple<Yes<fk::Tag::kIsDeltaRule>, Yes<fk::Tag::kIsGVA>, Yes<fk::Tag::kNeedsBeta>,
                           Yes<fk::Tag::kNeedsAlpha>, Yes<fk::Tag::kInitStateFromInput>>;
using Rows = cute::tuple<int64_t, cute::_1, int32_t>;  // strides of (token, dimension, head)
using Mainloop = flat::collective::FlatMainloopTmaWarpSpecializedDeltaRule<
    cutlass::bfloat16_t, float, float, cute::Shape<cute::_64, cute::_64, cute::_128>, Rows, Rows, Rows, Rows, Options>;
using Kernel = fk::FlatKernelTmaWarpSpecializedDeltaRule<Mainloop, RowScheduler, Options>;
using Operation = cutlass::device::Universal<Kernel>;

Kernel::Params parameters(const GdnArgs& args) {
  using Element = cutlass::bfloat16_t;
  const cute::tuple<int64_t, int32_t> gate_stride = {args.value_heads, 1};
  Kernel::Arguments arguments = {};
  // One sequence more than there are: the library takes the last one's end for the end of the memory, which is so only
  // for the last row of the batch.
  arguments.problem_size = {.cu_seqlens = nullptr,
                            .total_seqlen = args.tokens,
                            .num_seqs = args.rows + 1,
                            .num_q_heads = args.key_heads,
                            .num_k_heads = args.key_heads,
                            .num_v_heads = args.value_heads,
                            .num_o_heads = args.value_heads,
                            .num_sab_heads = args.value_heads,
                            .head_size = kGdnDim};
  arguments.mainloop = {.ptr_Q = static_cast<const Element*>(args.q),
                        .dQ = {args.qk_stride, {}, kGdnDim},
                        .ptr_K = static_cast<const Element*>(args.k),
                        .dK = {args.qk_stride, {}, kGdnDim},
                        .ptr_V = static_cast<const Element*>(args.v),
                        .dV = {args.v_stride, {}, kGdnDim},
                        .ptr_O = static_cast<Element*>(args.out),
                        .dO = {args.out_stride, {}, kGdnDim},
                        .ptr_output_state = args.states,
                        .ptr_input_state = args.states,
                        .scale = args.scale,
                        .alpha_ptr = args.alpha,
                        .alpha_stride = gate_stride,
                        .beta_ptr = args.beta,
                        .beta_stride = gate_stride,
                        .ptr_state_checkpoints = nullptr,
                        .checkpoint_cu_starts = nullptr,
                        .checkpoint_every_n_tokens = 0};
  Kernel::Params params = Kernel::to_underlying_arguments(arguments, args.maps);
  params.scheduler = {.grid = dim3(static_cast<unsigned>(args.rows * args.value_heads)),
                      .num_seqs = args.rows,
                      .value_heads = args.value_heads,
                      .group = args.value_heads / args.key_heads,
                      .first_token = args.first_token,
                      .row_begin = args.row_begin,
                      .state_write = args.state_write};
  return params;
}

}  // namespace

void flashinfer_gdn(const GdnArgs& args, Stream stream) {
  static SharedLimit limit;
  limit.raise(cutlass::device_kernel<Kernel>, Kernel::SharedStorageSize, "delta_rule (flashinfer, shared memory)");
  Kernel::Params params = parameters(args);
  const cutlass::Status status = Operation::run(params, stream);
  check(status == cutlass::Status::kSuccess ? cudaSuccess : cudaErrorLaunchFailure, "delta_rule (flashinfer)");
}

}  // namespace hylas::cuda
