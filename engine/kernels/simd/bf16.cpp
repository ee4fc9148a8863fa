#include "engine/kernels/simd/bf16.h"

#include <hwy/detect_targets.h>

#include <algorithm>

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

void interleaved_row(const WeightMatrix& w, std::int64_t row, std::uint16_t* to) {
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
        const auto put = [&](__m128i numbers, std::int64_t at)
            __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c"))) {
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
