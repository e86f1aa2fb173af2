// What was measured on H200 beside what the simulator says of it: docs/simulator.md has the same rows. Constants come
// from kernels, and two from the rows of one GPU; those of two GPUs are only checked.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/layout_name.h"
#include "engine/simulated_layout.h"

namespace hylas {
namespace {

constexpr double kPrefill = 0.15, kDecode = 0.20;

// The first `layers` of a released model.
ModelConfig model_of(const std::string& name, int32_t layers) {
  ModelConfig model = parse_model_config(std::string(HYLAS_SOURCE_DIR) + "/models/configs/" + name).value();
  model.num_layers = std::min(layers, model.num_layers);
  model.layer_types.resize(model.num_layers);
  return model;
}

// Prints a row of the table, so that a change of a constant shows all that it does.
void expect_near(const std::string& row, const char* what, double measured, double simulated, double tolerance) {
  const double error = simulated / measured - 1;
  const int digits = measured > 1000 ? 0 : 2;
  fmt::print("| {} | {} | {:.{}f} | {:.{}f} | {:+.0f} % |\n", row, what, measured, digits, simulated, digits,
             100 * error);
  EXPECT_LE(std::abs(error), tolerance) << row << ", " << what;
}

SimulatedRun simulated(const ModelConfig& model, const std::string& layout, int32_t chunk, int32_t prompts,
                       int32_t input, int32_t output) {
  const SimulatedLayout all{
      .sizes = parse_layout(layout).value(), .chunk = chunk, .context_length = input + output + 1};
  const SimulatedLoad load{equal_requests(prompts, input, output, 0, 1), 256};
  return simulate_layout(model, find_gpu("H200").value(), {}, all, load).value();
}

struct OneGpu {
  const char* model;
  double decode_ms[4];          // 1, 8, 64, 256 sequences after 1k
  double prompt_ms;             // of 3500, alone
  double prefill_tokens_per_s;  // 64 of them at once
};

// gpu_engine_bench. One sequence of 35B-A3B by the operators: the launch through several layers, 1.49 ms, is not
// simulated.
TEST(SimulatedBesideMeasured, OneGpu) {
  for (const OneGpu& row : {OneGpu{"qwen3.5-35b-a3b-fp8", {1.68, 3.53, 10.04, 16.75}, 39.7, 109000},
                            OneGpu{"qwen3.5-9b", {4.41, 4.62, 6.21, 13.2}, 98, 38600}}) {
    const ModelConfig model = model_of(row.model, 60);
    const Roofline costs(model, find_gpu("H200").value(), {}, {0, model.num_layers});
    const double* measured = row.decode_ms;
    for (const int sequences : {1, 8, 64, 256}) {
      std::vector<PlanRow> rows(sequences);
      for (PlanRow& one : rows) one = {.kind = RowKind::kDecode, .begin = 1024 + 64, .length = 1, .sample = true};
      expect_near(fmt::format("{}, decode {}", row.model, sequences), "ms", *measured++,
                  costs.step(0, rows).total_us() * 1e-3, kDecode);
    }
    expect_near(fmt::format("{}, a prompt of 3500", row.model), "ms", row.prompt_ms,
                simulated(model, "tp1", 16384, 1, 3500, 1).duration_us * 1e-3, kPrefill);
    expect_near(fmt::format("{}, 64 prompts of 3500", row.model), "tokens/s", row.prefill_tokens_per_s,
                simulated(model, "tp1", 16384, 64, 3500, 1).tokens_per_s(), kPrefill);
  }
}

struct TwoGpus {
  const char* layout;
  int32_t chunk, prompts, input, output;
  double tokens_per_s;
  double ttft_s, tpot_ms;  // 0: not compared
};

void compare(const ModelConfig& model, const TwoGpus& row) {
  const SimulatedRun run = simulated(model, row.layout, row.chunk, row.prompts, row.input, row.output);
  const std::string name =
      fmt::format("{}, chunk {}, {} of {} + {}", row.layout, row.chunk, row.prompts, row.input, row.output);
  const double tolerance = row.output > 1 ? kDecode : kPrefill;
  expect_near(name, "tokens/s", row.tokens_per_s, run.tokens_per_s(), tolerance);
  if (row.ttft_s > 0) expect_near(name, "TTFT, s", row.ttft_s, run.mean_ttft_us() * 1e-6, tolerance);
  if (row.tpot_ms > 0) expect_near(name, "TPOT, ms", row.tpot_ms, run.mean_tpot_us() * 1e-3, tolerance);
}

// bench/multigpu.sh.
TEST(SimulatedBesideMeasured, TwoGpus16LayersOf397B) {
  const ModelConfig model = model_of("qwen3.5-397b-a17b-fp8", 16);
  for (const TwoGpus& row :
       {TwoGpus{"tp2", 16384, 160, 3500, 1, 121059, 2.38, 0}, TwoGpus{"pp2", 4096, 160, 3500, 1, 111199, 2.56, 0},
        TwoGpus{"pp2", 16384, 160, 3500, 1, 147876, 1.99, 0}, TwoGpus{"tp2", 16384, 256, 1024, 64, 85909, 1.13, 32.11},
        TwoGpus{"tp2ep2", 16384, 256, 1024, 64, 61909, 1.86, 40.41},
        TwoGpus{"tp2ep2dp2", 16384, 256, 1024, 64, 68410, 1.64, 37.13},
        TwoGpus{"tp2", 16384, 2, 128, 128, 1979, 0, 1.90}, TwoGpus{"tp2", 16384, 64, 128, 128, 11578, 0, 10.51},
        TwoGpus{"tp2ep2", 16384, 2, 128, 128, 1637, 0, 2.32}, TwoGpus{"tp2ep2", 16384, 64, 128, 128, 10531, 0, 11.43},
        TwoGpus{"tp2ep2dp2", 16384, 2, 128, 128, 1579, 0, 2.42},
        TwoGpus{"tp2ep2dp2", 16384, 64, 128, 128, 10768, 0, 11.27}}) {
    compare(model, row);
  }
}

// gpu_layout_bench.
TEST(SimulatedBesideMeasured, TwoGpus35B) {
  const ModelConfig model = model_of("qwen3.5-35b-a3b-fp8", 60);
  for (const TwoGpus& row :
       {TwoGpus{"tp2", 3520, 64, 3500, 1, 102738, 1.11, 0}, TwoGpus{"pp2", 16384, 256, 3500, 1, 208003, 2.22, 0},
        TwoGpus{"tp2", 16384, 2, 128, 64, 2490, 0, 2.25}, TwoGpus{"tp2", 16384, 64, 128, 64, 21680, 0, 7.85},
        TwoGpus{"tp2", 16384, 256, 128, 64, 46004, 0, 13.58}, TwoGpus{"tp2ep2", 16384, 2, 128, 64, 1989, 0, 2.86},
        TwoGpus{"tp2ep2", 16384, 64, 128, 64, 19846, 0, 8.21}, TwoGpus{"tp2ep2", 16384, 256, 128, 64, 39877, 0, 13.45},
        TwoGpus{"tp2ep2dp2", 16384, 2, 128, 64, 2303, 0, 2.46},
        TwoGpus{"tp2ep2dp2", 16384, 64, 128, 64, 22657, 0, 7.28},
        TwoGpus{"tp2ep2dp2", 16384, 256, 128, 64, 46307, 0, 11.78}}) {
    compare(model, row);
  }
}

}  // namespace
}  // namespace hylas
