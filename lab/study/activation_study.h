// Which activation function leaves most neurons inactive, at what price, how predictably and how locally: ReLU, ReLU²,
// ReGLU and SwiGLU, trained from scratch with equal parameters, data and seeds (Zhang et al. 2024; relu2.md 6.1).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/report/page.h"
#include "engine/models/model_config.h"
#include "lab/study/study.h"

namespace torpor::lab {

struct ActivationVariant {
  std::string name;   // "relu2"
  std::string title;  // "ReLU²"
  ModelConfig config;
};

/// relu, relu2 (two matrices), reglu, swiglu (three) of a size of the presets. Throws UsageError for an unknown size.
std::vector<ActivationVariant> activation_variants(const std::string& size);

/// Thresholds on output magnitudes at one CETT target, measured on held-out text.
struct CettLevel {
  double cett = 0, sparsity = 0, loss_rise = 0;  // nats a token over the dense model
};

/// One choice of thresholds, looked at closely. Means over the layers.
struct OperatingPoint {
  std::string name;  // "cett 0.2", "sparsity 80 %"
  CettLevel level;
  double reuse_1 = 0, reuse_1_by_chance = 0, reuse_5 = 0;  // locality.h
  double top = 0, average = 0, gap = 0, gap_without_hottest = 0;
  /// Of a two-layer network on the feed-forward layer's input, d_model wide, on held-out text.
  double auc = 0, recall = 0, predicted_sparsity = 0;  // the two at a probability of one half
  double predicted_sparsity_at_95 = 0, predicted_sparsity_at_99 = 0, mass_recall_at_95 = 0;  // at those recalls
};

struct ActivationRun {
  std::string variant;
  std::uint64_t seed = 0;
  Training training;
  double loss_nats_per_token = 0;  // dense, on the held-out windows of the thresholds
  double exact_zeros = 0;
  std::vector<CettLevel> levels;  // 0 (exact zeros), 0.05, …
  CettLevel budget;               // CETT-PPL-1 %: the largest that raises perplexity by at most 1 %
  std::vector<OperatingPoint> points;
};

Json to_json(const ActivationRun& run);
/// Throws BadInput where a field is missing.
ActivationRun activation_run_from_json(const Json& json, const std::string& where);

/// Trains one network and measures it, or reads what an earlier call found (stored_run). `note` is told what is being
/// measured. Throws as Trainer and profile_model, and BadInput where the result is of other options.
ActivationRun run_activation(const ActivationVariant& variant, std::uint64_t seed, const StudyOptions& options,
                             const std::filesystem::path& folder, const StudyTexts& texts,
                             const std::function<void(const StepReport&)>& progress,
                             const std::function<void(const std::string&)>& note);

/// The digest's list (relu2.md 6.1), on the means of the seeds; each says for how many seeds it holds. Throws
/// InvalidArgument where a variant has no run.
std::vector<Claim> activation_claims(const std::vector<ActivationRun>& runs);

/// A whole study, made ready for readers.
struct ActivationStudy {
  StudyOptions options;
  std::vector<ActivationRun> runs;
  std::string command;
};

Json to_json(const ActivationStudy& study);
ReportPage page_of(const ActivationStudy& study);
/// The same for docs/results.
std::string markdown_of(const ActivationStudy& study);

}  // namespace torpor::lab
