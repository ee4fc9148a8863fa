// Rows of q8_0, q4_0, q4_k and q6_k weights with the numbers of 16 blocks of 32 side by side: as many bytes, made for
// AVX-512 VNNI. A product of a row then has a block in each of 16 lanes, so that nothing is added across lanes, no
// scale is spread over lanes, and a load is a whole line: as fast as memory gives bytes, where rows as files hold them
// are limited by instructions (one core of an EPYC 9004, in the cache: q8_0 28 to 48 GB/s, q4_0 22 to 42; from memory
// 18 to 23 and 20 to 23).
//
// For rows that are multiplied with x. Rows that are added up (down projections by neuron) gain nothing (q8_0) or an
// eighth (q4_0) and stay as they are.
//
// Rows of 1, 2, 4 or 8 blocks of q8_0 (what a small predictor has) fill no 16 lanes: 16 / blocks of them, one after
// another, may lie together as one row of 16 blocks does. Such a matrix is for linear() alone.
//
// A row: groups of 16 blocks, the last one of what is left. A group of L blocks of q8_0: 8 pieces of L x 4 bytes, piece
// c with values 4c … 4c + 3 of each block, then the L scales. Of q4_0: 4 pieces of L x 4 bytes, piece c with the
// nibbles' bytes 4c … 4c + 3 of each block, then the scales. So a row takes as many bytes as before.
// Of q4_k and q6_k, L is 8 or 16, the blocks of 32 of one or two blocks of 256, and nibbles lie as q4_0's: byte j of a
// block has value j and, above, value j + 16. Then, of q4_k: L bytes with the low four bits of each block's scale and,
// above, of its minimum; L / 2 bytes with, four bits a block, the two upper bits of both; the d, the dmin. Of q6_k: two
// pieces of L x 4 bytes with the upper bit pairs, in byte k of piece p those of the values 8p + k, 8p + k + 16,
// 8p + k + 4 and 8p + k + 20 from the lowest on; L scales of each block's first 16 values, L of its last; the d.
#pragma once

#include <vector>

#include "engine/kernels/dense.h"

namespace torpor {

/// Whether this processor multiplies such rows faster: AVX-512 VNNI, one of the four formats, rows of 512 values or
/// more.
bool interleaving_pays(NumberFormat format, std::int64_t in);

/// One row of `in` values; `to` must not overlap `from`. Throws InvalidArgument for other formats.
void interleave_row(NumberFormat format, std::int64_t in, const std::byte* from, std::byte* to);
/// The other way round.
void plain_row(NumberFormat format, std::int64_t in, const std::byte* from, std::byte* to);

/// The values of a row in the order in which it holds them, of 512 values or more: number p of it is value [p] of the
/// plain row. [in]
std::vector<std::int32_t> row_order(NumberFormat format, std::int64_t in);

/// Values [from, from + values.size()) of row `row` of interleaved w as f32; both multiples of the format's block.
void part_to_f32(const WeightMatrix& w, std::int64_t row, std::int64_t from, std::span<float> values);

/// Interleaves rows where they lie, w.row_stride() apart.
void interleave_in_place(WeightMatrix& w, std::byte* rows, ThreadPool* pool);

/// How many rows of [out, in] may lie together: 16 / blocks, or 1 where the format, the width or `out` does not allow.
int rows_together(NumberFormat format, std::int64_t out, std::int64_t in);
/// The fastest order here of a matrix that only linear() reads: sets w.interleaved and w.together. Rows must lie one
/// after another.
void choose_order(WeightMatrix& w);
/// choose_order(), and the rows are brought into it.
void order_in_place(WeightMatrix& w, std::byte* rows);

}  // namespace torpor
