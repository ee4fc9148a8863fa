// x[r] . w[k] for one to four rows of f32, f16 or bf16 weights and one to four rows of x: decode's inner loop. The
// weights come from memory; x stays in L1.

#if defined(TORPOR_KERNELS_SIMD_DOT_PLAIN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_DOT_PLAIN_INL_H_
#undef TORPOR_KERNELS_SIMD_DOT_PLAIN_INL_H_
#else
#define TORPOR_KERNELS_SIMD_DOT_PLAIN_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/tensor/number_format.h"
#include "engine/kernels/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Weights of type T (float, hwy::float16_t, hwy::bfloat16_t) as f32, two vectors at a time, and x in the same order.
template <class T>
struct PlainWeights {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  static constexpr std::int64_t kBytes = sizeof(T);

  static HWY_INLINE void load(const std::byte* p, V& first, V& second) {
    const D d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    first = load_one(p);
    second = load_one(p + lanes * kBytes);
  }
  static HWY_INLINE void load_x(const float* x, V& first, V& second) {
    const D d;
    first = hn::LoadU(d, x);
    second = hn::LoadU(d, x + hn::Lanes(d));
  }

 private:
  static HWY_INLINE V load_one(const std::byte* p) {
    const D d;
    if constexpr (sizeof(T) == sizeof(float)) {
      return hn::LoadU(d, reinterpret_cast<const float*>(p));
    } else {
      const hn::Rebind<T, D> narrow;
      return hn::PromoteTo(d, hn::LoadU(narrow, reinterpret_cast<const T*>(p)));
    }
  }
};

/// Two bf16 numbers to a 32-bit lane: the upper one is an f32 once the lower half is cleared, the lower one once it is
/// shifted up; so the even values and then the odd ones. Widening them would take the one port that can. x is in that
/// order beforehand: sorting it in the loop holds one thread of an EPYC 9005 at 0.71 of the read bandwidth, not 0.92.
template <>
struct PlainWeights<hwy::bfloat16_t> {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  static constexpr std::int64_t kBytes = 2;

  static HWY_INLINE void load(const std::byte* p, V& even, V& odd) {
    const D d;
    const hn::RebindToUnsigned<D> du;
    const auto pairs = hn::LoadU(du, reinterpret_cast<const std::uint32_t*>(p));
    even = hn::BitCast(d, hn::ShiftLeft<16>(pairs));
    odd = hn::BitCast(d, hn::And(pairs, hn::Set(du, 0xFFFF0000U)));
  }
  static HWY_INLINE void load_x(const float* x, V& even, V& odd) {
    const D d;
    even = hn::LoadU(d, x);
    odd = hn::LoadU(d, x + hn::Lanes(d));
  }
};

/// x as products with bf16 weights read it: of each 2 N values, N to a vector, the even ones first; the last ones of a
/// row, padded with zeros, likewise. to: [rows, paired_width(in)].
inline std::int64_t paired_width(std::int64_t in) {
  const hn::ScalableTag<float> d;
  const auto step = static_cast<std::int64_t>(2 * hn::Lanes(d));
  return (in + step - 1) / step * step;
}
inline void pair_up(const float* x, std::int64_t rows, std::int64_t in, float* to) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d)), width = paired_width(in);
  for (std::int64_t r = 0; r < rows; ++r, x += in, to += width) {
    std::int64_t i = 0;
    hn::Vec<decltype(d)> even, odd;
    for (; i + 2 * lanes <= in; i += 2 * lanes) {
      hn::LoadInterleaved2(d, x + i, even, odd);
      hn::StoreU(even, d, to + i);
      hn::StoreU(odd, d, to + i + lanes);
    }
    if (i == in) continue;
    HWY_ALIGN float rest[2 * HWY_MAX_BYTES / sizeof(float)] = {};
    std::memcpy(rest, x + i, static_cast<std::size_t>(in - i) * sizeof(float));
    hn::LoadInterleaved2(d, rest, even, odd);
    hn::StoreU(even, d, to + i);
    hn::StoreU(odd, d, to + i + lanes);
  }
}

/// Whether rows of weights are multiplied one at a time with one row of x, else four. One stream of bytes is what
/// machines fetch ahead best, but x is loaded for each row anew. Xeon: short rows of q8_0, 0.97 of the read bandwidth
/// against 0.81 (width 2304; width 9216: 0.82 against 0.98). EPYC 9005, one thread: bf16 0.92 against 0.84 for two rows
/// and 0.71 for four, f16 0.95 against 0.80 and 0.76 (width 2048; width 9216: no difference).
inline bool one_at_a_time(NumberFormat format, std::int64_t in) {
  if (format == NumberFormat::q8_0) return in < 4096;
  return on_amd() && !traits(format).quantised;
}

/// out[k * kX + r] = sum_i x[r][i] * w[k][i], k < kW, r < kX. x: rows of `in` values, or of paired_width(in), paired
/// up, for bf16. ahead: rows to ask for meanwhile. The order of the additions is the same for every kW and kX.
template <class T, int kW, int kX>
HWY_INLINE void dot_plain(const std::byte* const* w, const std::byte* const* ahead, const float* HWY_RESTRICT x,
                          std::int64_t in, float* out) {
  using W = PlainWeights<T>;
  const typename W::D d;
  using V = typename W::V;
  const auto step = static_cast<std::int64_t>(2 * hn::Lanes(d));
  constexpr bool kPairs = std::is_same_v<T, hwy::bfloat16_t>;
  const std::int64_t stride = kPairs ? paired_width(in) : in;
  V sum[kW][kX][2];
  TORPOR_UNROLL
  for (int k = 0; k < kW; ++k) TORPOR_UNROLL
  for (int r = 0; r < kX; ++r) sum[k][r][0] = sum[k][r][1] = hn::Zero(d);
  const auto add = [&](int k, const std::byte* weights, const V(&values)[kX][2]) HWY_ATTR {
    V first, second;
    W::load(weights, first, second);
    TORPOR_UNROLL
    for (int r = 0; r < kX; ++r) {
      sum[k][r][0] = hn::MulAdd(first, values[r][0], sum[k][r][0]);
      sum[k][r][1] = hn::MulAdd(second, values[r][1], sum[k][r][1]);
    }
  };

  const bool to_first_level = on_amd();
  V values[kX][2];
  std::int64_t i = 0;
  for (; i + step <= in; i += step) {
    TORPOR_UNROLL
    for (int r = 0; r < kX; ++r) W::load_x(x + r * stride + i, values[r][0], values[r][1]);
    TORPOR_UNROLL
    for (int k = 0; k < kW; ++k) {
      constexpr std::int64_t kLine = 64;
      const std::int64_t bytes = step * W::kBytes;
      for (std::int64_t b = 0; b < bytes; b += kLine) prefetch(ahead[k] + i * W::kBytes + b, to_first_level);
      add(k, w[k] + i * W::kBytes, values);
    }
  }
  if (i < in) {
    HWY_ALIGN float rest[2 * HWY_MAX_BYTES / sizeof(float)] = {};
    TORPOR_UNROLL
    for (int r = 0; r < kX; ++r) {
      if (!kPairs) std::memcpy(rest, x + r * stride + i, static_cast<std::size_t>(in - i) * sizeof(float));
      W::load_x(kPairs ? x + r * stride + i : rest, values[r][0], values[r][1]);
    }
    TORPOR_UNROLL
    for (int k = 0; k < kW; ++k) {
      HWY_ALIGN std::byte weights[2 * HWY_MAX_BYTES] = {};
      std::memcpy(weights, w[k] + i * W::kBytes, static_cast<std::size_t>((in - i) * W::kBytes));
      add(k, weights, values);
    }
  }
  TORPOR_UNROLL
  for (int k = 0; k < kW; ++k) TORPOR_UNROLL
  for (int r = 0; r < kX; ++r) out[k * kX + r] = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[k][r][0], sum[k][r][1])));
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
