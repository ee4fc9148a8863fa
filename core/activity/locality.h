// Locality of active sets: between tokens (reuse) and between neurons (co-activation), each beside what chance would
// give (ReLU² Wins, section "hardware affinity"; relu2.md 3.3). Raw reuse grows with density and with skew, so compare
// at equal sparsity or against chance.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "core/activity/confidence.h"
#include "core/activity/mask.h"

namespace torpor {

/// The windows reuse is measured for.
inline constexpr std::array<int, 3> kReuseWindows = {1, 2, 5};

struct ReuseStatistics {
  std::int64_t tokens = 0;                           // tokens with a predecessor and at least one active neuron
  std::array<Interval, kReuseWindows.size()> reuse;  // R_k = mean_t |A_t ∩ (A_{t-1} ∪ … ∪ A_{t-k})| / |A_t|
  /// The same if every neuron fired by itself with its own frequency p_i: sum p_i (1 - (1 - p_i)^k) / sum p_i.
  std::array<double, kReuseWindows.size()> chance{};
};

/// Streaming, constant memory, mergeable (at the ends of sequences). One thread at a time.
class ReuseCounter {
 public:
  explicit ReuseCounter(int neurons);

  /// The active set of the token at `position` of `sequence`. Tokens of a sequence come in order; a step that is not +1
  /// starts anew. R_k takes tokens that have k predecessors.
  void add(const NeuronMask& active, std::int32_t sequence, std::int64_t position);
  /// Throws InvalidArgument for another number of neurons.
  void merge(const ReuseCounter& other);
  ReuseStatistics statistics() const;

 private:
  static constexpr std::size_t kHistory = static_cast<std::size_t>(kReuseWindows.back());
  struct Stream {
    std::array<NeuronMask, kHistory> history;  // ring, token at position p in slot p % kHistory
    std::int64_t position = -2;
    int predecessors = 0;
    std::array<double, kReuseWindows.size()> sum{};  // of the open block
    std::array<std::int64_t, kReuseWindows.size()> tokens{};
  };
  void close(const Stream& stream, std::array<BatchMeans, kReuseWindows.size()>& means) const;

  int neurons_;
  std::int64_t masks_ = 0;
  std::vector<std::uint64_t> fired_;  // [neurons]
  std::map<std::int32_t, Stream> streams_;
  std::array<BatchMeans, kReuseWindows.size()> means_;
};

struct CoactivationStatistics {
  std::int64_t neurons = 0;  // sampled neurons that fired often enough to count
  std::int64_t tokens = 0;
  /// With C_ij = #{t : i, j ∈ A_t} / #{t : i ∈ A_t}: mean over i of max_j C_ij, of mean_j C_ij, and of their
  /// difference.
  double top = 0, average = 0, gap = 0;
  double gap_without_hottest = 0;  // the most frequent 5 % of the sampled neurons left out on both sides
  double chance_gap = 0;  // the gap after each neuron's firings were shifted in time by a random amount of its own
};

/// Keeps one bit per sampled neuron and token for the first `max_tokens` tokens: constant memory
/// (max_neurons * max_tokens / 8 bytes). Deterministic for a seed. One thread at a time.
class CoactivationCounter {
 public:
  explicit CoactivationCounter(int neurons, int max_neurons = 512, std::int64_t max_tokens = 8192,
                               std::uint64_t seed = 0);

  void add(const NeuronMask& active);
  /// Appends what `other` saw, up to max_tokens. Throws InvalidArgument if it sampled other neurons.
  void merge(const CoactivationCounter& other);
  bool full() const { return tokens_ >= max_tokens_; }
  /// Neurons that fired on fewer than `min_firings` tokens are left out.
  CoactivationStatistics statistics(std::int64_t min_firings = 20) const;
  const std::vector<std::int32_t>& sampled_neurons() const { return sample_; }

 private:
  int neurons_;
  std::int64_t max_tokens_, tokens_ = 0;
  std::uint64_t seed_;
  std::vector<std::int32_t> sample_;                 // ascending
  std::vector<std::vector<std::uint64_t>> firings_;  // [sample][tokens / 64]
};

}  // namespace torpor
