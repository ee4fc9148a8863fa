// AdamW (Loshchilov & Hutter 2019) with its state as named tensors, so that a checkpoint can hold it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace torpor::lab {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;  // decoupled; of matrices only
};

/// LibTorch's fused step over parameters with gradients: m = beta1 m + (1 - beta1) g, v likewise with g^2, w -= lr
/// weight_decay w, w -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps). One thread at a time.
class AdamW {
 public:
  /// Keeps references to the parameters. Throws InvalidArgument for none, or for one that needs no gradient.
  explicit AdamW(NamedTensors parameters, AdamWOptions options = {});

  /// Parameters without a gradient stay as they are. Gradients are kept.
  void step(double learning_rate);
  /// Sets all gradients to none.
  void zero_grad();
  /// Scales the gradients so that their joint L2 norm is at most `most` (0: no limit); returns the norm before.
  double clip_gradients(double most);

  std::int64_t steps() const { return steps_; }
  /// "NAME.exp_avg" and "NAME.exp_avg_sq" for each parameter: the tensors themselves, not copies.
  NamedTensors state() const;
  /// After the tensors of state() were filled from a checkpoint.
  void set_steps(std::int64_t steps) { steps_ = steps; }

 private:
  NamedTensors parameters_;
  AdamWOptions options_;
  std::vector<at::Tensor> exp_avg_, exp_avg_sq_;
  std::int64_t steps_ = 0;
};

}  // namespace torpor::lab
