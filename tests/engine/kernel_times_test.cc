// The kernels that the constants of KernelCosts come from, microseconds under the profiler on an H200, of 35B-A3B FP8.
#include "engine/kernel_times.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hylas {
namespace {

// The profiler runs one kernel at a time: the clock does not fall.
KernelTimes alone() {
  GpuKind gpu = find_gpu("H200").value();
  gpu.clock_share = 1;
  return {gpu, {}};
}

void expect_near(double simulated, double measured, double tolerance) {
  EXPECT_NEAR(simulated / measured, 1, tolerance) << simulated << " us, measured " << measured;
}

TEST(KernelTimes, Fp8ProductsAreRoundsOfTiles) {
  struct Case {
    ProductShape shape;
    double us;
  };
  for (const Case& one : {
           Case{{3500, 8192, 2048}, 107},
           Case{{16368, 8192, 2048}, 439},
           Case{{11632, 4096, 2048}, 164},
           Case{{3500, 2048, 4096}, 54.4},
           Case{{16368, 2048, 512}, 40.5},
           Case{{3500, 512, 2048}, 10.5},
           Case{{3500, 2048, 512}, 13.6},
           Case{{256, 8192, 2048}, 11.5},
           Case{{256, 4096, 2048}, 9.5},
       }) {
    SCOPED_TRACE(testing::Message() << one.shape.rows << " x " << one.shape.outputs << " x " << one.shape.inputs);
    expect_near(alone().fp8_product_us(one.shape), one.us, one.shape.rows > 256 ? 0.12 : 0.35);
  }
}

// 35B-A3B and 397B: gate and up, then down.
TEST(KernelTimes, ExpertsPayForTheirWholeTiles) {
  struct Case {
    double pairs, experts, hidden, width, up_us, down_us;
  };
  const KernelTimes times = alone();
  for (const Case& one : {Case{3500 * 8, 256, 2048, 512, 203, 129}, Case{16380 * 10, 512, 4096, 1024, 2797, 1573}}) {
    SCOPED_TRACE(testing::Message() << one.pairs << " pairs of " << one.experts);
    const ExpertRows rows{.touched = one.experts, .used = times.expert_tiles(one.pairs, one.experts, 128)};
    expect_near(times.expert_product_us(rows, 2 * one.width, one.hidden), one.up_us, 0.15);
    expect_near(times.expert_product_us(rows, one.hidden, one.width), one.down_us, 0.15);
  }
}

TEST(KernelTimes, ExpertsFillTilesAsTheirRowsScatter) {
  const KernelTimes times = alone();
  EXPECT_NEAR(times.expert_tiles(256 * 40, 256, 128), 256, 0.1) << "one each";
  EXPECT_NEAR(times.expert_tiles(256 * 128, 256, 128) / 256, 1.5, 0.05) << "half of them need a second one";
  EXPECT_NEAR(times.expert_tiles(256 * 6400.0, 256, 128) / 256, 50.5, 0.1);
  EXPECT_EQ(times.expert_tiles(0, 256, 128), 0);
}

TEST(KernelTimes, AttentionAndDeltaRuleLoseTimeBetweenTheirMultiplications) {
  const KernelTimes times = alone();
  const double prompt = 3500.0 * 3500 / 2, part = 2368.0 * 2368 / 2;
  expect_near(times.attention_us(prompt, 4096), 255, 0.1);
  expect_near(times.attention_us(4 * prompt + part, 4096), 1059, 0.1);
  expect_near(times.delta_rule_us(55, 55, 32), 207, 0.1);           // a prompt of 3500 alone: one head, one block
  expect_near(times.delta_rule_us(3 * 55 + 18, 55, 32), 190, 0.1);  // 11632 tokens
}

TEST(KernelTimes, MemoryByTheWayItIsReadIn) {
  const KernelTimes times = alone();
  expect_near(times.bf16_product_us({1, 248320, 2048}), 242, 0.03);         // the head
  expect_near(times.pieces_us(2 * 256 * 32 * 128 * 128 * 2.0), 144, 0.07);  // states of 256 sequences
  expect_near(times.pieces_us(256 * 1024 * 2 * 2 * 256.0), 82, 0.07);       // pages of 256 sequences after 1k
  expect_near(times.pass_us((3500 + 28000) * 2048.0), 23.5, 0.15);          // rows to their experts
  expect_near(times.pass_us(28000 * 512 * 5.0), 25.5, 0.15);                // silu
  expect_near(times.pass_us(3500 * 2048 * (9 * 2 + 7.0)), 68.5, 0.05);      // sum of experts, norm
  expect_near(times.pass_us(14000 * 4096 * 5.0), 100, 0.12);                // gated norm
}

// gpu_peer_bench on two GPUs of 450 GB/s.
TEST(KernelTimes, SumsAndExchangeTakeTheirTimeEvenForNothing) {
  const KernelTimes times = alone();
  struct Case {
    double number, us;
  };
  for (const Case& one :
       {Case{4096, 7.0}, Case{1 << 16, 9.0}, Case{1 << 20, 21.8}, Case{1 << 24, 216}, Case{1 << 26, 832}}) {
    expect_near(times.sum_us(one.number * 4, 2), one.us, 0.15);
  }
  // 512 experts, 10 choices, rows of 4096 there in bf16 (nearly all tokens), half of the choices back in f32.
  for (const Case& one : {Case{1, 17.6}, Case{64, 44.2}, Case{256, 124.5}, Case{1024, 447}}) {
    expect_near(times.exchange_us(one.number * (4096 * 2 + 5 * 4096 * 4.0)), one.us, 0.1);
  }
  EXPECT_EQ(times.sum_us(1e9, 1), 0);
}

// 78 multiprocessors for 132 blocks of one each: the second wave is not full.
TEST(KernelTimes, AGpuOfFewerMultiprocessorsTakesTwoWaves) {
  const KernelTimes times(find_gpu("H20").value(), {});
  const double tile_us = 1 + 16 * (2 * 128 * 128 * 128 / (296e6 / 78) + 0.1);
  EXPECT_NEAR(times.fp8_product_us({132 * 128, 128 * 16, 2048}), 2.3 + 2 * 16 * tile_us, 1);
}

TEST(KernelTimes, ABoundIsTheDataSheets) {
  const KernelTimes times(find_gpu("H200").value(), KernelCosts::bound());
  EXPECT_NEAR(times.fp8_product_us({16384, 8192, 4096}), 2 * 16384.0 * 8192 * 4096 / 1979e6, 1e-6);
  EXPECT_NEAR(times.bf16_product_us({16384, 8192, 4096}), 2 * 16384.0 * 8192 * 4096 / 989e6, 1e-6);
  EXPECT_NEAR(times.pass_us(4.8e6), 1, 1e-9);
  EXPECT_NEAR(times.sum_us(450e6, 2), 1000, 1e-6);
}

TEST(FindGpu, InAnyCaseOrSaysWhichThereAre) {
  EXPECT_STREQ(find_gpu("h200").value().name, "H200");
  const auto unknown = find_gpu("b200");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().message, "--gpu b200: must be one of H20, H100, H200");
}

}  // namespace
}  // namespace hylas
