// What the Spark Transformer costs and saves at a small scale (spark.md 7.1): seven networks of equal parameters,
// trained on the same text for the same steps, several seeds each; bits a byte against FLOPs a token, realised
// activity, and the digest's "must show" list, checked.
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

struct SparkVariant {
  std::string name;   // "spark_ffn"
  std::string title;  // "Spark FFN, dense attention"
  ModelConfig config;
};

/// dense (GeGLU), relu and relu2 (gates), top_k (statistical top-k before GELU, no predictor), spark_ffn, spark (FFN
/// and attention) and no_predictor (top-k in both, no split) of a size of the presets ("1m"). Equal parameters to a
/// hundredth. Throws UsageError for an unknown size.
std::vector<SparkVariant> spark_variants(const std::string& size);

/// Multiplications and additions of one token at the mean position of a full window, leading terms (spark.md 1.2), the
/// unembedding left out. active: share of the neurons of each layer that are not zero; keys: attended to by a query, on
/// average (only Spark attention skips; dense attention looks at all).
double flops_per_token(const ModelConfig& config, double active, double keys);

/// The share of neurons that are not zero, by layer, at one step of training.
struct ActivityAtStep {
  std::int64_t step = 0;
  std::vector<double> nonzero;  // [layers]
};

struct SparkRun {
  std::string variant;
  std::uint64_t seed = 0;
  Training training;
  std::vector<ActivityAtStep> activity;  // on held-out text: at step 0, each tenth of the steps, the end
  double keys = 0;                       // attended to by a query with more than k visible keys, on average
  double keys_of_all = 0;                // the same over all queries
  std::int64_t most_keys = 0, empty_rows = 0, attention_rows = 0;
};

Json to_json(const SparkRun& run);
/// Throws BadInput where a field is missing.
SparkRun spark_run_from_json(const Json& json, const std::string& where);

/// Trains one network and measures it, or reads what an earlier call found (stored_run). Throws as Trainer, and
/// BadInput where the result is of other options.
SparkRun run_spark_variant(const SparkVariant& variant, std::uint64_t seed, const StudyOptions& options,
                           const std::filesystem::path& folder, const StudyTexts& texts,
                           const std::function<void(const StepReport&)>& progress);

/// The digest's list (spark.md 7.1), from all runs. Throws InvalidArgument where a variant has no run.
std::vector<Claim> spark_claims(const std::vector<SparkRun>& runs, const std::string& size);

/// A whole study, made ready for readers.
struct SparkStudy {
  StudyOptions options;
  std::vector<SparkRun> runs;
  std::string command;
};

/// All numbers, the claims and the configs.
Json to_json(const SparkStudy& study);
ReportPage page_of(const SparkStudy& study);
/// The same for docs/results.
std::string markdown_of(const SparkStudy& study);

}  // namespace torpor::lab
