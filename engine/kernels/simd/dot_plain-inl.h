// y[r, o] = x[r] . w[o] for one row of f32, f16 or bf16 weights and one to four rows of x: decode's inner loop.
// The weights are one stream from memory; x stays in L1.

#if defined(TORPOR_KERNELS_SIMD_DOT_PLAIN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_DOT_PLAIN_INL_H_
#undef TORPOR_KERNELS_SIMD_DOT_PLAIN_INL_H_
#else
#define TORPOR_KERNELS_SIMD_DOT_PLAIN_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// How far ahead of its use a weight is asked for. The stream runs on into the next rows, so only the end of the matrix
/// is ever fetched in vain.
inline constexpr std::int64_t kPrefetchBytes = 2048;

/// Weights of type T (float, hwy::float16_t, hwy::bfloat16_t), promoted to f32.
template <class T>
struct PlainWeights {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  static constexpr std::int64_t kBytes = sizeof(T);

  static HWY_INLINE V load(const std::byte* p) {
    const D d;
    if constexpr (sizeof(T) == sizeof(float)) {
      return hn::LoadU(d, reinterpret_cast<const float*>(p));
    } else {
      const hn::Rebind<T, D> narrow;
      return hn::PromoteTo(d, hn::LoadU(narrow, reinterpret_cast<const T*>(p)));
    }
  }
};

/// out[r] = sum_i x[r * in + i] * w[i], r < kRows.
template <class T, int kRows>
HWY_INLINE void dot_plain(const std::byte* HWY_RESTRICT w, const float* HWY_RESTRICT x, std::int64_t in, float* out) {
  using W = PlainWeights<T>;
  const typename W::D d;
  using V = typename W::V;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  // Eight additions in flight hide the latency of a multiply-add (4 cycles, 2 a cycle).
  constexpr int kUnroll = kRows == 1 ? 8 : (kRows == 2 ? 4 : 2);
  V sum[kRows][kUnroll];
  for (int r = 0; r < kRows; ++r)
    for (int u = 0; u < kUnroll; ++u) sum[r][u] = hn::Zero(d);

  std::int64_t i = 0;
  for (; i + kUnroll * lanes <= in; i += kUnroll * lanes) {
    constexpr int kLine = 64;
    for (std::int64_t b = 0; b < kUnroll * lanes * W::kBytes; b += kLine)
      hwy::Prefetch(w + i * W::kBytes + b + kPrefetchBytes);
    for (int u = 0; u < kUnroll; ++u) {
      const V weight = W::load(w + (i + u * lanes) * W::kBytes);
      for (int r = 0; r < kRows; ++r)
        sum[r][u] = hn::MulAdd(weight, hn::LoadU(d, x + r * in + i + u * lanes), sum[r][u]);
    }
  }
  for (; i + lanes <= in; i += lanes) {
    const V weight = W::load(w + i * W::kBytes);
    for (int r = 0; r < kRows; ++r) sum[r][0] = hn::MulAdd(weight, hn::LoadU(d, x + r * in + i), sum[r][0]);
  }
  if (i < in) {
    HWY_ALIGN std::byte rest[HWY_MAX_BYTES] = {};
    std::memcpy(rest, w + i * W::kBytes, static_cast<std::size_t>((in - i) * W::kBytes));
    const V weight = W::load(rest);
    for (int r = 0; r < kRows; ++r) {
      HWY_ALIGN float values[HWY_MAX_BYTES / sizeof(float)] = {};
      std::memcpy(values, x + r * in + i, static_cast<std::size_t>(in - i) * sizeof(float));
      sum[r][0] = hn::MulAdd(weight, hn::Load(d, values), sum[r][0]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int step = kUnroll / 2; step > 0; step /= 2)
      for (int u = 0; u < step; ++u) sum[r][u] = hn::Add(sum[r][u], sum[r][u + step]);
    out[r] = hn::GetLane(hn::SumOfLanes(d, sum[r][0]));
  }
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
