// How fast a model decodes on this machine, dense and skipping in turn, beside what memory allows: a sparse engine wins
// by reading fewer bytes, so every rate is shown with the bytes a token, and with the share of the read bandwidth that
// was measured just before and after.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/base/json.h"
#include "engine/decode/session.h"
#include "engine/decode/skipping.h"

namespace torpor {

struct DecodeBenchOptions {
  std::int64_t context = 256;  // positions in the cache when a round begins; their keys and values are drawn
  int tokens = 16;             // a round
  int rounds = 7;              // of each side; one more before them is thrown away
  std::uint64_t seed = 0;      // of the tokens
  NumberFormat cache = NumberFormat::f32;  // of keys and values, or q8_0
  std::int64_t probe_bytes = 0;            // of memory that is read for the bandwidth; 0: four caches, at most 2 GB
};

/// Bytes read for a token.
struct TokenBytes {
  double ffn = 0, projections = 0, unembedding = 0;
  double streams = 0;    // Gemma 3n's: AltUp, LAuReL and the layers' own inputs
  double attention = 0;  // keys and values; Spark's: the predictor's part of all keys, and at most the kept ones whole
  double all() const { return ffn + projections + unembedding + streams + attention; }
};

struct DecodeSide {
  std::vector<double> seconds_per_token;  // sampling included; a round each
  std::vector<double> sampling;           // seconds a token of that: drawing from the logits; a round each
  std::vector<double> read_bandwidth;     // bytes a second, the larger of before and after a round
  std::vector<PartTimes> parts;           // a round each, of all its tokens
  TokenBytes bytes;
  double density = 1;  // of feed-forward neurons

  double median_seconds() const;
};

struct DecodeBench {
  DecodeBenchOptions options;
  DecodeSide dense;
  std::optional<DecodeSide> sparse;  // where something is skipped
  /// Dense over sparse seconds, round by round; sorted.
  std::vector<double> speedups() const;
  /// What the bytes allow.
  double byte_limit() const { return sparse ? dense.bytes.all() / sparse->bytes.all() : 1; }
};

/// Several sequences decoded together.
struct BatchPoint {
  int sequences = 1;
  std::vector<double> dense, sparse;  // seconds of a step of all sequences, a round each
  double united = 0;                  // share of a layer's neurons that some sequence used; 0: nothing was skipped
  /// Dense over sparse seconds, round by round; sorted.
  std::vector<double> speedups() const;
};

struct BatchBenchOptions {
  std::vector<int> sequences = {1, 2, 4, 8, 16, 32, 64};
  std::int64_t context = 16;  // positions in each sequence's cache, drawn: many sequences' caches are large
  int steps = 2;              // a round
  int rounds = 3;
  std::uint64_t seed = 0;
};

/// What skipping gains where sequences share one pass over the weights: the more there are, the more neurons some
/// sequence uses. progress(steps done of all). Throws InvalidArgument.
std::vector<BatchPoint> bench_batches(const std::shared_ptr<const Model>& model, const Skipping& skipping,
                                      const BatchBenchOptions& options, ThreadPool& pool,
                                      const std::function<void(int)>& progress = {});

Json to_json(const std::vector<BatchPoint>& curve);

/// One sequence, one token at a time; the two sides alternate with the same tokens. skipping.ffn null: dense only. A
/// token is drawn from the logits too, at temperature 0.8, and then another goes on, the same on both sides.
/// progress(rounds done, without the first one, which is thrown away: 0 after it). Throws InvalidArgument for
/// impossible options, as Session does.
DecodeBench bench_decode(const std::shared_ptr<const Model>& model, const Skipping& skipping,
                         const DecodeBenchOptions& options, ThreadPool& pool,
                         const std::function<void(int)>& progress = {});

Json to_json(const DecodeBench& bench);

}  // namespace torpor
