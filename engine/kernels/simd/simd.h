// The kernels of dense.h, sparse.h and spark.h for every instruction set that the compiler offers (SSE4, AVX2, AVX-512,
// NEON), chosen at run time by Highway. Internal: arguments were checked by dense.cpp, sparse.cpp and spark.cpp. Shapes
// as there. All on the calling thread unless they take a pool.
#pragma once

#include <atomic>

#include "engine/kernels/dense.h"
#include "engine/kernels/spark.h"
#include "engine/kernels/sparse.h"

/// Before a short loop over what stays in registers: GCC 12 leaves some of them as loops, and what they index in memory
/// (four rows of x by two of bf16 weights: half the rate).
#define TORPOR_UNROLL _Pragma("GCC unroll 16")

namespace torpor::simd {

const char* target_name();

/// Whether an AMD processor runs this. It fetches one stream of bytes best, asked for into the first level of cache
/// (EPYC 9005, interleaved q8_0 and q4_0: 0.91 of the read bandwidth against 0.83; lists of rows: no difference).
/// Intel's wait for more lines in the second level (lists of rows on one core of a Xeon whose plain reading gives 15.7
/// GB/s: 13.5 against 12.5).
inline bool on_amd() {
#if defined(__x86_64__)
  static const bool amd = __builtin_cpu_is("amd") != 0;
  return amd;
#else
  return false;
#endif
}

/// Asks for a line of weights.
[[gnu::always_inline]] inline void prefetch(const std::byte* p, bool to_first_level) {
  if (to_first_level)
    __builtin_prefetch(p, 0, 3);
  else
    __builtin_prefetch(p, 0, 2);
}

/// For benchmarks alone: whether the rows that follow in a list are asked for while others are used (true).
extern std::atomic<bool> asks_ahead;

void rms_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset, float eps,
              float* y);
void layer_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset,
                std::span<const float> bias, float eps, float* y);

void activate(Activation activation, float* x, std::int64_t n);
void activate_gated(Activation activation, float* gate, const float* up, std::int64_t n);
void add(float* x, const float* y, std::int64_t n);
void soft_cap(float* x, std::int64_t n, float cap);
void softmax(float* x, std::int64_t n);
double log_sum_exp(const float* x, std::int64_t n);

/// linear() for few rows: every weight is read once, dequantised in registers.
void linear_few_rows(const WeightMatrix& w, const float* x, std::int64_t rows, const float* bias, float* y,
                     ThreadPool& pool);

void attention(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first, const float* keys,
               const float* values, std::int64_t kv_stride, float* out, ThreadPool& pool);

void attention_q8_0(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first,
                    const std::byte* keys, const std::byte* values, float* out, ThreadPool& pool);

// Of sparse.h.
void dot_rows(const WeightMatrix& w, std::span<const std::int32_t> active, const float* x, const float* bias, float* y,
              ThreadPool& pool);
void sparse_ffn(const NeuronRows& rows, const TokenLists& lists, float* values, const float* x, float* out,
                ThreadPool& pool);
void sparse_ffn(const NeuronRows& rows, std::span<const std::int32_t> active, float* values, const float* x,
                std::int64_t tokens, float* out, SparseScratch& scratch, ThreadPool& pool);
std::int64_t compact_nonzero(const float* values, std::int64_t n, std::int32_t* index, float* packed);
/// index, above: where the scores above `cut` are, and they. All arrays [n].
std::int64_t compact_above(const float* scores, std::int64_t n, float cut, std::int32_t* index, float* above);

/// How many |values| are at least 2^-149 times `bits` (the bits of the number), for several numbers of bits at once.
void count_at_least(const float* values, std::int64_t n, const std::uint32_t bits[4], std::int64_t counts[4]);
/// index, packed: where |values| has bits of at least `low`, and those values.
std::int64_t compact_at_least(const float* values, std::int64_t n, std::uint32_t low, std::int32_t* index,
                              float* packed);

// Of spark.h.
SparkAttentionCounts spark_attention(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                     std::int64_t first, const float* keys, const float* values, std::int64_t kv_stride,
                                     float* out, ThreadPool& pool);

SparkAttentionCounts spark_attention_q8_0(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                          std::int64_t first, const std::byte* keys, const std::byte* values,
                                          float* out, ThreadPool& pool);

}  // namespace torpor::simd
