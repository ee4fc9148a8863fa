// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019) that count steps by unit: where a unit's weights are
// new, their moments are, and their bias correction starts anew, while all other weights of the tensor go on. Moments
// at zero under an old count would train them at up to 6.6 times the learning rate for a thousand steps (redo.md 3.3).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace torpor::lab {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct UnitAdamOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0;
  /// AdamW: weights are scaled by 1 - learning rate x weight_decay, those of matrices only. Else the decay is added to
  /// the gradient (L2), as the ReDo paper's baseline.
  bool decoupled = false;
};

/// LibTorch's fused Adam or AdamW, bit for bit, until the first reset. A weight's count is that of its row (dimension
/// 0) or its column (dimension 1), whichever was reset later. One thread at a time.
class UnitAdam {
 public:
  /// Keeps references to the parameters. Throws InvalidArgument for none, for one that needs no gradient, or for two of
  /// a name.
  explicit UnitAdam(const NamedTensors& parameters, UnitAdamOptions options = {});

  /// Parameters without a gradient stay as they are. Gradients are kept.
  void step(double learning_rate);
  /// Sets all gradients to none.
  void zero_grad();
  /// Scales the gradients so that their joint L2 norm is at most `most` (0: no limit); returns the norm before.
  double clip_gradients(double most);

  /// Which part of a parameter is new: rows, outputs, dimension 0; columns, inputs, dimension 1. Masks are bool, of the
  /// dimension's size, or undefined: none.
  struct Part {
    std::string name;
    at::Tensor rows = {}, columns = {};
  };
  /// Moments of the part become 0. Before the first step there are none, and nothing happens. Throws InvalidArgument
  /// for a parameter that is not there or a mask of another size.
  void reset_moments(const Part& part);
  /// The count of the part starts again.
  void reset_unit_steps(const Part& part);
  /// A parameter that was drawn anew as a whole: moments 0, all counts from the start.
  void restart(const std::string& name);
  /// The count of the whole parameter starts again, its moments stay (as a published port does).
  void reset_tensor_step(const std::string& name);

  std::int64_t steps() const { return steps_; }
  /// For tests and measurements: the count of each weight, int64, like the parameter.
  at::Tensor weight_steps(const std::string& name) const;

  /// For checkpoints: for each parameter NAME.exp_avg, NAME.exp_avg_sq, NAME.first_step (int64, of rows and then of
  /// columns, and last of the tensor): the tensors themselves.
  NamedTensors state() const;
  /// After the tensors of state() were filled from a checkpoint.
  void set_steps(std::int64_t steps);

 private:
  struct Parameter {
    std::string name;
    at::Tensor weight = {}, exp_avg = {}, exp_avg_sq = {};
    at::Tensor first_step = {};  // [rows + columns + 1] steps before the first that counts
    at::Tensor rows_since = {}, columns_since = {}, tensor_since = {};  // views of first_step
    std::int64_t latest = 0;                                            // of all rows and columns
  };

  Parameter& find(const std::string& name);
  const Parameter& find(const std::string& name) const;
  double decay_of(const Parameter& p) const;
  void step_by_units(Parameter& p, double learning_rate) const;
  double step_of(std::int64_t count, double learning_rate) const;
  double scale_of(std::int64_t count) const;

  std::vector<Parameter> parameters_;
  UnitAdamOptions options_;
  std::int64_t steps_ = 0;
  std::int64_t horizon_ = 0;  // bias correction makes no difference in f32 beyond so many steps
};

}  // namespace torpor::lab
