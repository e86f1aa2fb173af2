#include "ops/cpu/isa.h"

namespace hylas::cpu {
namespace {
constexpr Isa kWidestFirst[] = {Isa::kAvx512, Isa::kAvx2, Isa::kScalar};
}

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

bool isa_available(Isa isa) {
#if defined(__x86_64__)
  // The compiler's support library asks the operating system (XGETBV) too.
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return isa == Isa::kAvx512 ? avx512 : isa == Isa::kAvx2 ? avx2 : true;
#else
  return isa == Isa::kScalar;
#endif
}

Result<Isa> choose_isa(std::string_view name) {
  for (Isa isa : kWidestFirst) {
    if (name == "auto" && isa_available(isa)) return isa;
    if (name != isa_name(isa)) continue;
    if (isa_available(isa)) return isa;
    return error(ErrorCode::kUnsupported, "this processor has no {}; use \"auto\"", name);
  }
  return error(ErrorCode::kUnsupported, "unknown instruction set '{}': auto, avx2, avx512 or scalar", name);
}

}  // namespace hylas::cpu
