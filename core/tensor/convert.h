// The loops behind to_f32 and from_f32 (number_format.h), compiled for every instruction set and chosen at run time.
// Internal: no argument checks. No alignment required. Same bits on every instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace torpor::convert {

void f16_to_f32(const std::byte* source, float* values, std::size_t count);
void bf16_to_f32(const std::byte* source, float* values, std::size_t count);
void f32_to_f16(const float* values, std::byte* destination, std::size_t count);
void f32_to_bf16(const float* values, std::byte* destination, std::size_t count);

// Quantised blocks; `blocks` of 32 (q8_0, q4_0) or 256 values.
void q8_0_to_f32(const std::byte* source, float* values, std::size_t blocks);
void q4_0_to_f32(const std::byte* source, float* values, std::size_t blocks);
void q4_k_to_f32(const std::byte* source, float* values, std::size_t blocks);
void q6_k_to_f32(const std::byte* source, float* values, std::size_t blocks);

}  // namespace torpor::convert
