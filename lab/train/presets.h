// Networks by name, for `torpor train --preset`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/models/model_config.h"

namespace torpor::lab {

struct Preset {
  std::string name;
  std::string description;
  ModelConfig config;
  int batch = 16;  // windows a step
  double learning_rate = 2e-3;
};

/// Equal numbers of FFN parameters at a size: d_ff of the gated ones is two thirds of the others'. Bytes are the
/// vocabulary. Spark's dimensions follow spark.md 7.1 (8 % of the neurons, an eighth of the context).
const std::vector<Preset>& presets();

/// "relu2-5m, relu-5m, …"
std::string preset_names();

/// Throws UsageError that lists the names.
const Preset& preset(std::string_view name);

}  // namespace torpor::lab
