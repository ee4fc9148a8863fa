// How well a score names the active neurons before the layer runs (relu2.md 3.2; "activation recall" and "predicted
// sparsity" are ProSparse's names). The two are one trade: at equal recall the higher predicted sparsity wins.
#pragma once

#include <cstdint>
#include <span>

namespace torpor {

/// What is predicted active where all scores at or above `threshold` are.
struct PredictionPoint {
  float threshold = 0;
  double recall = 0;              // share of the active neurons that are predicted
  double precision = 0;           // share of the predicted neurons that are active
  double predicted_sparsity = 0;  // share of all neurons that are not predicted
  double mass_recall = 0;         // share of sum m^2 in the predicted neurons: missing a small one costs little
};

struct PredictionQuality {
  double auc = 0;  // P(score of an active neuron > score of an inactive one), ties count half
  double density = 0;
  PredictionPoint at_zero;       // logit >= 0, a probability of one half
  PredictionPoint at_recall_95;  // the highest thresholds with recall of at least 0.95 and 0.99
  PredictionPoint at_recall_99;
};

/// scores, magnitudes: m_i of every token and neuron, in any order; active where m_i > epsilon_i, given as bytes (0 or
/// 1). Equal scores fall on the same side of every threshold. Time n log n, memory 8 n bytes. AUC is NaN where all or
/// none are active, recalls where none is. Throws InvalidArgument where sizes differ, are 0 or a score is NaN.
PredictionQuality prediction_quality(std::span<const float> scores, std::span<const std::uint8_t> active,
                                     std::span<const float> magnitudes);

}  // namespace torpor
