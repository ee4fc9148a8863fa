// y[r, o] = x[r] . w[o] for one row of q8_0, q4_0, q4_k or q6_k weights and one to four rows of x: integer products
// within a block, f32 across blocks. Block layouts: core/tensor/number_format.cpp and docs; x: quantised_rows.h.

#if defined(TORPOR_KERNELS_SIMD_DOT_QUANTISED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_DOT_QUANTISED_INL_H_
#undef TORPOR_KERNELS_SIMD_DOT_QUANTISED_INL_H_
#else
#define TORPOR_KERNELS_SIMD_DOT_QUANTISED_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>
#include <limits>

#include "engine/kernels/simd/quantised_rows.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 16 values at once at most, whatever the machine: half a block. (AVX-512 gains nothing here, decode waits for memory.)
using D16 = hn::CappedTag<std::int16_t, 16>;
using D32 = hn::Repartition<std::int32_t, D16>;
using DF = hn::Repartition<float, D16>;
using D8 = hn::Rebind<std::uint8_t, D16>;
using DI8 = hn::Rebind<std::int8_t, D16>;
using D4 = hn::CappedTag<float, 4>;  // the scales of four blocks
using V16 = hn::Vec<D16>;
using V32 = hn::Vec<D32>;
using VF = hn::Vec<DF>;
using V4 = hn::Vec<D4>;

inline constexpr std::int64_t kQuantisedPrefetch = 1024;

/// sum += pairwise products of a and b. (The second half, `high`, is used by NEON only; the compiler drops it
/// elsewhere.)
HWY_INLINE V32 multiply_pairs(V16 a, V16 b, V32 sum) {
  const D32 d;
  V32 high = hn::Zero(d);
  const V32 low = hn::ReorderWidenMulAccumulate(d, a, b, sum, high);
#if HWY_ARCH_X86
  return low;
#else
  return hn::Add(low, high);
#endif
}

inline std::uint16_t load_u16(const std::uint8_t* p) {
  std::uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// The f16 numbers at p, p + stride, p + 2 stride, p + 3 stride. Gathered in integer registers, which have nothing to
/// do.
HWY_INLINE V4 load_4_scales(const std::uint8_t* p, std::int64_t stride) {
  const D4 d;
  const std::uint64_t bits = static_cast<std::uint64_t>(load_u16(p)) |
                             static_cast<std::uint64_t>(load_u16(p + stride)) << 16 |
                             static_cast<std::uint64_t>(load_u16(p + 2 * stride)) << 32 |
                             static_cast<std::uint64_t>(load_u16(p + 3 * stride)) << 48;
  const hn::CappedTag<std::uint64_t, 1> d64;
  const hn::Rebind<hwy::float16_t, D4> d16;
  return hn::PromoteTo(d, hn::BitCast(d16, hn::Set(d64, bits)));
}

HWY_INLINE float load_scale(const std::uint8_t* p) {
  const hn::CappedTag<float, 1> d;
  const hn::CappedTag<hwy::float16_t, 1> d16;
  const hn::RebindToUnsigned<decltype(d16)> du;
  return hn::GetLane(hn::PromoteTo(d, hn::BitCast(d16, hn::Set(du, load_u16(p)))));
}

/// Rounds rows of x. Any sign, zeros, NaN and infinity allowed.
inline void quantise_rows(const float* x, QuantisedRows& q) {
  const hn::CappedTag<float, 8> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<std::int16_t, decltype(d)> d16;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  constexpr std::int64_t kBlock = QuantisedRows::kBlock;
  for (std::int64_t b = 0; b < q.rows * q.blocks; ++b) {
    const float* block = x + b * kBlock;
    auto top = hn::Zero(d), bad = hn::Zero(d);
    for (std::int64_t i = 0; i < kBlock; i += lanes) {
      const auto v = hn::LoadU(d, block + i);
      top = hn::Max(top, hn::Abs(v));
      bad = hn::MulAdd(v, hn::Zero(d), bad);  // NaN if any value is NaN or infinite
    }
    const float largest = hn::GetLane(hn::MaxOfLanes(d, top));
    const float nan = hn::GetLane(hn::SumOfLanes(d, bad));
    // Below this the reciprocal overflows; such a block adds nothing that f32 sums of normal size would show.
    const bool tiny = largest < 32767 * std::numeric_limits<float>::min();
    const auto inverse = hn::Set(d, tiny ? 0.0F : 32767.0F / largest);
    q.scales[static_cast<std::size_t>(b)] = (tiny ? 0.0F : largest / 32767.0F) + nan;
    for (std::int64_t half = 0; half < 2; ++half) {
      auto sum = hn::Zero(di);
      for (std::int64_t i = half * kBlock / 2; i < (half + 1) * kBlock / 2; i += lanes) {
        const auto v = hn::NearestInt(hn::Mul(hn::LoadU(d, block + i), inverse));
        sum = hn::Add(sum, v);
        hn::StoreU(hn::DemoteTo(d16, v), d16, q.values.get() + b * kBlock + i);
      }
      q.sums[static_cast<std::size_t>(2 * b + half)] = static_cast<float>(hn::GetLane(hn::SumOfLanes(di, sum)));
    }
  }
}

/// q8_0: f16 scale, 32 int8.  sum over blocks of d_b s_b (q . x)
template <int kRows>
HWY_INLINE void dot_q8_0(const std::uint8_t* HWY_RESTRICT w, const QuantisedRows& x, std::int64_t first_row,
                         float* out) {
  const D16 d16;
  const D32 d32;
  const DF df;
  const D4 d4;
  constexpr std::int64_t kBytes = 34;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d16));
  VF sum[kRows][2];
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(df);
  const std::int16_t* values = x.values.get() + first_row * x.in;
  const float* scales = x.scales.get() + first_row * x.blocks;

  const auto block = [&](const std::uint8_t* p, std::int64_t b, const float* scale, int which) HWY_ATTR {
    V32 products[kRows];
    for (int r = 0; r < kRows; ++r) products[r] = hn::Zero(d32);
    for (std::int64_t i = 0; i < 32; i += lanes) {
      const V16 q = hn::PromoteTo(d16, hn::LoadU(DI8(), reinterpret_cast<const std::int8_t*>(p + 2 + i)));
      for (int r = 0; r < kRows; ++r)
        products[r] = multiply_pairs(q, hn::Load(d16, values + r * x.in + b * 32 + i), products[r]);
    }
    for (int r = 0; r < kRows; ++r)
      sum[r][which] = hn::MulAdd(hn::ConvertTo(df, products[r]), hn::Set(df, scale[r * 4]), sum[r][which]);
  };

  std::int64_t b = 0;
  HWY_ALIGN float scale[kRows * 4];
  for (; b + 4 <= x.blocks; b += 4) {
    const std::uint8_t* p = w + b * kBytes;
    const V4 weight_scales = load_4_scales(p, kBytes);
    for (int r = 0; r < kRows; ++r)
      hn::Store(hn::Mul(weight_scales, hn::LoadU(d4, scales + r * x.blocks + b)), d4, scale + r * 4);
    hwy::Prefetch(p + kQuantisedPrefetch);
    block(p, b, scale, 0);
    block(p + kBytes, b + 1, scale + 1, 1);
    hwy::Prefetch(p + kQuantisedPrefetch + 64);
    block(p + 2 * kBytes, b + 2, scale + 2, 0);
    block(p + 3 * kBytes, b + 3, scale + 3, 1);
  }
  for (; b < x.blocks; ++b) {
    const float weight_scale = load_scale(w + b * kBytes);
    for (int r = 0; r < kRows; ++r) scale[r * 4] = weight_scale * scales[r * x.blocks + b];
    block(w + b * kBytes, b, scale, 0);
  }
  for (int r = 0; r < kRows; ++r) out[r] = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum[r][0], sum[r][1])));
}

/// q4_0: f16 scale, 16 bytes: byte j holds values j (low nibble) and j + 16 (high), each minus 8.
/// sum over blocks of d_b s_b (q . x - 8 sum x)
template <int kRows>
HWY_INLINE void dot_q4_0(const std::uint8_t* HWY_RESTRICT w, const QuantisedRows& x, std::int64_t first_row,
                         float* out) {
  const D16 d16;
  const D32 d32;
  const DF df;
  const D4 d4;
  constexpr std::int64_t kBytes = 18;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d16));
  const V16 mask = hn::Set(d16, 15);
  const V16 eight = hn::Set(d16, 8);
  VF sum[kRows][2];
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(df);
  const std::int16_t* values = x.values.get() + first_row * x.in;
  const float* scales = x.scales.get() + first_row * x.blocks;

  const auto block = [&](const std::uint8_t* p, std::int64_t b, const float* scale, int which) HWY_ATTR {
    V32 products[kRows];
    for (int r = 0; r < kRows; ++r) products[r] = hn::Zero(d32);
    for (std::int64_t i = 0; i < 16; i += lanes) {
      const V16 both = hn::PromoteTo(d16, hn::LoadU(D8(), p + 2 + i));
      const V16 low = hn::Sub(hn::And(both, mask), eight);
      const V16 high = hn::Sub(hn::ShiftRight<4>(both), eight);
      for (int r = 0; r < kRows; ++r) {
        const std::int16_t* v = values + r * x.in + b * 32 + i;
        products[r] = multiply_pairs(low, hn::Load(d16, v), products[r]);
        products[r] = multiply_pairs(high, hn::Load(d16, v + 16), products[r]);
      }
    }
    for (int r = 0; r < kRows; ++r)
      sum[r][which] = hn::MulAdd(hn::ConvertTo(df, products[r]), hn::Set(df, scale[r * 4]), sum[r][which]);
  };

  std::int64_t b = 0;
  HWY_ALIGN float scale[kRows * 4];
  for (; b + 4 <= x.blocks; b += 4) {
    const std::uint8_t* p = w + b * kBytes;
    const V4 weight_scales = load_4_scales(p, kBytes);
    for (int r = 0; r < kRows; ++r)
      hn::Store(hn::Mul(weight_scales, hn::LoadU(d4, scales + r * x.blocks + b)), d4, scale + r * 4);
    hwy::Prefetch(p + kQuantisedPrefetch);
    block(p, b, scale, 0);
    block(p + kBytes, b + 1, scale + 1, 1);
    block(p + 2 * kBytes, b + 2, scale + 2, 0);
    block(p + 3 * kBytes, b + 3, scale + 3, 1);
  }
  for (; b < x.blocks; ++b) {
    const float weight_scale = load_scale(w + b * kBytes);
    for (int r = 0; r < kRows; ++r) scale[r * 4] = weight_scale * scales[r * x.blocks + b];
    block(w + b * kBytes, b, scale, 0);
  }
  for (int r = 0; r < kRows; ++r) out[r] = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum[r][0], sum[r][1])));
}

/// The eight 6-bit scales and eight 6-bit minima of a q4_k block, from its 12 bytes: the first four of each are the low
/// six bits of bytes 0-3 and 4-7; of the last four, the low nibbles are in bytes 8-11 and the top two bits in the spare
/// bits.
HWY_INLINE void unpack_q4_k_scales(const std::uint8_t* p, std::uint8_t* scales, std::uint8_t* minima) {
  std::uint32_t a, b, c;
  std::memcpy(&a, p, 4);
  std::memcpy(&b, p + 4, 4);
  std::memcpy(&c, p + 8, 4);
  const std::uint32_t low_scales = a & 0x3F3F3F3FU;
  const std::uint32_t low_minima = b & 0x3F3F3F3FU;
  const std::uint32_t high_scales = (c & 0x0F0F0F0FU) | (a >> 6 & 0x03030303U) << 4;
  const std::uint32_t high_minima = (c >> 4 & 0x0F0F0F0FU) | (b >> 6 & 0x03030303U) << 4;
  std::memcpy(scales, &low_scales, 4);
  std::memcpy(scales + 4, &high_scales, 4);
  std::memcpy(minima, &low_minima, 4);
  std::memcpy(minima + 4, &high_minima, 4);
}

/// q4_k: f16 d, f16 dmin, 12 bytes of scales, 128 bytes: 32 bytes hold sub-blocks 2g (low nibbles) and 2g + 1 (high).
/// sum over sub-blocks of s_j (d sc_j (q . x) - dmin m_j sum x)
template <int kRows>
HWY_INLINE void dot_q4_k(const std::uint8_t* HWY_RESTRICT w, const QuantisedRows& x, std::int64_t first_row,
                         float* out) {
  const D16 d16;
  const D32 d32;
  const DF df;
  constexpr std::int64_t kBytes = 144;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d16));
  const V16 mask = hn::Set(d16, 15);
  VF sum[kRows][2];
  float correction[kRows] = {};
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(df);
  const std::int16_t* values = x.values.get() + first_row * x.in;

  for (std::int64_t block = 0; block < x.in / 256; ++block) {
    const std::uint8_t* p = w + block * kBytes;
    hwy::Prefetch(p + kQuantisedPrefetch);
    hwy::Prefetch(p + kQuantisedPrefetch + 64);
    const float d = load_scale(p), d_min = load_scale(p + 2);
    std::uint8_t scale_bits[8], min_bits[8];
    unpack_q4_k_scales(p + 4, scale_bits, min_bits);
    float scale[kRows][8];
    for (int r = 0; r < kRows; ++r) {
      const float* x_scale = x.scales.get() + (first_row + r) * x.blocks + block * 8;
      const float* x_sum = x.sums.get() + ((first_row + r) * x.blocks + block * 8) * 2;
      float minus = 0;
      for (int j = 0; j < 8; ++j) {
        scale[r][j] = d * static_cast<float>(scale_bits[j]) * x_scale[j];
        minus += static_cast<float>(min_bits[j]) * x_scale[j] * (x_sum[2 * j] + x_sum[2 * j + 1]);
      }
      correction[r] += d_min * minus;
    }
    for (int g = 0; g < 4; ++g) {
      V32 low_products[kRows], high_products[kRows];
      for (int r = 0; r < kRows; ++r) low_products[r] = high_products[r] = hn::Zero(d32);
      for (std::int64_t i = 0; i < 32; i += lanes) {
        const V16 both = hn::PromoteTo(d16, hn::LoadU(D8(), p + 16 + g * 32 + i));
        const V16 low = hn::And(both, mask);
        const V16 high = hn::ShiftRight<4>(both);
        for (int r = 0; r < kRows; ++r) {
          const std::int16_t* v = values + r * x.in + block * 256 + g * 64 + i;
          low_products[r] = multiply_pairs(low, hn::Load(d16, v), low_products[r]);
          high_products[r] = multiply_pairs(high, hn::Load(d16, v + 32), high_products[r]);
        }
      }
      for (int r = 0; r < kRows; ++r) {
        sum[r][0] = hn::MulAdd(hn::ConvertTo(df, low_products[r]), hn::Set(df, scale[r][2 * g]), sum[r][0]);
        sum[r][1] = hn::MulAdd(hn::ConvertTo(df, high_products[r]), hn::Set(df, scale[r][2 * g + 1]), sum[r][1]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r)
    out[r] = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum[r][0], sum[r][1]))) - correction[r];
}

/// q6_k: 128 bytes of low nibbles, 64 of high bit pairs, 16 int8 scales, f16 d. For each half (128 values) and l < 32:
/// values l, l + 32, l + 64, l + 96 are the low nibbles of bytes l and l + 32 and their high nibbles, each with one bit
/// pair of byte l above, minus 32.  sum over groups of 16 of d sc_j s_b (q . x - 32 sum x)
template <int kRows>
HWY_INLINE void dot_q6_k(const std::uint8_t* HWY_RESTRICT w, const QuantisedRows& x, std::int64_t first_row,
                         float* out) {
  const D16 d16;
  const D32 d32;
  const DF df;
  constexpr std::int64_t kBytes = 210;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d16));
  const V16 nibble = hn::Set(d16, 15);
  const V16 pair = hn::Set(d16, 0x30);
  VF sum[kRows][2];
  float correction[kRows] = {};
  for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = hn::Zero(df);
  const std::int16_t* values = x.values.get() + first_row * x.in;

  for (std::int64_t block = 0; block < x.in / 256; ++block) {
    const std::uint8_t* p = w + block * kBytes;
    for (int line = 0; line < 4; ++line) hwy::Prefetch(p + kQuantisedPrefetch + 64 * line);
    const float d = load_scale(p + 208);
    float scale[kRows][16];
    for (int r = 0; r < kRows; ++r) {
      const float* x_scale = x.scales.get() + (first_row + r) * x.blocks + block * 8;
      const float* x_sum = x.sums.get() + ((first_row + r) * x.blocks + block * 8) * 2;
      float minus = 0;
      for (int j = 0; j < 16; ++j) {
        std::int8_t bits;
        std::memcpy(&bits, p + 192 + j, 1);
        scale[r][j] = d * static_cast<float>(bits) * x_scale[j / 2];
        minus += scale[r][j] * x_sum[j];
      }
      correction[r] += 32 * minus;
    }
    for (int half = 0; half < 2; ++half) {
      for (int l = 0; l < 32; l += 16) {
        V32 products[4][kRows];
        for (int k = 0; k < 4; ++k)
          for (int r = 0; r < kRows; ++r) products[k][r] = hn::Zero(d32);
        for (std::int64_t i = l; i < l + 16; i += lanes) {
          const V16 low_a = hn::PromoteTo(d16, hn::LoadU(D8(), p + half * 64 + i));
          const V16 low_b = hn::PromoteTo(d16, hn::LoadU(D8(), p + half * 64 + 32 + i));
          const V16 high = hn::PromoteTo(d16, hn::LoadU(D8(), p + 128 + half * 32 + i));
          const V16 q[4] = {hn::Or(hn::And(low_a, nibble), hn::And(hn::ShiftLeft<4>(high), pair)),
                            hn::Or(hn::And(low_b, nibble), hn::And(hn::ShiftLeft<2>(high), pair)),
                            hn::Or(hn::ShiftRight<4>(low_a), hn::And(high, pair)),
                            hn::Or(hn::ShiftRight<4>(low_b), hn::And(hn::ShiftRight<2>(high), pair))};
          for (int k = 0; k < 4; ++k)
            for (int r = 0; r < kRows; ++r)
              products[k][r] = multiply_pairs(
                  q[k], hn::Load(d16, values + r * x.in + block * 256 + half * 128 + k * 32 + i), products[k][r]);
        }
        for (int k = 0; k < 4; ++k)
          for (int r = 0; r < kRows; ++r)
            sum[r][k % 2] = hn::MulAdd(hn::ConvertTo(df, products[k][r]),
                                       hn::Set(df, scale[r][half * 8 + 2 * k + l / 16]), sum[r][k % 2]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r)
    out[r] = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum[r][0], sum[r][1]))) - correction[r];
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
