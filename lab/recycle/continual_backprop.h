// Continual backprop (Dohare et al., Nature 2024): every step a tiny share of the neurons that have lived long enough
// is replaced, those of least use first.
#pragma once

#include "lab/recycle/recycler.h"

namespace torpor::lab {

struct ContinualBackpropOptions {
  double decay = 0.99;             // of the running utility and activation
  double replacement_rate = 1e-4;  // of the neurons that have lived long enough, a step
  std::int64_t maturity = 1000;    // steps
};

/// One thread at a time.
class ContinualBackprop {
 public:
  /// recycler: what replaces; gives what the neurons gave on the average to the next biases if its options say so
  /// (compensate), as the publication does. Throws InvalidArgument for options out of range.
  ContinualBackprop(Recycler& recycler, ContinualBackpropOptions options);

  /// After a step of the optimizer. values: behind the layers' activation functions on the step's batch, one a layer.
  /// Returns how many neurons were replaced.
  std::int64_t step(std::int64_t step, const std::vector<at::Tensor>& values);

  /// For checkpoints: NAME.utility, NAME.mean_value, NAME.age, NAME.owed: the tensors themselves.
  NamedTensors state() const;

 private:
  struct Layer {
    at::Tensor utility;     // [neurons], running mean of |h| sum |w_out|
    at::Tensor mean_value;  // [neurons], running mean of h
    at::Tensor age;         // [neurons], int64 steps
    at::Tensor owed;        // [1], f64: the part of a neuron that is due to be replaced
  };

  Recycler& recycler_;
  ContinualBackpropOptions options_;
  std::vector<Layer> layers_;
};

}  // namespace torpor::lab
