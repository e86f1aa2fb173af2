// Matrix products of the CPU operators on the shapes of a Qwen3.5-0.8B layer, beside the ceilings measured in the same
// run: GB/s of weights for 1 and 8 tokens, GFLOP/s for 512, by the clock and by the processors' time per thread (which
// a busy machine disturbs less).   cpu_linear_bench [threads [isa [seconds per case]]]
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "ops/ops.h"
#include "roofline.h"

namespace hylas::bench {
namespace {

struct Shape {
  const char* name;
  int64_t inputs;
  std::vector<int64_t> outputs;  // several matrices over one input
  bool partial;                  // row-parallel: four slices
};

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {
      {"delta in  1024 -> 6144+2048+16+16", 1024, {6144, 2048, 16, 16}, false},
      {"delta out 2048 -> 1024 (4 slices)", 2048, {1024}, true},
      {"attn in   1024 -> 4096+512+512", 1024, {4096, 512, 512}, false},
      {"ffn in    1024 -> 3584+3584", 1024, {3584, 3584}, false},
      {"ffn out   3584 -> 1024 (4 slices)", 3584, {1024}, true},
      {"lm head   1024 -> 248320", 1024, {248320}, false},
  };
  return all;
}

class Bench {
 public:
  Bench(int threads, const char* isa, double seconds) : pool_(threads), roofline_(pool_), seconds_(seconds) {
    CpuOpsOptions options;
    options.threads = threads;
    options.isa = isa;
    ops_ = make_cpu_ops(options).value();
    roofline_.measure();
  }

  void run(const Shape& shape, DType dtype, int64_t tokens) {
    load(shape, dtype, tokens);
    double best = 1e30;
    double processor = 0;
    int calls = 0;
    size_t copy = 0;
    roofline_.measure();
    for (double end = seconds_now() + seconds_ * (tokens > 8 ? 3 : 1); seconds_now() < end;) {
      double begin = processor_seconds_now();
      best = std::min(best, seconds_of([&] { call(shape, copy); }));
      processor += processor_seconds_now() - begin;
      ++calls;
      copy = (copy + 1) % copies_;
    }
    roofline_.measure();
    processor /= calls * pool_.size();
    double bytes = static_cast<double>(bytes_per_copy_);
    double operations = 2.0 * static_cast<double>(elements_ * tokens);
    fmt::print(
        "{:<36} {:<9} T={:<4} {:8.1f} us  {:5.1f} GB/s {:3.0f} %   {:6.1f} GFLOP/s {:3.0f} %   processor time "
        "{:8.1f} us {:3.0f} % {:3.0f} %\n",
        shape.name, dtype_name(dtype), tokens, best * 1e6, bytes / best / 1e9,
        100 * bytes / best / roofline_.bytes_per_second(), operations / best / 1e9,
        100 * operations / best / roofline_.flops(), processor * 1e6,
        100 * bytes / processor / roofline_.bytes_per_processor_second(),
        100 * operations / processor / roofline_.flops_per_processor_second());
  }
  void print_ceilings() const {
    fmt::print("ceilings: read {:.1f} GB/s, FMA {:.1f} GFLOP/s\n", roofline_.bytes_per_second() / 1e9,
               roofline_.flops() / 1e9);
  }

 private:
  // Enough copies of the weights that none is still in a cache when its turn comes again.
  void load(const Shape& shape, DType dtype, int64_t tokens) {
    elements_ = 0;
    for (int64_t n : shape.outputs) elements_ += n * shape.inputs;
    bytes_per_copy_ = elements_ * dtype_bytes(dtype);
    copies_ = static_cast<size_t>(std::max<int64_t>((int64_t{160} << 20) / bytes_per_copy_, 1));
    memory_ = Buffer::make(*device_, copies_ * static_cast<size_t>(bytes_per_copy_)).value();
    fill(dtype);
    scales_.assign(static_cast<size_t>(elements_ / 128 + 4096), 0.01f);
    x_.assign(static_cast<size_t>(tokens * shape.inputs), 0x3c00);
    outs_.assign(static_cast<size_t>(tokens * elements_ / shape.inputs * 4), 0.f);
    weights_.clear();
    for (size_t copy = 0; copy < copies_; ++copy) add_copy(shape, dtype, copy);
    tensors_.clear();
    float* out = outs_.data();
    for (int64_t n : shape.outputs) {
      tensors_.push_back(shape.partial ? Tensor(out, DType::kF32, {4, tokens, n})
                                       : Tensor(out, DType::kBF16, {tokens, n}));
      out += tokens * n;
    }
    tokens_ = tokens;
  }
  // Weights as checkpoints have them: normal; fp8 scaled so that a block's largest is 448.
  void fill(DType dtype) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.f, dtype == DType::kF8E4M3 ? 107.f : 0.02f);
    auto* bytes = static_cast<std::byte*>(memory_.data());
    size_t pattern = std::min<size_t>(memory_.bytes(), size_t{1} << 20);
    for (size_t i = 0; i < pattern / static_cast<size_t>(dtype_bytes(dtype)); ++i) {
      float value = normal(random);
      if (dtype == DType::kF32) reinterpret_cast<float*>(bytes)[i] = value;
      if (dtype == DType::kBF16) reinterpret_cast<uint16_t*>(bytes)[i] = f32_to_bf16(value);
      if (dtype == DType::kF8E4M3) reinterpret_cast<uint8_t*>(bytes)[i] = f32_to_f8e4m3(value);
    }
    for (size_t i = pattern; i < memory_.bytes(); i += pattern) {
      std::memcpy(bytes + i, bytes, std::min(pattern, memory_.bytes() - i));
    }
  }
  void add_copy(const Shape& shape, DType dtype, size_t copy) {
    std::byte* at = static_cast<std::byte*>(memory_.data()) + copy * static_cast<size_t>(bytes_per_copy_);
    for (int64_t n : shape.outputs) {
      LinearWeight weight{Tensor(at, dtype, {n, shape.inputs}), {}};
      if (dtype == DType::kF8E4M3) {
        weight.scale = Tensor(scales_.data(), DType::kF32, {(n + 127) / 128, (shape.inputs + 127) / 128});
      }
      weights_.push_back(weight);
      at += weight.weight.bytes();
    }
  }
  void call(const Shape& shape, size_t copy) {
    Tensor x(x_.data(), DType::kBF16, {tokens_, shape.inputs});
    size_t count = shape.outputs.size();
    std::span<const LinearWeight> weights = std::span(weights_).subspan(copy * count, count);
    shape.partial ? ops_->linear_partial(x, weights[0], tensors_[0]) : ops_->linear(x, weights, tensors_);
  }

  cpu::ThreadPool pool_;
  Roofline roofline_;
  double seconds_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Device> device_ = make_cpu_device();
  Buffer memory_;
  int64_t elements_ = 0;
  int64_t bytes_per_copy_ = 0;
  int64_t tokens_ = 0;
  size_t copies_ = 1;
  std::vector<LinearWeight> weights_;
  std::vector<float> scales_;
  std::vector<uint16_t> x_;
  std::vector<float> outs_;
  std::vector<Tensor> tensors_;
};

}  // namespace
}  // namespace hylas::bench

int main(int argc, char** argv) {
  using hylas::DType;
  int threads = argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  hylas::bench::Bench bench(threads, argc > 2 ? argv[2] : "auto", argc > 3 ? std::atof(argv[3]) : 0.5);
  for (int64_t tokens : {1, 8, 512}) {
    for (DType dtype : {DType::kBF16, DType::kF8E4M3, DType::kF32}) {
      for (const hylas::bench::Shape& shape : hylas::bench::shapes()) {
        // Only the last token's logits are ever wanted, and 1 GB of f32 is no use.
        if (shape.outputs[0] > 100000 && (tokens == 512 || dtype == DType::kF32)) continue;
        bench.run(shape, dtype, tokens);
      }
    }
  }
  bench.print_ceilings();
}
