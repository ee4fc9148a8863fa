// Rows of x as 16-bit integers with one scale for 32 values, for products with quantised weights in integer arithmetic:
// x = scale * value, |value| <= kLargest. The rounding is at most 1.6e-5 of a block's largest |x|: f32 results in
// practice, unlike the 8 bits that are usual elsewhere, at two multiply-add instructions for 32 weights instead of one.
#pragma once

#include <hwy/aligned_allocator.h>

#include <cstdint>

#include "engine/kernels/dense.h"

namespace torpor::simd {

class QuantisedRows {
 public:
  static constexpr std::int64_t kBlock = 32;
  /// 127 * 256 + 127, so that a value is 256 times one signed byte and another.
  static constexpr int kLargest = 32639;

  /// Makes room for `count` rows of `width` values, a multiple of 32. Allocates only to grow.
  void reshape(std::int64_t count, std::int64_t width) {
    rows = count;
    in = width;
    blocks = width / kBlock;
    split = Split::none;
    if (rows * in <= room_) return;
    room_ = rows * in;
    values = hwy::AllocateAligned<std::int16_t>(static_cast<std::size_t>(room_));
    scales = hwy::AllocateAligned<float>(static_cast<std::size_t>(room_ / kBlock));
    sums = hwy::AllocateAligned<float>(static_cast<std::size_t>(room_ / kBlock * 2));
  }

  std::int64_t rows = 0, in = 0, blocks = 0;
  hwy::AlignedFreeUniquePtr<std::int16_t[]> values;  // [rows, in]
  hwy::AlignedFreeUniquePtr<float[]> scales;         // [rows, blocks]; NaN where the block holds NaN or infinity
  hwy::AlignedFreeUniquePtr<float[]> sums;           // [rows, blocks, 2]: sums of the values of each half of a block

  /// The values once more for instructions that multiply bytes: vnni.h makes them and says how they lie.
  enum class Split : std::uint8_t { none, halves, interleaved, together };
  Split split = Split::none;
  hwy::AlignedFreeUniquePtr<std::int8_t[]> high, low;
  hwy::AlignedFreeUniquePtr<std::int32_t[]> offsets;
  std::int64_t split_room = 0;

 private:
  std::int64_t room_ = 0;
};

/// Kept for the calling thread, so that a token of decoding allocates nothing. Valid until that thread's next call.
inline QuantisedRows& quantised_rows(std::int64_t count, std::int64_t width) {
  thread_local QuantisedRows rows;
  rows.reshape(count, width);
  return rows;
}

/// Room for x paired up, kept likewise.
inline float* paired_rows(std::int64_t count) {
  thread_local hwy::AlignedFreeUniquePtr<float[]> rows;
  thread_local std::int64_t room = 0;
  if (count > room) {
    rows = hwy::AllocateAligned<float>(static_cast<std::size_t>(count));
    room = count;
  }
  return rows.get();
}

/// Rows of x, [rows, in], as products with weights read them. Valid until this thread's next input_rows().
struct InputRows {
  const float* plain = nullptr;              // with f32 and f16 weights
  const float* pairs = nullptr;              // with bf16 weights (pair_up() of dot_plain-inl.h)
  const QuantisedRows* quantised = nullptr;  // with quantised ones
};

/// x as products with w need it (few_rows.cpp).
InputRows input_rows(const WeightMatrix& w, const float* x, std::int64_t rows);

}  // namespace torpor::simd
