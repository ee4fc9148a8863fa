#include "engine/models/neuron_layers.h"

#include <fmt/format.h>

namespace torpor {

NeuronLayer neuron_layer(const Model& model, int index, bool with_rows) {
  const ModelConfig& config = model.config();
  NeuronLayer layer;
  layer.index = index;
  layer.name = fmt::format("layer {}", index);
  layer.neurons = config.d_ff;
  layer.width = config.d_model;
  layer.activation = name_of(config.activation);
  layer.gated = config.gated;
  std::vector<float> rows = model.outgoing_rows(index);
  layer.outgoing_norms = row_norms(rows, layer.neurons, layer.width);
  if (with_rows) layer.outgoing_rows = std::move(rows);
  return layer;
}

ModelFacts facts_of(const Model& model) {
  const ModelConfig& config = model.config();
  return {.name = model.path().filename().string(),
          .fingerprint = model.fingerprint(),
          .model_type = config.model_type,
          .n_layers = config.n_layers,
          .d_model = config.d_model,
          .neurons = config.d_ff,
          .activation = std::string(name_of(config.activation)),
          .gated = config.gated};
}

std::vector<NeuronLayer> neuron_layers(const Model& model) {
  std::vector<NeuronLayer> layers;
  for (int l = 0; l < model.config().n_layers; ++l) layers.push_back(neuron_layer(model, l, false));
  return layers;
}

}  // namespace torpor
