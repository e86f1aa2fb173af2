// The only file that sees FlashInfer 0.7.2. Its kernel takes the scheduler and the epilogue as parameters: ours reads
// the rows as the batch has them, so no work list is made on the host, and multiplies by the gate before the rounding.
#include "ops/cuda/flashinfer_fa3.h"

#include <flashinfer/attention/hopper/prefill_sm90.cuh>
#include <flashinfer/attention/hopper/variants.cuh>

#include "ops/cuda/row_tile.cuh"
#include "tensor/cuda/cuda_error.h"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace {

constexpr int kQueryTile = 128;
constexpr int kStages = 2;
using Element = cutlass::bfloat16_t;
using Traits = flashinfer::AttentionKernelTraits<true, kFa3Dim, kFa3Dim, kQueryTile, kFa3KeyTile, kStages, Element,
                                                 Element, Element, int32_t, flashinfer::StandardAttention>;
struct Scale {
  float sm_scale = 0;  // StandardAttention reads it
};
using Mainloop = flashinfer::CollectiveMainloop<Scale, Traits, true>;

// One block for each (query head, tile of 128 queries of a row); the last tiles, which have the most keys, begin first.
struct RowTileScheduler {
  struct Params {
    const int32_t* row_begin = nullptr;
    const int32_t* kv_len = nullptr;
    const int32_t* state_write = nullptr;
    int32_t rows = 0;
    int32_t row_keys = 0;
    int32_t first_token = 0;
    int32_t group = 0;
  };
  struct WorkTileInfo {
    int tile = -1, head = 0, kv_head = 0, begin = 0, keys_begin = 0, tokens = 0, keys = 0, row = 0;

    CUTLASS_DEVICE bool is_valid(const Params&) const { return tile >= 0; }
    CUTLASS_DEVICE auto get_block_coord(const Params&) const {
      return cute::tuple{tile, head, kv_head, begin, keys_begin, tokens, keys, row};
    }
  };

  CUTLASS_DEVICE WorkTileInfo get_initial_work(const Params& p) const {
    const RowTile found =
        find_row_tile(p.row_begin, 0, p.rows, kQueryTile, 0, static_cast<int>(gridDim.y - 1 - blockIdx.y));
    if (found.row < 0 || p.state_write[found.row] < 0) return {};
    const int begin = p.row_begin[found.row], head = static_cast<int>(blockIdx.x);
    return {found.index,
            head,
            head / p.group,
            begin - p.first_token,
            found.row * p.row_keys,
            p.row_begin[found.row + 1] - begin,
            p.kv_len[found.row],
            found.row};
  }
  template <bool kProducer>
  CUTLASS_DEVICE WorkTileInfo get_next_work(const Params&, const WorkTileInfo&) const {
    return {};
  }
  CUTLASS_DEVICE void init_consumer() const {}
  CUTLASS_DEVICE void prefetch_next_work(const Params&, WorkTileInfo&) const {}
  CUTLASS_DEVICE void broadcast_next_work(WorkTileInfo&) const {}
};

// out = sums * sigmoid(gate), in f32 before the rounding.
struct GatedEpilogue : flashinfer::CollectiveEpilogue<Traits> {
  using Base = flashinfer::CollectiveEpilogue<Traits>;
  struct Params {
    Base::Params plain;
    const Element* gate;
    int64_t gate_stride;
  };

  CUTLASS_DEVICE static void prefetch_tma_descriptors(const Params& p) { Base::prefetch_tma_descriptors(p.plain); }

  template <class Coord, class Shared, class Sums, class Lse, class Mma>
  CUTLASS_DEVICE void store(const Params& p, const Sums& sums, const Lse& lse, Shared& shared, Mma mma, int thread,
                            const Coord& coord) {
    const int tile = cute::get<0>(coord), head = cute::get<1>(coord), begin = cute::get<3>(coord);
    const int tokens = cute::get<5>(coord) - tile * kQueryTile;
    const Element* gate = p.gate + static_cast<int64_t>(begin + tile * kQueryTile) * p.gate_stride +
                          static_cast<int64_t>(2 * head + 1) * kFa3Dim;
    const cute::Tensor places = mma.get_thread_slice(thread).partition_C(
        cute::make_identity_tensor(cute::select<0, 1>(typename Base::TileShape_PDV{})));
    cute::Tensor gated = cute::make_fragment_like(sums);
#pragma unroll
    for (int i = 0; i < cute::size(gated); i += 2) {  // two neighbouring dimensions of a token
      const int token = cute::get<0>(places(i)), dim = cute::get<1>(places(i));
      __nv_bfloat162 pair = {};
      if (token < tokens) pair = *reinterpret_cast<const __nv_bfloat162*>(gate + token * p.gate_stride + dim);
      const float2 values = __bfloat1622float2(pair);
      gated(i) = sums(i) / (1.f + __expf(-values.x));
      gated(i + 1) = sums(i + 1) / (1.f + __expf(-values.y));
    }
    Base::store(p.plain, gated, lse, shared, mma, thread, coord);
  }

  template <class Coord, class Shared>
  CUTLASS_DEVICE void store_zero(const Params& p, Shared& shared, int thread, const Coord& coord) {
    Base::store_zero(p.plain, shared, thread, coord);
  }
};

}  // namespace

void flashinfer_fa3(const Fa3Args& args, Stream stream) {
  const auto kernel =
      &flashinfer::PrefillWithKVCacheKernel<Mainloop, GatedEpilogue, Traits, false, true, RowTileScheduler>;
  constexpr int kSharedBytes = sizeof(Traits::SharedStorage);
  static SharedLimit limit;
  limit.raise(kernel, kSharedBytes, "attention (flashinfer, shared memory)");
  const auto layout = [](int tokens, int heads, int64_t stride, int64_t head_stride) {
    return flashinfer::get_gmem_layout(tokens, heads, kFa3Dim, stride, head_stride);
  };
  const int keys = args.rows * args.row_keys;
  const auto key_layout = layout(keys, args.kv_heads, kFa3Dim, static_cast<int64_t>(keys) * kFa3Dim);
  const Mainloop::Params mainloop = Mainloop::to_underlying_arguments(
      {static_cast<const Element*>(args.q), layout(args.tokens, args.heads, args.q_stride, kFa3Dim),
       static_cast<const Element*>(args.k), key_layout, static_cast<const Element*>(args.v), key_layout,
       /*window_left=*/-1, Scale{args.scale}});
  const GatedEpilogue::Params epilogue = {
      GatedEpilogue::Base::to_underlying_arguments({static_cast<Element*>(args.out),
                                                    layout(args.tokens, args.heads, args.out_stride, kFa3Dim), nullptr,
                                                    flashinfer::get_lse_gmem_layout(args.tokens, args.heads)}),
      static_cast<const Element*>(args.qg), args.qg_stride};
  const RowTileScheduler::Params rows = {args.row_begin, args.kv_len,      args.state_write,          args.rows,
                                         args.row_keys,  args.first_token, args.heads / args.kv_heads};
  const dim3 grid(static_cast<unsigned>(args.heads), static_cast<unsigned>(args.tokens / kQueryTile + args.rows));
  kernel<<<grid, Traits::NUM_WARPS * 32, kSharedBytes, stream>>>(mainloop, epilogue, rows);
  check_launch("attention (flashinfer)");
}

}  // namespace hylas::cuda
