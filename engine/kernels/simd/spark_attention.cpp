#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <vector>

#include "engine/kernels/simd/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/spark_attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "engine/kernels/simd/attention_tile-inl.h"
#include "engine/kernels/simd/sparse_rows-inl.h"

namespace torpor::simd {
#ifndef TORPOR_SIMD_SPARK_WORK
#define TORPOR_SIMD_SPARK_WORK
/// What one query and head needs; kept by each thread, so that a token allocates nothing once contexts have been seen.
struct SparkWork {
  std::vector<float> scores, kept;  // [visible keys]
  std::vector<std::int32_t> index;

  void reserve(std::int64_t keys) {
    const auto n = static_cast<std::size_t>(keys);
    if (scores.size() >= n) return;
    const std::size_t room = std::max(n, scores.size() * 2);
    scores.resize(room);
    kept.resize(room);
    index.resize(room);
  }
};

// Most rows of a block of pack_queries(): two vectors.
inline constexpr std::int64_t kMostBlock = 32;

/// Rows of keys or values, f32 or q8_0.
struct SparkTable {
  const std::byte* data;
  std::int64_t stride;  // bytes
  bool quantised;
};
#endif
}  // namespace torpor::simd

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {

/// work<size>(k, rows, next): rows of the table, those listed or all, some at a time.
template <class Work>
HWY_INLINE void for_keys(const SparkTable& table, const std::int32_t* index, std::int64_t count, const Work& work) {
  const auto row_of = [&](std::int64_t k) { return table.data + (index == nullptr ? k : index[k]) * table.stride; };
  for_row_groups(count, row_of, work, [&](int) { return row_of(count - 1); });
}

/// y[k] = scale * x . rows[k][0 … width)
void scaled_dots(const SparkTable& table, const std::int32_t* index, std::int64_t count, const float* x,
                 std::int64_t width, float scale, float* y) {
  if (!table.quantised) {
    for_keys(table, index, count,
             [&]<int kRows>(std::int64_t k, const std::byte* const* rows, const std::byte* const* next) HWY_ATTR {
               dot_plain<float, kRows, 1>(rows, next, x, width, y + k);
               for (int r = 0; r < kRows; ++r) y[k + r] *= scale;
             });
    return;
  }
  QuantisedRows& q = quantised_rows(1, width);
  quantise_rows(x, q);
  for_keys(table, index, count,
           [&]<int kRows>(std::int64_t k, const std::byte* const* rows, const std::byte* const* next) HWY_ATTR {
             dot_q8_0<kRows, 1>(rows, next, q, 0, y + k);
             for (int r = 0; r < kRows; ++r) y[k + r] *= scale;
           });
}

/// out += sum_k weights[k] rows[k]
void add_weighted(const SparkTable& table, const std::int32_t* index, std::int64_t count, const float* weights,
                  std::int64_t width, float* out) {
  for_keys(table, index, count,
           [&]<int kRows>(std::int64_t k, const std::byte* const* rows, const std::byte* const* next) HWY_ATTR {
             if (table.quantised)
               add_q8_0_rows<kRows>(rows, weights + k, next, width, out);
             else
               add_plain_rows<float, kRows>(rows, weights + k, next, width, out);
           });
}

/// weights[k] *= softplus(scores[k]) = max(s, 0) + log(1 + exp(-|s|)).
void multiply_softplus(const float* scores, std::int64_t count, float* weights) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const auto product = [&](V s, V weight) HWY_ATTR {
    const V small = hn::Log1p(d, exp_bounded(d, hn::Neg(hn::Abs(s))));
    return hn::Mul(weight, hn::Add(hn::Max(s, hn::Zero(d)), small));
  };
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t k = 0;
  for (; k + lanes <= count; k += lanes)
    hn::StoreU(product(hn::LoadU(d, scores + k), hn::LoadU(d, weights + k)), d, weights + k);
  if (k == count) return;
  HWY_ALIGN float last[2][HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy(scores + k, scores + count, last[0]);
  std::copy(weights + k, weights + count, last[1]);
  hn::Store(product(hn::Load(d, last[0]), hn::Load(d, last[1])), d, last[1]);
  std::copy_n(last[1], count - k, weights + k);
}

/// Queries as score_keys() of attention_tile-inl.h reads them: [rows / block][dim][block], multiplied by scale; rows
/// that are not there are 0. Returns the number of blocks.
std::int64_t pack_queries(const float* const* rows, std::int64_t count, std::int64_t dim, float scale, float* packed) {
  const auto block = static_cast<std::int64_t>(2 * hn::Lanes(hn::ScalableTag<float>()));
  const std::int64_t blocks = (count + block - 1) / block;
  static_assert(2 * HWY_MAX_BYTES / sizeof(float) <= kMostBlock);
  for (std::int64_t m = 0; m < blocks * block; ++m) {
    float* const to = packed + m / block * dim * block + m % block;
    for (std::int64_t i = 0; i < dim; ++i) to[i * block] = m < count ? rows[m][i] * scale : 0.0F;
  }
  return blocks;
}

/// scores[m * room + k] = row m of the packed queries . key k, for `count` rows and `keys` <= kTileKeys keys.
void score_tile(const float* keys, std::int64_t stride, std::int64_t n_keys, const float* packed, std::int64_t count,
                std::int64_t dim, float* scores, std::int64_t room) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 4> d4;
  const auto block = static_cast<std::int64_t>(2 * hn::Lanes(d));
  HWY_ALIGN float tile[kTileKeys * 2 * HWY_MAX_BYTES / sizeof(float)];  // [keys][block]
  for (std::int64_t first = 0; first < count; first += block) {
    const float* const queries = packed + first * dim;
    std::int64_t k = 0;
    for (; k + kTileRows <= n_keys; k += kTileRows)
      score_keys<kTileRows>(keys + k * stride, stride, queries, dim, tile + k * block);
    for (; k < n_keys; ++k) score_keys<1>(keys + k * stride, stride, queries, dim, tile + k * block);
    // Turned, four by four: what follows reads the keys of a query.
    const std::int64_t rows = std::min(block, count - first);
    std::int64_t m = 0;
    if (hn::MaxLanes(d4) == 4)
      for (; m + 4 <= rows; m += 4)
        for (k = 0; k + 4 <= n_keys; k += 4) {
          const float* const from = tile + k * block + m;
          const auto a = hn::LoadU(d4, from), b = hn::LoadU(d4, from + block), c = hn::LoadU(d4, from + 2 * block),
                     e = hn::LoadU(d4, from + 3 * block);
          const auto ac_low = hn::InterleaveLower(d4, a, c), ac_high = hn::InterleaveUpper(d4, a, c);
          const auto be_low = hn::InterleaveLower(d4, b, e), be_high = hn::InterleaveUpper(d4, b, e);
          float* const to = scores + (first + m) * room + k;
          hn::StoreU(hn::InterleaveLower(d4, ac_low, be_low), d4, to);
          hn::StoreU(hn::InterleaveUpper(d4, ac_low, be_low), d4, to + room);
          hn::StoreU(hn::InterleaveLower(d4, ac_high, be_high), d4, to + 2 * room);
          hn::StoreU(hn::InterleaveUpper(d4, ac_high, be_high), d4, to + 3 * room);
        }
    for (std::int64_t r = 0; r < rows; ++r)
      for (k = r < m ? n_keys / 4 * 4 : 0; k < n_keys; ++k) scores[(first + r) * room + k] = tile[k * block + r];
  }
}

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::simd {

HWY_EXPORT(scaled_dots);
HWY_EXPORT(add_weighted);
HWY_EXPORT(multiply_softplus);
HWY_EXPORT(pack_queries);
HWY_EXPORT(score_tile);

namespace {

/// What one head reads, from the first key that it sees on: the part of its keys that scores, the others, its values.
struct HeadTables {
  SparkTable keys, rest, values;
};

/// Where a head's tables begin: keys and values of f32 with a stride in floats, or of q8_0.
struct SparkCache {
  const SparkAttentionShape& shape;
  const std::byte* keys;
  const std::byte* values;
  std::int64_t kv_stride;  // 0: q8_0

  HeadTables head(std::int64_t kv_head, std::int64_t from) const {
    const AttentionShape& a = shape.attention;
    const bool q8_0 = kv_stride == 0, split = shape.rest_offset > 0;
    const std::int64_t width = a.head_dim, scored = shape.predictor > 0 ? shape.predictor : width;
    const auto bytes = [&](std::int64_t values_count) {
      return q8_0 ? values_count / 32 * 34 : values_count * static_cast<std::int64_t>(sizeof(float));
    };
    const std::int64_t at = a.head_offset(kv_head), row = q8_0 ? width : kv_stride;
    const auto table = [&](const std::byte* base, std::int64_t offset, std::int64_t stride) {
      return SparkTable{base + bytes(at + offset + from * stride), bytes(stride), q8_0};
    };
    return {table(keys, 0, split ? scored : row),
            table(keys, split ? shape.rest_offset : scored, split ? width - scored : row), table(values, 0, row)};
  }
};

/// Which of n keys are kept, and the softmax of their scores. Returns how many were above the threshold; 0: the largest
/// is kept.
std::int64_t select_keys(const float* scores, std::int64_t n, std::int64_t active, std::int32_t* index,
                         float* weights) {
  const std::int64_t above = torpor::statistical_top_k(scores, n, active, index, weights);
  if (above == 0) {
    index[0] = static_cast<std::int32_t>(std::max_element(scores, scores + n) - scores);
    weights[0] = scores[index[0]];
  }
  softmax(weights, std::max<std::int64_t>(above, 1));  // of the shifted scores: softmax does not see a shift
  return above;
}

/// One query and head over n of the head's keys. Returns how many were kept; 0: none was above the threshold, and the
/// largest was taken.
std::int64_t attend(const SparkAttentionShape& shape, const float* q, const HeadTables& head, std::int64_t n,
                    float* out, SparkWork& work) {
  const int width = shape.attention.head_dim;
  const int scored = shape.predictor > 0 ? shape.predictor : width;
  work.reserve(n);
  float* const scores = work.scores.data();
  float* const weights = work.kept.data();
  std::int32_t* const index = work.index.data();
  HWY_DYNAMIC_DISPATCH(scaled_dots)
  (head.keys, nullptr, n, q, scored, shape.attention.scale, scores);
  const std::int64_t above = select_keys(scores, n, shape.active, index, weights);
  const std::int64_t kept = std::max<std::int64_t>(above, 1);
  if (shape.predictor > 0) {
    HWY_DYNAMIC_DISPATCH(scaled_dots)
    (head.rest, index, kept, q + scored, width - scored, shape.attention.scale, scores);
    HWY_DYNAMIC_DISPATCH(multiply_softplus)(scores, kept, weights);
  }
  std::fill_n(out, width, 0.0F);
  HWY_DYNAMIC_DISPATCH(add_weighted)(head.values, index, kept, weights, width, out);
  return above;
}

// Many queries of a head together (prefill): keys that score and kept rows are read a tile at a time for all of them,
// from the cache, where each query alone would fetch all of its rows from memory.

constexpr std::int64_t kKeysOfTile = 128;        // as attention_tile-inl.h has them
constexpr std::int64_t kRowsOfTile = 64;         // queries times heads
constexpr std::int64_t kScoresOfTile = 1 << 19;  // that one thread holds, where contexts are long

/// The rows [begin, end) of a table: where they lie, or turned to f32 in `scratch`.
SparkTable plain_rows(const SparkTable& table, std::int64_t begin, std::int64_t end, std::int64_t width,
                      std::vector<float>& scratch) {
  if (!table.quantised) return {table.data + begin * table.stride, table.stride, false};
  scratch.resize(static_cast<std::size_t>((end - begin) * width));
  for (std::int64_t k = begin; k < end; ++k)
    to_f32(NumberFormat::q8_0, table.data + k * table.stride,
           {scratch.data() + (k - begin) * width, static_cast<std::size_t>(width)});
  return {reinterpret_cast<const std::byte*>(scratch.data()), width * static_cast<std::int64_t>(sizeof(float)), false};
}

struct TileRow {
  const float* q;
  float* out;
  std::int64_t from, to;    // keys that it sees, from the tile's first
  std::int64_t kept, next;  // of its list; the first that is not done
};

/// What a thread keeps for its tiles.
struct TileWork {
  std::vector<TileRow> rows;
  std::vector<const float*> queries;
  hwy::AlignedFreeUniquePtr<float[]> packed;  // the queries
  std::int64_t packed_room = 0;
  std::vector<float> scores, weights;     // [rows][keys]
  std::vector<std::int32_t> index;        // [rows][keys], from the tile's first key
  std::vector<float> keys, rest, values;  // of a quantised cache, a tile's
  float rest_scores[kKeysOfTile];
  std::int32_t local[kKeysOfTile];
};

struct Counts {
  std::int64_t kept = 0, most = 0, empty = 0;

  void add(std::int64_t above) {
    const std::int64_t used = std::max<std::int64_t>(above, 1);
    kept += used;
    most = std::max(most, used);
    empty += above == 0 ? 1 : 0;
  }
};

/// The rows of work.rows, of one KV head whose keys begin at `head`, n in all.
void attend_tile(const SparkAttentionShape& shape, const HeadTables& head, std::int64_t n, TileWork& work,
                 Counts& counts) {
  const int width = shape.attention.head_dim;
  const int scored = shape.predictor > 0 ? shape.predictor : width;
  const auto rows = static_cast<std::int64_t>(work.rows.size());
  const auto grow = [](auto& buffer, std::int64_t size) {
    if (buffer.size() < static_cast<std::size_t>(size)) buffer.resize(static_cast<std::size_t>(size));
  };
  work.queries.clear();
  for (const TileRow& row : work.rows) work.queries.push_back(row.q);
  const std::int64_t packed = (rows + kMostBlock) * scored;
  if (work.packed_room < packed) {
    work.packed = hwy::AllocateAligned<float>(static_cast<std::size_t>(packed));
    work.packed_room = packed;
  }
  for (std::vector<float>* const buffer : {&work.scores, &work.weights}) grow(*buffer, rows * n);
  grow(work.index, rows * n);
  HWY_DYNAMIC_DISPATCH(pack_queries)
  (work.queries.data(), rows, scored, shape.attention.scale, work.packed.get());
  for (std::int64_t k = 0; k < n; k += kKeysOfTile) {
    const std::int64_t end = std::min(n, k + kKeysOfTile);
    const SparkTable keys = plain_rows(head.keys, k, end, scored, work.keys);
    HWY_DYNAMIC_DISPATCH(score_tile)
    (reinterpret_cast<const float*>(keys.data), keys.stride / static_cast<std::int64_t>(sizeof(float)), end - k,
     work.packed.get(), rows, scored, work.scores.data() + k, n);
  }
  for (std::int64_t m = 0; m < rows; ++m) {
    TileRow& row = work.rows[static_cast<std::size_t>(m)];
    std::int32_t* const index = work.index.data() + m * n;
    const std::int64_t above = select_keys(work.scores.data() + m * n + row.from, row.to - row.from, shape.active,
                                           index, work.weights.data() + m * n);
    counts.add(above);
    row.kept = std::max<std::int64_t>(above, 1);
    row.next = 0;
    for (std::int64_t k = 0; k < row.kept; ++k) index[k] += static_cast<std::int32_t>(row.from);
    std::fill_n(row.out, width, 0.0F);
  }
  for (std::int64_t k = 0; k < n; k += kKeysOfTile) {
    const std::int64_t end = std::min(n, k + kKeysOfTile);
    SparkTable rest{};
    if (shape.predictor > 0) rest = plain_rows(head.rest, k, end, width - scored, work.rest);
    const SparkTable values = plain_rows(head.values, k, end, width, work.values);
    for (std::int64_t m = 0; m < rows; ++m) {
      TileRow& row = work.rows[static_cast<std::size_t>(m)];
      const std::int32_t* const index = work.index.data() + m * n + row.next;
      float* const weights = work.weights.data() + m * n + row.next;
      std::int64_t here = 0;
      for (; row.next + here < row.kept && index[here] < end; ++here)
        work.local[here] = index[here] - static_cast<std::int32_t>(k);
      if (here == 0) continue;
      row.next += here;
      if (shape.predictor > 0) {
        HWY_DYNAMIC_DISPATCH(scaled_dots)
        (rest, work.local, here, row.q + scored, width - scored, shape.attention.scale, work.rest_scores);
        HWY_DYNAMIC_DISPATCH(multiply_softplus)(work.rest_scores, here, weights);
      }
      HWY_DYNAMIC_DISPATCH(add_weighted)(values, work.local, here, weights, width, row.out);
    }
  }
}

class SharedCounts {
 public:
  void add(const Counts& counts) {
    kept_.fetch_add(counts.kept, std::memory_order_relaxed);
    empty_.fetch_add(counts.empty, std::memory_order_relaxed);
    for (std::int64_t seen = most_.load(std::memory_order_relaxed);
         counts.most > seen && !most_.compare_exchange_weak(seen, counts.most, std::memory_order_relaxed);) {
    }
  }
  SparkAttentionCounts of(std::int64_t rows) const { return {rows, kept_.load(), most_.load(), empty_.load()}; }

 private:
  std::atomic<std::int64_t> kept_{0}, most_{0}, empty_{0};
};

SparkAttentionCounts attend_all(const SparkCache& cache, const float* q, std::int64_t queries, std::int64_t first,
                                float* out, ThreadPool& pool) {
  const SparkAttentionShape& shape = cache.shape;
  const AttentionShape& a = shape.attention;
  const std::int64_t group = a.heads / a.kv_heads;
  const auto from = [&](std::int64_t r) {
    return a.window > 0 ? std::max<std::int64_t>(0, first + r + 1 - a.window) : 0;
  };
  const auto place = [&](std::int64_t r, std::int64_t head) { return (r * a.heads + head) * a.head_dim; };
  SharedCounts shared;
  if (queries * group < AttentionWork::kFewRows) {
    const auto job = [&](long begin, long end, int) {
      thread_local SparkWork work;
      Counts counts;
      for (long task = begin; task < end; ++task) {
        const std::int64_t r = task / a.heads, head = task % a.heads;
        counts.add(attend(shape, q + place(r, head), cache.head(head / group, from(r)), first + r + 1 - from(r),
                          out + place(r, head), work));
      }
      shared.add(counts);
    };
    pool.parallel_for(queries * a.heads, 1, std::ref(job));
    return shared.of(queries * a.heads);
  }
  const std::int64_t seen = first + queries - from(0);
  const std::int64_t rows = std::clamp(kScoresOfTile / seen, group, std::max(group, kRowsOfTile));
  const std::int64_t step = rows / group;  // queries
  const auto job = [&](long begin, long end, int) {
    thread_local TileWork work;
    Counts counts;
    for (long task = begin; task < end; ++task) {
      const std::int64_t r = task / a.kv_heads * step, kv_head = task % a.kv_heads, base = from(r);
      work.rows.clear();
      for (std::int64_t i = r; i < std::min(queries, r + step); ++i)
        for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
          work.rows.push_back({q + place(i, head), out + place(i, head), from(i) - base, first + i + 1 - base, 0, 0});
      attend_tile(shape, cache.head(kv_head, base), work.rows.back().to, work, counts);
    }
    shared.add(counts);
  };
  pool.parallel_for_balanced((queries + step - 1) / step * a.kv_heads, 1, std::ref(job));  // later ones see more keys
  return shared.of(queries * a.heads);
}

}  // namespace

SparkAttentionCounts spark_attention(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                     std::int64_t first, const float* keys, const float* values, std::int64_t kv_stride,
                                     float* out, ThreadPool& pool) {
  return attend_all(
      {shape, reinterpret_cast<const std::byte*>(keys), reinterpret_cast<const std::byte*>(values), kv_stride}, q,
      queries, first, out, pool);
}

SparkAttentionCounts spark_attention_q8_0(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                          std::int64_t first, const std::byte* keys, const std::byte* values,
                                          float* out, ThreadPool& pool) {
  return attend_all({shape, keys, values, 0}, q, queries, first, out, pool);
}

}  // namespace torpor::simd
#endif
