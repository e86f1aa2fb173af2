#pragma once
// Element types, their names in safetensors headers and on the command line, and scalar conversions.
#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

namespace hylas {

enum class DType : uint8_t { kF32, kF16, kBF16, kF8E4M3, kI32, kI64, kU8 };

constexpr int dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kI64: return 8;
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kF8E4M3:
    case DType::kU8: return 1;
  }
  return 0;
}

// "float32", "bfloat16", "fp8_e4m3": the command line's names.
std::string_view dtype_name(DType dtype);
// Accepts the command line's, PyTorch's and safetensors' spellings ("float32", "F32", "fp8_e4m3", "F8_E4M3", ...).
std::optional<DType> parse_dtype(std::string_view name);

inline float bf16_to_f32(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }
// Round to nearest even; NaN stays NaN.
inline uint16_t f32_to_bf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}
float f16_to_f32(uint16_t value);
// Round to nearest even; values beyond the range saturate to +-65504 (a state must not become infinite).
uint16_t f32_to_f16(float value);
float f8e4m3_to_f32(uint8_t value);
// Round to nearest even; saturates to +-448.
uint8_t f32_to_f8e4m3(float value);

}  // namespace hylas
