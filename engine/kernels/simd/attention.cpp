#include <functional>
#include <vector>

#include "engine/kernels/simd/attention_work.h"
#include "engine/kernels/simd/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/simd/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/kernels/simd/attention_decode-inl.h"
#include "engine/kernels/simd/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torpor::simd::HWY_NAMESPACE {
namespace {

// Rows of scores a tile: enough that a key is used 64 times for each time it is loaded; 64 x 128 scores are 32 KB.
constexpr std::int64_t kRowsPerTile = 64;

/// Thread `thread` of `threads` does every threads-th piece. The pieces do not depend on the number of threads. Later
/// queries see more keys: dealing the pieces out in turn keeps the threads' loads alike.
void attend(const AttentionWork& work, int thread, int threads) {
  const std::int64_t kv_heads = work.shape.kv_heads, group = work.group();
  if (work.queries * group < AttentionWork::kFewRows) {
    thread_local std::vector<float> cached;  // kept, so that a token of decoding allocates nothing
    if (work.quantised()) cached.resize(static_cast<std::size_t>(2 * kKeysOfFew * work.shape.head_dim));
    for (std::int64_t h = thread; h < kv_heads; h += threads) attend_few(work, h, cached.data());
    return;
  }
  const std::int64_t queries = std::max<std::int64_t>(1, kRowsPerTile / group);  // a tile
  const std::int64_t pieces = (work.queries + queries - 1) / queries * kv_heads;
  if (thread >= pieces) return;
  AttentionScratch scratch(std::min(queries, work.queries) * group, work.shape.head_dim, work.quantised());
  for (std::int64_t p = thread; p < pieces; p += threads) {
    const std::int64_t begin = p / kv_heads * queries;
    attend_tile(work, p % kv_heads, begin, std::min(work.queries, begin + queries), scratch);
  }
}

}  // namespace
}  // namespace torpor::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torpor::simd {

HWY_EXPORT(attend);

namespace {
// Below so many multiply-adds, waking the other threads takes longer than the work.
constexpr std::int64_t kOperationsPerThread = 32 << 10;
}  // namespace

namespace {

void attend_all(const AttentionWork& work, ThreadPool& pool) {
  const std::int64_t queries = work.queries, first = work.first;
  const std::int64_t seen = first + queries - work.first_key(0);
  const std::int64_t operations = 2 * queries * work.width() * seen;
  if (pool.threads() == 1 || operations < 2 * kOperationsPerThread) {
    HWY_DYNAMIC_DISPATCH(attend)(work, 0, 1);
    return;
  }
  const auto part = [&](int thread) { HWY_DYNAMIC_DISPATCH(attend)(work, thread, pool.threads()); };
  pool.run(std::ref(part));
}

}  // namespace

void attention(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first, const float* keys,
               const float* values, std::int64_t kv_stride, float* out, ThreadPool& pool) {
  attend_all({shape, q, queries, first, keys, values, kv_stride, out}, pool);
}

void attention_q8_0(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first,
                    const std::byte* keys, const std::byte* values, float* out, ThreadPool& pool) {
  attend_all({shape, q, queries, first, nullptr, nullptr, shape.head_dim, out, keys, values}, pool);
}

}  // namespace torpor::simd
#endif
