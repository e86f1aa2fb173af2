// A decode row through some layers, in one launch of 128 blocks, one on a multiprocessor, which stay. What a launch of
// its own for each product would leave idle is used: one warp of a block fetches the weights that the block will want,
// up to 208 KiB ahead, in the order of their use. Only which experts it will be has to be known first; the same warp
// finds it out. Blocks never meet; what one hands to others they find in memory, word by word (row_words.cuh).
//
// The arithmetic is that of the kernels that have an operator each, in their order: the same bits (row_math.cuh,
// row_mixer.cuh).
#include "ops/cuda/row_layers.h"

#include "ops/cuda/row_fetch.cuh"
#include "ops/cuda/row_work.cuh"
#include "tensor/cuda/launch.cuh"
#include "tensor/cuda/shared_limit.h"

namespace hylas::cuda {
namespace {

static_assert(sizeof(RowShared) <= 227 << 10);

template <class S>
__global__ void __launch_bounds__(kBlockThreads, 1) row_layers_kernel(const __grid_constant__ RowLayersArgs args) {
  extern __shared__ __align__(128) unsigned char memory[];
  RowShared& shared = *reinterpret_cast<RowShared*>(memory);
  if (threadIdx.x == 0) {
    shared.ahead.make();
    shared.slots.make();
    barriers_made();
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < kRowWarps) {
    RowWorker(args, shared).run();
  } else if (warp == kFetchWarp) {
    RowFetcher(args, shared).run();
  } else if (warp == kHandWarp) {
    hand_out_row(args, shared);
  } else {
    RowRenewer<S>(args, shared).run();
  }
}

// The kernel, with its shared memory allowed.
template <class S>
auto* kernel_of() {
  static SharedLimit limit;
  limit.raise(row_layers_kernel<S>, static_cast<int>(sizeof(RowShared)), "row_layers (shared memory)");
  return row_layers_kernel<S>;
}

template <class S>
bool fits(int multiprocessors) {
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel_of<S>(), kBlockThreads, sizeof(RowShared)),
        "row_layers");
  return blocks * multiprocessors >= kGridBlocks;
}

}  // namespace

bool row_layers_fit(int multiprocessors) { return fits<F16>(multiprocessors) && fits<Bf16>(multiprocessors); }

void row_layers(const RowLayersArgs& args, Stream stream) {
  const auto kernel = args.state_dtype == DType::kF16 ? kernel_of<F16>() : kernel_of<Bf16>();
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeCooperative;  // all blocks at once, or none
  attributes[1].val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = kGridBlocks;
  config.blockDim = kBlockThreads;
  config.dynamicSmemBytes = sizeof(RowShared);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 2;
  check(cudaLaunchKernelEx(&config, kernel, args), "row_layers");
}

}  // namespace hylas::cuda
