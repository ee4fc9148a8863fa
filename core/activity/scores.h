// Scores of neurons, each with its formula. a: activations of one token, [neurons], after the activation function (and
// after the product with the up projection where the layer is gated). w_i: row i of the outgoing weights.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace torpor {

/// Share of exact zeros, #{i : a_i == 0} / neurons. 0 for an empty row.
double zero_fraction(std::span<const float> a);

/// Output magnitude m_i = |a_i| * ||w_i|| (ReLU² Wins; relu2.md 2.2), one f32 product. norms: [neurons].
/// Throws InvalidArgument if the sizes differ.
std::vector<float> output_magnitudes(std::span<const float> a, std::span<const float> norms);

/// The largest activation magnitude x for which x * norm <= epsilon in f32. So |a_i| <= cut exactly where
/// m_i <= epsilon: masks made from magnitudes and masks made from cuts agree in every bit. +infinity for norm 0.
/// Throws InvalidArgument for a negative or NaN argument.
float activation_cut(float epsilon, float norm);

/// ReDo score s_i = m_i / mean_k m_k with m_i = mean over inputs of |a_i| (Sokar et al. 2023, Def. 3.1; redo.md 2.1).
/// Scores average to one. A silent layer (mean 0) has all scores 0. means: [neurons].
std::vector<double> redo_scores(std::span<const double> mean_magnitudes);

/// Units with score <= tau ("tau-dormant"). The comparison counts equality, which matters at tau = 0.
std::int64_t dormant_count(std::span<const double> scores, double tau);

/// Quantile of the standard normal distribution: x with Phi(x) = p. Relative error below 1e-13. 0 < p < 1.
/// Throws InvalidArgument outside.
double normal_quantile(double p);

struct ScoreMoments {
  double mean = 0;
  double deviation = 0;  // of the sample, n - 1; 0 for a single score
};

/// Summed in f64. Throws InvalidArgument for no scores.
ScoreMoments score_moments(std::span<const float> scores);

/// Statistical top-k (You et al. 2025; spark.md 2.3): mean + std * Q(1 - k / n), std with n - 1. About k of n scores
/// lie above it if they are normal. k >= n keeps all: -infinity. scores: [n], finite. Cost: one pass. Throws
/// InvalidArgument for k < 1.
double statistical_threshold(std::span<const float> scores, std::int64_t k);

/// The cutoff of Gaussian top-k (Gemma 3n): mean + std * Q(sparsity), std with n: transformers' Gemma3nTextMLP. scores:
/// [n], finite. Throws InvalidArgument for no scores or a sparsity outside (0, 1).
double gaussian_cutoff(std::span<const float> scores, double sparsity);

/// Rank of every |a_i|: 0 = largest; equal magnitudes keep their order. An exact top-k is { i : rank_i < k }.
std::vector<std::int32_t> magnitude_ranks(std::span<const float> a);

}  // namespace torpor
