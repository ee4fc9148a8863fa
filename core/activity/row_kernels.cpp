#include "core/activity/row_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/activity/row_kernels.cpp"
#include "hwy/foreach_target.h"  // compiles this file once for each instruction set
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::detail {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::int32_t kInfinityBits = 0x7f800000;

RowSummary SummarizeRow(const float* HWY_RESTRICT a, const float* HWY_RESTRICT norms, const float* HWY_RESTRICT cuts,
                        std::int64_t n, float* HWY_RESTRICT m) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto zero = hn::Zero(d);
  // Bits of magnitudes are ordered like the magnitudes, and NaN is above infinity: one integer maximum finds both the
  // largest value and whatever is not finite.
  auto largest_a = hn::Zero(di), largest_m = hn::Zero(di), zeros = hn::Zero(di), active = hn::Zero(di);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto x = hn::Abs(hn::LoadU(d, a + i));
    const auto magnitude = hn::Mul(x, hn::LoadU(d, norms + i));
    hn::StoreU(magnitude, d, m + i);
    largest_a = hn::Max(largest_a, hn::BitCast(di, x));
    largest_m = hn::Max(largest_m, hn::BitCast(di, magnitude));
    zeros = hn::Sub(zeros, hn::BitCast(di, hn::VecFromMask(d, hn::Eq(x, zero))));
    active = hn::Sub(active, hn::BitCast(di, hn::VecFromMask(d, hn::Gt(x, hn::LoadU(d, cuts + i)))));
  }
  RowSummary out;
  std::int32_t top_a = hn::GetLane(hn::MaxOfLanes(di, largest_a));
  std::int32_t top_m = hn::GetLane(hn::MaxOfLanes(di, largest_m));
  out.zeros = hn::GetLane(hn::SumOfLanes(di, zeros));
  out.active = hn::GetLane(hn::SumOfLanes(di, active));
  for (; i < n; ++i) {
    const float x = std::fabs(a[i]);
    m[i] = x * norms[i];
    top_a = std::max(top_a, std::bit_cast<std::int32_t>(x));
    top_m = std::max(top_m, std::bit_cast<std::int32_t>(m[i]));
    out.zeros += x == 0 ? 1 : 0;
    out.active += x > cuts[i] ? 1 : 0;
  }
  out.finite = top_a < kInfinityBits && top_m < kInfinityBits;
  out.max_magnitude = std::bit_cast<float>(top_m);
  return out;
}

void OctaveHistogram(const float* HWY_RESTRICT m, std::int64_t n, float largest, std::uint32_t* HWY_RESTRICT counts) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  constexpr std::int64_t kBlock = 512;
  alignas(64) std::int32_t octave[kBlock];
  // Four histograms: neighbours mostly fall into the same octave, and a counter's next increment waits for its last.
  std::uint32_t part[4][kOctaves + 1] = {};
  const auto divisor = hn::Set(d, largest);
  const auto one = hn::Set(di, 1);
  const auto last = hn::Set(di, kOctaves - 1);
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, n - begin);
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      const auto x = hn::LoadU(d, m + begin + i);
      // Octave j holds (2^-(j+1), 2^-j]: one below the bits, so that an exact power of two falls to the lower side.
      const auto bits = hn::Sub(hn::BitCast(di, hn::Div(x, divisor)), one);
      auto j = hn::Sub(hn::Set(di, 126), hn::ShiftRight<23>(bits));
      j = hn::Min(hn::Max(j, hn::Zero(di)), last);
      const auto is_zero = hn::RebindMask(di, hn::Eq(x, hn::Zero(d)));
      hn::StoreU(hn::IfThenElse(is_zero, hn::Set(di, kOctaves), j), di, octave + i);
    }
    for (; i < count; ++i) {
      const float x = m[begin + i];
      const std::int32_t j = 126 - ((std::bit_cast<std::int32_t>(x / largest) - 1) >> 23);
      octave[i] = x == 0 ? kOctaves : std::clamp(j, 0, kOctaves - 1);
    }
    for (i = 0; i + 4 <= count; i += 4)
      for (std::int64_t k = 0; k < 4; ++k) ++part[k][octave[i + k]];
    for (; i < count; ++i) ++part[0][octave[i]];
  }
  for (int j = 0; j <= kOctaves; ++j) counts[j] += part[0][j] + part[1][j] + part[2][j] + part[3][j];
}

void ColumnSums(const float* HWY_RESTRICT values, std::int64_t n, std::span<const std::int64_t> rows,
                const float* HWY_RESTRICT cuts, std::int64_t begin, std::int64_t end, double* HWY_RESTRICT sums,
                std::uint64_t* HWY_RESTRICT active) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> d;
  const hn::Rebind<std::int32_t, decltype(dd)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(dd));
  std::int64_t i = begin;
  alignas(64) std::int32_t buffer[HWY_MAX_BYTES / 4];
  // Two vectors of neurons at a time stay in registers over all rows: 8 floats on AVX2, half a cache line.
  for (; i + 2 * lanes <= end; i += 2 * lanes) {
    auto s0 = hn::LoadU(dd, sums + i), s1 = hn::LoadU(dd, sums + i + lanes);
    auto c0 = hn::Zero(di), c1 = hn::Zero(di);
    const auto cut0 = hn::LoadU(d, cuts + i), cut1 = hn::LoadU(d, cuts + i + lanes);
    for (const std::int64_t r : rows) {
      const float* row = values + r * n + i;
      const auto x0 = hn::Abs(hn::LoadU(d, row)), x1 = hn::Abs(hn::LoadU(d, row + lanes));
      s0 = hn::Add(s0, hn::PromoteTo(dd, x0));
      s1 = hn::Add(s1, hn::PromoteTo(dd, x1));
      c0 = hn::Sub(c0, hn::BitCast(di, hn::VecFromMask(d, hn::Gt(x0, cut0))));
      c1 = hn::Sub(c1, hn::BitCast(di, hn::VecFromMask(d, hn::Gt(x1, cut1))));
    }
    hn::StoreU(s0, dd, sums + i);
    hn::StoreU(s1, dd, sums + i + lanes);
    hn::StoreU(c0, di, buffer);
    for (std::int64_t k = 0; k < lanes; ++k) active[i + k] += static_cast<std::uint64_t>(buffer[k]);
    hn::StoreU(c1, di, buffer);
    for (std::int64_t k = 0; k < lanes; ++k) active[i + lanes + k] += static_cast<std::uint64_t>(buffer[k]);
  }
  for (; i < end; ++i)
    for (const std::int64_t r : rows) {
      const float x = std::fabs(values[r * n + i]);
      sums[i] += x;
      active[i] += x > cuts[i] ? 1 : 0;
    }
}

void AddScaledRows(const float* HWY_RESTRICT a, std::span<const std::int32_t> neurons, const float* HWY_RESTRICT rows,
                   std::int64_t width, float* HWY_RESTRICT sum) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::size_t k = 0;
  // Four rows for each load and store of the sum.
  for (; k + 4 <= neurons.size(); k += 4) {
    const float x[4] = {a[neurons[k]], a[neurons[k + 1]], a[neurons[k + 2]], a[neurons[k + 3]]};
    const float* w[4];
    for (std::size_t j = 0; j < 4; ++j) w[j] = rows + neurons[k + j] * width;
    const auto x0 = hn::Set(d, x[0]), x1 = hn::Set(d, x[1]), x2 = hn::Set(d, x[2]), x3 = hn::Set(d, x[3]);
    std::int64_t i = 0;
    for (; i + lanes <= width; i += lanes) {
      auto s = hn::LoadU(d, sum + i);
      s = hn::MulAdd(x0, hn::LoadU(d, w[0] + i), s);
      s = hn::MulAdd(x1, hn::LoadU(d, w[1] + i), s);
      s = hn::MulAdd(x2, hn::LoadU(d, w[2] + i), s);
      s = hn::MulAdd(x3, hn::LoadU(d, w[3] + i), s);
      hn::StoreU(s, d, sum + i);
    }
    for (; i < width; ++i) sum[i] += x[0] * w[0][i] + x[1] * w[1][i] + x[2] * w[2][i] + x[3] * w[3][i];
  }
  for (; k < neurons.size(); ++k) {
    const float x = a[neurons[k]];
    const float* w = rows + neurons[k] * width;
    const auto xs = hn::Set(d, x);
    std::int64_t i = 0;
    for (; i + lanes <= width; i += lanes)
      hn::StoreU(hn::MulAdd(xs, hn::LoadU(d, w + i), hn::LoadU(d, sum + i)), d, sum + i);
    for (; i < width; ++i) sum[i] += x * w[i];
  }
}

double SquaredNorm(const float* HWY_RESTRICT x, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  double total = 0;
  std::int64_t i = 0;
  // f32 partial sums of at most 64 vectors, then double.
  while (i + lanes <= n) {
    auto s = hn::Zero(d);
    for (int k = 0; k < 64 && i + lanes <= n; ++k, i += lanes) {
      const auto v = hn::LoadU(d, x + i);
      s = hn::MulAdd(v, v, s);
    }
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, s)));
  }
  for (; i < n; ++i) total += static_cast<double>(x[i]) * x[i];
  return total;
}

std::int64_t MaskAbove(const float* HWY_RESTRICT a, const float* HWY_RESTRICT cuts, std::int64_t n,
                       std::uint64_t* HWY_RESTRICT words) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t count = 0;
  for (std::int64_t begin = 0; begin < n; begin += 64) {
    const std::int64_t end = std::min(begin + 64, n);
    std::uint64_t word = 0;
    std::int64_t i = begin;
    if (lanes <= 64) {
      for (; i + lanes <= end; i += lanes) {
        std::uint8_t bytes[HWY_MAX_BYTES / 32 + 8] = {};
        const auto mask = hn::Gt(hn::Abs(hn::LoadU(d, a + i)), hn::LoadU(d, cuts + i));
        const std::size_t stored = hn::StoreMaskBits(d, mask, bytes);
        std::uint64_t bits = 0;
        std::memcpy(&bits, bytes, std::min<std::size_t>(stored, 8));
        if (lanes < 64) bits &= (std::uint64_t{1} << lanes) - 1;
        word |= bits << (i - begin);
      }
    }
    for (; i < end; ++i) word |= static_cast<std::uint64_t>(std::fabs(a[i]) > cuts[i] ? 1 : 0) << (i - begin);
    words[begin / 64] = word;
    count += std::popcount(word);
  }
  return count;
}

std::int64_t ZeroBelow(float* HWY_RESTRICT a, const float* HWY_RESTRICT cuts, std::int64_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto kept = hn::Zero(di);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto x = hn::LoadU(d, a + i);
    const auto keep = hn::Gt(hn::Abs(x), hn::LoadU(d, cuts + i));
    hn::StoreU(hn::IfThenElseZero(keep, x), d, a + i);
    kept = hn::Sub(kept, hn::BitCast(di, hn::VecFromMask(d, keep)));
  }
  std::int64_t count = hn::GetLane(hn::SumOfLanes(di, kept));
  for (; i < n; ++i) {
    const bool keep = std::fabs(a[i]) > cuts[i];
    if (!keep) a[i] = 0;
    count += keep ? 1 : 0;
  }
  return count;
}

void CentredSums(const float* HWY_RESTRICT x, std::int64_t n, double origin, double* HWY_RESTRICT sum,
                 double* HWY_RESTRICT squares) {
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(dd));
  const auto from = hn::Set(dd, origin);
  auto s0 = hn::Zero(dd), s1 = hn::Zero(dd), s2 = hn::Zero(dd), s3 = hn::Zero(dd);
  auto q0 = hn::Zero(dd), q1 = hn::Zero(dd), q2 = hn::Zero(dd), q3 = hn::Zero(dd);
  const auto centred = [&](std::int64_t at) HWY_ATTR { return hn::Sub(hn::PromoteTo(dd, hn::LoadU(d, x + at)), from); };
  std::int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto a = centred(i), b = centred(i + lanes), c = centred(i + 2 * lanes), e = centred(i + 3 * lanes);
    s0 = hn::Add(s0, a);
    s1 = hn::Add(s1, b);
    s2 = hn::Add(s2, c);
    s3 = hn::Add(s3, e);
    q0 = hn::MulAdd(a, a, q0);
    q1 = hn::MulAdd(b, b, q1);
    q2 = hn::MulAdd(c, c, q2);
    q3 = hn::MulAdd(e, e, q3);
  }
  *sum = hn::GetLane(hn::SumOfLanes(dd, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  *squares = hn::GetLane(hn::SumOfLanes(dd, hn::Add(hn::Add(q0, q1), hn::Add(q2, q3))));
  for (; i < n; ++i) {
    const double y = static_cast<double>(x[i]) - origin;
    *sum += y;
    *squares += y * y;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace torpor::detail
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::detail {

HWY_EXPORT(SummarizeRow);
HWY_EXPORT(OctaveHistogram);
HWY_EXPORT(ColumnSums);
HWY_EXPORT(AddScaledRows);
HWY_EXPORT(SquaredNorm);
HWY_EXPORT(MaskAbove);
HWY_EXPORT(ZeroBelow);
HWY_EXPORT(CentredSums);

RowSummary summarize_row(const float* a, const float* norms, const float* cuts, std::int64_t n, float* m) {
  return HWY_DYNAMIC_DISPATCH(SummarizeRow)(a, norms, cuts, n, m);
}
void octave_histogram(const float* m, std::int64_t n, float largest, std::uint32_t* counts) {
  HWY_DYNAMIC_DISPATCH(OctaveHistogram)(m, n, largest, counts);
}
void column_sums(const float* values, std::int64_t n, std::span<const std::int64_t> rows, const float* cuts,
                 std::int64_t begin, std::int64_t end, double* sums, std::uint64_t* active) {
  HWY_DYNAMIC_DISPATCH(ColumnSums)(values, n, rows, cuts, begin, end, sums, active);
}
void add_scaled_rows(const float* a, std::span<const std::int32_t> neurons, const float* rows, std::int64_t width,
                     float* sum) {
  HWY_DYNAMIC_DISPATCH(AddScaledRows)(a, neurons, rows, width, sum);
}
double squared_norm(const float* x, std::int64_t n) {
  return HWY_DYNAMIC_DISPATCH(SquaredNorm)(x, n);
}
std::int64_t mask_above(const float* a, const float* cuts, std::int64_t n, std::uint64_t* words) {
  return HWY_DYNAMIC_DISPATCH(MaskAbove)(a, cuts, n, words);
}
std::int64_t zero_below(float* a, const float* cuts, std::int64_t n) {
  return HWY_DYNAMIC_DISPATCH(ZeroBelow)(a, cuts, n);
}
CentredMoments centred_sums(const float* x, std::int64_t n, double origin) {
  CentredMoments out;
  HWY_DYNAMIC_DISPATCH(CentredSums)(x, n, origin, &out.sum, &out.squares);
  return out;
}

}  // namespace torpor::detail
#endif  // HWY_ONCE
