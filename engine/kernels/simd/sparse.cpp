#include "engine/kernels/sparse.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <functional>
#include <vector>

#include "engine/kernels/simd/quantised_rows.h"
#include "engine/kernels/simd/simd.h"
#include "engine/kernels/simd/vnni.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/sparse.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/kernels/simd/activation-inl.h"
#include "engine/kernels/simd/sparse_rows-inl.h"

#ifndef TORPOR_KERNELS_SIMD_SPARSE_MANY_TOKENS_
#define TORPOR_KERNELS_SIMD_SPARSE_MANY_TOKENS_
namespace torpor::simd {
namespace {

// Many tokens, by blocks of neurons: the rows that make a block's activations stay in the second cache while each token
// takes its own of them; then a piece of the columns of its rows of down, so that a token's sums stay in the first.
constexpr std::int64_t kLargestBlock = 256, kBlockBytes = 512 << 10;
constexpr std::int64_t kColumns = 512;  // a multiple of what blocks of weights and pairs of vectors hold
// Tokens that share what is read of the weights: all of them are read for each so many.
constexpr std::int64_t kTokensTogether = 128;

std::int64_t block_of(const NeuronRows& rows) {
  std::int64_t bytes = 1;
  for (const WeightMatrix* w : {&rows.gate, &rows.multiplier})
    if (!w->empty()) bytes += w->row_bytes();
  return std::clamp<std::int64_t>(kBlockBytes / bytes, 32, kLargestBlock);
}

/// What a thread keeps for its tokens.
struct TokenScratch {
  std::vector<float> sums, total;     // [tokens, stride]
  std::vector<std::int64_t> done;     // [tokens]: where each token's list goes on
  std::vector<std::int32_t> neurons;  // of a block, of all tokens
  std::vector<float> activations;     // theirs
};

}  // namespace
}  // namespace torpor::simd
#endif

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {

template <int kRows>
HWY_INLINE void dot_group(const WeightMatrix& w, const std::byte* const* rows, const std::byte* const* next,
                          const InputRows& x, std::int64_t token, float* out) {
#if HWY_TARGET == HWY_AVX3
  if (w.interleaved) return vnni::dot_interleaved<kRows, 1>(w.format, rows, next, *x.quantised, token, out);
#endif
  switch (w.format) {
    case NumberFormat::f32:
      return dot_plain<float, kRows, 1>(rows, next, x.plain + token * w.in, w.in, out);
    case NumberFormat::f16:
      return dot_plain<hwy::float16_t, kRows, 1>(rows, next, x.plain + token * w.in, w.in, out);
    case NumberFormat::bf16:
      return dot_plain<hwy::bfloat16_t, kRows, 1>(rows, next, x.pairs + token * paired_width(w.in), w.in, out);
    case NumberFormat::q8_0:
      return dot_q8_0<kRows, 1>(rows, next, *x.quantised, token, out);
    case NumberFormat::q4_0:
      return dot_q4_0<kRows, 1>(rows, next, *x.quantised, token, out);
    case NumberFormat::q4_k:
      return dot_q4_k<kRows, 1>(rows, next, *x.quantised, token, out);
    default:
      return dot_q6_k<kRows, 1>(rows, next, *x.quantised, token, out);
  }
}

template <int kRows>
HWY_INLINE void add_group(const WeightMatrix& w, const std::byte* const* rows, const std::byte* const* next,
                          const float* a, float* sum) {
  switch (w.format) {
    case NumberFormat::f32:
      return add_plain_rows<float, kRows>(rows, a, next, w.in, sum);
    case NumberFormat::f16:
      return add_plain_rows<hwy::float16_t, kRows>(rows, a, next, w.in, sum);
    case NumberFormat::bf16:
      return add_plain_rows<hwy::bfloat16_t, kRows>(rows, a, next, w.in, sum);
    case NumberFormat::q8_0:
      return add_q8_0_rows<kRows>(rows, a, next, w.in, sum);
    default:
      return add_q4_0_rows<kRows>(rows, a, next, w.in, sum);
  }
}

/// The listed rows of w; follow_on(r): which come after the last of them.
template <class Work, class FollowOn>
HWY_INLINE void for_listed(const WeightMatrix& w, const std::int32_t* listed, std::int64_t count, const Work& work,
                           const FollowOn& follow_on) {
  const std::int64_t stride = w.row_stride();
  for_row_groups(
      count, [&](std::int64_t k) { return w.data + listed[k] * stride; }, work,
      [&](int r) { return w.data + follow_on(r) * stride; });
}

void dots(const WeightMatrix& w, const std::int32_t* active, std::int64_t count, const InputRows& x, const float* bias,
          float* y) {
  for_listed(
      w, active, count,
      [&]<int kRows>(std::int64_t k, const std::byte* const* rows, const std::byte* const* next) HWY_ATTR {
        dot_group<kRows>(w, rows, next, x, 0, y + k);
        if (bias == nullptr) return;
        for (int r = 0; r < kRows; ++r) y[k + r] += bias[active[k + r]];
      },
      [&](int) { return active[count - 1]; });
}

/// a = f(gate . x + bias) of the neurons `these`, whose rows of the gate are read; those with 0 leave the
/// list, and so does their place in `values` become 0. Returns how many are left.
template <class Coming>
HWY_INLINE std::int64_t open_gates(const NeuronRows& rows, std::int32_t* these, std::int64_t* places, float* a,
                                   std::int64_t n, const InputRows& x, std::int64_t token, const Coming& coming,
                                   float* values) {
  for_listed(
      rows.gate, these, n,
      [&]<int kRows>(std::int64_t k, const std::byte* const* w, const std::byte* const* next)
          HWY_ATTR { dot_group<kRows>(rows.gate, w, next, x, token, a + k); },
      coming);
  if (!rows.gate_bias.empty())
    for (std::int64_t k = 0; k < n; ++k) a[k] += rows.gate_bias[static_cast<std::size_t>(these[k])];
  if (rows.activation_threshold > 0)
    for (std::int64_t k = 0; k < n; ++k) a[k] = a[k] >= rows.activation_threshold ? a[k] : 0.0F;
  activate_any(rows.activation, a, nullptr, n);
  std::int64_t kept = 0;
  for (std::int64_t k = 0; k < n; ++k) {
    values[places[k]] = a[k];
    if (a[k] == 0) continue;
    these[kept] = these[k];
    places[kept] = places[k];
    a[kept++] = a[k];
  }
  return kept;
}

/// n neurons of one token, a[k] their activations so far: finishes those and tells them to values[places[k]]. Those
/// that a gate closes leave the list; returns how many are left. coming(r): the rows that come after.
template <class Coming>
HWY_INLINE std::int64_t finish_activations(const NeuronRows& rows, std::int32_t* these, std::int64_t* places, float* a,
                                           std::int64_t n, const InputRows& x, std::int64_t token, const Coming& coming,
                                           float* values) {
  if (!rows.gate.empty()) n = open_gates(rows, these, places, a, n, x, token, coming, values);
  if (n == 0 || rows.multiplier.empty()) return n;
  for_listed(
      rows.multiplier, these, n,
      [&]<int kRows>(std::int64_t k, const std::byte* const* w, const std::byte* const* next) HWY_ATTR {
        float products[kRows];
        dot_group<kRows>(rows.multiplier, w, next, x, token, products);
        for (int r = 0; r < kRows; ++r)
          a[k + r] *=
              products[r] +
              (rows.multiplier_bias.empty() ? 0.0F : rows.multiplier_bias[static_cast<std::size_t>(these[k + r])]);
      },
      coming);
  for (std::int64_t k = 0; k < n; ++k) values[places[k]] = a[k];
  return n;
}

/// sum += a[k] down[these[k]].
template <class Coming>
HWY_INLINE void add_listed(const WeightMatrix& down, const std::int32_t* these, const float* a, std::int64_t n,
                           const Coming& coming, float* sum) {
  for_listed(
      down, these, n,
      [&]<int kRows>(std::int64_t k, const std::byte* const* w, const std::byte* const* next)
          HWY_ATTR { add_group<kRows>(down, w, next, a + k, sum); },
      coming);
}

/// The neurons of one range. values[t * values_stride + k] becomes a of token t; its sum, sums + t * sums_stride
/// [down.in], that of a down[active[k]]. A row comes from memory once: some neurons' rows for all tokens, then the
/// next's.
void neurons(const NeuronRows& rows, const std::int32_t* active, std::int64_t count, float* values,
             std::int64_t values_stride, const InputRows& x, std::int64_t tokens, float* sums,
             std::int64_t sums_stride) {
  // Some neurons' products first, then their additions; 16 measured as well as 32 and 64, and 4 no worse.
  constexpr std::int64_t kGroup = 16;
  std::fill(sums, sums + tokens * sums_stride, 0.0F);
  // This group's neurons, and the next one's, whose first rows are asked for at its end.
  std::int32_t listed[2][kGroup];
  std::int64_t place[2][kGroup], sizes[2] = {0, 0};
  std::int64_t at = 0;
  const auto any = [&](std::int64_t k) {
    for (std::int64_t t = 0; t < tokens; ++t)
      if (values[t * values_stride + k] != 0) return true;
    return false;
  };
  const auto take = [&](int which) {
    std::int64_t n = 0;
    for (; at < count && n < kGroup; ++at) {
      if (!any(at)) continue;
      listed[which][n] = active[at];
      place[which][n++] = at;
    }
    sizes[which] = n;
  };
  take(0);
  for (int which = 0; sizes[which] > 0; which ^= 1) {
    take(which ^ 1);
    for (std::int64_t t = 0; t < tokens; ++t) {
      float* const token_values = values + t * values_stride;
      float* const sum = sums + t * sums_stride;
      std::int32_t these[kGroup];
      std::int64_t places[kGroup];
      float a[kGroup];
      std::int64_t n = 0;
      for (std::int64_t k = 0; k < sizes[which]; ++k) {
        const float value = token_values[place[which][k]];
        if (value == 0) continue;
        these[n] = listed[which][k];
        places[n] = place[which][k];
        a[n++] = value;
      }
      if (n == 0) continue;
      // The next group's rows are asked for while the last token's are used; the others' are there already.
      const std::int64_t following = t == tokens - 1 ? sizes[which ^ 1] : 0;
      const auto coming = [&](int r) { return r < following ? listed[which ^ 1][r] : these[n - 1]; };
      n = finish_activations(rows, these, places, a, n, x, t, coming, token_values);
      if (n > 0) add_listed(rows.down, these, a, n, coming, sum);
    }
  }
}

/// The tokens [begin, end) of `lists` by neuron blocks; scratch.total becomes what sparse_ffn() of one token adds up,
/// in its order.
void token_neurons(const NeuronRows& rows, const TokenLists& lists, float* values, const InputRows& x,
                   std::int64_t begin, std::int64_t end, std::int64_t ranges, std::int64_t stride,
                   TokenScratch& scratch) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t block_size = block_of(rows), width = rows.down.in, tokens = end - begin;
  float* const sums = scratch.sums.data();
  float* const total = scratch.total.data();
  std::fill(sums, sums + tokens * stride, 0.0F);
  std::fill(total, total + tokens * stride, 0.0F);
  std::fill(scratch.done.begin(), scratch.done.begin() + tokens, 0);
  // This block's neurons of token t and their activations are those from first_of[t] to first_of[t + 1].
  std::int32_t* const neurons = scratch.neurons.data();
  float* const a = scratch.activations.data();
  std::int64_t first_of[kTokensTogether + 1] = {0};
  for (std::int64_t range = 0; range < ranges; ++range) {
    const std::int64_t first = rows.down.out * range / ranges, last = rows.down.out * (range + 1) / ranges;
    for (std::int64_t block = first; block < last; block += block_size) {
      const std::int64_t block_end = std::min(last, block + block_size);
      for (std::int64_t t = 0; t < tokens; ++t) {
        const std::int32_t* const index = lists.index + (begin + t) * lists.stride;
        float* const token_values = values + (begin + t) * lists.stride;
        const std::int64_t count = lists.counts[static_cast<std::size_t>(begin + t)];
        std::int32_t* const these = neurons + first_of[t];
        std::int64_t places[kLargestBlock];
        std::int64_t n = 0;
        std::int64_t& at = scratch.done[static_cast<std::size_t>(t)];
        for (; at < count && index[at] < block_end; ++at) {
          if (token_values[at] == 0) continue;
          these[n] = index[at];
          places[n] = at;
          a[first_of[t] + n++] = token_values[at];
        }
        if (n > 0) {
          // What the next token begins with is asked for while this one's last rows are used.
          const bool more = t + 1 < tokens;
          const std::int64_t after = more ? scratch.done[static_cast<std::size_t>(t) + 1] : 0;
          const std::int64_t waiting = more ? lists.counts[static_cast<std::size_t>(begin + t) + 1] - after : 0;
          const auto coming = [&](int r) {
            return r < waiting && index[lists.stride + after + r] < block_end ? index[lists.stride + after + r]
                                                                              : these[n - 1];
          };
          n = finish_activations(rows, these, places, a + first_of[t], n, x, begin + t, coming, token_values);
        }
        first_of[t + 1] = first_of[t] + n;
      }
      for (std::int64_t from = 0; from < width; from += kColumns) {
        WeightMatrix piece = rows.down;
        piece.data += bytes_of(piece.format, from);
        piece.stride = rows.down.row_stride();
        piece.in = std::min(kColumns, width - from);
        for (std::int64_t t = 0; t < tokens; ++t) {
          const std::int64_t at = first_of[t], n = first_of[t + 1] - at;
          float* const sum = sums + t * stride + from;
          if (n > 0)
            add_listed(
                piece, neurons + at, a + at, n,
                [&](int r) { return neurons[std::min(at + n + r, first_of[tokens] - 1)]; }, sum);
          if (block_end < last) continue;
          float* const whole = total + t * stride + from;
          for (std::int64_t i = 0; i < std::min(kColumns, stride - from); i += lanes) {  // stride: whole lines
            hn::StoreU(hn::Add(hn::LoadU(d, whole + i), hn::LoadU(d, sum + i)), d, whole + i);
            hn::StoreU(hn::Zero(d), d, sum + i);
          }
        }
      }
    }
  }
}

/// out[begin … end) = sums over the partial sums at `sums`, one after another: `parts` of them, [width] each, those
/// whose flag is 0 left out. In the order of add_rows' sums.
void add_parts(const float* sums, const std::uint8_t* used, std::int64_t parts, std::int64_t width, std::int64_t begin,
               std::int64_t end, float* out) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = begin;
  for (; j + lanes <= end; j += lanes) {
    auto s = hn::Zero(d);
    for (std::int64_t p = 0; p < parts; ++p)
      if (used[p] != 0) s = hn::Add(s, hn::LoadU(d, sums + p * width + j));
    hn::StoreU(s, d, out + j);
  }
  for (; j < end; ++j) {
    float s = 0;
    for (std::int64_t p = 0; p < parts; ++p)
      if (used[p] != 0) s += sums[p * width + j];
    out[j] = s;
  }
}

/// Puts sums that add_bf16_rows sorted by pairs into order, from `from` to `to`.
void unsort_pairs(const float* from, std::int64_t width, float* to) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = 0;
  for (; j + 2 * lanes <= width; j += 2 * lanes)
    hn::StoreInterleaved2(hn::LoadU(d, from + j), hn::LoadU(d, from + j + lanes), d, to + j);
  for (; j < width; ++j) to[j] = from[j];
}

std::int64_t compact_nonzero(const float* values, std::int64_t n, std::int32_t* index, float* packed) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t count = 0, i = 0;
  // Whole vectors are written, at or below what was read: packed may be values.
  for (; i + lanes <= n; i += lanes) {
    const auto x = hn::LoadU(d, values + i);
    const auto keep = hn::Ne(x, hn::Zero(d));
    const auto numbers = hn::Iota(di, static_cast<std::int32_t>(i));
    hn::CompressStore(numbers, hn::RebindMask(di, keep), di, index + count);
    count += static_cast<std::int64_t>(hn::CompressStore(x, keep, d, packed + count));
  }
  for (; i < n; ++i) {
    if (values[i] == 0) continue;
    index[count] = static_cast<std::int32_t>(i);
    packed[count++] = values[i];
  }
  return count;
}

/// index, packed (may be null): where values are chosen, and those values. chosen(i): a mask of the vector at i;
/// one(v): whether a single value is. Few are: their places are found bit by bit in masks of 64 values, which is three
/// times as fast as compressing every vector.
template <class D, class Chosen, class One>
HWY_INLINE std::int64_t compact_where(D d, const float* values, std::int64_t n, std::int32_t* index, float* packed,
                                      const Chosen& chosen, const One& one) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t count = 0, i = 0;
  const auto keep = [&](std::int64_t at) {
    index[count] = static_cast<std::int32_t>(at);
    if (packed != nullptr) packed[count] = values[at];
    ++count;
  };
  for (; i + 64 <= n; i += 64) {
    std::uint64_t mask = 0;
    for (std::int64_t k = 0; k < 64; k += lanes) {
      std::uint8_t bytes[8] = {};
      hn::StoreMaskBits(d, chosen(i + k), bytes);
      std::uint64_t bits;
      std::memcpy(&bits, bytes, sizeof bits);
      mask |= bits << k;
    }
    for (; mask != 0; mask &= mask - 1) keep(i + std::countr_zero(mask));
  }
  for (; i < n; ++i)
    if (one(values[i])) keep(i);
  return count;
}

/// index, above: the scores above `cut` and where they are.
std::int64_t compact_above(const float* scores, std::int64_t n, float cut, std::int32_t* index, float* above) {
  const hn::ScalableTag<float> d;
  const auto limit = hn::Set(d, cut);
  return compact_where(
      d, scores, n, index, above, [&](std::int64_t i) HWY_ATTR { return hn::Gt(hn::LoadU(d, scores + i), limit); },
      [&](float score) { return score > cut; });
}

void count_at_least(const float* values, std::int64_t n, const std::uint32_t* bits, std::int64_t* counts) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  // Magnitudes have no sign bit: signed comparisons order them. A mask is -1 in its lanes.
  const auto low0 = hn::Set(di, static_cast<std::int32_t>(bits[0] - 1)),
             low1 = hn::Set(di, static_cast<std::int32_t>(bits[1] - 1)),
             low2 = hn::Set(di, static_cast<std::int32_t>(bits[2] - 1)),
             low3 = hn::Set(di, static_cast<std::int32_t>(bits[3] - 1));
  auto sum0 = hn::Zero(di), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto magnitude = hn::BitCast(di, hn::Abs(hn::LoadU(d, values + i)));
    sum0 = hn::Sub(sum0, hn::VecFromMask(di, hn::Gt(magnitude, low0)));
    sum1 = hn::Sub(sum1, hn::VecFromMask(di, hn::Gt(magnitude, low1)));
    sum2 = hn::Sub(sum2, hn::VecFromMask(di, hn::Gt(magnitude, low2)));
    sum3 = hn::Sub(sum3, hn::VecFromMask(di, hn::Gt(magnitude, low3)));
  }
  counts[0] = hn::GetLane(hn::SumOfLanes(di, sum0));
  counts[1] = hn::GetLane(hn::SumOfLanes(di, sum1));
  counts[2] = hn::GetLane(hn::SumOfLanes(di, sum2));
  counts[3] = hn::GetLane(hn::SumOfLanes(di, sum3));
  for (; i < n; ++i)
    for (int p = 0; p < 4; ++p) counts[p] += (std::bit_cast<std::uint32_t>(values[i]) & 0x7fffffffU) >= bits[p] ? 1 : 0;
}

std::int64_t compact_at_least(const float* values, std::int64_t n, std::uint32_t low, std::int32_t* index,
                              float* packed) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto below = hn::Set(di, static_cast<std::int32_t>(low - 1));
  return compact_where(
      di, values, n, index, packed,
      [&](std::int64_t i) HWY_ATTR { return hn::Gt(hn::BitCast(di, hn::Abs(hn::LoadU(d, values + i))), below); },
      [&](float v) { return (std::bit_cast<std::uint32_t>(v) & 0x7fffffffU) >= low; });
}

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::simd {

std::atomic<bool> asks_ahead{true};

HWY_EXPORT(dots);
HWY_EXPORT(neurons);
HWY_EXPORT(token_neurons);
HWY_EXPORT(add_parts);
HWY_EXPORT(unsort_pairs);
HWY_EXPORT(compact_nonzero);
HWY_EXPORT(compact_above);
HWY_EXPORT(count_at_least);
HWY_EXPORT(compact_at_least);

namespace {

// A thread gets work only for so many bytes of weights: waking it costs about as much as reading 64 KB.
constexpr std::int64_t kBytesPerThread = 64 << 10;
// Ranges of neurons that are summed apart: of at least so many bytes, were all their neurons active, and at most so
// many, since each costs the writing and reading of d_model sums. By the layer's size alone, so that the sums do not
// depend on which neurons are active. Threads take them one after the other: active neurons are not spread evenly.
constexpr std::int64_t kRangeBytes = std::int64_t{1} << 20;
constexpr std::int64_t kMaxRanges = 16;
constexpr std::int64_t kLine = 64 / sizeof(float);

std::int64_t ranges_of(const NeuronRows& rows) {
  const std::int64_t bytes = rows.down.bytes() + rows.multiplier.bytes() + rows.gate.bytes();
  return std::clamp<std::int64_t>(bytes / kRangeBytes, 1, std::min(kMaxRanges, rows.down.out));
}

/// x in the form that the products with both matrices read. q4_0 wants it in one more form (vnni.h), which the last
/// call decides.
InputRows input_rows_of(const NeuronRows& rows, const float* x, std::int64_t tokens) {
  if (!rows.gate.empty() && rows.gate.format == rows.multiplier.format) return input_rows(rows.gate, x, tokens);
  InputRows all{.plain = x};
  const bool gate_last = rows.gate.format == NumberFormat::q4_0;
  for (const WeightMatrix* w : {gate_last ? &rows.multiplier : &rows.gate, gate_last ? &rows.gate : &rows.multiplier})
    if (!w->empty()) {
      const InputRows made = input_rows(*w, x, tokens);
      if (made.pairs != nullptr) all.pairs = made.pairs;
      if (made.quantised != nullptr) all.quantised = made.quantised;
    }
  return all;
}

}  // namespace

void dot_rows(const WeightMatrix& w, std::span<const std::int32_t> active, const float* x, const float* bias, float* y,
              ThreadPool& pool) {
  const InputRows input = input_rows(w, x, 1);
  const auto job = [&](long begin, long end, int) {
    HWY_DYNAMIC_DISPATCH(dots)(w, active.data() + begin, end - begin, input, bias, y + begin);
  };
  pool.parallel_for_balanced(static_cast<long>(active.size()), std::max<long>(1, kBytesPerThread / w.row_bytes()),
                             std::ref(job));
}

void sparse_ffn(const NeuronRows& rows, std::span<const std::int32_t> active, float* values, const float* x,
                std::int64_t tokens, float* out, SparseScratch& scratch, ThreadPool& pool) {
  const std::int64_t ranges = ranges_of(rows), width = rows.down.in;
  const std::int64_t stride = (width + kLine - 1) / kLine * kLine, all = tokens * stride;
  const auto count = static_cast<std::int64_t>(active.size());
  const bool sorted = rows.down.format == NumberFormat::bf16;
  const bool in_place = !sorted && (tokens == 1 || stride == width);
  float* const sums = scratch.sums(static_cast<std::size_t>((ranges + 1) * all));
  float* const total = in_place ? out : sums + ranges * all;
  const InputRows input = input_rows_of(rows, x, tokens);
  std::uint8_t used[kMaxRanges] = {};
  std::atomic<std::int64_t> next{0};
  const auto work = [&](int) {
    for (;;) {
      const std::int64_t r = next.fetch_add(1, std::memory_order_relaxed);
      if (r >= ranges) return;
      const auto bound = [&](std::int64_t range) {
        return std::lower_bound(active.begin(), active.end(), rows.down.out * range / ranges) - active.begin();
      };
      const std::int64_t begin = bound(r), end = bound(r + 1);
      if (begin == end) continue;
      used[r] = 1;
      HWY_DYNAMIC_DISPATCH(neurons)
      (rows, active.data() + begin, end - begin, values + begin, count, input, tokens, sums + r * all, stride);
    }
  };
  if (ranges == 1)
    work(0);
  else
    pool.run(std::ref(work));
  const std::int64_t added = tokens == 1 ? width : all;
  const auto add = [&](long begin, long end, int) {
    HWY_DYNAMIC_DISPATCH(add_parts)(sums, used, ranges, all, begin, end, total);
  };
  // Columns of a whole number of lines to each thread; few sums are not worth a second thread.
  pool.parallel_for(added, std::max<long>(kLine, 32768 / ranges / kLine * kLine), std::ref(add));
  if (in_place) return;
  for (std::int64_t t = 0; t < tokens; ++t) {
    if (sorted)
      HWY_DYNAMIC_DISPATCH(unsort_pairs)(total + t * stride, width, out + t * width);
    else
      std::copy_n(total + t * stride, width, out + t * width);
  }
}

void sparse_ffn(const NeuronRows& rows, const TokenLists& lists, float* values, const float* x, float* out,
                ThreadPool& pool) {
  const std::int64_t ranges = ranges_of(rows), width = rows.down.in;
  const std::int64_t stride = (width + kLine - 1) / kLine * kLine;
  const auto tokens = static_cast<std::int64_t>(lists.counts.size());
  const bool sorted = rows.down.format == NumberFormat::bf16;
  const InputRows input = input_rows_of(rows, x, tokens);
  // Even shares for the threads.
  const std::int64_t step =
      std::clamp<std::int64_t>((tokens + pool.threads() - 1) / pool.threads(), 1, kTokensTogether);
  const auto job = [&](long first, long last, int) {
    thread_local TokenScratch scratch;
    const auto grow = [](auto& buffer, std::int64_t size) {
      if (buffer.size() < static_cast<std::size_t>(size)) buffer.resize(static_cast<std::size_t>(size));
    };
    grow(scratch.sums, step * stride);
    grow(scratch.total, step * stride);
    grow(scratch.done, step);
    grow(scratch.neurons, step * kLargestBlock);
    grow(scratch.activations, step * kLargestBlock);
    for (long piece = first; piece < last; ++piece) {
      const std::int64_t begin = piece * step, end = std::min(tokens, begin + step);
      HWY_DYNAMIC_DISPATCH(token_neurons)(rows, lists, values, input, begin, end, ranges, stride, scratch);
      for (std::int64_t t = begin; t < end; ++t) {
        const float* const total = scratch.total.data() + (t - begin) * stride;
        if (sorted)
          HWY_DYNAMIC_DISPATCH(unsort_pairs)(total, width, out + t * width);
        else
          std::copy_n(total, width, out + t * width);
      }
    }
  };
  pool.parallel_for_balanced((tokens + step - 1) / step, 1, std::ref(job));
}

std::int64_t compact_nonzero(const float* values, std::int64_t n, std::int32_t* index, float* packed) {
  return HWY_DYNAMIC_DISPATCH(compact_nonzero)(values, n, index, packed);
}

std::int64_t compact_above(const float* scores, std::int64_t n, float cut, std::int32_t* index, float* above) {
  return HWY_DYNAMIC_DISPATCH(compact_above)(scores, n, cut, index, above);
}

void count_at_least(const float* values, std::int64_t n, const std::uint32_t bits[4], std::int64_t counts[4]) {
  HWY_DYNAMIC_DISPATCH(count_at_least)(values, n, bits, counts);
}

std::int64_t compact_at_least(const float* values, std::int64_t n, std::uint32_t low, std::int32_t* index,
                              float* packed) {
  return HWY_DYNAMIC_DISPATCH(compact_at_least)(values, n, low, index, packed);
}

}  // namespace torpor::simd
#endif
