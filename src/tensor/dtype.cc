#include "tensor/dtype.h"

#include <array>
#include <cmath>

namespace hylas {

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    case DType::kF8E4M3:
      return "fp8_e4m3";
    case DType::kI32:
      return "int32";
    case DType::kI64:
      return "int64";
    case DType::kU8:
      return "uint8";
  }
  return "unknown";
}

std::optional<DType> parse_dtype(std::string_view name) {
  struct Spelling {
    std::string_view text;
    DType dtype;
  };
  static constexpr std::array kSpellings = {
      Spelling{"float32", DType::kF32},    Spelling{"F32", DType::kF32},
      Spelling{"float", DType::kF32},      Spelling{"float16", DType::kF16},
      Spelling{"F16", DType::kF16},        Spelling{"half", DType::kF16},
      Spelling{"bfloat16", DType::kBF16},  Spelling{"BF16", DType::kBF16},
      Spelling{"bf16", DType::kBF16},      Spelling{"fp8_e4m3", DType::kF8E4M3},
      Spelling{"F8_E4M3", DType::kF8E4M3}, Spelling{"float8_e4m3fn", DType::kF8E4M3},
      Spelling{"int32", DType::kI32},      Spelling{"I32", DType::kI32},
      Spelling{"int64", DType::kI64},      Spelling{"I64", DType::kI64},
      Spelling{"uint8", DType::kU8},       Spelling{"U8", DType::kU8},
  };
  for (const Spelling& spelling : kSpellings) {
    if (spelling.text == name) return spelling.dtype;
  }
  return std::nullopt;
}

float f16_to_f32(uint16_t value) {
  uint32_t sign = static_cast<uint32_t>(value & 0x8000u) << 16;
  uint32_t exponent = (value >> 10) & 0x1f;
  uint32_t mantissa = value & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0)
    return std::bit_cast<float>(sign) + (sign ? -1.f : 1.f) * std::ldexp(static_cast<float>(mantissa), -24);
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t f32_to_f16(float value) {
  if (std::isnan(value)) return 0x7e00;
  uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  float magnitude = std::fabs(value);
  if (magnitude >= 65504.f) return sign | 0x7bff;
  if (magnitude < 6.103515625e-05f) return sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(magnitude, 24)));
  uint32_t bits = std::bit_cast<uint32_t>(magnitude) - (112u << 23);
  return sign | static_cast<uint16_t>((bits + 0xfffu + ((bits >> 13) & 1)) >> 13);
}

float f8e4m3_to_f32(uint8_t value) {
  int exponent = (value >> 3) & 0xf;
  int mantissa = value & 7;
  if (exponent == 15 && mantissa == 7) return std::nanf("");
  float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                  : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (value & 0x80) ? -magnitude : magnitude;
}

uint8_t f32_to_f8e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  uint8_t sign = std::signbit(value) ? 0x80 : 0;
  float magnitude = std::fabs(value);
  if (magnitude >= 448.f) return sign | 0x7e;
  if (magnitude < 0.015625f) return sign | static_cast<uint8_t>(std::nearbyint(std::ldexp(magnitude, 9)));
  uint32_t bits = std::bit_cast<uint32_t>(magnitude) - (120u << 23);
  return sign | static_cast<uint8_t>((bits + 0x7ffffu + ((bits >> 20) & 1)) >> 20);
}

}  // namespace hylas
