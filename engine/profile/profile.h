// The main job: measure which neurons of a model are inactive on a text, choose a threshold for every layer so that
// perplexity rises by no more than a budget, and say what that saves.
//
// 1. One pass over the calibration windows collects activity statistics (core/activity/accumulator.h).
// 2. For one CETT target, each layer takes its largest threshold with mean CETT at or below it (Luo et al. 2024).
// 3. Masked runs on the held-out windows, which share nothing with step 1, measure the price at fixed CETT levels; the
//    target is searched above the last level that fits, by bisection.
// 4. A last masked run under the chosen thresholds measures density, reuse, co-activation, hot and dead neurons.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/activity/accumulator.h"
#include "core/activity/locality.h"
#include "core/activity/plan.h"
#include "core/base/json.h"
#include "core/base/thread_pool.h"
#include "engine/profile/corpus.h"
#include "engine/profile/evaluate.h"

namespace torpor {

struct ProfileTarget {
  enum class Kind : std::uint8_t { budget, cett, sparsity };
  Kind kind = Kind::budget;
  double value =
      0.01;  // budget: allowed relative rise of perplexity; cett: the target itself; sparsity: share of neurons
};
std::string_view name_of(ProfileTarget::Kind kind);

struct ProfileOptions {
  ProfileTarget target;
  std::int64_t window = 0;  // tokens; 0: 512, or the model's context where that is shorter
  std::int64_t calibration_tokens = 65536;
  std::int64_t held_out_tokens = 32768;
  std::int64_t cett_tokens = 8192;        // of the calibration tokens, evenly spread; about every eighth at most
  std::int64_t skipped_first_tokens = 4;  // of each window, left out of statistics: their norms are abnormal
  bool baselines = true;                  // also measure top-k, FAT and CATS at like sparsities
  bool show_progress = true;
  std::uint64_t seed = 0;  // of the neurons that are sampled for co-activation
};

/// One measured way of leaving neurons out.
struct CurvePoint {
  std::string rule;      // "cett", "exact_zeros", "top_k", "fat", "cats"
  double parameter = 0;  // the CETT target, k, or the sparsity aimed at
  double cett = 0;       // NaN where the rule has none
  double sparsity = 0;   // measured on held-out text, mean over layers
  double loss_nats_per_token = 0;
  Interval perplexity_ratio;
  bool chosen = false;
};

struct LayerProfile {
  int layer = 0, neurons = 0;
  std::string name, reason;  // reason: why it is not worth skipping, or empty
  bool skippable = true;
  CettThreshold threshold;      // chosen; its numbers are those of the calibration text
  Interval density;             // under it, on held-out text
  ActivityStatistics activity;  // of the calibration text
  std::vector<std::pair<double, CettThreshold>> by_cett;
  std::vector<double> frequency;  // [neurons] share of held-out tokens a neuron is active for
  ReuseStatistics reuse;
  CoactivationStatistics coactivation;
};

/// Bytes of weights that decoding one token reads.
struct TokenBytes {
  double dense = 0, ffn_dense = 0;
  double known_set = 0;     // if the active set were known before the layer runs
  double no_predictor = 0;  // without one: up (or, gated, gate) is read whole to find the set
};

struct Profile {
  ProfileOptions options;
  ModelFacts model;
  Json model_summary;  // as in profile.json "model"
  std::string text_source, text_fingerprint;
  std::int64_t text_bytes = 0, window = 0, calibration_tokens = 0, cett_tokens = 0, held_out_tokens = 0;
  std::int64_t tokens_with_tiny_output = 0;

  Evaluation dense, masked;  // held out
  double cett = 0, sparsity = 0, exact_zero_sparsity = 0;
  Interval sparsity_interval, ratio;
  bool budget_met = true;
  std::string note;
  TokenBytes bytes;

  std::vector<CurvePoint> curve;
  std::vector<LayerProfile> layers;
  double seconds_statistics = 0, seconds_dense = 0, seconds_search = 0, seconds_total = 0;
  double statistics_overhead = 0;  // time a token of pass 1 over time a token of plain evaluation
  std::vector<std::string> warnings;
};

/// Throws BadInput (text too short, tokenizer that does not fit, broken weights), UsageError (target out of range),
/// Interrupted. Deterministic; the number of threads changes no number but the seconds.
Profile profile_model(const std::shared_ptr<const Model>& model, const Tokenizer& tokenizer, const TextCorpus& corpus,
                      const ProfileOptions& options, ThreadPool& pool);

/// profile.json, "torpor.profile/1" (docs/schema/profile.schema.json).
Json to_json(const Profile& profile);
/// hot_first: with an order of each layer's neurons, by how often they were active on the held-out text.
SparsityPlan plan_of(const Profile& profile, bool hot_first = false);
/// Tables for spreadsheets: file name and content.
std::vector<std::pair<std::string, std::string>> csv_files(const Profile& profile);

}  // namespace torpor
