// How numbers lie in memory: plain types and the quantised blocks of GGUF (read only).
// Source of the block layouts: ggml-quants (Q8_0, Q4_0, Q4_K, Q6_K); formulas in number_format.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace torpor {

enum class NumberFormat : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
  q8_0,  // 32 values: f16 scale, 32 int8
  q4_0,  // 32 values: f16 scale, 16 bytes of nibbles
  q4_k,  // 256 values: f16 scale and min scale, 12 bytes of 6-bit scales and mins, 128 bytes of nibbles
  q6_k,  // 256 values: 128 low nibbles, 64 high 2-bit fields, 16 int8 scales, f16 scale
};

struct NumberFormatTraits {
  std::string_view name;  // "bf16"
  int block_values;       // values a block holds; 1 for plain types
  int block_bytes;
  bool floating;   // f64, f32, f16, bf16
  bool quantised;  // block_values > 1
};

const NumberFormatTraits& traits(NumberFormat format);

/// Bytes of `values` numbers. Throws InvalidArgument if `values` is negative, no multiple of the block, or overflows.
std::size_t bytes_of(NumberFormat format, std::int64_t values);

/// Converts `values.size()` numbers starting at `source` to f32. Any floating or quantised format; for quantised ones
/// the count is a multiple of the block. No alignment required. Exact for f32, f16 and bf16. Throws InvalidArgument for
/// integers. Thread-safe.
void to_f32(NumberFormat format, const std::byte* source, std::span<float> values);

/// Converts f32 to f32, f16 or bf16 (round to nearest even; NaN stays NaN), or to q8_0 or q4_0 (finite numbers, whole
/// blocks; the bytes of ggml's reference quantiser). Throws InvalidArgument for other formats.
void from_f32(std::span<const float> values, NumberFormat format, std::byte* destination);

}  // namespace torpor
