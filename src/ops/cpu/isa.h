#pragma once
// Which instruction set the kernels use: chosen once, when the operators are made.
//
// A kernel is written once, as a template over a vector type V (simd_avx2.h, simd_avx512.h, simd_scalar.h), in a
// header. One file per instruction set, <name>_avx2.cc and so on, instantiates it for its V and hands out a table of
// function pointers; cmake/cpu_isa.cmake compiles it with that set's flags. Such a file includes as little as it can:
// any inline function it shares with other files might be the copy that the linker keeps.
#include <string_view>

#include "base/result.h"

namespace hylas::cpu {

enum class Isa { kScalar, kAvx2, kAvx512 };

// "scalar", "avx2", "avx512".
std::string_view isa_name(Isa isa);
// Whether this processor and its operating system can run kernels of `isa`.
bool isa_available(Isa isa);
// "auto" is the widest available; another name is that one, or kUnsupported.
Result<Isa> choose_isa(std::string_view name);

}  // namespace hylas::cpu
