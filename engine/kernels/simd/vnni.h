// Products of nibbles with bytes by AVX-512's VNNI instructions, which this machine's Highway does not offer: q4_0 rows
// at half the instructions. Exact integers of the same rounded x as elsewhere; only the f32 sums across blocks have
// another order. On processors without them nothing here is called.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/kernels/simd/quantised_rows.h"

namespace torpor::simd::vnni {

/// Whether this processor has them and they are not switched off.
bool available();
/// For tests: as if the processor had none.
extern std::atomic<bool> switched_off;

/// Fills x.high and x.low (value = 256 high + low) and x.offsets. Groups of four blocks, the last one filled up with
/// zeros: of each group the first 16 values of its four blocks, then their last 16, as the nibbles of q4_0 lie.
/// offsets: 16 for a group, four for a block: -8 times the sums of the values that one lane of a product adds up.
void split(QuantisedRows& x);

/// out[k * kX + r] = x[first_row + r] . w[k], k < kW <= 4, r < kX <= 4, of split rows of x. ahead: rows to ask for
/// meanwhile. The order of the additions is the same for every kW and kX.
template <int kW, int kX>
void dot_q4_0(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x, std::int64_t first_row,
              float* out);

// ── rows of interleaved.h ──

/// Fills x.high and x.low for them: groups of 16 blocks, of each 8 pieces of 16 x 4 values; blocks that are not there
/// are 0. offsets: 48 for a group, the sums of each block's values, of its first 16 and of its last 16.
void split_interleaved(QuantisedRows& x);

/// out[k * kX + r] = x[first_row + r] . w[k] of q8_0, q4_0, q4_k or q6_k rows; else as dot_q4_0.
template <int kW, int kX>
void dot_interleaved(NumberFormat format, const std::byte* const* w, const std::byte* const* ahead,
                     const QuantisedRows& x, std::int64_t first_row, float* out);

// ── rows of interleaved.h that lie together ──

/// Fills x.high and x.low, 16 lanes for a row: its blocks, 16 / x.blocks times. offsets likewise: the sums.
void split_together(QuantisedRows& x);

/// y[o] = x[row] . w[o] + bias[o] for the rows [begin, end) of w, whole groups of them. bias may be null.
void dot_together(const std::byte* w, std::int64_t begin, std::int64_t end, const QuantisedRows& x, std::int64_t row,
                  const float* bias, float* y);

}  // namespace torpor::simd::vnni
