// Selection rules: which neurons of a layer are computed for a token. Rules are values; a closed set, serialisable to
// plan.json. An exact zero is inactive under every rule. Comparisons are "inactive where <=", so that zeros count.
//
// The literature's thresholds on |s|, the output of the activation function before the product with the up projection
// (FAT, CATS), are thresholds on |a| here: the same for layers without a gate, a documented deviation for gated ones.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/activity/mask.h"
#include "core/activity/neuron_layer.h"
#include "core/base/json.h"

namespace torpor {

struct ExactZeros {  // active: a_i != 0
  bool operator==(const ExactZeros&) const = default;
};
struct OutputThreshold {  // active: m_i = |a_i| ||w_i|| > epsilon   (ReLU² Wins)
  float epsilon = 0;
  bool operator==(const OutputThreshold&) const = default;
};
struct ActivationThreshold {  // active: |a_i| > threshold, one threshold for the whole model   (FAT)
  float threshold = 0;
  bool operator==(const ActivationThreshold&) const = default;
};
struct LayerThreshold {  // active: |a_i| > threshold, chosen per layer for one sparsity   (CATS)
  float threshold = 0;
  float sparsity = 0;  // aimed at; for people
  bool operator==(const LayerThreshold&) const = default;
};
struct TopK {  // active: the k largest |a_i|, lower index first among equals
  int k = 1;
  bool operator==(const TopK&) const = default;
};
struct StatisticalTopK {  // active: |a_i| > mean + z(1 - k/n) std of the |a_i|   (Spark Transformer): about k
  int k = 1;
  bool operator==(const StatisticalTopK&) const = default;
};
struct GaussianTopK {  // active: gate_i > mean + z(sparsity) std of the gates; a_i = f(gate_i - that) up_i   (Gemma 3n)
  float sparsity = 0.95F;  // of gates that are normal
  bool operator==(const GaussianTopK&) const = default;
};
struct Predictor {   // active: logit_i > threshold, the logits made by a small network before the layer runs
  std::string file;  // beside the plan; engine/decode/predictor.h says what it holds
  float threshold = 0;
  bool operator==(const Predictor&) const = default;
};

using SelectionRule = std::variant<ExactZeros, OutputThreshold, ActivationThreshold, LayerThreshold, TopK,
                                   StatisticalTopK, GaussianTopK, Predictor>;

/// "output_threshold"; as in plan.json.
std::string_view name_of(const SelectionRule& rule);
/// "|a| ||w|| > 0.0123", for people.
std::string describe(const SelectionRule& rule);

/// {"type": "output_threshold", "epsilon": 0.0123}. Floats are written so that reading gives the same bits.
Json to_json(const SelectionRule& rule);
/// Throws BadInput naming `where`: unknown type, missing, negative or non-finite parameter, k outside [1, neurons].
SelectionRule rule_from_json(const Json& json, int neurons, const std::string& where);

/// A rule made ready for one layer. Const methods may run at once.
class RowSelector {
 public:
  /// Needs layer.neurons and, for OutputThreshold, layer.outgoing_norms. Throws InvalidArgument for a rule that does
  /// not fit the layer, BadInput for Predictor and GaussianTopK, which look at the layer's input and gates and not at
  /// its activations (SparseFfn runs them).
  RowSelector(const SelectionRule& rule, const NeuronLayer& layer);

  /// a: [neurons], finite. The mask is resized if needed.
  void select(std::span<const float> a, NeuronMask& active) const;
  NeuronMask select(std::span<const float> a) const;

  /// Sets the inactive entries of the row to 0; returns how many are active.
  std::int64_t keep_active(std::span<float> a) const;

  int neurons() const { return neurons_; }

 private:
  void check(std::size_t size) const;
  float row_threshold(std::span<const float> a) const;

  int neurons_ = 0;
  int k_ = 0;  // of TopK and StatisticalTopK
  bool exact_k_ = false;
  std::vector<float> cuts_;  // [neurons] inactive where |a_i| <= cut; empty for rules that depend on the row
};

/// One rule on one row, for tests and single use.
NeuronMask select(const SelectionRule& rule, std::span<const float> a, const NeuronLayer& layer);

}  // namespace torpor
