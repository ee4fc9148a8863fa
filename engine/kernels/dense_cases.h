// One table of cases a kernel: its test, its sweep over remainders and misalignment, and its benchmark read the same.
#pragma once

#include <cstdint>

#include "engine/kernels/dense.h"

namespace torpor {

/// tolerance: largest error allowed, relative to sqrt(sum (x w)^2), the size of a sum of random signs.
struct LinearCase {
  std::int64_t rows, in, out;
  NumberFormat weights;
  bool bias;
  float tolerance;
};

// f32 sums: about 1e-7 sqrt(terms) of the largest partial sum. Quantised weights with few rows add the rounding of x to
// 16 bits: 2e-5 of the sum's size as a standard deviation, so 5 of those.
inline constexpr float kPlainTolerance = 4e-6F, kQuantisedTolerance = 1e-4F;

// Remainders on purpose: widths one below, at and above vectors, unrolled steps and blocks of four; outputs around the
// slices; row counts around groups of four and the change to oneDNN.
inline constexpr LinearCase kLinearCases[] = {
    {1, 1, 1, NumberFormat::f32, false, kPlainTolerance},
    {1, 7, 3, NumberFormat::f32, true, kPlainTolerance},
    {2, 63, 65, NumberFormat::f32, false, kPlainTolerance},
    {3, 64, 64, NumberFormat::f32, true, kPlainTolerance},
    {5, 65, 63, NumberFormat::f32, true, kPlainTolerance},
    {9, 129, 127, NumberFormat::f32, true, kPlainTolerance},
    {33, 257, 129, NumberFormat::f32, true, kPlainTolerance},
    {130, 100, 70, NumberFormat::f32, false, kPlainTolerance},
    {1, 2048, 301, NumberFormat::f32, true, kPlainTolerance},
    {1, 7, 3, NumberFormat::f16, true, kPlainTolerance},
    {4, 72, 65, NumberFormat::f16, false, kPlainTolerance},
    {40, 71, 65, NumberFormat::f16, true, kPlainTolerance},
    {1, 2048, 301, NumberFormat::f16, false, kPlainTolerance},
    {1, 9, 5, NumberFormat::bf16, true, kPlainTolerance},
    {6, 130, 66, NumberFormat::bf16, true, kPlainTolerance},
    {50, 33, 200, NumberFormat::bf16, false, kPlainTolerance},
    {130, 770, 300, NumberFormat::bf16, true, kPlainTolerance},
    {1, 2048, 301, NumberFormat::bf16, false, kPlainTolerance},
    {2, 20, 9, NumberFormat::f64, true, kPlainTolerance},
    {20, 20, 9, NumberFormat::f64, true, kPlainTolerance},
    {1, 32, 1, NumberFormat::q8_0, false, kQuantisedTolerance},
    {2, 96, 5, NumberFormat::q8_0, true, kQuantisedTolerance},
    {7, 160, 66, NumberFormat::q8_0, true, kQuantisedTolerance},
    {17, 2048, 65, NumberFormat::q8_0, true, kQuantisedTolerance},
    {1, 32, 1, NumberFormat::q4_0, false, kQuantisedTolerance},
    {3, 224, 7, NumberFormat::q4_0, true, kQuantisedTolerance},
    {5, 128, 67, NumberFormat::q4_0, false, kQuantisedTolerance},
    {17, 2048, 65, NumberFormat::q4_0, true, kQuantisedTolerance},
    {1, 256, 1, NumberFormat::q4_k, false, kQuantisedTolerance},
    {4, 768, 9, NumberFormat::q4_k, true, kQuantisedTolerance},
    {17, 512, 65, NumberFormat::q4_k, true, kQuantisedTolerance},
    {1, 256, 1, NumberFormat::q6_k, false, kQuantisedTolerance},
    {3, 768, 9, NumberFormat::q6_k, true, kQuantisedTolerance},
    {17, 512, 65, NumberFormat::q6_k, true, kQuantisedTolerance},
};

struct AttentionCase {
  AttentionShape shape;  // scale 0: 1 / sqrt(head_dim)
  std::int64_t queries, first;
  float tolerance;  // absolute; the values are of size 1
};

// Head dimensions below, at and above blocks of two vectors; tiles of keys just missed; windows that end inside a tile
// and windows that hide whole tiles from some queries of a piece; groups that divide a piece and groups that do not.
inline constexpr AttentionCase kAttentionCases[] = {
    {{1, 1, 1, 0, 0, 0}, 1, 0, 2e-6F},         {{2, 2, 8, 0, 0, 0}, 1, 5, 2e-6F},
    {{4, 2, 64, 0, 0, 0}, 1, 200, 2e-6F},      {{8, 1, 20, 0, 0, 0}, 1, 63, 2e-6F},
    {{3, 1, 33, 0, 0, 0}, 2, 64, 2e-6F},       {{4, 4, 16, 0, 0, 0}, 7, 0, 2e-6F},
    {{4, 4, 48, 0, 0, 0}, 9, 120, 2e-6F},      {{6, 2, 64, 0, 0, 0}, 65, 0, 2e-6F},
    {{6, 2, 80, 0, 0, 0}, 70, 193, 2e-6F},     {{5, 1, 31, 0, 0, 0}, 130, 3, 2e-6F},
    {{2, 1, 128, 0, 30.F, 0}, 40, 257, 2e-6F}, {{2, 1, 64, 0, 20.F, 9}, 3, 100, 2e-6F},
    {{4, 2, 64, 0, 0, 1}, 12, 6, 2e-6F},       {{4, 2, 32, 0, 50.F, 33}, 200, 10, 2e-6F},
    {{2, 2, 64, 0.3F, 0, 150}, 300, 0, 4e-6F}, {{71, 1, 64, 0, 0, 0}, 2, 20, 2e-6F},
};

// Widths for the kernels along one dimension: around 4, 8, 16 and 32 lanes and four times that.
inline constexpr std::int64_t kWidths[] = {1,  2,  3,  4,  5,  7,  8,   9,   15,   16,
                                           17, 31, 33, 63, 64, 65, 127, 129, 1000, 4097};

}  // namespace torpor
