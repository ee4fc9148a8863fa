// Streaming activity statistics of one layer: one pass, memory that does not depend on how much text passes by,
// mergeable.
//
// Every token: zero fraction and density with confidence intervals, mean |a| and firing frequency of every neuron (ReDo
// score, hot and dead neurons), a histogram of m_i / max m. Every cett_stride-th token, evenly spread: CETT and
// sparsity at all thresholds of one grid, the distribution of |a|, and the share of sum m^2 that the largest neurons
// hold. Not here: what needs neighbouring tokens or pairs of neurons (locality.h).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/activity/cett.h"
#include "core/activity/confidence.h"
#include "core/activity/neuron_layer.h"
#include "core/base/thread_pool.h"

namespace torpor {

struct ActivityOptions {
  int neurons = 0;
  int width = 0;                    // length of an outgoing row; 0: only norms are given, and CETT is not measured
  float epsilon = 0;                // a neuron fires for a token where m_i > epsilon
  std::int64_t cett_stride = 16;    // CETT on every so many-th token, the first included; 0: never
  std::int64_t block_tokens = 512;  // blocks of the confidence intervals: a window, cut after so many tokens
};

/// Rows of activations and where they come from. Spans are empty or as long as there are rows.
struct ActivityRows {
  std::span<const float> values;           // [rows, neurons] row-major
  std::span<const std::int32_t> sequence;  // empty: all of sequence 0
  std::span<const std::int64_t>
      position;  // position in the sequence; a step back starts a new block. Empty: following on
  std::span<const std::uint8_t> excluded;  // not 0: not counted (padding, first tokens). Empty: none
};

struct MagnitudeHistogram {
  std::vector<double> share;    // [32] share of neurons with 2^-(j+1) < m / max <= 2^-j; the last one takes all below
  double exact_zero_share = 0;  // m == 0
};

/// What an accumulator knows. Plain value.
struct ActivityStatistics {
  int neurons = 0;
  std::int64_t tokens = 0, excluded_tokens = 0;
  std::int64_t cett_tokens = 0;              // tokens CETT was measured on
  std::int64_t tokens_with_tiny_output = 0;  // left out of CETT: layer output below 1e-6 of its mean norm so far

  Interval zero_fraction;  // share of a_i == 0
  Interval density;        // share of m_i > epsilon

  std::vector<double> mean_magnitude;  // [neurons] mean |a_i|
  std::vector<double> frequency;       // [neurons] share of tokens with m_i > epsilon
  std::vector<double> redo_score;      // [neurons]

  MagnitudeHistogram histogram;
  std::array<double, kMassShares.size()> mass_share{};  // mean over tokens of the share held by the top 5/10/20/50 %
  CettCurve cett;
  std::vector<double> activation_share;  // [MagnitudeGrid::kEdges] share of |a_i| <= edge

  std::int64_t dead_neurons() const;                      // frequency 0
  std::int64_t hot_neurons(double at_least = 0.5) const;  // frequency >= at_least
  /// The smallest number of neurons that make up `share` of all firings (PowerInfer's measure of skew).
  std::int64_t neurons_for_firings(double share) const;
};

/// One layer's accumulator. One thread at a time; `add` may use a pool inside and gives the same result for any number
/// of threads. For several threads or machines give each its own and merge.
class ActivityAccumulator {
 public:
  /// outgoing: rows w_i as [neurons, width] if options.width > 0, else norms [neurons]. Copied.
  /// Throws InvalidArgument for sizes that disagree, BadInput for weights that are not finite.
  ActivityAccumulator(const ActivityOptions& options, std::span<const float> outgoing);
  /// Shares the layer's rows and norms instead of copying them (norms must be there; rows may be empty).
  ActivityAccumulator(const ActivityOptions& options, std::shared_ptr<const NeuronLayer> layer);

  /// values: [rows, neurons], consecutive tokens of one text. Throws InvalidArgument for a size that is no multiple of
  /// neurons, BadInput for a value that is not finite; the accumulator is then unchanged.
  void add(std::span<const float> values);
  void add(const ActivityRows& rows, ThreadPool* pool = nullptr);

  /// Adds what `other` saw. Counts are those of one pass over both; sums differ by rounding only. Blocks in progress
  /// are closed on both sides: merge at window boundaries to get the intervals of one pass as well. Throws
  /// InvalidArgument if neurons, width or epsilon differ.
  void merge(const ActivityAccumulator& other);

  ActivityStatistics statistics() const;
  std::int64_t tokens() const { return tokens_; }

 private:
  struct Block {
    std::int64_t tokens = 0, zeros = 0, active = 0, last_position = -1;
  };
  struct RowResult {
    std::int64_t zeros = 0, active = 0;
    bool finite = true;
  };
  void close(const Block& block, BatchMeans& zeros, BatchMeans& active) const;
  void close_blocks();
  void commit(const TokenTail& tail);

  ActivityOptions options_;
  std::shared_ptr<const NeuronLayer> layer_;
  std::vector<float> cuts_;  // [neurons] from epsilon

  std::int64_t tokens_ = 0, excluded_ = 0, cett_tokens_ = 0, tiny_ = 0;
  std::map<std::int32_t, Block> open_;
  BatchMeans zeros_, active_;                    // shares of neurons per token
  std::vector<double> magnitude_sum_;            // [neurons]
  std::vector<std::uint64_t> active_count_;      // [neurons]
  std::vector<std::uint64_t> octaves_;           // [33]
  std::vector<double> cett_step_;                // [buckets] sums of CETT increments
  std::vector<std::uint64_t> magnitude_count_;   // [buckets] of m
  std::vector<std::uint64_t> activation_count_;  // [buckets] of |a|
  std::array<double, kMassShares.size()> mass_sum_{};
  std::int64_t norm_tokens_ = 0;
  double norm_sum_ = 0;
};

}  // namespace torpor
