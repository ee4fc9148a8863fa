// A small network that names the active neurons before their layer runs: how predictable a layer's active set is
// (relu2.md 3.2).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/activity/prediction.h"

namespace torpor::lab {

struct PredictorOptions {
  std::int64_t width = 0;  // of the layer between; 0: as wide as the input
  int passes = 8;          // over the tokens it is trained on
  std::int64_t batch = 1024;
  double learning_rate = 1e-3, weight_decay = 0.01;
  std::uint64_t seed = 1;
};

/// x: [tokens, d_model], what the feed-forward layer reads; m: [tokens, neurons], the output magnitudes. Both f32.
struct PredictorTokens {
  at::Tensor x, m;
};

/// Trains linear, ReLU, linear (ProSparse's form) by cross-entropy to name the neurons with m > epsilon, with AdamW and
/// a learning rate that falls to 0 by half a cosine, and judges it on other tokens. Deterministic for a number of
/// threads. Throws InvalidArgument where shapes disagree.
PredictionQuality train_predictor(const PredictorTokens& train, const PredictorTokens& test, float epsilon,
                                  const PredictorOptions& options = {});

}  // namespace torpor::lab
