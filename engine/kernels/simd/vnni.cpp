#include "engine/kernels/simd/vnni.h"

#include <hwy/targets.h>

#include <algorithm>
#include <cstring>

#include "engine/kernels/simd/simd.h"

#if HWY_ARCH_X86_64
#include <immintrin.h>
#endif

namespace torpor::simd::vnni {

std::atomic<bool> switched_off{false};

#if HWY_ARCH_X86_64

namespace {

constexpr std::int64_t kGroup = 128;  // values of four blocks
constexpr std::int64_t kBytes = 18;   // of a block: f16 scale, 16 bytes of nibbles

std::int64_t groups_of(const QuantisedRows& x) {
  return (x.blocks + 3) / 4;
}

template <class T>
void grow(hwy::AlignedFreeUniquePtr<T[]>& array, std::int64_t count) {
  array = hwy::AllocateAligned<T>(static_cast<std::size_t>(count));
}

void make_room(QuantisedRows& x, std::int64_t group = kGroup) {
  const std::int64_t room = x.rows * ((x.in + group - 1) / group) * group;
  if (room <= x.split_room) return;
  x.split_room = room;
  grow(x.high, room);
  grow(x.low, room);
  grow(x.offsets, room / 8);
}

}  // namespace

bool available() {
  static const bool has = (hwy::SupportedTargets() & HWY_AVX3_DL) != 0;  // asks the processor: tens of microseconds
  return has && !switched_off.load(std::memory_order_relaxed);
}

// For the functions below, not for the file: what it shares with others as inline code must run everywhere. Lambdas do
// not inherit it.
#define TORPOR_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")))
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // of GCC 12 for its own immintrin.h
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")
#endif

namespace {

/// Bits 0 … n - 1, n <= 64.
__mmask64 first_bytes(std::int64_t n) {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
}

/// Asks for the lines of `count` bytes; a few lines that are waited for cost as much as the rest of a row.
inline void ask_for_all(const std::byte* p, std::int64_t count, bool to_first_level) {
  for (std::int64_t b = 0; b < count; b += 64) prefetch(p + b, to_first_level);
}

}  // namespace

void split(QuantisedRows& x) {
  const std::int64_t groups = groups_of(x);
  make_room(x);
  x.split = QuantisedRows::Split::halves;
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t g = 0; g < groups; ++g) {
      std::int8_t* const high = x.high.get() + (r * groups + g) * kGroup;
      std::int8_t* const low = x.low.get() + (r * groups + g) * kGroup;
      for (std::int64_t b = 0; b < 4; ++b) {
        for (std::int64_t half = 0; half < 2; ++half) {
          __m256i v = _mm256_setzero_si256();
          if (4 * g + b < x.blocks)
            v = _mm256_load_si256(
                reinterpret_cast<const __m256i*>(x.values.get() + r * x.in + (4 * g + b) * 32 + half * 16));
          const __m256i upper = _mm256_srai_epi16(_mm256_add_epi16(v, _mm256_set1_epi16(128)), 8);
          _mm_store_si128(reinterpret_cast<__m128i*>(high + half * 64 + b * 16), _mm256_cvtepi16_epi8(upper));
          _mm_store_si128(reinterpret_cast<__m128i*>(low + half * 64 + b * 16), _mm256_cvtepi16_epi8(v));
        }
      }
      const auto sums = [&](const std::int8_t* bytes) TORPOR_VNNI {
        return _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, _mm512_load_si512(bytes)), ones,
                                   _mm512_load_si512(bytes + 64));
      };
      const __m512i total = _mm512_add_epi32(_mm512_slli_epi32(sums(high), 8), sums(low));
      _mm512_store_si512(x.offsets.get() + (r * groups + g) * 16,
                         _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(total, 3)));
    }
  }
}

template <int kW, int kX>
void dot_q4_0(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x, std::int64_t first_row,
              float* out) {
  // The 16-bit words of four blocks (72 bytes) that hold nibbles, from a vector at the first byte and one 8 bytes on.
  const __m512i words = _mm512_set_epi16(0, 0, 0, 0, 31, 30, 29, 28, 26, 25, 24, 23, 22, 21, 20, 19, 17, 16, 15, 14, 13,
                                         12, 11, 10, 8, 7, 6, 5, 4, 3, 2, 1);
  const __m512i later = _mm512_set_epi16(31, 30, 29, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                         0, 0, 0, 0, 0, 0, 0);
  constexpr __mmask32 kLater = 0xF0000000U;
  const __m512i scale_words = _mm512_castsi128_si512(_mm_set_epi16(0, 0, 0, 0, 27, 18, 9, 0));
  const __m512i each = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m512i nibble = _mm512_set1_epi8(15);
  const std::int64_t groups = groups_of(x);
  const std::int8_t* const high = x.high.get() + first_row * groups * kGroup;
  const std::int8_t* const low = x.low.get() + first_row * groups * kGroup;
  const std::int32_t* const offsets = x.offsets.get() + first_row * groups * 16;
  const float* const scales = x.scales.get() + first_row * x.blocks;
  const bool to_first_level = on_amd();
  __m512 sum[kW][kX];
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) sum[k][r] = _mm512_setzero_ps();

  const auto group = [&]<bool kWhole>(std::int64_t g, int k, __m512i bytes, __m512i bytes_8_on,
                                      __mmask8 present) TORPOR_VNNI {
    const __m512i both =
        _mm512_mask_permutexvar_epi16(_mm512_permutexvar_epi16(words, bytes), kLater, later, bytes_8_on);
    const __m512i first = _mm512_and_si512(both, nibble);
    const __m512i last = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
    const __m128 weight_scales = _mm_cvtph_ps(_mm512_castsi512_si128(_mm512_permutexvar_epi16(scale_words, bytes)));
    for (int r = 0; r < kX; ++r) {
      const std::int64_t at = (r * groups + g) * kGroup;
      __m512i upper = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, _mm512_load_si512(high + at));
      __m512i products = _mm512_dpbusd_epi32(_mm512_load_si512(offsets + at / 8), first, _mm512_load_si512(low + at));
      upper = _mm512_dpbusd_epi32(upper, last, _mm512_load_si512(high + at + 64));
      products = _mm512_dpbusd_epi32(products, last, _mm512_load_si512(low + at + 64));
      products = _mm512_add_epi32(products, _mm512_slli_epi32(upper, 8));
      const float* const x_scales = scales + r * x.blocks + g * 4;
      const __m128 scale = kWhole ? _mm_mul_ps(weight_scales, _mm_loadu_ps(x_scales))
                                  : _mm_maskz_mul_ps(present, weight_scales, _mm_maskz_loadu_ps(present, x_scales));
      sum[k][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products),
                                  _mm512_permutexvar_ps(each, _mm512_castps128_ps512(scale)), sum[k][r]);
    }
  };

  const std::int64_t whole = x.blocks / 4;
  for (std::int64_t g = 0; g < whole; ++g) {
    for (int k = 0; k < kW; ++k) {
      const std::byte* const p = w[k] + g * 4 * kBytes;
      prefetch(ahead[k] + g * 4 * kBytes, to_first_level);
      prefetch(ahead[k] + g * 4 * kBytes + 64, to_first_level);
      group.template operator()<true>(g, k, _mm512_loadu_si512(p), _mm512_loadu_si512(p + 8), 15);
    }
  }
  if (const std::int64_t left = x.blocks - whole * 4; left > 0) {
    for (int k = 0; k < kW; ++k) {
      const std::byte* const p = w[k] + whole * 4 * kBytes;
      const std::int64_t bytes = left * kBytes;
      group.template operator()<false>(whole, k, _mm512_maskz_loadu_epi8(first_bytes(bytes), p),
                                       _mm512_maskz_loadu_epi8(first_bytes(bytes - 8), p + 8),
                                       static_cast<__mmask8>((1 << left) - 1));
    }
  }
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) out[k * kX + r] = _mm512_reduce_add_ps(sum[k][r]);
}

// Of a row of interleaved.h: groups of 16 blocks, 512 values.
constexpr std::int64_t kWide = 512, kSums = 48;

namespace {

/// The upper and the lower bytes of a block of x to lane `lane` of a group's eight pieces.
inline void split_block(__m512i v, std::int64_t lane, std::int8_t* high, std::int8_t* low) {
  const __m512i upper = _mm512_srai_epi16(_mm512_add_epi16(v, _mm512_set1_epi16(128)), 8);
  const __m256i at =
      _mm256_add_epi32(_mm256_set_epi32(112, 96, 80, 64, 48, 32, 16, 0), _mm256_set1_epi32(static_cast<int>(lane)));
  _mm256_i32scatter_epi32(high, at, _mm512_cvtepi16_epi8(upper), 4);
  _mm256_i32scatter_epi32(low, at, _mm512_cvtepi16_epi8(v), 4);
}

}  // namespace

void split_interleaved(QuantisedRows& x) {
  make_room(x, kWide);
  x.split = QuantisedRows::Split::interleaved;
  const std::int64_t groups = (x.in + kWide - 1) / kWide;
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t g = 0; g < groups; ++g) {
      std::int8_t* const high = x.high.get() + (r * groups + g) * kWide;
      std::int8_t* const low = x.low.get() + (r * groups + g) * kWide;
      std::int32_t* const sums = x.offsets.get() + (r * groups + g) * kSums;
      for (std::int64_t b = 0; b < 16; ++b) {
        const std::int64_t block = g * 16 + b;
        __m512i v = _mm512_setzero_si512();
        if (block < x.blocks) v = _mm512_loadu_si512(x.values.get() + r * x.in + block * 32);
        split_block(v, b, high, low);
        const __m512i pairs = _mm512_madd_epi16(v, _mm512_set1_epi16(1));
        sums[16 + b] = _mm512_mask_reduce_add_epi32(0x00FF, pairs);
        sums[32 + b] = _mm512_mask_reduce_add_epi32(0xFF00, pairs);
        sums[b] = sums[16 + b] + sums[32 + b];
      }
    }
}

namespace {

template <bool kEight, int kW, int kX>
void dot_blocks_of_32(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x,
                      std::int64_t first_row, float* out) {
  constexpr std::int64_t kBlockBytes = kEight ? 34 : 18, kPieces = kEight ? 8 : 4;
  const std::int64_t groups = (x.in + kWide - 1) / kWide;
  const std::int8_t* const high = x.high.get() + first_row * groups * kWide;
  const std::int8_t* const low = x.low.get() + first_row * groups * kWide;
  const std::int32_t* const sums = x.offsets.get() + first_row * groups * kSums;
  const float* const scales = x.scales.get() + first_row * x.blocks;
  const __m512i nibble = _mm512_set1_epi8(15), sign = _mm512_set1_epi8(static_cast<char>(0x80));
  const bool to_first_level = on_amd();
  __m512 sum[kW][kX];
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) sum[k][r] = _mm512_setzero_ps();

  const auto group = [&]<bool kWhole>(std::int64_t g, std::int64_t lanes) TORPOR_VNNI {
    const auto mask = static_cast<__mmask16>((1U << lanes) - 1);
    __m512i upper[kW][kX], lower[kW][kX];
    for (int r = 0; r < kX; ++r) {
      // Weights are multiplied as numbers from 0 on: 128 or 8 too much.
      const __m512i offset =
          _mm512_sub_epi32(_mm512_setzero_si512(),
                           _mm512_slli_epi32(_mm512_load_si512(sums + (r * groups + g) * kSums), kEight ? 7 : 3));
      for (int k = 0; k < kW; ++k) {
        upper[k][r] = _mm512_setzero_si512();
        lower[k][r] = offset;
      }
    }
    const auto multiply = [&](int k, __m512i weights, std::int64_t piece) TORPOR_VNNI {
      for (int r = 0; r < kX; ++r) {
        const std::int64_t at = (r * groups + g) * kWide + piece * 64;
        upper[k][r] = _mm512_dpbusd_epi32(upper[k][r], weights, _mm512_load_si512(high + at));
        lower[k][r] = _mm512_dpbusd_epi32(lower[k][r], weights, _mm512_load_si512(low + at));
      }
    };
    if (!kWhole)
      for (int k = 0; k < kW; ++k) ask_for_all(ahead[k] + g * 16 * kBlockBytes, lanes * kBlockBytes, to_first_level);
    for (std::int64_t c = 0; c < kPieces; ++c)
      for (int k = 0; k < kW; ++k) {
        const std::byte* const p = w[k] + g * 16 * kBlockBytes + c * lanes * 4;
        if (kWhole) prefetch(ahead[k] + g * 16 * kBlockBytes + c * 64, to_first_level);
        const __m512i bytes = kWhole ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi32(mask, p);
        if constexpr (kEight) {
          multiply(k, _mm512_xor_si512(bytes, sign), c);
        } else {
          multiply(k, _mm512_and_si512(bytes, nibble), c);
          multiply(k, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble), c + 4);
        }
      }
    for (int k = 0; k < kW; ++k) {
      const std::byte* const p = w[k] + g * 16 * kBlockBytes + kPieces * lanes * 4;
      if (kWhole) prefetch(ahead[k] + g * 16 * kBlockBytes + kPieces * 64, to_first_level);
      const __m256i halves =
          kWhole ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)) : _mm256_maskz_loadu_epi16(mask, p);
      const __m512 weight_scales = _mm512_cvtph_ps(halves);
      for (int r = 0; r < kX; ++r) {
        const float* const x_scales = scales + r * x.blocks + g * 16;
        const __m512 scale =
            _mm512_mul_ps(weight_scales, kWhole ? _mm512_loadu_ps(x_scales) : _mm512_maskz_loadu_ps(mask, x_scales));
        const __m512i products = _mm512_add_epi32(lower[k][r], _mm512_slli_epi32(upper[k][r], 8));
        sum[k][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sum[k][r]);
      }
    }
  };

  const std::int64_t whole = x.in / kWide;
  for (std::int64_t g = 0; g < whole; ++g) group.template operator()<true>(g, 16);
  if (const std::int64_t left = x.blocks - whole * 16; left > 0) group.template operator()<false>(whole, left);
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) out[k * kX + r] = _mm512_reduce_add_ps(sum[k][r]);
}

/// Blocks of 256: the products of nibbles, of q6_k with bit pairs above, times the scales of their blocks of 32 or 16.
template <bool kSix, int kW, int kX>
void dot_blocks_of_256(const std::byte* const* w, const std::byte* const* ahead, const QuantisedRows& x,
                       std::int64_t first_row, float* out) {
  constexpr std::int64_t kBlockBytes = kSix ? 210 : 144;
  constexpr int kHalves = kSix ? 2 : 1;  // of a block's products, with a scale each
  const std::int64_t groups = (x.in + kWide - 1) / kWide;
  const std::int8_t* const high = x.high.get() + first_row * groups * kWide;
  const std::int8_t* const low = x.low.get() + first_row * groups * kWide;
  const std::int32_t* const sums = x.offsets.get() + first_row * groups * kSums;
  const float* const scales = x.scales.get() + first_row * x.blocks;
  const __m512i nibble = _mm512_set1_epi8(15), pair = _mm512_set1_epi8(0x30);
  const __m512i each_nibble = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
  const bool to_first_level = on_amd();
  __m512 sum[kW][kX];
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) sum[k][r] = _mm512_setzero_ps();

  const auto group = [&]<bool kWhole>(std::int64_t g) TORPOR_VNNI {
    constexpr std::int64_t kLanes = kWhole ? 16 : 8;
    constexpr auto kMask = static_cast<__mmask16>((1U << kLanes) - 1);
    // Which of the group's blocks of 256 a lane belongs to.
    const __m512i block =
        kWhole ? _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0) : _mm512_setzero_si512();
    __m512i upper[kHalves][kX], lower[kHalves][kX];
    const auto load = [&](const std::byte* p)
                          TORPOR_VNNI { return kWhole ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi32(kMask, p); };
    const auto load_bytes = [&](const std::byte* p) TORPOR_VNNI {  // one for each lane
      const auto* const from = reinterpret_cast<const __m128i*>(p);
      return kWhole ? _mm_loadu_si128(from) : _mm_loadl_epi64(from);
    };
    const auto multiply_row = [&](int k) __attribute__((always_inline)) TORPOR_VNNI {
      const std::byte* const p = w[k] + g * 2 * kBlockBytes;
      ask_for_all(ahead[k] + g * 2 * kBlockBytes, kLanes / 8 * kBlockBytes, to_first_level);
      for (int half = 0; half < kHalves; ++half)
        for (int r = 0; r < kX; ++r) {
          upper[half][r] = lower[half][r] = _mm512_setzero_si512();
          if constexpr (kSix) {  // numbers from 0 on: 32 too much
            const std::int32_t* const half_sums = sums + (r * groups + g) * kSums + 16 * (half + 1);
            lower[half][r] = _mm512_sub_epi32(lower[half][r], _mm512_slli_epi32(_mm512_load_si512(half_sums), 5));
          }
        }
      const auto multiply = [&](int half, __m512i weights, std::int64_t piece) TORPOR_VNNI {
        for (int r = 0; r < kX; ++r) {
          const std::int64_t at = (r * groups + g) * kWide + piece * 64;
          upper[half][r] = _mm512_dpbusd_epi32(upper[half][r], weights, _mm512_load_si512(high + at));
          lower[half][r] = _mm512_dpbusd_epi32(lower[half][r], weights, _mm512_load_si512(low + at));
        }
      };
      const auto products = [&](int half, int r) TORPOR_VNNI {
        return _mm512_cvtepi32_ps(_mm512_add_epi32(lower[half][r], _mm512_slli_epi32(upper[half][r], 8)));
      };
      __m512i pairs = _mm512_setzero_si512();
      for (std::int64_t c = 0; c < 4; ++c) {
        const __m512i bytes = load(p + c * kLanes * 4);
        __m512i first = _mm512_and_si512(bytes, nibble);
        __m512i last = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
        if constexpr (kSix) {
          if (c % 2 == 0) pairs = load(p + (16 + c * 2) * kLanes);
          const __m512i above_first = c % 2 == 0 ? _mm512_slli_epi16(pairs, 4) : pairs;
          const __m512i above_last = c % 2 == 0 ? _mm512_slli_epi16(pairs, 2) : _mm512_srli_epi16(pairs, 2);
          first = _mm512_ternarylogic_epi32(first, above_first, pair, 0xF8);  // a | (b & c)
          last = _mm512_ternarylogic_epi32(last, above_last, pair, 0xF8);
        }
        multiply(0, first, c);
        multiply(kSix ? 1 : 0, last, c + 4);
      }
      // The f16 scales: a d for each block of 256, and of q4_k then a dmin for each.
      constexpr std::int64_t kHalfBytes = kSix ? kLanes / 4 : kLanes / 2;
      std::int64_t halves = 0;
      std::memcpy(&halves, p + kLanes / 8 * kBlockBytes - kHalfBytes, kHalfBytes);
      const __m512 numbers = _mm512_castps128_ps512(_mm_cvtph_ps(_mm_cvtsi64_si128(halves)));
      const __m512 d = _mm512_permutexvar_ps(block, numbers);
      if constexpr (kSix) {
        const auto scale = [&](std::int64_t at) TORPOR_VNNI {
          return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_bytes(p + at))), d);
        };
        const __m512 scale_first = scale(24 * kLanes), scale_last = scale(25 * kLanes);
        for (int r = 0; r < kX; ++r) {
          const __m512 x_scales = _mm512_maskz_loadu_ps(kMask, scales + r * x.blocks + g * 16);
          sum[k][r] = _mm512_fmadd_ps(products(0, r), _mm512_mul_ps(scale_first, x_scales), sum[k][r]);
          sum[k][r] = _mm512_fmadd_ps(products(kHalves - 1, r), _mm512_mul_ps(scale_last, x_scales), sum[k][r]);
        }
      } else {
        const __m512i low_bits = _mm512_cvtepu8_epi32(load_bytes(p + 16 * kLanes));
        std::int32_t words[2] = {0, 0};
        std::memcpy(words, p + 17 * kLanes, kLanes / 2);
        const __m512i high_bits = _mm512_srlv_epi32(
            _mm512_mask_blend_epi32(0xFF00, _mm512_set1_epi32(words[0]), _mm512_set1_epi32(words[1])), each_nibble);
        const __m512i scale = _mm512_or_si512(_mm512_and_si512(low_bits, _mm512_set1_epi32(15)),
                                              _mm512_slli_epi32(_mm512_and_si512(high_bits, _mm512_set1_epi32(3)), 4));
        const __m512i minimum = _mm512_or_si512(
            _mm512_srli_epi32(low_bits, 4), _mm512_slli_epi32(_mm512_and_si512(high_bits, _mm512_set1_epi32(12)), 2));
        const __m512 d_min =
            _mm512_permutexvar_ps(_mm512_add_epi32(block, _mm512_set1_epi32(static_cast<int>(kLanes / 8))), numbers);
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(scale), d);
        const __m512 lowest = _mm512_mul_ps(_mm512_cvtepi32_ps(minimum), d_min);
        for (int r = 0; r < kX; ++r) {
          const __m512 x_scales = _mm512_maskz_loadu_ps(kMask, scales + r * x.blocks + g * 16);
          const __m512 x_sums = _mm512_cvtepi32_ps(_mm512_load_si512(sums + (r * groups + g) * kSums));
          sum[k][r] = _mm512_fmadd_ps(products(0, r), _mm512_mul_ps(scaled, x_scales), sum[k][r]);
          sum[k][r] = _mm512_fnmadd_ps(lowest, _mm512_mul_ps(x_sums, x_scales), sum[k][r]);
        }
      }
    };
    // By name: of a loop over k GCC 12 keeps the sums in memory (q4_k, 4 rows of x: 0.8 of the rate), and unrolled by
    // pragma q6_k is slower for one.
    static_assert(kW <= 4);
    multiply_row(0);
    if constexpr (kW > 1) multiply_row(1);
    if constexpr (kW > 2) multiply_row(2);
    if constexpr (kW > 3) multiply_row(3);
  };

  const std::int64_t whole = x.in / kWide;
  for (std::int64_t g = 0; g < whole; ++g) group.template operator()<true>(g);
  if (x.blocks > whole * 16) group.template operator()<false>(whole);
  for (int k = 0; k < kW; ++k)
    for (int r = 0; r < kX; ++r) out[k * kX + r] = _mm512_reduce_add_ps(sum[k][r]);
}

}  // namespace

template <int kW, int kX>
void dot_interleaved(NumberFormat format, const std::byte* const* w, const std::byte* const* ahead,
                     const QuantisedRows& x, std::int64_t first_row, float* out) {
  switch (format) {
    case NumberFormat::q8_0:
      return dot_blocks_of_32<true, kW, kX>(w, ahead, x, first_row, out);
    case NumberFormat::q4_0:
      return dot_blocks_of_32<false, kW, kX>(w, ahead, x, first_row, out);
    case NumberFormat::q4_k:
      return dot_blocks_of_256<false, kW, kX>(w, ahead, x, first_row, out);
    default:
      return dot_blocks_of_256<true, kW, kX>(w, ahead, x, first_row, out);
  }
}

void split_together(QuantisedRows& x) {
  make_room(x, kWide);
  x.split = QuantisedRows::Split::together;
  for (std::int64_t r = 0; r < x.rows; ++r)
    for (std::int64_t lane = 0; lane < 16; ++lane) {
      const __m512i v = _mm512_loadu_si512(x.values.get() + r * x.in + lane % x.blocks * 32);
      split_block(v, lane, x.high.get() + r * kWide, x.low.get() + r * kWide);
      x.offsets.get()[r * 16 + lane] = _mm512_reduce_add_epi32(_mm512_madd_epi16(v, _mm512_set1_epi16(1)));
    }
}

namespace {

template <int kBlocks>
void dot_together_of(const std::byte* w, std::int64_t begin, std::int64_t end, const QuantisedRows& x, std::int64_t row,
                     const float* bias, float* y) {
  constexpr std::int64_t kGroupBytes = 16 * 34, kAhead = 15;  // groups: 8 KB
  constexpr int kTogether = 16 / kBlocks;
  constexpr auto kEach = static_cast<__mmask16>(kBlocks == 8 ? 0x0101 : kBlocks == 4 ? 0x1111 : 0x5555);
  constexpr auto kFirst = static_cast<__mmask16>((1U << kTogether) - 1);
  __m512i high[8], low[8];  // the whole of x
  for (std::int64_t c = 0; c < 8; ++c) {
    high[c] = _mm512_load_si512(x.high.get() + row * kWide + c * 64);
    low[c] = _mm512_load_si512(x.low.get() + row * kWide + c * 64);
  }
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  const __m512i offset =
      _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(_mm512_load_si512(x.offsets.get() + row * 16), 7));
  const __m512i lane = _mm512_and_si512(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                        _mm512_set1_epi32(kBlocks - 1));
  const __m512 scales = _mm512_permutexvar_ps(
      lane, _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << kBlocks) - 1), x.scales.get() + row * x.blocks));
  const bool to_first_level = on_amd();
  for (std::int64_t o = begin; o < end; o += kTogether) {
    const std::int64_t group = o / kTogether;
    const std::byte* const p = w + group * kGroupBytes;
    ask_for_all(w + std::min(group + kAhead, end / kTogether - 1) * kGroupBytes, kGroupBytes, to_first_level);
    __m512i upper = _mm512_setzero_si512(), lower = offset;
    for (int c = 0; c < 8; ++c) {
      const __m512i weights = _mm512_xor_si512(_mm512_loadu_si512(p + c * 64), sign);
      upper = _mm512_dpbusd_epi32(upper, weights, high[c]);
      lower = _mm512_dpbusd_epi32(lower, weights, low[c]);
    }
    const __m512 weight_scales = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 512)));
    const __m512i products = _mm512_add_epi32(lower, _mm512_slli_epi32(upper, 8));
    __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(products), _mm512_mul_ps(weight_scales, scales));
    if constexpr (kBlocks == 8) sum = _mm512_add_ps(sum, _mm512_shuffle_f32x4(sum, sum, 0xB1));
    if constexpr (kBlocks >= 4) sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0x4E));
    if constexpr (kBlocks >= 2) sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0xB1));
    if constexpr (kBlocks > 1) sum = _mm512_maskz_compress_ps(kEach, sum);
    if (bias != nullptr) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(kFirst, bias + o));
    _mm512_mask_storeu_ps(y + o, kFirst, sum);
  }
}

}  // namespace

void dot_together(const std::byte* w, std::int64_t begin, std::int64_t end, const QuantisedRows& x, std::int64_t row,
                  const float* bias, float* y) {
  switch (x.blocks) {
    case 1:
      return dot_together_of<1>(w, begin, end, x, row, bias, y);
    case 2:
      return dot_together_of<2>(w, begin, end, x, row, bias, y);
    case 4:
      return dot_together_of<4>(w, begin, end, x, row, bias, y);
    default:
      return dot_together_of<8>(w, begin, end, x, row, bias, y);
  }
}

#define TORPOR_INSTANTIATE(kW, kX)                                                                                     \
  template void dot_q4_0<kW, kX>(const std::byte* const*, const std::byte* const*, const QuantisedRows&, std::int64_t, \
                                 float*);                                                                              \
  template void dot_interleaved<kW, kX>(NumberFormat, const std::byte* const*, const std::byte* const*,                \
                                        const QuantisedRows&, std::int64_t, float*);
TORPOR_INSTANTIATE(1, 1)
TORPOR_INSTANTIATE(2, 1)
TORPOR_INSTANTIATE(3, 1)
TORPOR_INSTANTIATE(4, 1)
TORPOR_INSTANTIATE(1, 2)
TORPOR_INSTANTIATE(2, 2)
TORPOR_INSTANTIATE(1, 3)
TORPOR_INSTANTIATE(2, 3)
TORPOR_INSTANTIATE(1, 4)
TORPOR_INSTANTIATE(2, 4)
#undef TORPOR_INSTANTIATE

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#pragma GCC diagnostic pop

#else

bool available() {
  return false;
}
void split(QuantisedRows&) {}
template <int kW, int kX>
void dot_q4_0(const std::byte* const*, const std::byte* const*, const QuantisedRows&, std::int64_t, float*) {}
void split_interleaved(QuantisedRows&) {}
void split_together(QuantisedRows&) {}
void dot_together(const std::byte*, std::int64_t, std::int64_t, const QuantisedRows&, std::int64_t, const float*,
                  float*) {}

#endif

}  // namespace torpor::simd::vnni
