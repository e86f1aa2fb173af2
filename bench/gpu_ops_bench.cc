// Single operators on one GPU at the shapes of Qwen3.5-35B-A3B (FP8) and 9B (bf16), beside their bounds.
//   gpu_ops_bench [--fp8-only | --prefill-only | --decode-only]
// Only what DeepGEMM's kernels do; only attention and the delta rule of prompts, by kernels of ours and FlashInfer's;
// only those of decode steps.
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "ops/cuda_ops.h"

namespace hylas {
namespace {

constexpr double kBytesPerSecond = 3.0e12, kBf16Flops = 790e12, kFp8Flops = 1300e12;

// Whose kernels.
enum class Kernels {
  kHylas,
  kDeepGemm,    // products of FP8 weights with activations in FP8; of few rows by a kernel of ours
  kFlashInfer,  // prefill's delta rule and attention
};

class Bench {
 public:
  explicit Bench(Kernels kernels) : kernels_(kernels) {
    CudaOpsOptions options{.workspace_bytes = size_t{2} << 30};
    options.prefill = {.delta = kernels == Kernels::kFlashInfer, .attention = kernels == Kernels::kFlashInfer};
    if (kernels == Kernels::kDeepGemm) {
      options.fp8 = {.linear = true, .experts = true, .expert_rows_min = 0};
    }
    ops_ = make_cuda_ops(options).value();
  }

  const char* kernels() const {
    return kernels_ == Kernels::kDeepGemm ? "deep_gemm" : kernels_ == Kernels::kFlashInfer ? "flashinfer" : "hylas";
  }
  double flops_bound(DType kind) const {
    return kernels_ == Kernels::kDeepGemm && kind == DType::kF8E4M3 ? kFp8Flops : kBf16Flops;
  }
  Ops& ops() { return *ops_; }
  // Device memory of random values.
  Tensor tensor(DType dtype, std::initializer_list<int64_t> dims) {
    Tensor result(nullptr, dtype, dims);
    std::vector<uint16_t> block(size_t{1} << 20);
    std::normal_distribution<float> normal(0.f, dtype == DType::kF8E4M3 ? 100.f : 0.5f);
    if (noise_[static_cast<int>(dtype)].empty()) {
      std::vector<std::byte> bytes(size_t{4} << 20);
      for (size_t i = 0; i < bytes.size() / dtype_bytes(dtype); ++i) {
        const float value = normal(random_);
        if (dtype == DType::kF32) reinterpret_cast<float*>(bytes.data())[i] = value;
        if (dtype == DType::kBF16) reinterpret_cast<uint16_t*>(bytes.data())[i] = f32_to_bf16(value);
        if (dtype == DType::kF16) reinterpret_cast<uint16_t*>(bytes.data())[i] = f32_to_f16(value);
        if (dtype == DType::kF8E4M3) reinterpret_cast<uint8_t*>(bytes.data())[i] = f32_to_f8e4m3(value);
      }
      noise_[static_cast<int>(dtype)] = std::move(bytes);
    }
    const std::vector<std::byte>& noise = noise_[static_cast<int>(dtype)];
    buffers_.push_back(Buffer::make(ops_->device(), result.bytes()).value());
    result.data = buffers_.back().data();
    for (size_t at = 0; at < result.bytes(); at += noise.size()) {
      ops_->device().copy_from_host(static_cast<std::byte*>(result.data) + at, noise.data(),
                                    std::min(noise.size(), result.bytes() - at));
    }
    return result;
  }
  Tensor ints(const std::vector<int32_t>& values, std::initializer_list<int64_t> dims) {
    buffers_.push_back(Buffer::make(ops_->device(), values.size() * sizeof(int32_t)).value());
    ops_->device().copy_from_host(buffers_.back().data(), values.data(), values.size() * sizeof(int32_t));
    return Tensor(buffers_.back().data(), DType::kI32, dims);
  }
  LinearWeight weight(DType dtype, int64_t out, int64_t in) {
    LinearWeight weight{tensor(dtype, {out, in}), {}};
    if (dtype == DType::kF8E4M3) weight.scale = tensor(DType::kF32, {(out + 127) / 128, (in + 127) / 128});
    return weight;
  }
  // Microseconds of one call, of many in a row.
  template <class Call>
  double us(Call call) {
    for (int i = 0; i < 3; ++i) call(i);
    wait();
    constexpr int kCalls = 20;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call(i);
    wait();
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / kCalls;
  }
  void free() { buffers_.clear(); }

 private:
  void wait() {
    int32_t word = 0;
    if (!word_.data()) word_ = Buffer::make(ops_->device(), sizeof word).value();
    ops_->device().copy_to_host(&word, word_.data(), sizeof word);
  }
  Kernels kernels_;
  std::unique_ptr<Ops> ops_;
  Buffer word_;
  std::vector<Buffer> buffers_;
  std::vector<std::byte> noise_[8];
  std::mt19937 random_{1};
};

void linear(Bench& bench, DType kind, int64_t rows, int64_t outputs, int64_t inputs, int64_t slices) {
  // Several weights in turn, lest they come from the second-level cache.
  const int64_t bytes = outputs * inputs * dtype_bytes(kind);
  std::vector<LinearWeight> weights;
  for (int64_t i = 0; i < 4; ++i) weights.push_back(bench.weight(kind, outputs, inputs));
  const Tensor x = bench.tensor(DType::kBF16, {rows, inputs}), out = bench.tensor(DType::kBF16, {rows, outputs});
  const Tensor partials = slices ? bench.tensor(DType::kF32, {slices, rows, outputs}) : Tensor();
  const double us = bench.us([&](int i) {
    const LinearWeight& weight = weights[static_cast<size_t>(i) % weights.size()];
    if (slices) return bench.ops().linear_partial(x, weight, partials);
    bench.ops().linear(x, {&weight, 1}, {&out, 1});
  });
  const double flops = 2.0 * rows * outputs * inputs;
  fmt::print(
      "{} linear {:5} rows {:6} x {:5} {:9} slices {}: {:9.1f} us, {:5.0f} GB/s of weights, {:4.0f} TFLOP/s, bound "
      "{:.1f}\n",
      bench.kernels(), rows, outputs, inputs, dtype_name(kind), slices, us, bytes / us / 1e3, flops / us / 1e6,
      std::max(bytes / kBytesPerSecond, flops / bench.flops_bound(kind)) * 1e6);
  bench.free();
}

void moe(Bench& bench, int64_t tokens, int64_t slices) {
  constexpr int64_t kExperts = 256, kChoices = 8, kHidden = 2048, kWidth = 512;
  ExpertWeights experts;
  const LinearWeight gates_ups = bench.weight(DType::kF8E4M3, 2 * kExperts * kWidth, kHidden);
  const LinearWeight downs = bench.weight(DType::kF8E4M3, kExperts * kHidden, kWidth);
  const auto part = [](const LinearWeight& all, int64_t i, int64_t rows) {
    return LinearWeight{all.weight.rows(i * rows, rows), all.scale.rows(i * rows / kFp8Block, rows / kFp8Block)};
  };
  for (int64_t e = 0; e < kExperts; ++e) {
    experts.gate.push_back(part(gates_ups, 2 * e, kWidth));
    experts.up.push_back(part(gates_ups, 2 * e + 1, kWidth));
    experts.down.push_back(part(downs, e, kHidden));
  }
  const SharedExpertWeights shared{experts.gate[0], experts.up[0], experts.down[0]};
  const Tensor x = bench.tensor(DType::kBF16, {tokens, kHidden}), logit = bench.tensor(DType::kF32, {tokens, 1});
  const Tensor logits = bench.tensor(DType::kF32, {tokens, kExperts});
  const Tensor ids = bench.ints(std::vector<int32_t>(static_cast<size_t>(tokens * kChoices)), {tokens, kChoices});
  const Tensor weights = bench.tensor(DType::kF32, {tokens, kChoices});
  const Tensor partials = bench.tensor(DType::kF32, {slices, tokens, kHidden});
  const double route = bench.us([&](int) { bench.ops().moe_route(logits, ids, weights); });
  const double us = bench.us([&](int) { bench.ops().moe(x, ids, weights, experts, &shared, logit, partials); });
  fmt::print("{} moe {:5} tokens slices {}: {:9.1f} us, route {:.1f} us, {:4.0f} TFLOP/s\n", bench.kernels(), tokens,
             slices, us, route, 2.0 * 3 * (kChoices + 1) * kHidden * kWidth * static_cast<double>(tokens) / us / 1e6);
  bench.free();
}

// Rows of `tokens` new ones after `context`.
Batch make_batch(Bench& bench, int32_t rows, int32_t tokens, int32_t context, bool decode) {
  std::vector<int32_t> begin, length, pages, slots;
  const int32_t width = (context + tokens + 63) / 64;
  for (int32_t r = 0; r <= rows; ++r) begin.push_back(r * tokens);
  for (int32_t r = 0; r < rows; ++r) {
    length.push_back(context + tokens);
    slots.push_back(r);
    for (int32_t j = 0; j < width; ++j) pages.push_back(r * width + j);
  }
  const std::vector<int32_t> zeros(static_cast<size_t>(rows * tokens));
  return Batch{.tokens = rows * tokens,
               .rows = rows,
               .decode_rows = decode ? rows : 0,
               .page_size = 64,
               .token_ids = bench.ints(zeros, {rows * tokens}),
               .positions = bench.ints(zeros, {1, rows * tokens}),
               .row_begin = bench.ints(begin, {rows + 1}),
               .kv_len = bench.ints(length, {rows}),
               .page_table = bench.ints(pages, {rows, width}),
               .state_read = bench.ints(slots, {rows}),
               .state_write = bench.ints(slots, {rows})};
}

// Attention and the delta rule of prompts alone.
void prefill(Bench& bench, int32_t rows, int32_t tokens, int32_t context, DType kv_dtype, DType state_dtype) {
  constexpr int64_t kHeads = 16, kKvHeads = 2, kDim = 256;
  const Batch batch = make_batch(bench, rows, tokens, context, false);
  const int64_t total = batch.tokens, pages = batch.page_table.elements();
  const Tensor k = bench.tensor(kv_dtype, {pages, kKvHeads, 64, kDim}),
               v = bench.tensor(kv_dtype, {pages, kKvHeads, 64, kDim});
  const Tensor q = bench.tensor(DType::kBF16, {total, kHeads, kDim}),
               qg = bench.tensor(DType::kBF16, {total, kHeads, 2 * kDim});
  const Tensor out = bench.tensor(DType::kBF16, {total, kHeads, kDim});
  const double attention = bench.us([&](int) { bench.ops().attention(q, qg, batch, {k, v}, 0.0625f, out); });
  const DeltaShape shape{16, 32, 128, 128};
  const Tensor qkv = bench.tensor(DType::kBF16, {total, shape.channels()}),
               y = bench.tensor(DType::kBF16, {total, 32, 128});
  const Tensor a = bench.tensor(DType::kF32, {total, 32}), b = bench.tensor(DType::kF32, {total, 32});
  const Tensor a_log = bench.tensor(DType::kF32, {32}), state = bench.tensor(state_dtype, {rows, 32, 128, 128});
  const double delta = bench.us([&](int) { bench.ops().delta_rule(qkv, a, b, a_log, a_log, shape, state, batch, y); });
  const double pairs = static_cast<double>(rows) * tokens * (context + tokens / 2.0);
  fmt::print(
      "{} prefill {} x {} after {}, KV {}, state {}: attention {:9.1f} us ({:.0f} TFLOP/s), delta rule {:9.1f} us\n",
      bench.kernels(), rows, tokens, context, dtype_name(kv_dtype), dtype_name(state_dtype), attention,
      4 * pairs * kDim * kHeads / attention / 1e6, delta);
  bench.free();
}

void mixers(Bench& bench, int64_t kv_heads, int32_t rows, int32_t tokens, int32_t context, bool decode) {
  constexpr int64_t kHeads = 16, kDim = 256;
  const Batch batch = make_batch(bench, rows, tokens, context, decode);
  const int64_t total = batch.tokens, pages = batch.page_table.elements();
  const Tensor k = bench.tensor(DType::kF8E4M3, {pages, kv_heads, 64, kDim});
  const Tensor v = bench.tensor(DType::kF8E4M3, {pages, kv_heads, 64, kDim});
  const Tensor q = bench.tensor(DType::kBF16, {total, kHeads, kDim}),
               qg = bench.tensor(DType::kBF16, {total, kHeads, 2 * kDim});
  const Tensor out = bench.tensor(DType::kBF16, {total, kHeads, kDim});
  const double attention = bench.us([&](int) { bench.ops().attention(q, qg, batch, {k, v}, 0.0625f, out); });
  const Tensor kv = bench.tensor(DType::kBF16, {total, kv_heads, kDim}), norm = bench.tensor(DType::kBF16, {kDim});
  const Tensor table = bench.tensor(DType::kF32, {total, 64});
  const double rope =
      bench.us([&](int) { bench.ops().qk_norm_rope_kv_write(qg, kv, kv, norm, norm, 1e-6f, table, batch, {k, v}, q); });
  const DeltaShape shape{16, 32, 128, 128};
  const Tensor qkv = bench.tensor(DType::kBF16, {total, shape.channels()}),
               c = bench.tensor(DType::kBF16, {total, shape.channels()});
  const Tensor taps = bench.tensor(DType::kBF16, {shape.channels(), 4}),
               ring = bench.tensor(DType::kBF16, {rows, shape.channels(), 3});
  const double conv = bench.us([&](int) { bench.ops().conv_silu(qkv, taps, ring, batch, c); });
  const Tensor a = bench.tensor(DType::kF32, {total, 32}), b = bench.tensor(DType::kF32, {total, 32});
  const Tensor a_log = bench.tensor(DType::kF32, {32}), state = bench.tensor(DType::kF16, {rows, 32, 128, 128});
  const Tensor y = bench.tensor(DType::kBF16, {total, 32, 128}), gate_norm = bench.tensor(DType::kBF16, {128});
  const double delta = bench.us([&](int) { bench.ops().delta_rule(qkv, a, b, a_log, a_log, shape, state, batch, y); });
  const double gated = bench.us([&](int) { bench.ops().gated_rms_norm(y, y, gate_norm, 1e-6f, y); });
  const DeltaWeights mixer_weights = {taps, a_log, a_log, gate_norm, 1e-6f};
  const Tensor z = bench.tensor(DType::kBF16, {total, 32, 128});
  const double mixer =
      bench.us([&](int) { bench.ops().delta_mixer(qkv, z, a, b, mixer_weights, shape, ring, state, batch, c, y); });
  const Tensor x = bench.tensor(DType::kBF16, {total, 2048}), w = bench.tensor(DType::kBF16, {2048});
  for (int64_t slices : {1, 4}) {
    const Tensor partials = bench.tensor(DType::kF32, {slices, total, 2048});
    fmt::print("  add_rms_norm {} slices {:.1f} us;", slices,
               bench.us([&](int) { bench.ops().add_rms_norm(partials, x, w, 1e-6f, x); }));
  }
  fmt::print(
      "\nmixers {} x {} after {}: attention ({} kv heads) {:.1f} us, qk norm + rope {:.1f}, conv {:.1f}, delta rule "
      "{:.1f}, gated "
      "norm {:.1f}, these three at once {:.1f}\n",
      rows, tokens, context, kv_heads, attention, rope, conv, delta, gated, mixer);
  bench.free();
}

void run_prefill() {
  for (const Kernels kernels : {Kernels::kHylas, Kernels::kFlashInfer}) {
    Bench bench(kernels);
    prefill(bench, 1, 3500, 0, DType::kF8E4M3, DType::kF16);
    prefill(bench, 4, 3500, 0, DType::kF8E4M3, DType::kF16);
    prefill(bench, 4, 3500, 0, DType::kBF16, DType::kF32);
    prefill(bench, 16, 1024, 0, DType::kF8E4M3, DType::kF16);
    prefill(bench, 1, 8192, 24576, DType::kF8E4M3, DType::kF16);
    prefill(bench, 64, 128, 0, DType::kF8E4M3, DType::kF16);
  }
}

void run_fp8() {
  Bench bench(Kernels::kDeepGemm);
  for (int64_t rows : {1, 8, 16, 64, 256, 1024, 3500, 14000}) {
    linear(bench, DType::kF8E4M3, rows, 12288, 2048, 0);
    linear(bench, DType::kF8E4M3, rows, 2048, 4096, 1);
    linear(bench, DType::kF8E4M3, rows, 512, 2048, 0);
  }
  for (int64_t tokens : {64, 256, 1024, 3500, 14000, 16384}) moe(bench, tokens, 1);
}

void run() {
  Bench bench(Kernels::kHylas);
  for (int64_t rows : {1, 8, 64, 256, 3500, 14000}) {
    linear(bench, DType::kF8E4M3, rows, 12288, 2048, 0);
    linear(bench, DType::kF8E4M3, rows, 2048, 4096, 4);
    linear(bench, DType::kF8E4M3, rows, 2048, 4096, 1);
    linear(bench, DType::kBF16, rows, 24576, 4096, 0);
    linear(bench, DType::kBF16, rows, 4096, 12288, 1);
    linear(bench, DType::kBF16, rows, 256, 2048, 0);
  }
  for (int64_t rows : {1, 64}) linear(bench, DType::kBF16, rows, 248320, 2048, 0);
  for (int64_t tokens : {1, 8, 64, 256, 3500, 14000}) {
    moe(bench, tokens, 1);
    moe(bench, tokens, 4);
  }
  mixers(bench, 2, 1, 3500, 0, false);
  mixers(bench, 2, 4, 3500, 0, false);
}

void run_decode() {
  Bench bench(Kernels::kHylas);
  for (int32_t rows : {1, 8, 64, 256}) {
    for (int64_t kv_heads : {2, 4}) mixers(bench, kv_heads, rows, 1, 1024, true);
  }
}

}  // namespace
}  // namespace hylas

int main(int count, char** arguments) {
  const auto given = [&](const char* flag) { return count > 1 && std::strcmp(arguments[1], flag) == 0; };
  const bool all = count < 2;
  if (all || given("--prefill-only")) hylas::run_prefill();
  if (all || given("--fp8-only")) hylas::run_fp8();
  if (all || given("--decode-only")) hylas::run_decode();
  if (all) hylas::run();
}
