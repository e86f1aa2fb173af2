#pragma once
// What the products are tested over: every instruction set of this processor, activation and weight type.
#include <string>
#include <vector>

#include "ops/cpu/isa.h"
#include "ops/ops.h"

namespace hylas::test {

struct KernelCase {
  cpu::Isa isa;
  DType act;
  DType weight;

  std::unique_ptr<Ops> ops(int threads) const {
    CpuOpsOptions options;
    options.threads = threads;
    options.isa = cpu::isa_name(isa).data();
    return make_cpu_ops(options).value();
  }
};

inline std::vector<cpu::Isa> available_isas() {
  std::vector<cpu::Isa> available;
  for (cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
    if (cpu::isa_available(isa)) available.push_back(isa);
  }
  return available;
}

inline std::vector<KernelCase> kernel_cases() {
  std::vector<KernelCase> all;
  for (cpu::Isa isa : available_isas()) {
    for (DType act : {DType::kF32, DType::kBF16}) {
      for (DType weight : {DType::kF32, DType::kBF16, DType::kF8E4M3}) all.push_back({isa, act, weight});
    }
  }
  return all;
}

// For INSTANTIATE_TEST_SUITE_P: "avx2_bfloat16_fp8_e4m3".
template <class Info>
std::string kernel_case_name(const Info& info) {
  return fmt::format("{}_{}_{}", cpu::isa_name(info.param.isa), dtype_name(info.param.act),
                     dtype_name(info.param.weight));
}

}  // namespace hylas::test
