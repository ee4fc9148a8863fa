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

#include "core/tensor/number_format.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Asks for a line of weights. Into the second-level cache: a core waits for more lines there than the first level can
/// have under way (lists of rows: 13.5 GB/s against 12.5 on one core of a Xeon whose plain reading gives 15.7).
HWY_INLINE void prefetch(const std::byte* p) {
  __builtin_prefetch(p, 0, 2);
}

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
/// shifted up; so the even values and then the odd ones. Widening them would take the one port that can.
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
  static HWY_INLINE void load_x(const float* x, V& even, V& odd) { hn::LoadInterleaved2(D(), x, even, odd); }
};

/// Whether rows of weights are multiplied one at a time with one row of x, else four. Loading x is a good part of the
/// work, so that it is best loaded once for several rows (bf16: one at a time reaches two thirds of the rate of four).
/// Short rows of q8_0 have little of it, and one stream of bytes is what machines fetch ahead best: 0.97 of the read
/// bandwidth against 0.81 (width 2304; width 9216: 0.82 against 0.98).
constexpr bool one_at_a_time(NumberFormat format, std::int64_t in) {
  return format == NumberFormat::q8_0 && in < 4096;
}

/// AMD's processors follow two streams of bytes best: bf16 reaches 0.93 of the read bandwidth of one thread, 0.81 with
/// four (EPYC 9004, width 2048).
inline bool two_at_a_time(NumberFormat format) {
#if HWY_ARCH_X86
  static const bool amd = __builtin_cpu_is("amd") != 0;
  return amd && (format == NumberFormat::bf16 || format == NumberFormat::f16);
#else
  static_cast<void>(format);
  return false;
#endif
}

/// out[k * kX + r] = sum_i x[r * in + i] * w[k][i], k < kW, r < kX. ahead: rows to ask for meanwhile. The order of the
/// additions is the same for every kW and kX.
template <class T, int kW, int kX>
HWY_INLINE void dot_plain(const std::byte* const* w, const std::byte* const* ahead, const float* HWY_RESTRICT x,
                          std::int64_t in, float* out) {
  using W = PlainWeights<T>;
  const typename W::D d;
  using V = typename W::V;
  const auto step = static_cast<std::int64_t>(2 * hn::Lanes(d));
  V sum[kW][kX][2];
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) sum[k][r][0] = sum[k][r][1] = hn::Zero(d);
  const auto add = [&](int k, const std::byte* weights, const V(&values)[kX][2]) HWY_ATTR {
    V first, second;
    W::load(weights, first, second);
    for (int r = 0; r < kX; ++r) {
      sum[k][r][0] = hn::MulAdd(first, values[r][0], sum[k][r][0]);
      sum[k][r][1] = hn::MulAdd(second, values[r][1], sum[k][r][1]);
    }
  };

  V values[kX][2];
  std::int64_t i = 0;
  for (; i + step <= in; i += step) {
    for (int r = 0; r < kX; ++r) W::load_x(x + r * in + i, values[r][0], values[r][1]);
    for (int k = 0; k < kW; ++k) {
      constexpr std::int64_t kLine = 64;
      const std::int64_t bytes = step * W::kBytes;
      for (std::int64_t b = 0; b < bytes; b += kLine) prefetch(ahead[k] + i * W::kBytes + b);
      add(k, w[k] + i * W::kBytes, values);
    }
  }
  if (i < in) {
    HWY_ALIGN float rest[2 * HWY_MAX_BYTES / sizeof(float)] = {};
    for (int r = 0; r < kX; ++r) {
      std::memcpy(rest, x + r * in + i, static_cast<std::size_t>(in - i) * sizeof(float));
      W::load_x(rest, values[r][0], values[r][1]);
    }
    for (int k = 0; k < kW; ++k) {
      HWY_ALIGN std::byte weights[2 * HWY_MAX_BYTES] = {};
      std::memcpy(weights, w[k] + i * W::kBytes, static_cast<std::size_t>((in - i) * W::kBytes));
      add(k, weights, values);
    }
  }
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) out[k * kX + r] = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[k][r][0], sum[k][r][1])));
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
