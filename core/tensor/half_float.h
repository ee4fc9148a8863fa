// 16-bit floating-point numbers, one at a time: IEEE 754 binary16 (f16) and bfloat16. The portable formulas; spans of
// numbers go through to_f32 and from_f32 (number_format.h), which give the same bits and are many times faster.
// Independent of the processor's denormals-are-zero mode.
#pragma once

#include <bit>
#include <cstdint>

namespace torpor {

/// Exact. A signalling NaN becomes quiet and keeps its payload, as the F16C instruction does.
inline float f32_from_f16(std::uint16_t half) {
  const std::uint32_t shifted = static_cast<std::uint32_t>(half & 0x7FFFU) << 13;
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t normal = shifted + (112U << 23);  // rebias 15 to 127
  const std::uint32_t special = (shifted + (224U << 23)) | ((half & 0x3FFU) != 0 ? 0x400000U : 0U);
  // Subnormal m * 2^-24: put m below the leading one of 2^-14, subtract that one.
  const std::uint32_t tiny =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(shifted + (113U << 23)) - std::bit_cast<float>(113U << 23));
  const std::uint32_t exponent = half & 0x7C00U;
  const std::uint32_t magnitude = exponent == 0 ? tiny : (exponent == 0x7C00U ? special : normal);
  return std::bit_cast<float>(sign | magnitude);
}

/// Rounds to nearest, ties to even; above 65519.99… gives infinity. NaN stays NaN (quiet, upper payload bits kept).
inline std::uint16_t f16_from_f32(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  // The last kept bit decides ties; a carry out of the significand moves the exponent, up to infinity.
  const std::uint32_t normal = (magnitude - (112U << 23) + 0xFFFU + ((magnitude >> 13) & 1U)) >> 13;
  // Below 2^-14 the unit is 2^-24, which is the last bit of numbers around 0.5: let the adder round.
  const std::uint32_t tiny = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - (126U << 23);
  const std::uint32_t nan = 0x7E00U | ((magnitude >> 13) & 0x3FFU);
  std::uint32_t half = normal;
  half = magnitude < (113U << 23) ? tiny : half;
  half = magnitude >= (143U << 23) ? 0x7C00U : half;
  half = magnitude > 0x7F800000U ? nan : half;
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000U) | half);
}

/// Exact, all bits kept.
inline float f32_from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Rounds to nearest, ties to even. NaN stays NaN (quiet, upper payload bits kept).
inline std::uint16_t bf16_from_f32(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  const std::uint32_t nan = (bits >> 16) | 0x40U;
  return static_cast<std::uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? nan : rounded);
}

}  // namespace torpor
