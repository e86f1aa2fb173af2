// Layers of one decode row in a launch of their own against the operators one after the other: the same bits, in the
// residual, the states and the pages; and which steps are taken.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <tuple>

#include "model/decoder.h"
#include "model/manifest.h"
#include "ops/cuda/ops_cuda.h"
#include "ops/cuda/row_layers.h"
#include "ops/cuda_ops.h"
#include "weights/dummy_source.h"

namespace hylas::test {
namespace {

constexpr int32_t kPage = 64, kPages = 4, kSlots = 3;

struct TestRow {
  int32_t id, position, read, write;  // state slots -1: none
};

// One side: a decoder over the common weights with states of its own.
class Side {
 public:
  Side(const ModelConfig& config, DType state, WeightSource& source, Ops* ops) : config_(config), ops_(ops) {
    const DecoderOptions options{
        .act = DType::kBF16, .kv = DType::kF8E4M3, .state = state, .layer_end = config.num_layers};
    decoder_ = Decoder::make(config_, options, source, *ops_, comms_).value();
    pools_ = StatePools::make(ops_->device(), state_layout(config_, options), kPages, kPage, kSlots).value();
    memory_ = Buffer::make(ops_->device(), decoder_->arena_bytes(2, 2)).value();
    arena_ = Arena(memory_.data(), memory_.bytes());
    ints_ = Buffer::make(ops_->device(), 4096).value();
  }
  // The residual behind all layers, after a token of each row. A step with a `key` is recorded at the first one of that
  // key and replayed at the others; `pages`: the page table's width.
  std::vector<std::byte> step(const std::vector<TestRow>& rows, uint64_t key = 0, int32_t pages = 3) {
    const Batch batch = this->batch(rows, pages);
    const auto body = [&] {
      arena_.reset();
      hidden_[key] = decoder_->embed(batch, arena_);
      decoder_->forward(batch, pools_, hidden_[key], arena_);
    };
    if (key > 0) {
      ops_->replay(key, body);
    } else {
      body();
    }
    return residual(key);
  }
  // The recorded step so many times more.
  std::vector<std::byte> again(uint64_t key, int times) {
    for (int i = 0; i < times; ++i) ops_->replay(key, [] { FAIL() << "not recorded"; });
    return residual(key);
  }
  int64_t layers_run() const { return static_cast<const cuda::OpsCuda*>(ops_)->row_layers_run(); }
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
  Batch batch(const std::vector<TestRow>& rows, int32_t pages) {
    const auto count = static_cast<int32_t>(rows.size());
    std::vector<int32_t> ids, positions, begin = {0}, lengths, table, read, write;
    for (int32_t r = 0; r < count; ++r) {
      ids.push_back(rows[r].id);
      positions.push_back(rows[r].position);
      begin.push_back(r + 1);
      lengths.push_back(rows[r].position + 1);
      for (int32_t p = 0; p < pages; ++p) table.push_back(p == 0 ? kPages - 2 - r : -1);
      read.push_back(rows[r].read);
      write.push_back(rows[r].write);
    }
    used_ = 0;
    return {.tokens = count,
            .rows = count,
            .decode_rows = count,
            .page_size = kPage,
            .token_ids = ints(ids, {count}),
            .positions = ints(positions, {1, count}),
            .row_begin = ints(begin, {count + 1}),
            .kv_len = ints(lengths, {count}),
            .page_table = ints(table, {count, pages}),
            .state_read = ints(read, {count}),
            .state_write = ints(write, {count})};
  }
  std::vector<std::byte> residual(uint64_t key) {
    const Tensor& hidden = hidden_[key];
    std::vector<std::byte> bytes(hidden.bytes());
    ops_->device().copy_to_host(bytes.data(), hidden.data, bytes.size());
    return bytes;
  }
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
  std::map<uint64_t, Tensor> hidden_;
  int64_t used_ = 0;
};

std::unique_ptr<Ops> ops_with(CudaFp8Options fp8, bool row_layers) {
  return make_cuda_ops({.fp8 = fp8, .row_layers = row_layers}).value();
}
constexpr CudaFp8Options kFp8 = {.linear = true, .experts = true};

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

ModelConfig config_of(int layers) {
  const std::string folder = "models/configs/qwen3.5-35b-a3b-fp8", built = HYLAS_SOURCE_DIR "/" + folder;
  ModelConfig config = parse_model_config(std::filesystem::exists(built) ? built : folder).value();
  config.num_layers = layers;
  config.layer_types.resize(static_cast<size_t>(layers));
  return config;
}

// Two sides, the operators and launches that stay, over the same weights.
struct Sides {
  Sides(int layers, DType state)
      : config(config_of(layers)), plain(ops_with(kFp8, false)), rows(ops_with(kFp8, true)), source(manifest(config)) {
    source.place_on(plain->device(), true);
    expected.emplace(config, state, source, plain.get());
    got.emplace(config, state, source, rows.get());
  }
  void compare_states(int32_t page) const {
    for (int32_t s = 0; s < kSlots; ++s) EXPECT_TRUE(same(expected->slot(s), got->slot(s))) << "slot " << s;
    EXPECT_TRUE(same(expected->page(page), got->page(page)));
  }
  ModelConfig config;
  std::unique_ptr<Ops> plain, rows;
  DummySource source;
  std::optional<Side> expected, got;
};

// Where a GPU has no room for a launch there is nothing to test; one of 128 multiprocessors has.
bool fits() {
  int multiprocessors = 0;
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0);
  EXPECT_EQ(cuda::row_layers_fit(multiprocessors), multiprocessors >= 128);
  EXPECT_FALSE(cuda::row_layers_fit(78));
  return multiprocessors >= 128;
}

class CudaRowLayers : public testing::TestWithParam<std::tuple<int, DType>> {};
INSTANTIATE_TEST_SUITE_P(LayersAndStates, CudaRowLayers,
                         testing::Combine(testing::Values(1, 4, 9), testing::Values(DType::kF16, DType::kBF16)));

TEST_P(CudaRowLayers, AreTheOperatorsOneAfterTheOther) {
  if (!fits()) GTEST_SKIP() << "this GPU has no room for the blocks of a launch";
  const auto [layers, state] = GetParam();
  Sides sides(layers, state);
  // A fresh sequence, its second token in place, then from slot to slot, and a padded row that leaves all as it is.
  const int32_t slots[][2] = {{-1, 1}, {1, 1}, {1, 2}, {2, 2}, {2, -1}, {2, 0}, {0, 0}, {0, 1}, {-1, 2}, {2, 1}};
  int32_t position = 0;
  for (const auto& [read, write] : slots) {
    SCOPED_TRACE(position);
    const std::vector<TestRow> row = {{1000 * position + 17, position, read, write}};
    const auto wanted = sides.expected->step(row, 1), found = sides.got->step(row, 1);
    EXPECT_TRUE(write < 0 || same(wanted, found));
    sides.compare_states(kPages - 2);
    ++position;
  }
  EXPECT_EQ(sides.expected->layers_run(), 0);
  EXPECT_EQ(sides.got->layers_run(), 2 * layers);  // run once, and recorded
}

// Records of two shapes, a step without record and one of two rows, which the operators take, in one Ops.
TEST(CudaRowLayersMixed, StepsInAnyOrder) {
  if (!fits()) GTEST_SKIP() << "this GPU has no room for the blocks of a launch";
  constexpr int kLayers = 5;
  Sides sides(kLayers, DType::kF16);
  int64_t run = 0;
  const auto step = [&](const std::vector<TestRow>& rows, uint64_t key, int32_t pages, int64_t more) {
    SCOPED_TRACE(fmt::format("{} rows, record {}, {} pages", rows.size(), key, pages));
    EXPECT_TRUE(same(sides.expected->step(rows, key, pages), sides.got->step(rows, key, pages)));
    sides.compare_states(kPages - 2);
    EXPECT_EQ(sides.got->layers_run(), run += more);
  };
  step({{17, 0, -1, 1}}, 1, 3, 2 * kLayers);
  step({{18, 1, 1, 1}}, 0, 3, kLayers);
  step({{19, 2, 1, 1}, {20, 0, -1, 2}}, 0, 3, 0);
  step({{21, 3, 1, 1}}, 2, 4, 2 * kLayers);
  step({{22, 4, 1, 0}}, 1, 3, 0);
  step({{23, 5, 0, 1}}, 2, 4, 0);
  step({{24, 6, 1, 1}, {25, 1, 2, 2}}, 3, 3, 0);
  step({{26, 7, 1, 1}}, 1, 3, 0);
}

TEST(CudaRowLayersMixed, ManyReplays) {
  if (!fits()) GTEST_SKIP() << "this GPU has no room for the blocks of a launch";
  Sides sides(9, DType::kF16);
  for (int32_t i = 0; i < 2; ++i) {
    const std::vector<TestRow> row = {{17 + i, i, i - 1 < 0 ? -1 : 1, 1}};
    EXPECT_TRUE(same(sides.expected->step(row, 1), sides.got->step(row, 1)));
  }
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(same(sides.expected->again(1, 500), sides.got->again(1, 500))) << i;
    sides.compare_states(kPages - 2);
  }
}

// Steps that the operators take.
TEST(CudaRowLayersMixed, OthersAreNotTaken) {
  const ModelConfig config = config_of(1);
  const std::vector<TestRow> one = {{17, 0, -1, 1}}, two = {{17, 0, -1, 1}, {18, 0, -1, 2}};
  const auto run = [&](CudaFp8Options fp8, DType state, const std::vector<TestRow>& rows) {
    const std::unique_ptr<Ops> ops = ops_with(fp8, true);
    DummySource source(manifest(config));
    source.place_on(ops->device(), true);
    Side side(config, state, source, ops.get());
    side.step(rows);
    return side.layers_run();
  };
  EXPECT_EQ(run(kFp8, DType::kF16, one), fits() ? 1 : 0);
  EXPECT_EQ(run(kFp8, DType::kF16, two), 0);
  EXPECT_EQ(run(kFp8, DType::kF32, one), 0);
  EXPECT_EQ(run({.linear = false, .experts = true}, DType::kF16, one), 0);
  EXPECT_EQ(run({.linear = true, .experts = false}, DType::kF16, one), 0);
}

}  // namespace
}  // namespace hylas::test
