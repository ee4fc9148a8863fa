// Whether and how a model's inactive neurons are skipped while it decodes: by a plan, or by what the model itself
// leaves at zero; layer by layer, where that pays on this machine.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/activity/plan.h"
#include "engine/decode/ffn_cost.h"
#include "engine/decode/sparse_ffn.h"

namespace torpor {

enum class Skip : std::uint8_t {
  where_it_pays,  // measured at the start
  always,         // wherever a rule allows it
  never,          // all neurons are computed; a plan's rules still set the inactive ones to zero
};

struct DenseLayer {
  int layer = 0;
  std::string reason;  // "97.0 % of its neurons are active, skipping pays below 84.1 %"
};

struct Skipping {
  std::shared_ptr<SparseFfn> ffn;  // null: nothing is skipped or masked
  std::string reason;              // why nothing is skipped, where nothing is
  std::vector<DenseLayer> dense;   // layers that run densely although a rule was there
  std::optional<FfnCost> cost;     // measured with where_it_pays
};

/// A plan and the folder where it lies, and with it the files that it names.
struct PlanInFolder {
  SparsityPlan plan;
  std::filesystem::path folder;
};

/// plan: null for what the model itself leaves at zero; must fit the model (plan_fits). Arranges the weights by neuron
/// first (neuron_major.h) unless nothing will be skipped. Throws as LayerPredictors, NeuronMajorWeights and SparseFfn
/// do.
Skipping prepare_skipping(const std::shared_ptr<const Model>& model, const PlanInFolder* plan, Skip skip,
                          ThreadPool& pool, const NeuronMajorWeights::Progress& progress = {});

}  // namespace torpor
