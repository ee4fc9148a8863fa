// The columns of a matrix as rows: files hold a down projection with a neuron in each column; what skips neurons wants
// them in rows.
#pragma once

#include <cstdint>

#include "engine/kernels/dense.h"

namespace torpor {

/// Columns that are turned at once: whole blocks of the format, and few enough that as many times w.out floats stay in
/// the second-level cache.
std::int64_t turned_at_once(NumberFormat format);

/// out[(i - begin) * w.out + o] = w[o, i] for the columns begin <= i < end, as f32. begin: a multiple of
/// turned_at_once(w.format); end: another, or w.in.
void turned_rows(const WeightMatrix& w, std::int64_t begin, std::int64_t end, float* out);

}  // namespace torpor
