// The inner loops of the statistics: SIMD through Highway, the instruction set chosen at run time. Internal to
// core/activity; nothing here knows what is measured. Results do not depend on the instruction set except for the order
// of additions in add_scaled_rows, squared_norm and centred_sums. All functions are thread-safe.
#pragma once

#include <cstdint>
#include <span>

namespace torpor::detail {

struct RowSummary {
  float max_magnitude = 0;  // max m_i
  std::int64_t zeros = 0;   // #{a_i == 0}
  std::int64_t active = 0;  // #{|a_i| > cut_i}
  bool finite = true;       // every a_i and m_i
};

/// m_i = |a_i| * norm_i for one row, and its summary. All arrays [n].
RowSummary summarize_row(const float* a, const float* norms, const float* cuts, std::int64_t n, float* m);

inline constexpr int kOctaves = 32;

/// counts[j] += #{i : 2^-(j+1) < m_i / largest <= 2^-j}, the last one takes the rest; counts[kOctaves] += #{m_i == 0}.
/// largest > 0, finite. counts: [kOctaves + 1].
void octave_histogram(const float* m, std::int64_t n, float largest, std::uint32_t* counts);

/// For neurons [begin, end) over the listed rows of values ([rows, n] row-major, stride n): sums[i] += |a_i| in double,
/// in the order of the rows; active[i] += (|a_i| > cut_i).
void column_sums(const float* values, std::int64_t n, std::span<const std::int64_t> rows, const float* cuts,
                 std::int64_t begin, std::int64_t end, double* sums, std::uint64_t* active);

/// sum += sum over the listed neurons of a_i * rows[i]. rows: [neurons, width], sum: [width].
void add_scaled_rows(const float* a, std::span<const std::int32_t> neurons, const float* rows, std::int64_t width,
                     float* sum);

double squared_norm(const float* x, std::int64_t n);

/// Bit i of words is set where |a_i| > cut_i. words: [(n + 63) / 64]. Returns how many.
std::int64_t mask_above(const float* a, const float* cuts, std::int64_t n, std::uint64_t* words);

/// a_i = 0 where |a_i| <= cut_i. Returns how many stay.
std::int64_t zero_below(float* a, const float* cuts, std::int64_t n);

struct CentredMoments {
  double sum = 0, squares = 0;
};

/// Sums of x_i - origin and of its square, in f64.
CentredMoments centred_sums(const float* x, std::int64_t n, double origin);

}  // namespace torpor::detail
