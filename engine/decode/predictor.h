// Small networks that say which neurons of a layer will be active before any of them is computed (Liu et al. 2023, Deja
// Vu; ProSparse; PowerInfer): logits = fc2 f(fc1 x) + bias, from the layer's normed input x; active: logit > threshold.
// f is ReLU (ProSparse, PowerInfer) or nothing (Deja Vu). What is predicted inactive is as good as zero: the model's
// text changes where a predictor is wrong, and skipping it has the text of masking it.
//
// A file is safetensors: layers.<l>.fc1.weight [rank, d_model], layers.<l>.fc2.weight [d_ff, rank] and maybe
// layers.<l>.fc2.bias [d_ff], in f32, f16 or bf16, for some or all layers; its metadata has "torpor_predictor": "1" and
// "activation": "relu" or "none".
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/activity/selection.h"
#include "core/base/thread_pool.h"
#include "engine/kernels/dense.h"
#include "engine/models/model_config.h"

namespace torpor {

/// The predictor of one layer. Weights are q8_0 where the widths are multiples of 32: reading a predictor is what it
/// costs, and a rounding of 0.4 % of a block's largest weight moves few logits across a threshold.
struct LayerPredictor {
  WeightMatrix fc1;         // [rank, d_model]
  WeightMatrix fc2;         // [d_ff, rank]
  std::vector<float> bias;  // [d_ff] or empty
  bool relu = true;

  std::int64_t bytes() const { return fc1.bytes() + fc2.bytes(); }
  /// logits: [tokens, d_ff]; x: [tokens, d_model]; hidden: [tokens, rank], scratch.
  void predict(const float* x, std::int64_t tokens, float* hidden, float* logits, ThreadPool& pool) const;
};

/// The predictors that the rules of a plan name. Immutable; const methods may run at once.
class LayerPredictors {
 public:
  /// rules: one a layer; those that are Predictors name files in `folder`. Null where none does. Throws BadInput: a
  /// file that is missing, damaged, of another model's widths, without a layer that a rule wants, or with weights that
  /// are not finite.
  static std::shared_ptr<const LayerPredictors> load(std::span<const SelectionRule> rules,
                                                     const std::filesystem::path& folder, const ModelConfig& config);

  /// Null where the layer has none.
  const LayerPredictor* find(int layer) const {
    const auto at = layers_.find(layer);
    return at == layers_.end() ? nullptr : &at->second;
  }
  const LayerPredictor& layer(int layer) const { return layers_.at(layer); }
  std::int64_t largest_rank() const { return largest_rank_; }

 private:
  LayerPredictors() = default;

  std::map<int, LayerPredictor> layers_;
  std::vector<std::shared_ptr<std::byte>> owned_;
  std::int64_t largest_rank_ = 0;
};

}  // namespace torpor
