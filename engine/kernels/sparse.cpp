// The public face: arguments are checked here, before any work; the work is done in simd/.
#include "engine/kernels/sparse.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "core/activity/scores.h"
#include "core/base/error.h"
#include "engine/kernels/simd/bf16.h"
#include "engine/kernels/simd/simd.h"
#include "engine/kernels/simd/vnni.h"

namespace torpor {
namespace {

void check_rows(const char* function, const char* name, const WeightMatrix& w, bool added) {
  if (w.empty() || w.out < 1 || w.in < 1)
    throw InvalidArgument("[{}] expected {} of [neurons, width], got [{}, {}]", function, name, w.out, w.in);
  switch (w.format) {
    case NumberFormat::f32:
    case NumberFormat::f16:
    case NumberFormat::bf16:
    case NumberFormat::q8_0:
    case NumberFormat::q4_0:
      break;
    default:
      if (added || !traits(w.format).quantised)
        throw InvalidArgument("[{}] expected {} in f32, f16, bf16, q8_0 or q4_0, got {}", function, name,
                              traits(w.format).name);
  }
  static_cast<void>(bytes_of(w.format, w.in));  // throws if the width is no multiple of the block
  if (w.together > 1)
    throw InvalidArgument("[{}] expected {} each of its own, got {} together", function, name, w.together);
  if (w.interleaved && (added || !simd::vnni::available()))
    throw InvalidArgument("[{}] expected {} that are not interleaved{}", function, name,
                          added ? "" : ": this processor has no VNNI");
}

void check_active(const char* function, std::span<const std::int32_t> active, std::int64_t neurons) {
  if (active.empty()) return;
  if (active.front() < 0 || active.back() >= neurons || static_cast<std::int64_t>(active.size()) > neurons)
    throw InvalidArgument("[{}] expected ascending neurons from 0 to {}, got {} from {} to {}", function, neurons - 1,
                          active.size(), active.front(), active.back());
}

void check_bias(const char* function, std::span<const float> bias, std::int64_t neurons) {
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != neurons)
    throw InvalidArgument("[{}] expected {} biases, got {}", function, neurons, bias.size());
}

}  // namespace

void dot_rows(const WeightMatrix& w, std::span<const std::int32_t> active, const float* x, std::span<const float> bias,
              float* y, ThreadPool& pool) {
  check_rows("dot_rows", "rows", w, false);
  check_active("dot_rows", active, w.out);
  check_bias("dot_rows", bias, w.out);
  if (!active.empty()) simd::dot_rows(w, active, x, bias.empty() ? nullptr : bias.data(), y, pool);
}

namespace {

void check_matrices(const NeuronRows& rows) {
  check_rows("sparse_ffn", "down", rows.down, true);
  if (!rows.multiplier.empty()) {
    check_rows("sparse_ffn", "multiplier", rows.multiplier, false);
    if (rows.multiplier.out != rows.down.out)
      throw InvalidArgument("[sparse_ffn] expected a multiplier of {} neurons, got {}", rows.down.out,
                            rows.multiplier.out);
    check_bias("sparse_ffn", rows.multiplier_bias, rows.down.out);
  }
  if (!rows.gate.empty()) {
    check_rows("sparse_ffn", "gate", rows.gate, false);
    check_bias("sparse_ffn", rows.gate_bias, rows.down.out);
    if (rows.gate.out != rows.down.out || (!rows.multiplier.empty() && rows.gate.in != rows.multiplier.in))
      throw InvalidArgument("[sparse_ffn] expected a gate of {} neurons, as wide as the multiplier, got [{}, {}]",
                            rows.down.out, rows.gate.out, rows.gate.in);
  }
  if (!rows.gate.empty() && !rows.multiplier.empty() && rows.gate.interleaved != rows.multiplier.interleaved &&
      traits(rows.gate.format).quantised && traits(rows.multiplier.format).quantised)
    throw InvalidArgument("[sparse_ffn] expected gate and multiplier both interleaved or neither");
}

}  // namespace

void sparse_ffn(const NeuronRows& rows, std::span<const std::int32_t> active, float* values, const float* x, float* out,
                SparseScratch& scratch, ThreadPool& pool) {
  sparse_ffn(rows, active, values, x, 1, out, scratch, pool);
}

void sparse_ffn(const NeuronRows& rows, std::span<const std::int32_t> active, float* values, const float* x,
                std::int64_t tokens, float* out, SparseScratch& scratch, ThreadPool& pool) {
  if (tokens < 0) throw InvalidArgument("[sparse_ffn] expected at least 0 tokens, got {}", tokens);
  check_matrices(rows);
  check_active("sparse_ffn", active, rows.down.out);
  if (tokens > 0) simd::sparse_ffn(rows, active, values, x, tokens, out, scratch, pool);
}

void sparse_ffn(const NeuronRows& rows, const TokenLists& lists, float* values, const float* x, float* out,
                ThreadPool& pool) {
  check_matrices(rows);
  for (std::size_t t = 0; t < lists.counts.size(); ++t) {
    const std::int64_t count = lists.counts[t];
    if (count < 0 || count > lists.stride)
      throw InvalidArgument("[sparse_ffn] expected 0 to {} neurons of token {}, got {}", lists.stride, t, count);
    check_active("sparse_ffn",
                 {lists.index + static_cast<std::int64_t>(t) * lists.stride, static_cast<std::size_t>(count)},
                 rows.down.out);
  }
  if (!lists.counts.empty()) simd::sparse_ffn(rows, lists, values, x, out, pool);
}

double many_tokens_pay_below(NumberFormat weights, Products products) {
  if (!are_rounded(weights, products)) return 0.18;
  return simd::bf16::has_tiles() ? 0.065 : 0.12;  // EPYC 9005, width 2304: 0.126 after a dense up, 0.146 of Spark
}

std::int64_t compact_nonzero(const float* values, std::int64_t n, std::int32_t* index, float* packed) {
  if (n < 0) throw InvalidArgument("[compact_nonzero] expected at least 0 values, got {}", n);
  return simd::compact_nonzero(values, n, index, packed);
}

std::int64_t top_k(const float* values, std::int64_t n, std::int64_t k, std::int32_t* index, float* packed) {
  if (n < 0 || k < 1) throw InvalidArgument("[top_k] expected at least 0 values and k >= 1, got {} and {}", n, k);
  // The bits of the k-th largest magnitude lie in [low, high): at least k are >= low, fewer are >= high. A sample says
  // where to look first; then the interval is cut in five until few are inside.
  const auto bits_of = [](float v) { return std::bit_cast<std::uint32_t>(v) & 0x7fffffffU; };
  constexpr std::int64_t kSample = 128, kFew = 64;
  std::uint32_t low = 1, high = 0x80000000U, sample[kSample];
  std::int64_t at_low = n, at_high = 0;
  const std::int64_t sampled = std::min(n, kSample);
  for (std::int64_t i = 0; i < sampled; ++i) sample[i] = bits_of(values[i * n / sampled]);
  std::sort(sample, sample + sampled, std::greater<>());
  for (bool first = true; n > 0 && (first || (at_low - at_high > kFew && high - low > 1)); first = false) {
    std::uint32_t pivots[4];
    if (first) {
      const std::int64_t rank = std::min(k, n) * sampled / n;
      pivots[0] = 1;  // how many are not 0
      for (int p = 1; p < 4; ++p) {
        constexpr std::int64_t kAway[] = {0, 12, 2, -6};
        pivots[p] = std::max(1U, sample[std::clamp<std::int64_t>(rank + kAway[p], 0, sampled - 1)]);
      }
    } else {
      for (std::uint32_t p = 0; p < 4; ++p)
        pivots[p] = low + static_cast<std::uint32_t>(std::uint64_t{high - low} * (p + 1) / 5);
    }
    std::int64_t counts[4];
    simd::count_at_least(values, n, pivots, counts);
    if (first && counts[0] <= k) return simd::compact_nonzero(values, n, index, packed);
    for (int p = 0; p < 4; ++p) {
      if (counts[p] < k) {
        high = pivots[p];
        at_high = counts[p];
        break;
      }
      low = pivots[p];
      at_low = counts[p];
    }
  }
  const std::int64_t found = simd::compact_at_least(values, n, low, index, packed);
  std::uint32_t least = low;
  if (high - low > 1 && found > k) {
    std::uint32_t inside[kFew];
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < found; ++i)
      if (bits_of(packed[i]) < high) inside[count++] = bits_of(packed[i]);
    std::nth_element(inside, inside + (k - at_high - 1), inside + count, std::greater<>());
    least = inside[k - at_high - 1];
  }
  // Of equals of the k-th the first ones.
  std::int64_t above = 0;
  for (std::int64_t i = 0; i < found; ++i) above += bits_of(packed[i]) > least ? 1 : 0;
  std::int64_t equals = k - above, kept = 0;
  for (std::int64_t i = 0; i < found; ++i) {
    const std::uint32_t bits = bits_of(packed[i]);
    if (bits < least || (bits == least && equals-- <= 0)) continue;
    index[kept] = index[i];
    packed[kept++] = packed[i];
  }
  return kept;
}

std::int64_t list_above(const float* scores, std::int64_t n, float threshold, std::int32_t* index) {
  if (n < 0) throw InvalidArgument("[list_above] expected at least 0 scores, got {}", n);
  return simd::compact_above(scores, n, threshold, index, nullptr);
}

namespace {

/// index = where scores are above theta, shifted = by how much.
std::int64_t above(const float* scores, std::int64_t n, double theta, std::int32_t* index, float* shifted) {
  // The largest f32 that is not above theta selects what theta selects.
  auto cut = static_cast<float>(theta);
  if (static_cast<double>(cut) > theta) cut = std::nextafter(cut, -INFINITY);
  const std::int64_t count = simd::compact_above(scores, n, cut, index, shifted);
  if (std::isfinite(theta))
    for (std::int64_t i = 0; i < count; ++i) shifted[i] = static_cast<float>(static_cast<double>(shifted[i]) - theta);
  return count;
}

}  // namespace

std::int64_t statistical_top_k(const float* scores, std::int64_t n, std::int64_t k, std::int32_t* index,
                               float* shifted) {
  if (n < 1) throw InvalidArgument("[statistical_top_k] expected at least one score, got {}", n);
  return above(scores, n, statistical_threshold({scores, static_cast<std::size_t>(n)}, k), index, shifted);
}

std::int64_t gaussian_top_k(const float* scores, std::int64_t n, double sparsity, std::int32_t* index, float* shifted) {
  if (n < 1) throw InvalidArgument("[gaussian_top_k] expected at least one score, got {}", n);
  return above(scores, n, gaussian_cutoff({scores, static_cast<std::size_t>(n)}, sparsity), index, shifted);
}

std::int64_t gaussian_shift(float* scores, std::int64_t rows, std::int64_t n, double sparsity, ThreadPool& pool) {
  if (rows < 0 || n < 1)
    throw InvalidArgument("[gaussian_shift] expected rows of at least one score, got {} of {}", rows, n);
  std::atomic<std::int64_t> kept{0};
  const auto job = [&](long begin, long end, int) {
    thread_local std::vector<std::int32_t> index;  // kept, so that a token of decoding allocates nothing
    thread_local std::vector<float> shifted;
    index.resize(static_cast<std::size_t>(n));
    shifted.resize(index.size());
    std::int64_t some = 0;
    for (long r = begin; r < end; ++r) {
      float* const row = scores + r * n;
      const std::int64_t count = gaussian_top_k(row, n, sparsity, index.data(), shifted.data());
      std::fill_n(row, n, 0.0F);
      for (std::int64_t k = 0; k < count; ++k)
        row[index[static_cast<std::size_t>(k)]] = shifted[static_cast<std::size_t>(k)];
      some += count;
    }
    kept.fetch_add(some, std::memory_order_relaxed);
  };
  pool.parallel_for(rows, 1, std::ref(job));
  return kept.load();
}

}  // namespace torpor
