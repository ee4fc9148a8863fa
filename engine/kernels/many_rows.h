// linear() for many rows through oneDNN's matrix product (prefill). Internal: arguments were checked by dense.cpp.
#pragma once

#include "engine/kernels/dense.h"

namespace torpor {

/// From this many rows on, oneDNN is faster than reading the weights with dot products (`bench_kernels change`).
std::int64_t many_rows_from(const WeightMatrix& w, Products products);
/// The same of linear_turned(), whose few rows the kernel of sparse.h multiplies.
std::int64_t many_turned_rows_from(const WeightMatrix& w);

void linear_many_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                      ThreadPool& pool, Products products);
void linear_turned_many_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                             ThreadPool& pool, Products products);

}  // namespace torpor
