// A decode row through some layers, in one launch of 128 blocks, one on a multiprocessor, which stay. What a launch of
// its own for each product would leave idle is used: one warp of a block fetches the weights that the block will want,
// up to 208 KiB ahead, in the order of their use. Only which experts it will be has to be known first; the same warp
// finds it out. Blocks never meet; what one hands to others they find in memory, word by word (row_words.cuh).
//
// The arithmetic is that of the kernels that have an operator each, in their order: the same bits (row_math.cuh,
// row_mixer.cuh).
#include "ops/cuda/row_layers.h"

#include <cstdio>
#include <cstdlib>

#include "ops/cuda/row_fetch.cuh"
#include "ops/cuda/row_work.cuh"
#include "tensor/cuda/launch.cuh"

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

// `attributes` live as long as the configuration.
cudaLaunchConfig_t configuration(cudaLaunchAttribute (&attributes)[2], Stream stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = kGridBlocks;
  config.blockDim = kBlockThreads;
  config.dynamicSmemBytes = sizeof(RowShared);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = 0;
  const char* how = std::getenv("HYLAS_ROW_LAUNCH");  // DEV
  if (!how || how[0] == 'b' || how[0] == 'p') {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (!how || how[0] == 'b' || how[0] == 'c') {
    attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[config.numAttrs++].val.cooperative = 1;
  }
  return config;
}

template <class S>
bool fits() {
  const auto kernel = row_layers_kernel<S>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(RowShared)), "row_layers");
  int device = 0, multiprocessors = 0, blocks = 0;
  check(cudaGetDevice(&device), "row_layers");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "row_layers");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kBlockThreads, sizeof(RowShared)),
        "row_layers");
  std::printf("row_layers: room for %d blocks of %d\n", blocks * multiprocessors, kGridBlocks);  // DEV
  return blocks * multiprocessors >= kGridBlocks;
}

}  // namespace

bool row_layers_fit() {
  const char* how = std::getenv("HYLAS_ROW_LAUNCH");  // DEV
  if (how && how[0] == 'n') return false;
  return fits<F16>() && fits<Bf16>();
}

void row_trace_print() {  // DEV
  static unsigned long long t[4][32][160];
  cudaMemcpyFromSymbol(t, row_trace, sizeof t);
  const char* names[] = {"begin", "row there", "F down sent", "inputs", "norm", "out w there", "results", "out", "mixed there", "norm2", "middle", "up w there", "up", "halves", "down", "F out sent", "F mid sent", "F ahead sent", "F first up", "z gates", "F logits", "F chosen", "behind", "b row there", "q k done", "v done", "R v there", "R q k there", "R renewed", "down w there", "gates there", "H put"};
  const int order[] = {0, 1, 4, 24, 31, 30, 25, 3, 26, 27, 28, 15, 16, 17, 5, 6, 7, 8, 9, 10, 20, 18, 11, 21, 2, 12, 29, 13, 14, 22, 23};
  for (int l = 0; l < 4; ++l) {
    for (int m : order) {
      double sum = 0, most = 0, least = 1e18;
      int n = 0;
      for (int b = 0; b < kGridBlocks; ++b) {
        if (t[l][m][b] == 0) continue;
        const double d = (double)(long long)(t[l][m][b] - t[1][0][0]) * 1e-3;
        sum += d; ++n; most = most > d ? most : d; least = least < d ? least : d;
      }
      if (n) printf("layer %d %-11s n %3d mean %8.2f  %8.2f .. %8.2f  block 0: %8.2f\n", l, names[m], n, sum / n, least, most, (double)(long long)(t[l][m][0] - t[1][0][0]) * 1e-3);
    }
  }
}

void row_layers(const RowLayersArgs& args, Stream stream) {
  const auto kernel = args.state_dtype == DType::kF16 ? row_layers_kernel<F16> : row_layers_kernel<Bf16>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(RowShared)), "row_layers");
  cudaLaunchAttribute attributes[2] = {};
  const cudaLaunchConfig_t config = configuration(attributes, stream);
  check(cudaLaunchKernelEx(&config, kernel, args), "row_layers");
}

}  // namespace hylas::cuda
