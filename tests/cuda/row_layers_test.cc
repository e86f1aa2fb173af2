// Layers of one decode row in a launch of their own against the operators one after the other: the same bits, in the
// residual, the states and the pages.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <tuple>

#include "model/decoder.h"
#include "model/manifest.h"
#include "ops/cuda/row_layers.h"
#include "ops/cuda_ops.h"
#include "weights/dummy_source.h"

namespace hylas::test {
namespace {

constexpr int32_t kPage = 64, kPages = 4, kSlots = 3;

// One side: a decoder over the common weights with states of its own.
class Side {
 public:
  Side(const ModelConfig& config, DType state, WeightSource& source, Ops* ops) : config_(config), ops_(ops) {
    const DecoderOptions options{
        .act = DType::kBF16, .kv = DType::kF8E4M3, .state = state, .layer_end = config.num_layers};
    decoder_ = Decoder::make(config_, options, source, *ops_, comms_).value();
    pools_ = StatePools::make(ops_->device(), state_layout(config_, options), kPages, kPage, kSlots).value();
    memory_ = Buffer::make(ops_->device(), decoder_->arena_bytes(1, 1)).value();
    arena_ = Arena(memory_.data(), memory_.bytes());
    ints_ = Buffer::make(ops_->device(), 4096).value();
  }
  // The residual behind all layers, after a token at `position`; state slots -1: none. From the second step on a record
  // of the first one is replayed.
  std::vector<std::byte> step(int32_t id, int32_t position, int32_t read, int32_t write) {
    used_ = 0;
    const Batch batch{.tokens = 1,
                      .rows = 1,
                      .decode_rows = 1,
                      .page_size = kPage,
                      .token_ids = ints({id}, {1}),
                      .positions = ints({position}, {1, 1}),
                      .row_begin = ints({0, 1}, {2}),
                      .kv_len = ints({position + 1}, {1}),
                      .page_table = ints({2, 0, 1}, {1, 3}),
                      .state_read = ints({read}, {1}),
                      .state_write = ints({write}, {1})};
    ops_->replay(1, [&] {
      arena_.reset();
      hidden_ = decoder_->embed(batch, arena_);
      decoder_->forward(batch, pools_, hidden_, arena_);
    });
    std::vector<std::byte> bytes(hidden_.bytes());
    ops_->device().copy_to_host(bytes.data(), hidden_.data, bytes.size());
    return bytes;
  }
  std::vector<std::byte> slot(int32_t slot) const {
    std::vector<std::byte> bytes(pools_.slot_bytes());
    pools_.read_slot(slot, bytes.data());
    return bytes;
  }
  std::vector<std::byte> page(int32_t page) const {
    std::vector<std::byte> bytes(pools_.page_bytes());
    pools_.read_page(page, bytes.data());
    return bytes;
  }

 private:
  Tensor ints(const std::vector<int32_t>& values, std::initializer_list<int64_t> dims) {
    auto* to = static_cast<int32_t*>(ints_.data()) + used_;
    used_ += 64;
    ops_->device().copy_from_host(to, values.data(), values.size() * sizeof(int32_t));
    return Tensor(to, DType::kI32, dims);
  }

  ModelConfig config_;
  Ops* ops_;
  RankComms comms_;
  std::unique_ptr<Decoder> decoder_;
  StatePools pools_;
  Buffer memory_, ints_;
  Arena arena_;
  Tensor hidden_;
  int64_t used_ = 0;
};

std::unique_ptr<Ops> ops_with(bool row_layers) {
  return make_cuda_ops({.fp8 = {.linear = true, .experts = true}, .row_layers = row_layers}).value();
}

bool same(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  int shown = 0;
  for (size_t i = 0; i + 1 < a.size() && shown < 8; i += 2) {
    if (std::memcmp(&a[i], &b[i], 2) == 0) continue;
    ++shown;
    uint16_t x, y;
    std::memcpy(&x, &a[i], 2);
    std::memcpy(&y, &b[i], 2);
    fmt::print("  element {}: {:04x} {:04x}\n", i / 2, x, y);
  }
  return a == b;
}

class CudaRowLayers : public testing::TestWithParam<std::tuple<int, DType>> {};
INSTANTIATE_TEST_SUITE_P(LayersAndStates, CudaRowLayers,
                         testing::Combine(testing::Values(1, 4, 9), testing::Values(DType::kF16, DType::kBF16)));

TEST_P(CudaRowLayers, AreTheOperatorsOneAfterTheOther) {
  if (!cuda::row_layers_fit()) GTEST_SKIP() << "this GPU has no room for the blocks of a launch";
  const std::string folder = "models/configs/qwen3.5-35b-a3b-fp8", built = HYLAS_SOURCE_DIR "/" + folder;
  ModelConfig config = parse_model_config(std::filesystem::exists(built) ? built : folder).value();
  const auto [layers, state] = GetParam();
  config.num_layers = layers;
  config.layer_types.resize(static_cast<size_t>(config.num_layers));
  const std::unique_ptr<Ops> plain = ops_with(false), rows = ops_with(true);
  DummySource source(manifest(config));
  source.place_on(plain->device(), true);
  Side expected(config, state, source, plain.get()), got(config, state, source, rows.get());
  // A fresh sequence, its second token in place, then from slot to slot, and a padded row that leaves all as it is.
  const int32_t slots[][2] = {{-1, 1}, {1, 1}, {1, 2}, {2, 2}, {2, -1}, {2, 0}, {0, 0}, {0, 1}, {-1, 2}, {2, 1}};
  int32_t position = 0;
  for (const auto& [read, write] : slots) {
    const int32_t id = 1000 * position + 17;
    const auto wanted = expected.step(id, position, read, write), found = got.step(id, position, read, write);
    EXPECT_TRUE(write < 0 || same(wanted, found)) << "step " << position;
    for (int32_t s = 0; s < kSlots; ++s) {
      EXPECT_TRUE(same(expected.slot(s), got.slot(s))) << "step " << position << " slot " << s;
    }
    EXPECT_TRUE(same(expected.page(2), got.page(2))) << "step " << position;
    ++position;
  }
}

}  // namespace
}  // namespace hylas::test
