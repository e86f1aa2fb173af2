// The operators other than matrix products on the shapes of Qwen3.5-0.8B, beside the machine's ceilings measured in the
// same run: `cpu_ops_bench [threads]`. Every figure is the best of several turns, which alternate with the ceilings'.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ops/cpu/other_ops.h"
#include "roofline.h"

namespace hylas::bench {
namespace {

// Tensors of random values that live as long as the program.
class Maker {
 public:
  Tensor values(DType dtype, std::initializer_list<int64_t> dims, float size = 1.f) {
    Tensor tensor = empty(dtype, dims);
    std::normal_distribution<float> normal(0.f, size);
    for (int64_t i = 0; i < tensor.elements(); ++i) {
      float x = normal(random_);
      if (dtype == DType::kF32) tensor.as<float>()[i] = x;
      if (dtype == DType::kBF16) tensor.as<uint16_t>()[i] = f32_to_bf16(x);
      if (dtype == DType::kF8E4M3) tensor.as<uint8_t>()[i] = f32_to_f8e4m3(x);
    }
    return tensor;
  }
  Tensor empty(DType dtype, std::initializer_list<int64_t> dims) {
    Tensor tensor(nullptr, dtype, dims);
    buffers_.push_back(Buffer::make(*device_, std::max<size_t>(tensor.bytes(), 64)).value());
    tensor.data = buffers_.back().data();
    return tensor;
  }
  Tensor ints(const std::vector<int32_t>& data, std::initializer_list<int64_t> dims) {
    Tensor tensor = empty(DType::kI32, dims);
    std::copy(data.begin(), data.end(), tensor.as<int32_t>());
    return tensor;
  }
  // `rows` rows of `tokens` after `context`; row r owns slot r and its own pages.
  Batch batch(int32_t rows, int32_t tokens, int32_t context) {
    Batch batch;
    batch.rows = rows;
    batch.tokens = rows * tokens;
    batch.decode_rows = tokens == 1 ? rows : 0;
    int32_t pages = (context + tokens + 63) / 64;
    std::vector<int32_t> begin = {0}, length, slots, table;
    for (int32_t r = 0; r < rows; ++r) {
      begin.push_back(begin.back() + tokens);
      length.push_back(context + tokens);
      slots.push_back(r);
      for (int32_t j = 0; j < pages; ++j) table.push_back(r * pages + j);
    }
    batch.row_begin = ints(begin, {rows + 1});
    batch.kv_len = ints(length, {rows});
    batch.page_table = ints(table, {rows, pages});
    batch.state_read = batch.state_write = ints(slots, {rows});
    return batch;
  }

 private:
  std::unique_ptr<Device> device_ = make_cpu_device();
  std::vector<Buffer> buffers_;
  std::mt19937 random_{1};
};

struct Figure {
  std::string name;
  double bytes;  // moved to and from memory
  double flops;
  std::function<void()> body;
  double seconds = 1e9;
};

class OpsBench {
 public:
  explicit OpsBench(int threads)
      : pool_(threads), scratch_(threads, cpu::choose_isa("auto").value()), roofline_(pool_) {}

  void run() {
    for (int32_t rows : {1, 8}) delta_decode(rows);
    delta_prefill(512);
    for (int32_t context : {1023, 8191}) attention(1, context, DType::kBF16);
    attention(1, 8191, DType::kF8E4M3);
    attention(512, 0, DType::kBF16);
    attention(512, 7680, DType::kBF16);
    conv(512);
    norms(512);
    for (int kind : {0, 1, 2, 3}) sample(kind);
    for (int turn = 0; turn < 7; ++turn) {
      roofline_.measure();
      for (Figure& figure : figures_) {
        figure.body();  // warms up
        figure.seconds = std::min(figure.seconds, seconds_of(figure.body));
      }
    }
    print();
  }

 private:
  // The decode states of all 18 layers, so that none is still in the cache when its turn comes.
  void delta_decode(int32_t rows) {
    constexpr int32_t kLayers = 18;
    cpu_delta(fmt::format("delta_rule decode, {} rows x {} layers, f32 state", rows, kLayers), rows, 1, kLayers);
  }
  void delta_prefill(int32_t tokens) { cpu_delta(fmt::format("delta_rule prefill {}", tokens), 1, tokens, 1); }
  void cpu_delta(const std::string& name, int32_t rows, int32_t tokens, int32_t layers) {
    DeltaShape shape = {16, 16, 128, 128};
    int64_t all = int64_t{rows} * tokens, heads = shape.value_heads;
    Batch batch = make_.batch(rows, tokens, 0);
    Tensor qkv = make_.values(DType::kBF16, {all, shape.channels()});
    Tensor a = make_.values(DType::kF32, {all, heads}), b = make_.values(DType::kF32, {all, heads});
    Tensor a_log = make_.values(DType::kF32, {heads}), dt_bias = make_.values(DType::kBF16, {heads});
    Tensor states = make_.empty(DType::kF32, {int64_t{rows} * layers, heads, 128, 128});
    Tensor out = make_.empty(DType::kBF16, {all, heads, 128});
    // Chunked: K S, Q S and the update (3 * 2 * 128 * 128 a token), half of two 64 x 64 products over 128, the
    // substitution and the output product likewise. Recurrent: decay, S k, update, S q.
    double flops = tokens == 1 ? 7.0 * 128 * 128 : 6.0 * 128 * 128 + 4 * 64.0 * 128;
    double bytes = tokens == 1 ? 2.0 * static_cast<double>(states.bytes()) : 0;
    figures_.push_back({name, bytes, flops * static_cast<double>(all * heads * layers), [=, this] {
                          for (int32_t layer = 0; layer < layers; ++layer) {
                            cpu::delta_rule(pool_, scratch_, qkv, a, b, a_log, dt_bias, shape,
                                            states.rows(int64_t{layer} * rows, rows), batch, out);
                          }
                        }});
  }

  // Decode runs over 6 layers, as the model does.
  void attention(int32_t tokens, int32_t context, DType kv_type) {
    constexpr int64_t kHeads = 8, kKvHeads = 2, kDim = 256;
    int32_t layers = tokens == 1 ? 6 : 1;
    Batch batch = make_.batch(1, tokens, context);
    int64_t pages = batch.page_table.dim(1);
    Tensor k = make_.values(kv_type, {pages * layers, kKvHeads, 64, kDim});
    Tensor v = make_.values(kv_type, {pages * layers, kKvHeads, 64, kDim});
    Tensor q = make_.values(DType::kBF16, {tokens, kHeads, kDim}),
           qg = make_.values(DType::kBF16, {tokens, kHeads, 2 * kDim});
    Tensor out = make_.empty(DType::kBF16, {tokens, kHeads, kDim});
    double pairs = static_cast<double>(tokens) * (context + (tokens + 1) / 2.0);
    double bytes = tokens == 1 ? static_cast<double>(k.bytes() + v.bytes()) : 0;
    figures_.push_back({fmt::format("attention {} tokens at {}, kv {}", tokens, context, dtype_name(kv_type)), bytes,
                        4 * kHeads * kDim * pairs * layers, [=, this] {
                          for (int32_t layer = 0; layer < layers; ++layer) {
                            KvPool kv = {k.rows(layer * pages, pages), v.rows(layer * pages, pages)};
                            cpu::attention(pool_, scratch_, q, qg, batch, kv, 1.f / 16, out);
                          }
                        }});
  }

  void conv(int32_t tokens) {
    constexpr int64_t kChannels = 6144;
    Batch batch = make_.batch(1, tokens, 0);
    Tensor u = make_.values(DType::kBF16, {tokens, kChannels}), weight = make_.values(DType::kBF16, {kChannels, 4});
    Tensor state = make_.values(DType::kBF16, {1, kChannels, 3}), out = make_.empty(DType::kBF16, {tokens, kChannels});
    figures_.push_back({fmt::format("conv_silu {} tokens", tokens), static_cast<double>(u.bytes() + out.bytes()), 0,
                        [=, this] { cpu::conv_silu(pool_, scratch_, u, weight, state, batch, out); }});
  }

  void norms(int32_t tokens) {
    Tensor partials = make_.values(DType::kF32, {4, tokens, 1024}),
           residual = make_.values(DType::kBF16, {tokens, 1024});
    Tensor weight = make_.values(DType::kBF16, {1024}), out = make_.empty(DType::kBF16, {tokens, 1024});
    figures_.push_back({fmt::format("add_rms_norm {} tokens", tokens),
                        static_cast<double>(partials.bytes() + 3 * residual.bytes()), 0,
                        [=, this] { cpu::add_rms_norm(pool_, scratch_, partials, residual, weight, 1e-6f, out); }});
    Tensor gate = make_.values(DType::kBF16, {tokens, 3584}), up = make_.values(DType::kBF16, {tokens, 3584});
    Tensor product = make_.empty(DType::kBF16, {tokens, 3584});
    figures_.push_back({fmt::format("silu_mul {} tokens", tokens), static_cast<double>(3 * gate.bytes()), 0,
                        [=, this] { cpu::silu_mul(pool_, scratch_, gate, up, product); }});
  }

  void sample(int kind) {
    constexpr int64_t kVocab = 248320;
    static const SampleRow kRows[] = {
        {.temperature = 0.f}, {.top_k = 20, .top_p = 0.95f}, {.top_p = 0.9f}, {.temperature = 1.f, .top_logprobs = 5}};
    static const char* kNames[] = {"greedy", "top-k 20, top-p 0.95", "top-p 0.9", "unfiltered, 5 logprobs"};
    Tensor logits = make_.values(DType::kF32, {8, kVocab}, 3.f);
    figures_.push_back(
        {fmt::format("sample 8 rows, {}", kNames[kind]), static_cast<double>(logits.bytes()), 0, [this, logits, kind] {
           std::vector<SampleRow> rows(8, kRows[kind]);
           for (size_t r = 0; r < 8; ++r) rows[r].seed = r;
           std::vector<SampleResult> results(8);
           cpu::sample(pool_, scratch_, logits, kVocab, rows, results);
         }});
  }

  void print() const {
    fmt::print("{} threads: read {:.1f} GB/s, {:.0f} GFLOP/s\n\n", pool_.size(), roofline_.bytes_per_second() / 1e9,
               roofline_.flops() / 1e9);
    fmt::print("{:<52} {:>9} {:>18} {:>22}\n", "operator", "ms", "GB/s (of peak)", "GFLOP/s (of peak)");
    for (const Figure& f : figures_) {
      double bytes = f.bytes / f.seconds, flops = f.flops / f.seconds;
      fmt::print("{:<52} {:>9.3f} {:>9.1f} ({:>4.0f} %) {:>13.1f} ({:>4.0f} %)\n", f.name, f.seconds * 1e3, bytes / 1e9,
                 100 * bytes / roofline_.bytes_per_second(), flops / 1e9, 100 * flops / roofline_.flops());
    }
  }

  cpu::ThreadPool pool_;
  cpu::Scratch scratch_;
  Roofline roofline_;
  Maker make_;
  std::vector<Figure> figures_;
};

}  // namespace
}  // namespace hylas::bench

int main(int argc, char** argv) {
  hylas::bench::OpsBench(argc > 1 ? std::atoi(argv[1]) : 2).run();
  return 0;
}
