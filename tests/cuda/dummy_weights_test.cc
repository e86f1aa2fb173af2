// Made-up weights that the GPU fills are those that the host makes.
#include <gtest/gtest.h>

#include <cstring>

#include "ops/cuda_ops.h"
#include "weights/dummy_source.h"

namespace hylas::test {
namespace {

std::vector<std::byte> bytes_of(Device& device, const Tensor& tensor) {
  std::vector<std::byte> bytes(tensor.bytes());
  device.copy_to_host(bytes.data(), tensor.data, bytes.size());
  return bytes;
}

TEST(CudaDummyWeights, AreTheHosts) {
  const std::vector<TensorSpec> specs = {{"m.weight", {300, 260}, DType::kBF16},
                                         {"q.weight", {384, 260}, DType::kF8E4M3},
                                         {"l.A_log", {100}, DType::kBF16},
                                         {"l.linear_attn.norm.weight", {128}, DType::kBF16},
                                         {"l.conv1d.weight", {40, 1, 4}, DType::kBF16}};
  std::unique_ptr<Ops> ops = make_cuda_ops({}).value();
  DummySource host(specs, 1), gpu(specs, 1);
  gpu.place_on(ops->device());
  const auto expect_same = [&](const Tensor& expected, const Tensor& got) {
    ASSERT_EQ(got.bytes(), expected.bytes());
    const std::vector<std::byte> bytes = bytes_of(ops->device(), got);
    EXPECT_EQ(std::memcmp(bytes.data(), expected.data, bytes.size()), 0);
  };
  expect_same(host.linear("m", 300, 260)->weight, gpu.linear("m", 300, 260)->weight);
  expect_same(host.linear("q", 384, 260)->weight, gpu.linear("q", 384, 260)->weight);
  expect_same(host.linear("q", 384, 260)->scale, gpu.linear("q", 384, 260)->scale);
  const Range some{128, 128};
  expect_same(host.linear_rows("q", 384, 260, {&some, 1})->weight, gpu.linear_rows("q", 384, 260, {&some, 1})->weight);
  expect_same(*host.tensor("l.A_log", {100}), *gpu.tensor("l.A_log", {100}));
  expect_same(*host.tensor("l.linear_attn.norm.weight", {128}), *gpu.tensor("l.linear_attn.norm.weight", {128}));
  expect_same(*host.tensor("l.conv1d.weight", {40, 1, 4}), *gpu.tensor("l.conv1d.weight", {40, 1, 4}));
}

}  // namespace
}  // namespace hylas::test
