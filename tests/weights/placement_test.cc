// Weights handed out on another device than the host: copies without gaps, of every kind of part.
#include <gtest/gtest.h>

#include <algorithm>

#include "support/goldens.h"
#include "weights/checkpoint_source.h"

namespace hylas::test {
namespace {

// Counts what arrives; otherwise host memory.
class CountingDevice final : public Device {
 public:
  const char* name() const override { return "counting"; }
  Result<void*> allocate(size_t bytes) override { return host_->allocate(bytes); }
  void release(void* memory, size_t bytes) override { host_->release(memory, bytes); }
  void copy_from_host(void* device, const void* host, size_t bytes) override {
    arrived += bytes;
    host_->copy_from_host(device, host, bytes);
  }
  void copy_to_host(void* host, const void* device, size_t bytes) override { host_->copy_to_host(host, device, bytes); }
  void copy(void* to, const void* from, size_t bytes) override { host_->copy(to, from, bytes); }
  size_t bytes_free() const override { return host_->bytes_free(); }
  size_t bytes_total() const override { return host_->bytes_total(); }

  size_t arrived = 0;

 private:
  std::unique_ptr<Device> host_ = make_cpu_device();
};

bool same(const Tensor& a, const Tensor& b) {
  if (a.dtype != b.dtype || a.shape != b.shape) return false;
  const size_t bytes = static_cast<size_t>(a.row_elements() * dtype_bytes(a.dtype));
  for (int64_t row = 0; row < a.dim(0); ++row) {
    const auto* x = static_cast<const std::byte*>(a.rows(row, 1).data);
    if (!std::equal(x, x + bytes, static_cast<const std::byte*>(b.rows(row, 1).data))) return false;
  }
  return true;
}

TEST(Placement, EveryPartArrivesOnTheDevice) {
  const std::string layer = "model.language_model.layers.0.", dir = golden_model("moe-fp8-aligned").dir;
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(dir).value();
  CountingDevice device;
  CheckpointSource host(checkpoint), placed(checkpoint);
  placed.place_on(device);
  size_t bytes = 0;
  const auto expect_placed = [&](const Tensor& mine, const Tensor& theirs) {
    EXPECT_TRUE(same(mine, theirs));
    EXPECT_NE(mine.data, theirs.data);
    EXPECT_EQ(mine.row_stride, mine.row_elements());
    bytes += mine.bytes();
  };
  expect_placed(placed.tensor(layer + "input_layernorm.weight", {256}).value(),
                host.tensor(layer + "input_layernorm.weight", {256}).value());
  const Range rows{128, 128};
  for (const auto& [mine, theirs] :
       {std::pair{placed.linear(layer + "linear_attn.in_proj_qkv", 512, 256).value(),
                  host.linear(layer + "linear_attn.in_proj_qkv", 512, 256).value()},
        std::pair{placed.linear_rows(layer + "linear_attn.in_proj_qkv", 512, 256, {&rows, 1}).value(),
                  host.linear_rows(layer + "linear_attn.in_proj_qkv", 512, 256, {&rows, 1}).value()},
        std::pair{placed.linear_columns(layer + "linear_attn.in_proj_qkv", 512, 256, rows).value(),
                  host.linear_columns(layer + "linear_attn.in_proj_qkv", 512, 256, rows).value()}}) {
    expect_placed(mine.weight, theirs.weight);
    expect_placed(mine.scale, theirs.scale);
  }
  EXPECT_EQ(device.arrived, bytes);
}

// What a grouped product over all experts takes: gate | up of one expert behind the other's, the down matrices and the
// scales alike; and the same values as anywhere.
TEST(Placement, ExpertsLieOneBehindTheOtherWhenAsked) {
  const std::string prefix = "model.language_model.layers.0.mlp.experts", dir = golden_model("moe-fp8-aligned").dir;
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(dir).value();
  CountingDevice device;
  CheckpointSource host(checkpoint), placed(checkpoint);
  placed.place_on(device, true);
  const Range some{1, 3}, all;
  const ExpertWeights mine = placed.experts(prefix, some, 256, 128, all).value(),
                      theirs = host.experts(prefix, some, 256, 128, all).value();
  const auto behind = [](const Tensor& first, const Tensor& one, int64_t i) {
    return one.contiguous() && one.data == static_cast<std::byte*>(first.data) + i * first.bytes();
  };
  for (int64_t e = 0; e < some.count; ++e) {
    const auto i = static_cast<size_t>(e);
    for (const auto& [a, b, first, place] : {std::tuple{mine.gate[i], theirs.gate[i], mine.gate[0], 2 * e},
                                             {mine.up[i], theirs.up[i], mine.gate[0], 2 * e + 1},
                                             {mine.down[i], theirs.down[i], mine.down[0], e}}) {
      EXPECT_TRUE(same(a.weight, b.weight) && same(a.scale, b.scale)) << "expert " << e;
      EXPECT_TRUE(behind(first.weight, a.weight, place) && behind(first.scale, a.scale, place)) << "expert " << e;
    }
  }
}

}  // namespace
}  // namespace hylas::test
