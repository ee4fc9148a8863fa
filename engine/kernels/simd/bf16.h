// Numbers rounded to bf16 for products of many rows, by AVX-512's BF16 instructions. Only for processors that have
// them: elsewhere nothing here is called.
#pragma once

#include <cstdint>

#include "engine/kernels/dense.h"

namespace torpor::simd::bf16 {

/// Whether this processor has them (and those of interleaved rows).
bool available();

/// Whether it also has tiles of them (AMX).
bool has_tiles();

/// y[i] = x[order[i]], or x[i] where order is null, rounded to the nearest bf16, ties to even; denormal numbers become
/// 0. n values.
void round(const float* x, const std::int32_t* order, std::int64_t n, std::uint16_t* y);

/// A row of weights of interleaved.h in the order of row_order(), rounded like round(). to: [w.in].
void interleaved_row(const WeightMatrix& w, std::int64_t row, std::uint16_t* to);

}  // namespace torpor::simd::bf16
