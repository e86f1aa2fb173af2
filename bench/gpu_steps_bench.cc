// Steps of a model with made-up weights on one GPU, without scheduler and server: what the device does at best.
//   gpu_steps_bench CONFIG_DIR [LAYERS [ROWS [TOKENS]]]   LAYERS: the first so many of the model's. ROWS: only decode
//                                                         steps of so many sequences, for a profiler; with TOKENS
//                                                         only prefill of so many tokens each
// With the kernels that an engine takes on its own.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>

#include "model/decoder.h"
#include "model/manifest.h"
#include "ops/cuda_ops.h"
#include "ops/fp8_plan.h"
#include "weights/dummy_source.h"

namespace hylas {
namespace {

constexpr int32_t kPage = 64;
constexpr int32_t kTokensMax = 16384;
constexpr int32_t kRowsMax = 256;

struct Row {
  int32_t tokens;
  int32_t context;
};

// A model with pools for kRowsMax sequences of 2048 tokens or few long ones.
class Model {
 public:
  Model(const ModelConfig& config, int32_t layers) : config_(config) {
    CudaOpsOptions kernels{.workspace_bytes = size_t{1} << 30, .prefill = {.delta = true, .attention = true}};
    kernels.fp8.linear = kernels.fp8.experts = kernels.row_layers = true;
    if (config.experts > 0) {
      kernels.workspace_wanted_bytes = fp8_experts_bytes(kTokensMax, {.choices = config.experts_per_token,
                                                                      .experts = config.experts,
                                                                      .hidden = config.hidden_size,
                                                                      .width = config.moe_intermediate_size,
                                                                      .shared_width = config.shared_intermediate_size});
    }
    ops_ = make_cuda_ops(kernels).value();
    config_.num_layers = layers;
    config_.layer_types.resize(static_cast<size_t>(layers));
    source_ = std::make_unique<DummySource>(manifest(config_));
    source_->place_on(ops_->device(), true);
    const DecoderOptions options{.act = DType::kBF16, .kv = DType::kF8E4M3, .state = DType::kF16, .layer_end = layers};
    decoder_ = Decoder::make(config_, options, *source_, *ops_, comms_).value();
    pools_ = StatePools::make(ops_->device(), state_layout(config_, options), kPages, kPage, kRowsMax).value();
    memory_ = Buffer::make(ops_->device(), decoder_->arena_bytes(kTokensMax, kRowsMax)).value();
    arena_ = Arena(memory_.data(), memory_.bytes());
    ints_ = Buffer::make(ops_->device(), kInts * sizeof(int32_t)).value();
  }

  size_t weight_bytes() const { return source_->bytes_used(); }

  // Milliseconds of a step, the median of several.
  double step_ms(const std::vector<Row>& rows, bool decode) {
    std::vector<double> times;
    for (int i = 0; i < 8; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      run(rows, decode);
      times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    }
    std::sort(times.begin() + 2, times.end());
    return times[5];
  }

 private:
  static constexpr int32_t kPages = kRowsMax * 32;
  static constexpr int64_t kInts = 1 << 20;

  Tensor ints(const std::vector<int32_t>& values, std::initializer_list<int64_t> dims) {
    auto* to = static_cast<int32_t*>(ints_.data()) + used_;
    used_ += (static_cast<int64_t>(values.size()) + 63) / 64 * 64;
    HYLAS_CHECK(used_ <= kInts);
    ops_->device().copy_from_host(to, values.data(), values.size() * sizeof(int32_t));
    return Tensor(to, DType::kI32, dims);
  }

  void run(const std::vector<Row>& rows, bool decode) {
    used_ = 0;
    arena_.reset();
    const auto count = static_cast<int32_t>(rows.size());
    std::vector<int32_t> ids, positions, begin = {0}, length, pages, read, write, last;
    int32_t width = 0, page = 0;
    for (const Row& row : rows) width = std::max(width, (row.context + row.tokens + kPage - 1) / kPage);
    for (int32_t r = 0; r < count; ++r) {
      for (int32_t i = 0; i < rows[r].tokens; ++i) {
        ids.push_back(static_cast<int32_t>(random_() % static_cast<uint32_t>(config_.vocab_size)));
        positions.push_back(rows[r].context + i);
      }
      begin.push_back(static_cast<int32_t>(ids.size()));
      length.push_back(rows[r].context + rows[r].tokens);
      for (int32_t j = 0; j < width; ++j) pages.push_back(page++ % kPages);
      read.push_back(rows[r].context == 0 ? -1 : r);
      write.push_back(r);
      last.push_back(begin.back() - 1);
    }
    const auto tokens = static_cast<int64_t>(ids.size());
    const Batch batch{.tokens = static_cast<int32_t>(tokens),
                      .rows = count,
                      .decode_rows = decode ? count : 0,
                      .page_size = kPage,
                      .token_ids = ints(ids, {tokens}),
                      .positions = ints(positions, {1, tokens}),
                      .row_begin = ints(begin, {count + 1}),
                      .kv_len = ints(length, {count}),
                      .page_table = ints(pages, {count, width}),
                      .state_read = ints(read, {count}),
                      .state_write = ints(write, {count})};
    const Tensor hidden = decoder_->embed(batch, arena_);
    decoder_->forward(batch, pools_, hidden, arena_);
    const Tensor logits = decoder_->logits(decoder_->final_norm(hidden, ints(last, {count}), arena_), arena_);
    std::vector<SampleRow> samples(rows.size());
    std::vector<SampleResult> results(rows.size());
    for (SampleRow& sample : samples) sample.temperature = 0;
    ops_->sample(logits, config_.vocab_size, samples, results);
  }

  ModelConfig config_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<WeightSource> source_;
  RankComms comms_;
  std::unique_ptr<Decoder> decoder_;
  StatePools pools_;
  Buffer memory_, ints_;
  Arena arena_;
  int64_t used_ = 0;
  std::mt19937 random_{1};
};

int main_of(int count, char** arguments) {
  if (count < 2) {
    fmt::print(stderr, "usage: gpu_steps_bench CONFIG_DIR [LAYERS [ROWS [TOKENS]]]\n");
    return 2;
  }
  const ModelConfig config = parse_model_config(arguments[1]).value();
  const int32_t layers = count > 2 ? std::atoi(arguments[2]) : config.num_layers;
  const auto begin = std::chrono::steady_clock::now();
  Model model(config, layers);
  fmt::print("{}: {} of {} layers, {:.2f} GB of weights, made and loaded in {:.1f} s\n", arguments[1], layers,
             config.num_layers, static_cast<double>(model.weight_bytes()) / 1e9,
             std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  const int32_t only = count > 3 ? std::atoi(arguments[3]) : 0, tokens_each = count > 4 ? std::atoi(arguments[4]) : 0;
  std::vector<int32_t> decodes{1, 8, 64, 256};
  std::vector<std::vector<Row>> prefills{{{128, 0}}, {{3500, 0}}, std::vector<Row>(4, Row{3500, 0})};
  if (only > 0) {
    decodes = tokens_each > 0 ? std::vector<int32_t>() : std::vector{only};
    prefills.clear();
    if (tokens_each > 0) prefills.emplace_back(static_cast<size_t>(only), Row{tokens_each, 0});
  }
  for (int32_t rows : decodes) {
    const double ms = model.step_ms(std::vector<Row>(static_cast<size_t>(rows), Row{1, 1024}), true);
    fmt::print("decode {:3} x 1k context: {:8.3f} ms, {:9.0f} tokens/s\n", rows, ms, rows / ms * 1e3);
  }
  for (const std::vector<Row>& rows : prefills) {
    const double ms = model.step_ms(rows, false);
    const double tokens = static_cast<double>(rows.size()) * rows[0].tokens;
    fmt::print("prefill {} x {}: {:8.3f} ms, {:9.0f} tokens/s\n", rows.size(), rows[0].tokens, ms, tokens / ms * 1e3);
  }
  return 0;
}

}  // namespace
}  // namespace hylas

int main(int count, char** arguments) { return hylas::main_of(count, arguments); }
