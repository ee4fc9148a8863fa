// plan.json: the contract between measuring and skipping. It says for one model, and no other, which neurons each layer
// may leave out, by which rule, and what that was measured to cost. JSON Schema: docs/schema/plan.schema.json.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/activity/selection.h"
#include "core/base/expected.h"
#include "core/base/json.h"

namespace torpor {

inline constexpr std::string_view kPlanSchema = "torpor.plan/1";

/// What a plan must know of a model to be sure that it is the one it was made for.
struct ModelFacts {
  std::string name;         // for people
  std::string fingerprint;  // of the weights
  std::string model_type;   // "llama"
  int n_layers = 0;
  int d_model = 0;
  int neurons = 0;         // d_ff
  std::string activation;  // "relu2"
  bool gated = false;
  bool operator==(const ModelFacts&) const = default;
};

struct PlanLayer {
  int layer = 0;
  SelectionRule rule;     // ExactZeros where nothing else may be skipped
  double density = 1;     // share of neurons computed, measured
  double cett = 0;        // measured
  bool skippable = true;  // worth skipping
  std::string reason;     // why not
  /// The neurons in the order in which `torpor pack` writes them, hottest first; empty: as they are.
  std::vector<std::int32_t> order = {};
  bool operator==(const PlanLayer&) const = default;
};

struct SparsityPlan {
  ModelFacts model;

  std::string text_source, text_fingerprint;
  std::int64_t calibration_tokens = 0, held_out_tokens = 0, window = 0;

  std::string target_kind;  // "budget", "cett" or "sparsity"
  double target_value = 0;

  double cett = 0;     // one for all layers
  double density = 1;  // mean over layers
  double loss_dense_nats_per_token = 0, loss_nats_per_token = 0;
  double perplexity_ratio = 1;
  std::optional<std::array<double, 2>> perplexity_ratio_ci95;

  std::vector<PlanLayer> layers;  // every layer, in order
  bool operator==(const SparsityPlan&) const = default;
};

Json to_json(const SparsityPlan& plan);
/// Validates everything: schema name, types, ranges, one entry for each layer in order, no unknown fields. Throws
/// BadInput naming `where` and the field.
SparsityPlan plan_from_json(const Json& json, const std::string& where);
SparsityPlan parse_plan(std::string_view text, const std::string& where);

/// Throws IoError. Atomic.
void write_plan(const SparsityPlan& plan, const std::filesystem::path& path);
/// Throws BadInput (missing, damaged, larger than 64 MB).
SparsityPlan read_plan(const std::filesystem::path& path);

struct PlanFits {};

/// Fits if fingerprint, type, layers, widths, activation and gating agree; else the reason lists everything that
/// differs: "the plan was made for another model: 5 layers, this model has 6; …".
Expected<PlanFits> plan_fits(const SparsityPlan& plan, const ModelFacts& model);

}  // namespace torpor
