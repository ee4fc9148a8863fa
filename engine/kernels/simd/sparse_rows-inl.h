// Rows of a neuron-major matrix added to a sum, four at a time (dot_plain-inl.h and dot_quantised-inl.h have their
// products with x). While rows are used, the lines of those that follow in the list are asked for, one for one: asking
// for a whole row at once is no better than not asking.

#if defined(TORPOR_KERNELS_SIMD_SPARSE_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_SPARSE_ROWS_INL_H_
#undef TORPOR_KERNELS_SIMD_SPARSE_ROWS_INL_H_
#else
#define TORPOR_KERNELS_SIMD_SPARSE_ROWS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "engine/kernels/simd/dot_plain-inl.h"
#include "engine/kernels/simd/dot_quantised-inl.h"
#include "engine/kernels/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// work<size>(k, rows, next) for the rows row_of(0), …, row_of(count - 1), four at a time and what is left at once:
/// alone each row would be waited for. next: the rows that come after these; after the last ones those that
/// follow_on(r) names.
template <class RowOf, class Work, class FollowOn>
HWY_INLINE void for_row_groups(std::int64_t count, const RowOf& row_of, const Work& work, const FollowOn& follow_on) {
  constexpr int kTogether = 4;  // what may be left is listed below
  const std::byte* rows[kTogether];
  const std::byte* next[kTogether];
  const bool ahead = asks_ahead.load(std::memory_order_relaxed);
  const auto fill = [&](std::int64_t k, int size) {
    for (int r = 0; r < size; ++r) {
      rows[r] = row_of(k + r);
      next[r] = !ahead ? rows[r] : k + size + r < count ? row_of(k + size + r) : follow_on(r);
    }
  };
  std::int64_t k = 0;
  for (; k + kTogether <= count; k += kTogether) {
    fill(k, kTogether);
    work.template operator()<kTogether>(k, rows, next);
  }
  const auto left = static_cast<int>(count - k);
  fill(k, left);
  if (left == 3) work.template operator()<3>(k, rows, next);
  if (left == 2) work.template operator()<2>(k, rows, next);
  if (left == 1) work.template operator()<1>(k, rows, next);
}

/// sum[j] += sum_r a[r] w[r][j] for `width` values of type T (float, hwy::float16_t, hwy::bfloat16_t). next: rows to
/// ask for meanwhile. The sum lies as PlainWeights' vectors do: in order but for bf16, where of each 2 N values the N
/// even ones come first; what is left over at the end is in order. (unsort_pairs of sparse.cpp puts it right.)
template <class T, int kRows>
HWY_INLINE void add_plain_rows(const std::byte* const* w, const float* a, const std::byte* const* next,
                               std::int64_t width, float* HWY_RESTRICT sum) {
  using W = PlainWeights<T>;
  const typename W::D d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const bool to_first_level = on_amd();
  // Copies, which no store to the sum can change: else each is loaded again for every vector.
  const std::byte* from[kRows];
  const std::byte* ahead[kRows];
  typename W::V scale[kRows];
  for (int r = 0; r < kRows; ++r) {
    from[r] = w[r];
    ahead[r] = next[r];
    scale[r] = hn::Set(d, a[r]);
  }
  std::int64_t j = 0;
  for (; j + 2 * lanes <= width; j += 2 * lanes) {
    auto first = hn::LoadU(d, sum + j), second = hn::LoadU(d, sum + j + lanes);
    for (int r = 0; r < kRows; ++r) {
      constexpr std::int64_t kLine = 64;
      for (std::int64_t b = 0; b < 2 * lanes * W::kBytes; b += kLine)
        prefetch(ahead[r] + j * W::kBytes + b, to_first_level);
      typename W::V w0, w1;
      W::load(from[r] + j * W::kBytes, w0, w1);
      first = hn::MulAdd(scale[r], w0, first);
      second = hn::MulAdd(scale[r], w1, second);
    }
    hn::StoreU(first, d, sum + j);
    hn::StoreU(second, d, sum + j + lanes);
  }
  if (j == width) return;
  // The last values, as two vectors of which only the beginning counts.
  HWY_ALIGN float rest[2 * HWY_MAX_BYTES / sizeof(float)] = {};
  HWY_ALIGN float weights[2 * HWY_MAX_BYTES / sizeof(float)];
  std::memcpy(rest, sum + j, static_cast<std::size_t>(width - j) * sizeof(float));
  for (int r = 0; r < kRows; ++r) {
    HWY_ALIGN std::byte bytes[2 * HWY_MAX_BYTES] = {};
    std::memcpy(bytes, w[r] + j * W::kBytes, static_cast<std::size_t>((width - j) * W::kBytes));
    typename W::V w0, w1;
    W::load(bytes, w0, w1);
    if constexpr (std::is_same_v<T, hwy::bfloat16_t>) {
      hn::StoreInterleaved2(w0, w1, d, weights);
    } else {
      hn::Store(w0, d, weights);
      hn::Store(w1, d, weights + lanes);
    }
    for (std::int64_t i = 0; i < 2 * lanes; i += lanes)
      hn::Store(hn::MulAdd(scale[r], hn::Load(d, weights + i), hn::Load(d, rest + i)), d, rest + i);
  }
  std::memcpy(sum + j, rest, static_cast<std::size_t>(width - j) * sizeof(float));
}

/// The same for q8_0: f16 scale, 32 int8. (Four rows in 16-bit integers, two rows' values in turn and their factors as
/// 16-bit numbers, is half the instructions and no faster: 0.79 of the read bandwidth against 0.83, width 2048.)
template <int kRows>
HWY_INLINE void add_q8_0_rows(const std::byte* const* w, const float* a, const std::byte* const* next,
                              std::int64_t width, float* HWY_RESTRICT sum) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToSigned<decltype(d)> d32;
  const hn::Rebind<std::int8_t, decltype(d)> d8;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  constexpr std::int64_t kBytes = 34;
  const bool to_first_level = on_amd();
  for (std::int64_t b = 0; b < width / 32; ++b) {
    const std::uint8_t* block[kRows];
    hn::Vec<decltype(d)> scale[kRows];
    for (int r = 0; r < kRows; ++r) {
      prefetch(next[r] + b * kBytes, to_first_level);
      block[r] = reinterpret_cast<const std::uint8_t*>(w[r] + b * kBytes);
      scale[r] = hn::Set(d, a[r] * load_scale(block[r]));
    }
    for (std::int64_t i = 0; i < 32; i += lanes) {
      auto s = hn::LoadU(d, sum + b * 32 + i);
      for (int r = 0; r < kRows; ++r) {
        const auto q = hn::LoadU(d8, reinterpret_cast<const std::int8_t*>(block[r] + 2 + i));
        s = hn::MulAdd(scale[r], hn::ConvertTo(d, hn::PromoteTo(d32, q)), s);
      }
      hn::StoreU(s, d, sum + b * 32 + i);
    }
  }
}

/// The same for q4_0: f16 scale, 16 bytes, byte j holds values j (low nibble) and j + 16 (high), each minus 8.
template <int kRows>
HWY_INLINE void add_q4_0_rows(const std::byte* const* w, const float* a, const std::byte* const* next,
                              std::int64_t width, float* HWY_RESTRICT sum) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToSigned<decltype(d)> d32;
  const hn::Rebind<std::uint8_t, decltype(d)> d8;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  constexpr std::int64_t kBytes = 18;
  const bool to_first_level = on_amd();
  const auto nibble = hn::Set(d32, 15);
  const auto eight = hn::Set(d, 8.0F);
  for (std::int64_t b = 0; b < width / 32; ++b) {
    const std::uint8_t* block[kRows];
    hn::Vec<decltype(d)> scale[kRows];
    for (int r = 0; r < kRows; ++r) {
      prefetch(next[r] + b * kBytes, to_first_level);
      block[r] = reinterpret_cast<const std::uint8_t*>(w[r] + b * kBytes);
      scale[r] = hn::Set(d, a[r] * load_scale(block[r]));
    }
    for (std::int64_t i = 0; i < 16; i += lanes) {
      auto low = hn::LoadU(d, sum + b * 32 + i), high = hn::LoadU(d, sum + b * 32 + 16 + i);
      for (int r = 0; r < kRows; ++r) {
        const auto both = hn::PromoteTo(d32, hn::LoadU(d8, block[r] + 2 + i));
        low = hn::MulAdd(scale[r], hn::Sub(hn::ConvertTo(d, hn::And(both, nibble)), eight), low);
        high = hn::MulAdd(scale[r], hn::Sub(hn::ConvertTo(d, hn::ShiftRight<4>(both)), eight), high);
      }
      hn::StoreU(low, d, sum + b * 32 + i);
      hn::StoreU(high, d, sum + b * 32 + 16 + i);
    }
  }
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
