// Made-up weights that a device fills itself are those that the host makes, window by window.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tensor/device.h"
#include "weights/dummy_fill.h"

namespace hylas {
namespace {

uint32_t hash32(uint32_t x) {
  x ^= x >> 16;
  x *= 0x21f0aaadu;
  x ^= x >> 15;
  x *= 0x735a2d97u;
  return x ^ x >> 15;
}

// Does what HashedFill says, element by element.
class FillingDevice final : public Device {
 public:
  const char* name() const override { return "filling"; }
  Result<void*> allocate(size_t bytes) override { return cpu_->allocate(bytes); }
  void release(void* memory, size_t bytes) override { cpu_->release(memory, bytes); }
  void copy_from_host(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void copy_to_host(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void copy(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  size_t bytes_free() const override { return cpu_->bytes_free(); }
  size_t bytes_total() const override { return cpu_->bytes_total(); }
  bool fill_hashed(const HashedFill& fill) override {
    ++fills;
    for (int64_t r = 0; r < fill.rows; ++r) {
      for (int64_t c = 0; c < fill.columns; ++c) {
        const auto index = static_cast<uint32_t>(fill.first + r * fill.pitch + c);
        const uint32_t hash = hash32(fill.seed + index * 0x9e3779b1u);
        const uint16_t value = fill.table[(hash & 255) + (hash >> 8 & 255) + (hash >> 16 & 255) + (hash >> 24)];
        std::memcpy(static_cast<std::byte*>(fill.out) + (r * fill.columns + c) * fill.element_bytes, &value,
                    static_cast<size_t>(fill.element_bytes));
      }
    }
    return true;
  }
  int fills = 0;

 private:
  std::unique_ptr<Device> cpu_ = make_cpu_device();
};

struct Window {
  DType dtype;
  int64_t begin, pitch, rows, columns;
  int fills;
};

TEST(DummyOnDevice, WindowsAreTheHosts) {
  constexpr int64_t kSeed = int64_t{1} << 32;  // elements with one seed
  const Window windows[] = {
      {DType::kBF16, 0, 96, 5, 96, 1},                      // whole
      {DType::kBF16, 3 * 96, 96, 5, 96, 1},                 // some rows
      {DType::kF8E4M3, 32, 128, 7, 64, 1},                  // some columns
      {DType::kF8E4M3, 5 * kSeed + 64, 128, 3, 64, 1},      // far inside
      {DType::kBF16, 2 * kSeed - 3 * 128, 128, 6, 128, 2},  // over the end of a seed, between rows
      {DType::kBF16, 0, 1, 40, 1, 1},                       // a vector
  };
  for (const Window& w : windows) {
    FillingDevice device;
    std::vector<std::byte> here(w.rows * w.columns * dtype_bytes(w.dtype)), there = here;
    const std::string name = "model.layers.3.mlp.up_proj.weight";
    fill_dummy(name, w.begin, w.pitch, Tensor(here.data(), w.dtype, {w.rows, w.columns}), 1);
    ASSERT_TRUE(fill_dummy_on(device, name, w.begin, w.pitch, Tensor(there.data(), w.dtype, {w.rows, w.columns})));
    EXPECT_EQ(here, there) << "from element " << w.begin;
    EXPECT_EQ(device.fills, w.fills) << "from element " << w.begin;
  }
}

TEST(DummyOnDevice, ARowOverTheEndOfASeedIsTheHosts) {
  FillingDevice device;
  std::vector<uint16_t> out(3 * 96);
  EXPECT_FALSE(fill_dummy_on(device, "model.layers.3.mlp.up_proj.weight", (int64_t{1} << 32) - 100, 96,
                             Tensor(out.data(), DType::kBF16, {3, 96})));
}

}  // namespace
}  // namespace hylas
