// The kernels of dense.h, sparse.h and spark.h written to be read: plain loops, double accumulators, one thread. They
// are the oracle of every faster kernel's test and of nothing else; the library itself never calls them. Shapes as
// there.
#pragma once

#include "engine/kernels/dense.h"
#include "engine/kernels/spark.h"
#include "engine/kernels/sparse.h"

namespace torpor::reference {

void linear(const WeightMatrix& w, const float* x, std::int64_t rows, std::span<const float> bias, float* y);

void rms_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset, float eps,
              float* y);
void layer_norm(const float* x, std::int64_t rows, std::span<const float> weight, float weight_offset,
                std::span<const float> bias, float eps, float* y);

/// f(x) in double.
double activation(Activation activation, double x);
void activate(Activation activation, float* x, std::int64_t n);
void activate_gated(Activation activation, float* gate, const float* up, std::int64_t n);

void add(float* x, const float* y, std::int64_t n);
void soft_cap(float* x, std::int64_t n, float cap);
void softmax(float* x, std::int64_t n);
double log_sum_exp(const float* x, std::int64_t n);

void attention(const AttentionShape& shape, const float* q, std::int64_t queries, std::int64_t first, const float* keys,
               const float* values, std::int64_t kv_stride, float* out);

void sparse_ffn(const NeuronRows& rows, std::span<const std::int32_t> active, float* values, const float* x,
                float* out);

SparkAttentionCounts spark_attention(const SparkAttentionShape& shape, const float* q, std::int64_t queries,
                                     std::int64_t first, const float* keys, const float* values, std::int64_t kv_stride,
                                     float* out);

}  // namespace torpor::reference
