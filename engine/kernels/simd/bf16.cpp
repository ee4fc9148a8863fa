#include "engine/kernels/simd/bf16.h"

#include <hwy/detect_targets.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/tensor/half_float.h"
#include "engine/kernels/simd/vnni.h"

#if HWY_ARCH_X86_64
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace torpor::simd::bf16 {

#if HWY_ARCH_X86_64

bool available() {
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  return has && vnni::available();
}

bool has_tiles() {
  static const bool has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1U) != 0;
  }();
  return has && available();
}

// Lambdas do not have what the pragma below says.
#define TORPOR_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")))

// For the functions below, not for the file: what it shares with others as inline code must run everywhere.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"  // of GCC 12 for its own immintrin.h
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")
#endif

namespace {

/// `mask` says which of the 16 are stored.
inline void store(std::uint16_t* to, __mmask16 mask, __m512 values) {
  const __m256bh rounded = _mm512_cvtneps_pbh(values);
  __m256i bits;
  __builtin_memcpy(&bits, &rounded, sizeof(bits));
  _mm256_mask_storeu_epi16(to, mask, bits);
}

inline __mmask16 first(std::int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xFFFFU : (1U << n) - 1);
}

}  // namespace

void round(const float* x, const std::int32_t* order, std::int64_t n, std::uint16_t* y) {
  for (std::int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first(n - i);
    store(y + i, mask,
          order == nullptr
              ? _mm512_maskz_loadu_ps(mask, x + i)
              : _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, _mm512_maskz_loadu_epi32(mask, order + i), x, 4));
  }
}

namespace {

/// A row of q4_k or q6_k: of each block of 32 (a lane) the first half's numbers times its scale, less what its minimum
/// makes, and the second half's. interleaved.cpp says where they lie.
template <bool kSix>
void row_of_256(const WeightMatrix& w, std::int64_t row, std::uint16_t* to) {
  constexpr std::int64_t kBlockBytes = kSix ? 210 : 144;
  const __m512i each = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m128i nibble = _mm_set1_epi8(15), pair = _mm_set1_epi8(0x30);
  const std::int64_t blocks = w.in / 256;
  for (std::int64_t b = 0; b < blocks; b += 2) {
    const std::byte* const p = w.row(row) + b * kBlockBytes;
    const std::int64_t lanes = 8 * std::min<std::int64_t>(2, blocks - b);
    const auto byte = [&](std::int64_t at) { return std::to_integer<std::int32_t>(p[at]); };
    const auto half_float = [&](std::int64_t at) {
      std::uint16_t bits;
      std::memcpy(&bits, p + at, 2);
      return f32_from_f16(bits);
    };
    alignas(64) float scale[2][16] = {}, below[2][16] = {};
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      if constexpr (kSix) {
        const float d = half_float(26 * lanes + lane / 8 * 2);
        for (int half = 0; half < 2; ++half) {
          scale[half][lane] = d * static_cast<float>(static_cast<std::int8_t>(byte((24 + half) * lanes + lane)));
          below[half][lane] = 32 * scale[half][lane];
        }
      } else {
        const std::int64_t after = 17 * lanes + lanes / 2;
        const std::int32_t low = byte(16 * lanes + lane), high = byte(17 * lanes + lane / 2) >> (lane % 2 * 4);
        scale[0][lane] = half_float(after + lane / 8 * 2) * static_cast<float>((low & 15) | (high & 3) << 4);
        below[0][lane] = half_float(after + lanes / 4 + lane / 8 * 2) * static_cast<float>(low >> 4 | (high & 12) << 2);
      }
    }
    const __m512 scales[2] = {_mm512_load_ps(scale[0]), _mm512_load_ps(scale[kSix ? 1 : 0])};
    const __m512 lowest[2] = {_mm512_load_ps(below[0]), _mm512_load_ps(below[kSix ? 1 : 0])};
    for (std::int64_t c = 0; c < 4; ++c)
      for (std::int64_t lane = 0; lane < lanes; lane += 4) {
        const auto load = [&](std::int64_t at) TORPOR_BF16 {
          return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + at + lane * 4));
        };
        const __m512i four = _mm512_add_epi32(each, _mm512_set1_epi32(static_cast<int>(lane)));
        const auto put = [&](__m128i numbers, int half) TORPOR_BF16 {
          store(to + ((2 * c + half) * lanes + lane) * 4, 0xFFFF,
                _mm512_fmsub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(numbers)),
                                _mm512_permutexvar_ps(four, scales[half]), _mm512_permutexvar_ps(four, lowest[half])));
        };
        const __m128i bytes = load(c * lanes * 4);
        __m128i first = _mm_and_si128(bytes, nibble), last = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
        if constexpr (kSix) {
          const __m128i pairs = load((16 + c / 2 * 4) * lanes);
          const bool even = c % 2 == 0;
          first = _mm_or_si128(first, _mm_and_si128(even ? _mm_slli_epi16(pairs, 4) : pairs, pair));
          last = _mm_or_si128(last, _mm_and_si128(even ? _mm_slli_epi16(pairs, 2) : _mm_srli_epi16(pairs, 2), pair));
        }
        put(first, 0);
        put(last, 1);
      }
    to += lanes * 32;
  }
}

}  // namespace

void interleaved_row(const WeightMatrix& w, std::int64_t row, std::uint16_t* to) {
  if (w.format == NumberFormat::q4_k) return row_of_256<false>(w, row, to);
  if (w.format == NumberFormat::q6_k) return row_of_256<true>(w, row, to);

  constexpr std::int64_t kLanes = 16;
  const bool eight = w.format == NumberFormat::q8_0;
  const std::int64_t blocks = w.in / 32, pieces = eight ? 8 : 4, block_bytes = eight ? 34 : 18;
  const __m512i each = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
  const __m128i nibble = _mm_set1_epi8(15), eights = _mm_set1_epi8(8);
  for (std::int64_t b = 0; b < blocks; b += kLanes) {
    const std::int64_t lanes = std::min(kLanes, blocks - b);
    const std::byte* const group = w.row(row) + b * block_bytes;
    const __m512 scales = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(lanes), group + pieces * lanes * 4));
    for (std::int64_t c = 0; c < pieces; ++c)
      for (std::int64_t lane = 0; lane < lanes; lane += 4) {
        const std::int64_t count = std::min<std::int64_t>(4, lanes - lane) * 4;
        const __mmask16 mask = first(count);
        const __m128i bytes = _mm_maskz_loadu_epi8(mask, group + (c * lanes + lane) * 4);
        const __m512 scale =
            _mm512_permutexvar_ps(_mm512_add_epi32(each, _mm512_set1_epi32(static_cast<int>(lane))), scales);
        const auto put = [&](__m128i numbers, std::int64_t at) TORPOR_BF16 {
          store(to + at, mask, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(numbers)), scale));
        };
        if (eight) {
          put(bytes, (c * lanes + lane) * 4);
        } else {
          const __m128i high = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
          put(_mm_sub_epi8(_mm_and_si128(bytes, nibble), eights), (2 * c * lanes + lane) * 4);
          put(_mm_sub_epi8(high, eights), ((2 * c + 1) * lanes + lane) * 4);
        }
      }
    to += lanes * 32;
  }
}

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
bool has_tiles() {
  return false;
}
void round(const float*, const std::int32_t*, std::int64_t, std::uint16_t*) {}
void interleaved_row(const WeightMatrix&, std::int64_t, std::uint16_t*) {}

#endif

}  // namespace torpor::simd::bf16
