#include <algorithm>
#include <functional>
#include <vector>

#include "core/base/error.h"
#include "engine/kernels/simd/quantised_rows.h"
#include "engine/kernels/simd/simd.h"
#include "engine/kernels/simd/vnni.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/few_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/kernels/simd/dot_plain-inl.h"
#include "engine/kernels/simd/dot_quantised-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {

/// Some rows of a matrix that are multiplied together, and those that are asked for meanwhile: the next ones, or, of
/// short rows that are taken one at a time, one further on. stride: w.row_bytes().
template <int kW>
struct RowGroup {
  static constexpr std::int64_t kAhead = 2560;             // bytes; half of it and twice are 0.93 as fast
  static constexpr std::int64_t kAheadInterleaved = 8192;  // EPYC 9004: 2560 is 0.75 as fast, 65536 as fast
  RowGroup(const WeightMatrix& w, std::int64_t stride, std::int64_t first) {
    const std::int64_t ahead_bytes = w.interleaved ? kAheadInterleaved : kAhead;
    const std::int64_t on = kW > 1 ? kW : std::max<std::int64_t>(1, ahead_bytes / stride);
    for (int k = 0; k < kW; ++k) {
      rows[k] = w.data + (first + k) * stride;
      ahead[k] = w.data + std::min(first + on + k, w.out - 1) * stride;
    }
  }
  const std::byte* rows[kW];
  const std::byte* ahead[kW];
};

/// Outputs [begin, end) for kX rows of x from row `first` on, kTogether at once. `dot` is a template over the rows of w
/// and of x.
template <int kX, int kTogether, class Dot>
HWY_INLINE void few_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, std::int64_t first,
                            const float* bias, float* y, const Dot& dot) {
  const std::int64_t stride = w.row_bytes();
  const auto group = [&]<int kW>(std::int64_t o) HWY_ATTR {
    const RowGroup<kW> rows(w, stride, o);
    float sums[kW * kX];
    dot.template operator()<kW, kX>(rows.rows, rows.ahead, first, sums);
    for (int k = 0; k < kW; ++k)
      for (int r = 0; r < kX; ++r)
        y[(first + r) * w.out + o + k] = sums[k * kX + r] + (bias == nullptr ? 0.0F : bias[o + k]);
  };
  std::int64_t o = begin;
  for (; o + kTogether <= end; o += kTogether) group.template operator()<kTogether>(o);
  for (; o < end; ++o) group.template operator()<1>(o);
}

/// Rows of x four at a time, so that the weights of a slice pass through the cache once for each four.
template <class Dot>
HWY_INLINE void each_output(const WeightMatrix& w, std::int64_t begin, std::int64_t end, std::int64_t rows,
                            const float* bias, float* y, const Dot& dot) {
  // A slice of rows of w that stays in the second-level cache while further rows of x use it.
  const std::int64_t slice = std::max<std::int64_t>(4, (std::int64_t{128} << 10) / w.row_bytes() / 4 * 4);
  for (std::int64_t from = begin; from < end; from += slice) {
    const std::int64_t to = rows > 4 ? std::min(end, from + slice) : end;
    for (std::int64_t r = 0; r < rows; r += 4) {
      switch (std::min<std::int64_t>(4, rows - r)) {
        case 1:
          if (w.interleaved || one_at_a_time(w.format, w.in))
            few_outputs<1, 1>(w, from, to, r, bias, y, dot);
          else if (two_at_a_time(w.format))
            few_outputs<1, 2>(w, from, to, r, bias, y, dot);
          else
            few_outputs<1, 4>(w, from, to, r, bias, y, dot);
          break;
        case 2:
          few_outputs<2, 2>(w, from, to, r, bias, y, dot);
          break;
        case 3:
          few_outputs<3, 2>(w, from, to, r, bias, y, dot);
          break;
        default:
          few_outputs<4, 2>(w, from, to, r, bias, y, dot);
      }
    }
    if (rows <= 4) return;
  }
}

template <class T>
void plain_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const float* x, std::int64_t rows,
                   const float* bias, float* y) {
  each_output(w, begin, end, rows, bias, y,
              [&]<int kW, int kX>(const std::byte* const* p, const std::byte* const* ahead, std::int64_t r, float* out)
                  HWY_ATTR { dot_plain<T, kW, kX>(p, ahead, x + r * w.in, w.in, out); });
}

/// Any other format: through f32, one row at a time.
void converted_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const float* x, std::int64_t rows,
                       const float* bias, float* y) {
  std::vector<float> row(static_cast<std::size_t>(w.in));
  WeightMatrix one{NumberFormat::f32, reinterpret_cast<const std::byte*>(row.data()), 1, w.in};
  for (std::int64_t o = begin; o < end; ++o) {
    row_to_f32(w, o, row);
    for (std::int64_t r = 0; r < rows; ++r)
      plain_outputs<float>(one, 0, 1, x + r * w.in, 1, bias == nullptr ? nullptr : bias + o, y + r * w.out + o);
  }
}

#define TORPOR_QUANTISED_OUTPUTS(name)                                                                        \
  void name##_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const QuantisedRows& x,    \
                      const float* bias, float* y) {                                                          \
    each_output(w, begin, end, x.rows, bias, y,                                                               \
                [&]<int kW, int kX>(const std::byte* const* p, const std::byte* const* ahead, std::int64_t r, \
                                    float* out) HWY_ATTR { dot_##name<kW, kX>(p, ahead, x, r, out); });       \
  }
TORPOR_QUANTISED_OUTPUTS(q8_0)
TORPOR_QUANTISED_OUTPUTS(q4_0)
TORPOR_QUANTISED_OUTPUTS(q4_k)
TORPOR_QUANTISED_OUTPUTS(q6_k)
#undef TORPOR_QUANTISED_OUTPUTS

#if HWY_TARGET == HWY_AVX3
template <bool kEight>
void interleaved_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const QuantisedRows& x,
                         const float* bias, float* y) {
  each_output(w, begin, end, x.rows, bias, y,
              [&]<int kW, int kX>(const std::byte* const* p, const std::byte* const* ahead, std::int64_t r, float* out)
                  HWY_ATTR { vnni::dot_interleaved<kEight, kW, kX>(p, ahead, x, r, out); });
}
#endif

void quantised_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const QuantisedRows& x,
                       const float* bias, float* y) {
#if HWY_TARGET == HWY_AVX3
  if (x.split == QuantisedRows::Split::interleaved)
    return w.format == NumberFormat::q8_0 ? interleaved_outputs<true>(w, begin, end, x, bias, y)
                                          : interleaved_outputs<false>(w, begin, end, x, bias, y);
  if (x.split == QuantisedRows::Split::together) {
    for (std::int64_t r = 0; r < x.rows; ++r) vnni::dot_together(w.data, begin, end, x, r, bias, y + r * w.out);
    return;
  }
#endif
  switch (w.format) {
    case NumberFormat::q8_0:
      return q8_0_outputs(w, begin, end, x, bias, y);
    case NumberFormat::q4_0:
      return q4_0_outputs(w, begin, end, x, bias, y);
    case NumberFormat::q4_k:
      return q4_k_outputs(w, begin, end, x, bias, y);
    default:
      return q6_k_outputs(w, begin, end, x, bias, y);
  }
}

void outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const float* x, std::int64_t rows,
             const float* bias, float* y) {
  switch (w.format) {
    case NumberFormat::f32:
      return plain_outputs<float>(w, begin, end, x, rows, bias, y);
    case NumberFormat::f16:
      return plain_outputs<hwy::float16_t>(w, begin, end, x, rows, bias, y);
    case NumberFormat::bf16:
      return plain_outputs<hwy::bfloat16_t>(w, begin, end, x, rows, bias, y);
    default:  // also interleaved rows where their instructions are switched off
      return converted_outputs(w, begin, end, x, rows, bias, y);
  }
}

void quantise(const float* x, const WeightMatrix& w, QuantisedRows& q) {
  quantise_rows(x, q);
#if HWY_TARGET == HWY_AVX3
  if (!vnni::available()) return;
  if (w.together > 1)
    vnni::split_together(q);
  else if (w.interleaved)
    vnni::split_interleaved(q);
  else if (w.format == NumberFormat::q4_0)
    vnni::split(q);
#else
  (void)w;
#endif
}

const char* this_target() {
  if (HWY_TARGET == HWY_AVX3 && vnni::available()) return "AVX-512 with VNNI";
  return hwy::TargetName(HWY_TARGET);
}

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::simd {

HWY_EXPORT(outputs);
HWY_EXPORT(quantised_outputs);
HWY_EXPORT(quantise);
HWY_EXPORT(this_target);

namespace {
// Pieces of weights that threads take: waking a thread for one costs less than reading it, and at the end no thread is
// waited for longer.
constexpr std::int64_t kPieceBytes = 128 << 10;
}  // namespace

const QuantisedRows* quantised_input(const WeightMatrix& w, const float* x, std::int64_t rows) {
  if (!traits(w.format).quantised || (w.interleaved && !vnni::available())) return nullptr;
  QuantisedRows& q = quantised_rows(rows, w.in);
  HWY_DYNAMIC_DISPATCH(quantise)(x, w, q);
  return &q;
}

const char* target_name() {
  return HWY_DYNAMIC_DISPATCH(this_target)();
}

void linear_few_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                     ThreadPool& pool) {
  // Every output is one dot product with its own fixed order of additions: any split gives the same bits.
  const std::int64_t group = std::max(4, w.together);  // both powers of two
  const std::int64_t grain =
      std::max<std::int64_t>(1, kPieceBytes / std::max<std::int64_t>(1, w.row_bytes()) / group) * group;
  if (const QuantisedRows* const q = quantised_input(w, x, rows)) {
    const auto job = [&](long begin, long end, int) {
      HWY_DYNAMIC_DISPATCH(quantised_outputs)(w, begin, end, *q, bias, y);
    };
    return pool.parallel_for_balanced(w.out, grain, std::ref(job));
  }
  const auto job = [&](long begin, long end, int) { HWY_DYNAMIC_DISPATCH(outputs)(w, begin, end, x, rows, bias, y); };
  pool.parallel_for_balanced(w.out, grain,
                             std::ref(job));  // by reference: a std::function of this size would allocate per token
}

}  // namespace torpor::simd
#endif
