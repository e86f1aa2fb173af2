// Products of a decode step's rows at the shapes of Qwen3.5-9B and 4B (bf16), 35B-A3B and 27B (FP8): the kernels that
// share them, beside what memory and tensor cores allow.
//   gpu_products_bench [--fp8-only]
// A recorded step multiplies with so many weights, one after the other, that none comes from the second-level cache.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ops/cuda/fp8_gemm.h"
#include "ops/cuda/gemm_decode.h"
#include "ops/cuda/gemm_fp8_rows.h"
#include "ops/cuda/gemm_large.h"
#include "ops/cuda/rows.h"
#include "ops/cuda_ops.h"
#include "tensor/cuda/cuda_device.h"

namespace hylas {
namespace {

constexpr double kBytesPerSecond = 4.3e12, kFlops = 800e12;  // FP8: twice as many
constexpr int64_t kWeightBytes = int64_t{4} << 30;

struct Shape {
  const char* name;
  std::vector<int64_t> outputs;
  int64_t inputs;
  int slices = 1;
  bool paired = false;
  bool f32 = false;
  bool fp8 = false;
  int64_t all() const {
    int64_t all = 0;
    for (const int64_t each : outputs) all += each * (paired ? 2 : 1);
    return all;
  }
  int64_t bytes() const { return all() * inputs * (fp8 ? 1 : 2); }
};

const Shape kShapes[] = {
    {"9B qkv, z, a, b", {8192, 4096, 32, 32}, 4096},
    {"9B q, k, v", {8192, 1024, 1024}, 4096},
    {"9B o", {4096}, 4096, 4, false, true},
    {"9B gate and up", {12288}, 4096, 1, true},
    {"9B down", {4096}, 12288, 4, false, true},
    {"9B head", {248320}, 4096, 1, false, true},
    {"4B gate and up", {9216}, 2560, 1, true},
    {"4B down", {2560}, 9216, 4, false, true},
    {"35B qkv, z", {8192, 4096}, 2048, 1, false, false, true},
    {"35B o", {2048}, 4096, 1, false, true, true},
    {"27B qkv, z", {10240, 6144}, 5120, 1, false, false, true},
    {"27B o", {5120}, 6144, 1, false, true, true},
    {"27B gate, up", {17408, 17408}, 5120, 1, false, false, true},
    {"27B down", {5120}, 17408, 1, false, true, true},
};

class Bench {
 public:
  Bench() : ops_(make_cuda_ops({.workspace_bytes = kWorkspaceBytes}).value()) {
    weights_ = Buffer::make(ops_->device(), kWeightBytes).value();
    x_ = Buffer::make(ops_->device(), int64_t{256} * 17408 * 2).value();
    out_ = Buffer::make(ops_->device(), int64_t{256} * 248320 * 4).value();
    scratch_ = Buffer::make(ops_->device(), kWorkspaceBytes).value();
    std::vector<uint16_t> noise(size_t{16} << 20);
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.f, 0.5f);
    for (uint16_t& value : noise) value = f32_to_bf16(normal(random));
    const size_t bytes = noise.size() * 2;
    for (size_t at = 0; at < weights_.bytes(); at += bytes) {
      ops_->device().copy_from_host(static_cast<std::byte*>(weights_.data()) + at, noise.data(), bytes);
    }
    ops_->device().copy_from_host(x_.data(), noise.data(), x_.bytes());
    scale_ = Buffer::make(ops_->device(), kScaleBytes).value();
    const std::vector<float> scales(kScaleBytes / sizeof(float), 0.01f);
    ops_->device().copy_from_host(scale_.data(), scales.data(), kScaleBytes);
    large_ = cuda::LargeGemm::make().value();
  }
  cudaStream_t stream() { return static_cast<CudaDevice&>(ops_->device()).stream(); }

  // The shape's product with weights from `at` bytes on.
  cuda::Product product(const Shape& shape, int64_t rows, int64_t at) const {
    cuda::Product p;
    p.x = {x_.data(), DType::kBF16, shape.inputs};
    if (shape.fp8) p.x_fp8 = {x_.data(), static_cast<float*>(scale_.data()), rows, shape.inputs, (rows + 3) / 4 * 4};
    p.weight_dtype = shape.fp8 ? DType::kF8E4M3 : DType::kBF16;
    p.paired = shape.paired;
    p.rows = rows;
    p.inputs = shape.inputs;
    p.slices = shape.slices;
    for (int s = 0; s <= shape.slices; ++s) p.slice_begin[s] = shape.inputs * s / shape.slices;
    p.slice_stride = shape.slices > 1 ? rows * shape.outputs[0] : 0;
    const auto* weight = static_cast<const std::byte*>(weights_.data()) + at;
    auto* out = static_cast<std::byte*>(out_.data());
    p.parts = shape.outputs.size() > 1 ? static_cast<int>(shape.outputs.size()) : 0;
    for (size_t i = 0; i < shape.outputs.size(); ++i) {
      const int64_t outputs = shape.outputs[i];
      cuda::ProductPart part = {{weight, shape.inputs}, {out, DType::kBF16, outputs}, outputs};
      part.weight.scale = static_cast<const float*>(scale_.data());
      part.weight.scale_stride = shape.inputs / 128;
      if (shape.f32 || outputs < 64) part.out.dtype = DType::kF32;
      if (p.parts) p.part[i] = part;
      p.weight = part.weight, p.out = part.out, p.outputs = outputs;
      weight += outputs * shape.inputs * (shape.fp8 ? 1 : 2);
      out += rows * outputs * 4;
    }
    if (shape.paired) {
      p.other = p.weight;
      p.other.data = weight;
    }
    return p;
  }

  using Call = std::function<void(const cuda::Product&)>;
  // Microseconds of one product.
  double us(const Shape& shape, int64_t rows, const Call& call) {
    const int64_t bytes = (shape.bytes() + 1023) / 1024 * 1024, count = kWeightBytes / bytes;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    for (int64_t i = 0; i < 2; ++i) call(product(shape, rows, i * bytes));  // what is made at first use
    check(cudaStreamSynchronize(stream()));
    check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
    for (int64_t i = 0; i < count; ++i) call(product(shape, rows, i * bytes));
    check(cudaStreamEndCapture(stream(), &graph));
    check(cudaGraphInstantiate(&exec, graph, 0));
    cudaEvent_t begin = nullptr, end = nullptr;
    check(cudaEventCreate(&begin));
    check(cudaEventCreate(&end));
    float best_ms = 1e9f;
    for (int i = 0; i < 4; ++i) {
      check(cudaEventRecord(begin, stream()));
      check(cudaGraphLaunch(exec, stream()));
      check(cudaEventRecord(end, stream()));
      check(cudaEventSynchronize(end));
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin, end));
      if (i > 0) best_ms = std::min(best_ms, ms);
    }
    check(cudaEventDestroy(begin));
    check(cudaEventDestroy(end));
    check(cudaGraphExecDestroy(exec));
    check(cudaGraphDestroy(graph));
    return best_ms * 1e3 / static_cast<double>(count);
  }

  // What few rows are multiplied by otherwise.
  void few(const cuda::Product& p) {
    p.weight_dtype == DType::kF8E4M3 ? cuda::gemm_fp8_rows(p, {}, stream()) : cuda::gemm_bf16(p, stream());
  }
  // cuBLASLt or DeepGEMM, matrix by matrix.
  void library(const cuda::Product& p) {
    for (int i = 0; i < std::max(1, p.parts); ++i) {
      cuda::Product one = p;
      one.parts = 0;
      one.paired = false;
      if (p.parts) one.weight = p.part[i].weight, one.out = p.part[i].out, one.outputs = p.part[i].outputs;
      library_one(one);
      if (!p.paired) continue;
      one.weight = p.other;
      const cuda::View gate = one.out;
      one.out.data = static_cast<std::byte*>(one.out.data) + p.rows * p.outputs * 2;
      library_one(one);
      cuda::silu_mul_rows({.gate = gate, .up = one.out, .out = gate, .rows = p.rows, .columns = p.outputs}, stream());
    }
  }
  void decode(const cuda::Product& p) { decode_.run(p, stream()); }

 private:
  void library_one(const cuda::Product& one) {
    cuda::Workspace room(scratch_.data(), scratch_.bytes());
    if (one.weight_dtype == DType::kF8E4M3) return cuda::fp8_run(one, room, stream(), {});
    one.outputs < 1024 ? cuda::gemm_small(one, stream()) : large_->run(one, room, stream());
  }

  static constexpr size_t kWorkspaceBytes = size_t{64} << 20, kScaleBytes = size_t{1} << 20;
  static void check(cudaError_t status) { HYLAS_CHECK(status == cudaSuccess, "{}", cudaGetErrorString(status)); }
  std::unique_ptr<Ops> ops_;
  Buffer weights_, x_, out_, scratch_, scale_;
  std::unique_ptr<cuda::LargeGemm> large_;
  cuda::DecodeGemm decode_;
};

double bound_us(const Shape& shape, int64_t rows) {
  const double flops = 2.0 * static_cast<double>(shape.all() * shape.inputs * rows);
  return std::max(static_cast<double>(shape.bytes()) / kBytesPerSecond, flops / (kFlops * (shape.fp8 ? 2 : 1))) * 1e6;
}

void measure(Bench& bench, const Shape& shape) {
  for (const int64_t rows : {1, 8, 16, 17, 32, 64, 96, 128}) {
    const double bound = bound_us(shape, rows);
    const int64_t few_max = shape.fp8 ? 16 : 64;
    const double few = rows <= few_max ? bench.us(shape, rows, [&](const auto& p) { bench.few(p); }) : 0;
    const double library = rows > 16 ? bench.us(shape, rows, [&](const auto& p) { bench.library(p); }) : 0;
    const bool taken = cuda::DecodeGemm::takes(bench.product(shape, rows, 0));
    const double decode = taken ? bench.us(shape, rows, [&](const auto& p) { bench.decode(p); }) : 0;
    const DecodeTile tile = cuda::DecodeGemm::tile(bench.product(shape, rows, 0), rows);
    fmt::print("| {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.0f} % | {:.2f} | {} x {}, {} |\n", shape.name, rows,
               bound, few, library, decode, taken ? 100 * bound / decode : 0,
               taken ? static_cast<double>(shape.bytes()) / decode / 1e6 : 0, tile.groups * kDecodeGroup, tile.columns,
               tile.stages);
  }
}

int main_of(int count, char** arguments) {
  const bool fp8_only = count > 1 && std::strcmp(arguments[1], "--fp8-only") == 0;
  cuda_load_all_kernels();
  Bench bench;
  fmt::print(
      "| product | rows | bound, us | few rows' kernel | cuBLASLt, DeepGEMM | gemm_decode | of the bound | TB/s | "
      "tile |\n|---|---|---|---|---|---|---|---|---|\n");
  for (const Shape& shape : kShapes) {
    if (shape.fp8 || !fp8_only) measure(bench, shape);
  }
  return 0;
}

}  // namespace
}  // namespace hylas

int main(int count, char** arguments) { return hylas::main_of(count, arguments); }
