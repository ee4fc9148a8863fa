// Attention of many query rows (prefill) as two blocked matrix products with an online softmax between them, for one
// key/value head and a tile of queries. Nothing of the size of the context is stored.
//
// Scores are kept transposed, S^T = K Q^T, [key][query]: keys are used as they lie in the cache (one broadcast each),
// only the queries are transposed, once a tile; softmax then runs down the lanes, without reductions across them.

#if defined(TORPOR_KERNELS_SIMD_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TORPOR_KERNELS_SIMD_ATTENTION_TILE_INL_H_
#undef TORPOR_KERNELS_SIMD_ATTENTION_TILE_INL_H_
#else
#define TORPOR_KERNELS_SIMD_ATTENTION_TILE_INL_H_
#endif

#include <hwy/aligned_allocator.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "engine/kernels/simd/attention_work.h"
#include "engine/kernels/simd/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Keys a tile. 128 keys x one block of queries or of the head dimension (two vectors) is 8 KB with AVX2: both operands
// of the second product stay in L1.
inline constexpr std::int64_t kTileKeys = 128;
// Rows of both products held in registers: 6 x 2 vectors of sums, 2 of loads, 1 broadcast of the 16 registers.
inline constexpr int kTileRows = 6;

/// The memory of one thread. rows: most rows of a tile; dim: head dimension.
struct AttentionScratch {
  AttentionScratch(std::int64_t most_rows, std::int64_t dim, bool quantised) {
    const auto block = static_cast<std::int64_t>(2 * hn::Lanes(hn::ScalableTag<float>()));
    rows = (most_rows + block - 1) / block * block;
    padded_dim = (dim + block - 1) / block * block;
    const auto get = [](std::int64_t n) { return hwy::AllocateAligned<float>(static_cast<std::size_t>(n)); };
    queries = get(rows * dim);
    scores = get(rows * kTileKeys);
    values = get(padded_dim * kTileKeys);
    mixed = get(rows * padded_dim);
    top = get(rows);
    sum = get(rows);
    if (quantised) cached = get(2 * kTileKeys * dim);
    position = hwy::AllocateAligned<std::int32_t>(static_cast<std::size_t>(rows));
  }
  std::int64_t rows, padded_dim;
  hwy::AlignedFreeUniquePtr<float[]> queries;          // [rows / block][dim][block]
  hwy::AlignedFreeUniquePtr<float[]> scores;           // [rows / block][kTileKeys][block]
  hwy::AlignedFreeUniquePtr<float[]> values;           // [padded_dim / block][kTileKeys][block]
  hwy::AlignedFreeUniquePtr<float[]> mixed;            // [rows][padded_dim]
  hwy::AlignedFreeUniquePtr<float[]> top, sum;         // [rows]
  hwy::AlignedFreeUniquePtr<float[]> cached;           // [2][kTileKeys][dim] keys and values of a quantised cache
  hwy::AlignedFreeUniquePtr<std::int32_t[]> position;  // [rows] of the query, from the tile's first query
};

/// s[k][0..block) = sum_i key_k[i] * queries[i][0..block) for kRows keys.
template <int kRows>
HWY_INLINE void score_keys(const float* HWY_RESTRICT keys, std::int64_t stride, const float* HWY_RESTRICT queries,
                           std::int64_t dim, float* HWY_RESTRICT s) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V sum[kRows][2];
  for (int k = 0; k < kRows; ++k) sum[k][0] = sum[k][1] = hn::Zero(d);
  for (std::int64_t i = 0; i < dim; ++i) {
    const V q0 = hn::Load(d, queries + i * 2 * lanes);
    const V q1 = hn::Load(d, queries + i * 2 * lanes + lanes);
    for (int k = 0; k < kRows; ++k) {
      const V key = hn::Set(d, keys[k * stride + i]);
      sum[k][0] = hn::MulAdd(key, q0, sum[k][0]);
      sum[k][1] = hn::MulAdd(key, q1, sum[k][1]);
    }
  }
  for (int k = 0; k < kRows; ++k) {
    hn::Store(sum[k][0], d, s + k * 2 * lanes);
    hn::Store(sum[k][1], d, s + k * 2 * lanes + lanes);
  }
}

/// mixed[m][0..block) += sum_k weight[k][m] * values[k][0..block) for kRows rows m.
template <int kRows>
HWY_INLINE void mix_tile(const float* HWY_RESTRICT weight, const float* HWY_RESTRICT values, std::int64_t keys,
                         float* HWY_RESTRICT mixed, std::int64_t stride) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V sum[kRows][2];
  for (int m = 0; m < kRows; ++m) {
    sum[m][0] = hn::Load(d, mixed + m * stride);
    sum[m][1] = hn::Load(d, mixed + m * stride + lanes);
  }
  for (std::int64_t k = 0; k < keys; ++k) {
    const V v0 = hn::Load(d, values + k * 2 * lanes);
    const V v1 = hn::Load(d, values + k * 2 * lanes + lanes);
    for (int m = 0; m < kRows; ++m) {
      const V w = hn::Set(d, weight[k * 2 * lanes + m]);
      sum[m][0] = hn::MulAdd(w, v0, sum[m][0]);
      sum[m][1] = hn::MulAdd(w, v1, sum[m][1]);
    }
  }
  for (int m = 0; m < kRows; ++m) {
    hn::Store(sum[m][0], d, mixed + m * stride);
    hn::Store(sum[m][1], d, mixed + m * stride + lanes);
  }
}

/// Turns a block's scores into weights exp(s - top) and updates its running maxima and sums; returns what the rows
/// mixed so far must be multiplied by, in `shrink`. first_key: the tile's first key, from the tile of queries' first
/// position.
HWY_INLINE void soften(const AttentionWork& work, bool masked, std::int64_t first_key, std::int64_t keys,
                       const std::int32_t* position, float* scores, float* top, float* sum, float* shrink) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t block = 2 * lanes;
  for (std::int64_t half = 0; half < block; half += lanes) {
    float* s = scores + half;
    if (work.shape.soft_cap > 0) {
      const V cap = hn::Set(d, work.shape.soft_cap), inverse = hn::Set(d, 1 / work.shape.soft_cap);
      for (std::int64_t k = 0; k < keys; ++k)
        hn::Store(hn::Mul(cap, tanh_of(d, hn::Mul(hn::Load(d, s + k * block), inverse))), d, s + k * block);
    }
    if (masked) {
      const auto query = hn::Load(di, position + half);
      const V unseen = hn::Set(d, -INFINITY);
      const auto window = static_cast<std::int32_t>(std::min<std::int64_t>(work.shape.window, 1 << 30));
      for (std::int64_t k = 0; k < keys; ++k) {
        const auto ahead = hn::Sub(hn::Set(di, static_cast<std::int32_t>(first_key + k)), query);  // > 0: the future
        V score = hn::Load(d, s + k * block);
        score = hn::IfThenElse(hn::RebindMask(d, hn::Gt(ahead, hn::Zero(di))), unseen, score);
        if (window > 0)
          score = hn::IfThenElse(hn::RebindMask(d, hn::Lt(ahead, hn::Set(di, 1 - window))), unseen, score);
        hn::Store(score, d, s + k * block);
      }
    }
    const V old_top = hn::Load(d, top + half);
    V new_top = old_top;
    for (std::int64_t k = 0; k < keys; ++k) new_top = hn::Max(new_top, hn::Load(d, s + k * block));
    const V factor = exp_bounded(d, hn::Sub(old_top, new_top));
    V total = hn::Mul(hn::Load(d, sum + half), factor);
    for (std::int64_t k = 0; k < keys; ++k) {
      const V e = exp_bounded(d, hn::Sub(hn::Load(d, s + k * block), new_top));
      hn::Store(e, d, s + k * block);
      total = hn::Add(total, e);
    }
    hn::Store(new_top, d, top + half);
    hn::Store(total, d, sum + half);
    hn::Store(factor, d, shrink + half);
  }
}

/// Queries [begin, end) of one key/value head. Rows m = (query - begin) * group + head in group.
inline void attend_tile(const AttentionWork& work, std::int64_t kv_head, std::int64_t begin, std::int64_t end,
                        AttentionScratch& scratch) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t block = 2 * lanes;
  const std::int64_t dim = work.shape.head_dim, group = work.group(), rows = (end - begin) * group;
  const std::int64_t blocks = (rows + block - 1) / block, padded_dim = scratch.padded_dim;

  for (std::int64_t m = 0; m < blocks * block; ++m) {
    float* to = scratch.queries.get() + m / block * dim * block + m % block;
    const float* from = m < rows ? work.query_row(begin * group + m, kv_head) : nullptr;
    for (std::int64_t i = 0; i < dim; ++i) to[i * block] = from == nullptr ? 0.0F : from[i] * work.shape.scale;
    // Padding rows see what the last row sees, so that they never have an empty softmax.
    scratch.position[static_cast<std::size_t>(m)] = static_cast<std::int32_t>(std::min(m, rows - 1) / group);
  }
  std::fill_n(scratch.top.get(), blocks * block, kNoScore);
  std::fill_n(scratch.sum.get(), blocks * block, 0.0F);
  std::fill_n(scratch.mixed.get(), blocks * block * padded_dim, 0.0F);

  const std::int64_t position = work.first + begin;  // of the first query
  const std::int64_t keys_end = work.first + end;
  for (std::int64_t tile = work.first_key(begin); tile < keys_end; tile += kTileKeys) {
    const std::int64_t count = std::min(kTileKeys, keys_end - tile);
    const float* const tile_keys = work.key_rows(kv_head, tile, count, scratch.cached.get());
    const float* const tile_values =
        work.value_rows(kv_head, tile, count, work.quantised() ? scratch.cached.get() + kTileKeys * dim : nullptr);
    std::int64_t k = 0;
    for (; k + kTileRows <= count; k += kTileRows)
      for (std::int64_t b = 0; b < blocks; ++b)
        score_keys<kTileRows>(tile_keys + k * work.kv_stride, work.kv_stride, scratch.queries.get() + b * dim * block,
                              dim, scratch.scores.get() + (b * kTileKeys + k) * block);
    for (; k < count; ++k)
      for (std::int64_t b = 0; b < blocks; ++b)
        score_keys<1>(tile_keys + k * work.kv_stride, work.kv_stride, scratch.queries.get() + b * dim * block, dim,
                      scratch.scores.get() + (b * kTileKeys + k) * block);

    // Values in blocks of two vectors of the head dimension: in the cache their stride (often a power of two) would map
    // them all to the same few sets of L1.
    for (k = 0; k < count; ++k) {
      const float* from = tile_values + k * work.kv_stride;
      for (std::int64_t i = 0; i < padded_dim; i += lanes) {
        float* to = scratch.values.get() + (i / block * kTileKeys + k) * block + i % block;
        if (i + lanes <= dim) {
          hn::Store(hn::LoadU(d, from + i), d, to);
        } else {
          for (std::int64_t j = 0; j < lanes; ++j) to[j] = i + j < dim ? from[i + j] : 0.0F;
        }
      }
    }

    const bool masked = tile + count - 1 > position || (work.shape.window > 0 && tile < work.first_key(end - 1));
    HWY_ALIGN float shrink[2 * HWY_MAX_BYTES / sizeof(float)];
    for (std::int64_t b = 0; b < blocks; ++b) {
      float* weights = scratch.scores.get() + b * kTileKeys * block;
      soften(work, masked, tile - position, count, scratch.position.get() + b * block, weights,
             scratch.top.get() + b * block, scratch.sum.get() + b * block, shrink);
      const std::int64_t used = std::min(block, rows - b * block);
      float* mixed = scratch.mixed.get() + b * block * padded_dim;
      for (std::int64_t m = 0; m < used; ++m) {
        if (shrink[m] == 1.0F) continue;
        for (std::int64_t i = 0; i < padded_dim; i += lanes)
          hn::Store(hn::Mul(hn::Load(d, mixed + m * padded_dim + i), hn::Set(d, shrink[m])), d,
                    mixed + m * padded_dim + i);
      }
      for (std::int64_t i = 0; i < padded_dim; i += block) {
        const float* part = scratch.values.get() + i * kTileKeys;
        std::int64_t m = 0;
        for (; m + kTileRows <= used; m += kTileRows)
          mix_tile<kTileRows>(weights + m, part, count, mixed + m * padded_dim + i, padded_dim);
        for (; m + 4 <= used; m += 4) mix_tile<4>(weights + m, part, count, mixed + m * padded_dim + i, padded_dim);
        for (; m < used; ++m) mix_tile<1>(weights + m, part, count, mixed + m * padded_dim + i, padded_dim);
      }
    }
  }
  for (std::int64_t m = 0; m < rows; ++m) {
    const float* mixed = scratch.mixed.get() + m * padded_dim;
    float* out = work.out_row(begin * group + m, kv_head);
    const float scale = 1 / scratch.sum[static_cast<std::size_t>(m)];
    for (std::int64_t i = 0; i < dim; ++i) out[i] = mixed[i] * scale;
  }
}

}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
