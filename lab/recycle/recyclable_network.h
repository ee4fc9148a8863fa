// Networks that hand out the values behind every activation function, and the graph of what makes and what reads each
// layer, so that their neurons can be watched and recycled.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <string>
#include <vector>

#include "lab/recycle/recyclable_layer.h"
#include "lab/recycle/recycle_scores.h"
#include "lab/recycle/unit_adam.h"

namespace torpor::lab {

class RecyclableNetwork : public torch::nn::Module {
 public:
  /// x: [batch, input…] to [batch, outputs].
  at::Tensor forward(const at::Tensor& x) { return run(x, nullptr, nullptr); }
  /// The same, and what is behind each activation function, one a layer of layers().
  at::Tensor forward(const at::Tensor& x, std::vector<at::Tensor>& values) { return run(x, &values, nullptr); }
  /// What it would compute if the neurons of the masks, bool [neurons], one a layer, gave nothing.
  at::Tensor forward_without(const at::Tensor& x, const std::vector<at::Tensor>& masks) {
    return run(x, nullptr, &masks);
  }

  /// Hidden layers in order; the last one's values are the features that the outputs read.
  virtual std::vector<RecyclableLayer> layers() = 0;
  /// Draws the last hidden layer and the outputs anew (redo.md 3.5, V8); the names of what it drew.
  virtual std::vector<std::string> reset_last_layers() = 0;
  /// Names as named_parameters() has them.
  NamedTensors parameters_by_name() const;

 protected:
  /// values, without: null where not asked for.
  virtual at::Tensor run(const at::Tensor& x, std::vector<at::Tensor>* values,
                         const std::vector<at::Tensor>* without) = 0;
  /// Notes a layer's values, without those that are to give nothing.
  static at::Tensor noted(const at::Tensor& x, std::size_t layer, std::vector<at::Tensor>* values,
                          const std::vector<at::Tensor>* without);
};

/// Values of `network` on a batch, for scores. gradient_of: null, or makes a scalar loss of the outputs whose gradients
/// by the activations are wanted. Parameters' gradients stay what they were.
std::vector<ProbeValues> probe(RecyclableNetwork& network, const at::Tensor& batch,
                               const std::function<at::Tensor(const at::Tensor& outputs)>& gradient_of = {});

/// Copies all parameters and buffers. Networks of one kind and size.
void copy_weights(const torch::nn::Module& from, torch::nn::Module& to);

}  // namespace torpor::lab
