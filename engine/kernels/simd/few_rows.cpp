#include <algorithm>
#include <functional>
#include <vector>

#include "core/base/error.h"
#include "engine/kernels/simd/quantised_rows.h"
#include "engine/kernels/simd/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/few_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/kernels/simd/dot_plain-inl.h"
#include "engine/kernels/simd/dot_quantised-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {

/// Calls dot(row of w, first row of x, out) for four rows of x at a time and stores with the bias. `dot` is a template
/// over the number of rows; the rows of w pass through L1 once for each four rows of x.
template <class Dot>
HWY_INLINE void each_output(const WeightMatrix& w, std::int64_t begin, std::int64_t end, std::int64_t rows,
                            const float* bias, float* y, const Dot& dot) {
  const std::int64_t stride = w.row_bytes();
  for (std::int64_t o = begin; o < end; ++o) {
    const std::byte* weights = w.data + o * stride;
    const float shift = bias == nullptr ? 0.0F : bias[o];
    for (std::int64_t r = 0; r < rows; r += 4) {
      float sums[4];
      const auto count = static_cast<int>(rows - r < 4 ? rows - r : 4);
      dot(weights, r, count, sums);
      for (int k = 0; k < count; ++k) y[(r + k) * w.out + o] = sums[k] + shift;
    }
  }
}

template <class T>
void plain_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const float* x, std::int64_t rows,
                   const float* bias, float* y) {
  each_output(w, begin, end, rows, bias, y, [&](const std::byte* p, std::int64_t r, int count, float* out) HWY_ATTR {
    const float* first = x + r * w.in;
    if (count == 1) return dot_plain<T, 1>(p, first, w.in, out);
    if (count == 2) return dot_plain<T, 2>(p, first, w.in, out);
    if (count == 3) return dot_plain<T, 3>(p, first, w.in, out);
    dot_plain<T, 4>(p, first, w.in, out);
  });
}

/// Any other format: through f32, one row at a time.
void converted_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const float* x, std::int64_t rows,
                       const float* bias, float* y) {
  std::vector<float> row(static_cast<std::size_t>(w.in));
  WeightMatrix one{NumberFormat::f32, reinterpret_cast<const std::byte*>(row.data()), 1, w.in};
  for (std::int64_t o = begin; o < end; ++o) {
    to_f32(w.format, w.row(o), row);
    for (std::int64_t r = 0; r < rows; ++r)
      plain_outputs<float>(one, 0, 1, x + r * w.in, 1, bias == nullptr ? nullptr : bias + o, y + r * w.out + o);
  }
}

#define TORPOR_QUANTISED_OUTPUTS(name, dot)                                                                         \
  void name(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const QuantisedRows& x, const float* bias, \
            float* y) {                                                                                             \
    each_output(w, begin, end, x.rows, bias, y,                                                                     \
                [&](const std::byte* p, std::int64_t r, int count, float* out) HWY_ATTR {                           \
                  const auto* bytes = reinterpret_cast<const std::uint8_t*>(p);                                     \
                  if (count == 1) return dot<1>(bytes, x, r, out);                                                  \
                  if (count == 2) return dot<2>(bytes, x, r, out);                                                  \
                  if (count == 3) return dot<3>(bytes, x, r, out);                                                  \
                  dot<4>(bytes, x, r, out);                                                                         \
                });                                                                                                 \
  }
TORPOR_QUANTISED_OUTPUTS(q8_0_outputs, dot_q8_0)
TORPOR_QUANTISED_OUTPUTS(q4_0_outputs, dot_q4_0)
TORPOR_QUANTISED_OUTPUTS(q4_k_outputs, dot_q4_k)
TORPOR_QUANTISED_OUTPUTS(q6_k_outputs, dot_q6_k)
#undef TORPOR_QUANTISED_OUTPUTS

void quantised_outputs(const WeightMatrix& w, std::int64_t begin, std::int64_t end, const QuantisedRows& x,
                       const float* bias, float* y) {
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
    default:
      return converted_outputs(w, begin, end, x, rows, bias, y);
  }
}

void quantise(const float* x, QuantisedRows& q) {
  quantise_rows(x, q);
}

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::simd {

HWY_EXPORT(outputs);
HWY_EXPORT(quantised_outputs);
HWY_EXPORT(quantise);

namespace {
// A thread gets work only for so many bytes of weights: waking it costs about as much as reading 64 KB.
constexpr std::int64_t kBytesPerThread = 64 << 10;
}  // namespace

void linear_few_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                     ThreadPool& pool) {
  // Every output is one dot product with its own fixed order of additions: any split gives the same bits.
  const std::int64_t grain = std::max<std::int64_t>(1, kBytesPerThread / std::max<std::int64_t>(1, w.row_bytes()));
  if (traits(w.format).quantised) {
    QuantisedRows q(rows, w.in);
    HWY_DYNAMIC_DISPATCH(quantise)(x, q);
    pool.parallel_for(w.out, grain, [&](long begin, long end, int) {
      HWY_DYNAMIC_DISPATCH(quantised_outputs)(w, begin, end, q, bias, y);
    });
    return;
  }
  const auto job = [&](long begin, long end, int) { HWY_DYNAMIC_DISPATCH(outputs)(w, begin, end, x, rows, bias, y); };
  pool.parallel_for(w.out, grain,
                    std::ref(job));  // by reference: a std::function of this size would allocate per token
}

}  // namespace torpor::simd
#endif
