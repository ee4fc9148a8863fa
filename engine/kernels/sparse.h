// Products with chosen rows of neuron-major matrices: what is left of a feed-forward layer when inactive neurons are
// neither read nor computed (ReLU² Wins, section 5; Spark Transformer, appendix B). Row i of every matrix belongs to
// neuron i, also of the down projection, which is therefore the transpose of what files hold.
//
// Lists of neurons are ascending, without repeats. Every result has the same bits on any number of threads, and the
// same bits whether a neuron of activation 0 is in the list or not: an output is summed over fixed ranges of neurons,
// in order within a range and range by range.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "engine/kernels/dense.h"

namespace torpor {

/// y[k] = x . w[active[k]] + bias[active[k]].  w: [neurons, width], x: [width], bias empty or [neurons], y:
/// [active.size()]. The bits are those of linear() on one row.
void dot_rows(const WeightMatrix& w, std::span<const std::int32_t> active, const float* x, std::span<const float> bias,
              float* y, ThreadPool& pool);

/// The rows of a layer's neurons, each matrix [neurons, its width]. Not owned.
struct NeuronRows {
  WeightMatrix multiplier;  // `up` of a gated layer; empty: none
  std::span<const float> multiplier_bias;
  WeightMatrix down;  // [neurons, d_model]

  /// Where only a guess of the active neurons is known: the projection that makes their activations, [neurons, width]
  /// as the multiplier. Empty: the activations are given.
  WeightMatrix gate = {};
  std::span<const float> gate_bias = {};
  Activation activation = Activation::relu;
  float activation_threshold = 0;  // FATReLU: projections below it are as 0; 0: none
};

/// Partial sums, kept between calls so that decoding allocates nothing. One thread at a time.
class SparseScratch {
 public:
  float* sums(std::size_t count) {
    if (sums_.size() < count) sums_.resize(count);
    return sums_.data();
  }

 private:
  std::vector<float> sums_;
};

/// out[j] = sum_k a_k down[active[k], j] with a_k = values[k] (multiplier[active[k]] . x + bias), or values[k] where
/// there is no multiplier: a row is read only if values[k] != 0. With a gate, values[k] != 0 says that the neuron may
/// be active, and f(gate[active[k]] . x + gate_bias) takes the place of values[k]; where that is 0, no other row is
/// read.  x: [multiplier.in]; values: [active.size()], becomes a; out: [down.in].
void sparse_ffn(const NeuronRows& rows, std::span<const std::int32_t> active, float* values, const float* x, float* out,
                SparseScratch& scratch, ThreadPool& pool);

/// The same for several tokens, in one pass over the weights: `active` is the union of their neurons, a token's value
/// is 0 where a neuron is not its own. x: [tokens, multiplier.in]; values: [tokens, active.size()]; out: [tokens,
/// down.in]. Each token's bits are those that it has alone.
void sparse_ffn(const NeuronRows& rows, std::span<const std::int32_t> active, float* values, const float* x,
                std::int64_t tokens, float* out, SparseScratch& scratch, ThreadPool& pool);

/// The neurons of many tokens, each with a list of its own: those of token t are the counts[t] from index[t * stride]
/// on.
struct TokenLists {
  std::span<const std::int64_t> counts;  // [tokens]
  std::int64_t stride;
  const std::int32_t* index;  // [tokens, stride]
};

/// The same for many tokens (prefill): a token costs what its own neurons cost, and some neurons' rows are read from
/// memory for some tokens at once. values: [tokens, stride], beside lists.index, becomes a; x: [tokens, multiplier.in];
/// out: [tokens, down.in]. Each token's bits are those that it has alone.
void sparse_ffn(const NeuronRows& rows, const TokenLists& lists, float* values, const float* x, float* out,
                ThreadPool& pool);

/// The share of active neurons below which that is faster than products in full, by what multiplies them here
/// (bench/prefill, at 8 % of 9216 neurons): f32, bf16 vectors or bf16 tiles (AMX).
double many_tokens_pay_below(NumberFormat weights, Products products);

/// index = the i with values[i] != 0, packed = their values; returns how many. All arrays [n]; `packed` may be
/// `values`.
std::int64_t compact_nonzero(const float* values, std::int64_t n, std::int32_t* index, float* packed);

/// The k largest |values|, the first among equals: index = where they are, ascending, packed = the values; returns how
/// many: k, or n where k >= n, zeros left out. All arrays [n]. Throws InvalidArgument for k < 1. Where a value is NaN,
/// it counts as larger than any number.
std::int64_t top_k(const float* values, std::int64_t n, std::int64_t k, std::int32_t* index, float* packed);

/// index = the i with scores[i] > threshold; returns how many. Both arrays [n].
std::int64_t list_above(const float* scores, std::int64_t n, float threshold, std::int32_t* index);

/// Statistical top-k in one go (Spark Transformer, section 3): threshold theta = mean + z(1 - k/n) stddev over the n
/// scores, index = the i with scores[i] > theta, shifted = scores[i] - theta for those; returns how many. k >= n keeps
/// all, unshifted. The threshold is that of core/activity's statistical_threshold up to the rounding of f32 sums.
/// Throws InvalidArgument for k < 1. Scores that are not finite select nothing.
std::int64_t statistical_top_k(const float* scores, std::int64_t n, std::int64_t k, std::int32_t* index,
                               float* shifted);

/// Gaussian top-k (Gemma 3n): the same with the cutoff mean + z(sparsity) stddev, the deviation with n: core/activity's
/// gaussian_cutoff. Throws InvalidArgument for a sparsity outside (0, 1).
std::int64_t gaussian_top_k(const float* scores, std::int64_t n, double sparsity, std::int32_t* index, float* shifted);

/// Rows of [n] scores become max(score - cutoff, 0), in place. Returns how many are above their row's cutoff.
std::int64_t gaussian_shift(float* scores, std::int64_t rows, std::int64_t n, double sparsity, ThreadPool& pool);

}  // namespace torpor
