#include <algorithm>
#include <functional>
#include <type_traits>
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

/// Some rows of a matrix that are multiplied together, and what is asked for meanwhile: the next rows, or, of rows that
/// are taken one at a time, what lies a few KB further on.
template <int kW>
struct RowGroup {
  /// stride: w.row_bytes().
  RowGroup(const WeightMatrix& w, std::int64_t stride, std::int64_t first) {
    const std::int64_t on = kW > 1 ? kW * stride : w.interleaved || on_amd() ? kFarAhead : kAhead;
    for (int k = 0; k < kW; ++k) {
      rows[k] = w.data + (first + k) * stride;
      ahead[k] = w.data + std::min((first + k) * stride + on, (w.out - 1) * stride);
    }
  }
  // Bytes. Half of kAhead and twice are 0.93 as fast on a Xeon. EPYC 9005: 4096 to 8192 are as fast as 6144 at a width
  // of 2048; at 9216, 2560 and 8192 are 0.92 as fast.
  static constexpr std::int64_t kAhead = 2560, kFarAhead = 6144;
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
  const std::int64_t stride = std::is_same_v<T, hwy::bfloat16_t> ? paired_width(w.in) : w.in;
  each_output(w, begin, end, rows, bias, y,
              [&]<int kW, int kX>(const std::byte* const* p, const std::byte* const* ahead, std::int64_t r, float* out)
                  HWY_ATTR { dot_plain<T, kW, kX>(p, ahead, x + r * stride, w.in, out); });
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
void interleaved_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const QuantisedRows& x,
                         const float* bias, float* y) {
  each_output(w, begin, end, x.rows, bias, y,
              [&]<int kW, int kX>(const std::byte* const* p, const std::byte* const* ahead, std::int64_t r, float* out)
                  HWY_ATTR { vnni::dot_interleaved<kW, kX>(w.format, p, ahead, x, r, out); });
}
#endif

void quantised_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const QuantisedRows& x,
                       const float* bias, float* y) {
#if HWY_TARGET == HWY_AVX3
  if (x.split == QuantisedRows::Split::interleaved) return interleaved_outputs(w, begin, end, x, bias, y);
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

void outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const InputRows& x, std::int64_t rows,
             const float* bias, float* y) {
  if (x.quantised != nullptr) return quantised_outputs(w, begin, end, *x.quantised, bias, y);
  switch (w.format) {
    case NumberFormat::f32:
      return plain_outputs<float>(w, begin, end, x.plain, rows, bias, y);
    case NumberFormat::f16:
      return plain_outputs<hwy::float16_t>(w, begin, end, x.plain, rows, bias, y);
    case NumberFormat::bf16:
      return plain_outputs<hwy::bfloat16_t>(w, begin, end, x.pairs, rows, bias, y);
    default:  // also interleaved rows where their instructions are switched off
      return converted_outputs(w, begin, end, x.plain, rows, bias, y);
  }
}

InputRows prepare(const WeightMatrix& w, const float* x, std::int64_t rows) {
  InputRows result{.plain = x};
  if (w.format == NumberFormat::bf16) {
    float* const pairs = paired_rows(rows * paired_width(w.in));
    pair_up(x, rows, w.in, pairs);
    result.pairs = pairs;
  }
  if (!traits(w.format).quantised || (w.interleaved && !vnni::available())) return result;
  QuantisedRows& q = quantised_rows(rows, w.in);
  result.quantised = &q;
  quantise_rows(x, q);
#if HWY_TARGET == HWY_AVX3
  if (!vnni::available()) return result;
  if (w.together > 1)
    vnni::split_together(q);
  else if (w.interleaved)
    vnni::split_interleaved(q);
  else if (w.format == NumberFormat::q4_0)
    vnni::split(q);
#endif
  return result;
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
HWY_EXPORT(prepare);
HWY_EXPORT(this_target);

namespace {
// Pieces of weights that threads take: waking a thread for one costs less than reading it, and at the end no thread is
// waited for longer.
constexpr std::int64_t kPieceBytes = 128 << 10;
}  // namespace

InputRows input_rows(const WeightMatrix& w, const float* x, std::int64_t rows) {
  return HWY_DYNAMIC_DISPATCH(prepare)(w, x, rows);
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
  const InputRows input = input_rows(w, x, rows);
  const auto job = [&](long begin, long end, int) {
    HWY_DYNAMIC_DISPATCH(outputs)(w, begin, end, input, rows, bias, y);
  };
  pool.parallel_for_balanced(w.out, grain,
                             std::ref(job));  // by reference: a std::function of this size would allocate per token
}

}  // namespace torpor::simd
#endif
