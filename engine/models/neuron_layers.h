// A model's feed-forward layers as core/activity sees them, and what a plan must know of the model.
#pragma once

#include <vector>

#include "core/activity/neuron_layer.h"
#include "core/activity/plan.h"
#include "engine/models/model.h"

namespace torpor {

/// Layer `index` of the model as core/activity sees it. with_rows: also its outgoing weights, a copy of neurons *
/// d_model f32.
NeuronLayer neuron_layer(const Model& model, int index, bool with_rows);

/// For plans.
ModelFacts facts_of(const Model& model);

/// All layers without their rows: what masks need. Reads every down projection once; make it once for a model.
std::vector<NeuronLayer> neuron_layers(const Model& model);

}  // namespace torpor
