// x[r] . w[k] for rows of q8_0, q4_0, q4_k or q6_k weights (one to four, or one) and one to four rows of x: integer
// products within a block, f32 across blocks. Block layouts: core/tensor/number_format.cpp and docs; x:
// quantised_rows.h.

#if defined(TORPOR_KERNELS_SIMD_DOT_QUANTISED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_DOT_QUANTISED_INL_H_
#undef TORPOR_KERNELS_SIMD_DOT_QUANTISED_INL_H_
#else
#define TORPOR_KERNELS_SIMD_DOT_QUANTISED_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>
#include <limits>

#include "engine/kernels/simd/dot_plain-inl.h"
#include "engine/kernels/simd/quantised_rows.h"
#include "engine/kernels/simd/vnni.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 16 values at once at most, whatever the machine: half a block. q8_0 alone takes whole blocks where it can.
using D16 = hn::CappedTag<std::int16_t, 16>;
using D32 = hn::Repartition<std::int32_t, D16>;
using DF = hn::Repartition<float, D16>;
using D8 = hn::Rebind<std::uint8_t, D16>;
using D4 = hn::CappedTag<float, 4>;  // the scales of four blocks
using V16 = hn::Vec<D16>;
using V32 = hn::Vec<D32>;
using VF = hn::Vec<DF>;
using V4 = hn::Vec<D4>;

inline const std::uint8_t* bytes_at(const std::byte* p) {
  return reinterpret_cast<const std::uint8_t*>(p);
}

/// sum += pairwise products of a and b. (The second half, `high`, is used by NEON only; the compiler drops it
/// elsewhere.)
template <class V, class VSum>
HWY_INLINE VSum multiply_pairs(V a, V b, VSum sum) {
  const hn::DFromV<VSum> d;
  VSum high = hn::Zero(d);
  const VSum low = hn::ReorderWidenMulAccumulate(d, a, b, sum, high);
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
    constexpr auto kMost = static_cast<float>(QuantisedRows::kLargest);
    // Below this the reciprocal overflows; such a block adds nothing that f32 sums of normal size would show.
    const bool tiny = largest < kMost * std::numeric_limits<float>::min();
    const auto inverse = hn::Set(d, tiny ? 0.0F : kMost / largest);
    q.scales[static_cast<std::size_t>(b)] = (tiny ? 0.0F : largest / kMost) + nan;
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

/// out[k * kX + r] = x[first_row + r] . w[k] for blocks of 32 values behind an f16 scale: sum over blocks of d_b s_b (q
/// . x). unpack(p, q): the values of the block at p, as vectors of tag D, of 16-bit numbers, in the order of x. ahead:
/// rows to ask for meanwhile. The order of the additions is the same for every kW and kX.
template <class D, int kW, int kX, std::int64_t kBytes, class Unpack>
HWY_INLINE void dot_blocks(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x,
                           std::int64_t first_row, float* out, const Unpack& unpack) {
  const D d16;
  const hn::Repartition<std::int32_t, D> d32;
  const hn::Repartition<float, D> df;
  const D4 d4;
  constexpr int kMost = 8;  // vectors of four numbers in a block, on the narrowest machine
  const auto lanes = static_cast<int>(hn::Lanes(d16));
  const int parts = 32 / lanes;
  hn::Vec<decltype(df)> sum[kW][kX][2];
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) sum[k][r][0] = sum[k][r][1] = hn::Zero(df);
  const std::int16_t* values = x.values.get() + first_row * x.in;
  const float* scales = x.scales.get() + first_row * x.blocks;
  HWY_ALIGN float scale[kW * kX * 4];

  const auto block = [&](std::int64_t b, int which, int half) HWY_ATTR {
    for (int k = 0; k < kW; ++k) {
      hn::Vec<D> q[kMost];
      unpack(bytes_at(w[k]) + b * kBytes + 2, q);
      for (int r = 0; r < kX; ++r) {
        auto products = hn::Zero(d32);
        for (int i = 0; i < parts; ++i)
          products = multiply_pairs(q[i], hn::Load(d16, values + r * x.in + b * 32 + i * lanes), products);
        sum[k][r][half] =
            hn::MulAdd(hn::ConvertTo(df, products), hn::Set(df, scale[(k * kX + r) * 4 + which]), sum[k][r][half]);
      }
    }
  };

  const bool to_first_level = on_amd();
  std::int64_t b = 0;
  for (; b + 4 <= x.blocks; b += 4) {
    for (int k = 0; k < kW; ++k) {
      const V4 weight_scales = load_4_scales(bytes_at(w[k]) + b * kBytes, kBytes);
      for (int r = 0; r < kX; ++r)
        hn::Store(hn::Mul(weight_scales, hn::LoadU(d4, scales + r * x.blocks + b)), d4, scale + (k * kX + r) * 4);
      for (std::int64_t line = 0; line < 4 * kBytes; line += 64) prefetch(ahead[k] + b * kBytes + line, to_first_level);
    }
    block(b, 0, 0);
    block(b + 1, 1, 1);
    block(b + 2, 2, 0);
    block(b + 3, 3, 1);
  }
  for (; b < x.blocks; ++b) {
    for (int k = 0; k < kW; ++k) {
      const float weight_scale = load_scale(bytes_at(w[k]) + b * kBytes);
      for (int r = 0; r < kX; ++r) scale[(k * kX + r) * 4] = weight_scale * scales[r * x.blocks + b];
    }
    block(b, 0, 0);
  }
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) out[k * kX + r] = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum[k][r][0], sum[k][r][1])));
}

/// q8_0: 32 int8.
template <int kW, int kX>
HWY_INLINE void dot_q8_0(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x,
                         std::int64_t first_row, float* out) {
  using D = hn::CappedTag<std::int16_t, 32>;
  dot_blocks<D, kW, kX, 34>(w, ahead, x, first_row, out, [](const std::uint8_t* p, hn::Vec<D>* q) HWY_ATTR {
    const hn::Rebind<std::int8_t, D> d8;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(D()));
    for (std::int64_t i = 0; i < 32; i += lanes)
      q[i / lanes] = hn::PromoteTo(D(), hn::LoadU(d8, reinterpret_cast<const std::int8_t*>(p + i)));
  });
}

/// (Taking the 8 off for a whole row, by the sums of x, saves two instructions of fourteen: 0.74 of the read bandwidth
/// against 0.72, and errors of f32 sums that are eight times as large.)
/// q4_0: 16 bytes: byte j holds values j (low nibble) and j + 16 (high), each minus 8.
template <int kW, int kX>
HWY_INLINE void dot_q4_0(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x,
                         std::int64_t first_row, float* out) {
#if HWY_ARCH_X86
  if (x.split == QuantisedRows::Split::halves) return vnni::dot_q4_0<kW, kX>(w, ahead, x, first_row, out);
#endif
  dot_blocks<D16, kW, kX, 18>(w, ahead, x, first_row, out, [](const std::uint8_t* p, V16* q) HWY_ATTR {
    const D16 d16;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d16));
    const V16 mask = hn::Set(d16, 15), eight = hn::Set(d16, 8);
    for (std::int64_t i = 0; i < 16; i += lanes) {
      const V16 both = hn::PromoteTo(d16, hn::LoadU(D8(), p + i));
      q[i / lanes] = hn::Sub(hn::And(both, mask), eight);
      q[(i + 16) / lanes] = hn::Sub(hn::ShiftRight<4>(both), eight);
    }
  });
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
HWY_INLINE void dot_one_q4_k(const std::uint8_t* HWY_RESTRICT w, const std::byte* ahead, const QuantisedRows& x,
                             std::int64_t first_row, float* out) {
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

  const bool to_first_level = on_amd();
  for (std::int64_t block = 0; block < x.in / 256; ++block) {
    const std::uint8_t* p = w + block * kBytes;
    prefetch(ahead + block * kBytes, to_first_level);
    prefetch(ahead + block * kBytes + 64, to_first_level);
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
HWY_INLINE void dot_one_q6_k(const std::uint8_t* HWY_RESTRICT w, const std::byte* ahead, const QuantisedRows& x,
                             std::int64_t first_row, float* out) {
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

  const bool to_first_level = on_amd();
  for (std::int64_t block = 0; block < x.in / 256; ++block) {
    const std::uint8_t* p = w + block * kBytes;
    for (int line = 0; line < 4; ++line) prefetch(ahead + block * kBytes + 64 * line, to_first_level);
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

template <int kW, int kX>
HWY_INLINE void dot_q4_k(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x,
                         std::int64_t first_row, float* out) {
  for (int k = 0; k < kW; ++k) dot_one_q4_k<kX>(bytes_at(w[k]), ahead[k], x, first_row, out + k * kX);
}

template <int kW, int kX>
HWY_INLINE void dot_q6_k(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x,
                         std::int64_t first_row, float* out) {
  for (int k = 0; k < kW; ++k) dot_one_q6_k<kX>(bytes_at(w[k]), ahead[k], x, first_row, out + k * kX);
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
