// A SequentialNetwork without LibTorch's bookkeeping: for networks so small that it costs more than the products. The
// weights are the network's own, so that optimizer, recycler and target go on as ever.
#pragma once

#include <memory>
#include <vector>

#include "lab/recycle/sequential_network.h"

namespace torpor::lab {

namespace detail {
struct ConvSizes;
}

/// One thread at a time, and one thread each.
class DirectNetwork {
 public:
  /// ReLU, no norms, no pools, at most one convolution, in front and without padding, flattened channel by channel.
  static bool supports(const NetworkSpec& spec);
  /// Null for others, and for networks of another kind.
  static std::unique_ptr<DirectNetwork> of(const std::shared_ptr<RecyclableNetwork>& network);
  /// Throws InvalidArgument for others.
  explicit DirectNetwork(std::shared_ptr<SequentialNetworkImpl> network);

  /// Where the weights were written to since the last forward(): what was kept of them is void. The networks' own
  /// gradients are for an optimizer, so backward() takes it that they will be.
  void weights_changed();

  /// observations: [batch, values]. Returns [batch, outputs], valid until the next call.
  const float* forward(std::int64_t batch, const float* observations);
  /// gradient: [batch, outputs] of a loss by the outputs of the last forward(), whose observations must still be there.
  /// Sets the gradients of the network's parameters, as a backward pass of LibTorch from none would.
  void backward(const float* gradient);
  /// Behind each activation function in the last forward(): views, [batch, neurons, …].
  std::vector<at::Tensor> values() const;

 private:
  struct Layer {
    at::Tensor weight, bias, weight_gradient, bias_gradient;
    std::int64_t in = 0, out = 0;                        // values
    std::shared_ptr<const detail::ConvSizes> conv = {};  // null: dense
    std::vector<std::int64_t> shape = {};                // of the output
    std::vector<float> columns = {};                     // the weights as [in, out], where fresh
    bool fresh = false;
    std::int64_t uses = 0;             // since the weights changed
    std::vector<float> values = {};    // behind the activation function
    std::vector<float> gradient = {};  // of them
  };
  Layer layer_of(const std::string& name, std::vector<std::int64_t> shape) const;
  void set_gradients(Layer& layer);
  void dense(Layer& layer, const float* x, bool relu);

  std::shared_ptr<SequentialNetworkImpl> network_;
  std::vector<Layer> hidden_, heads_;  // heads: the outputs, and the value of a dueling network
  std::vector<float> outputs_, head_gradient_, sum_;
  const float* observations_ = nullptr;
  std::int64_t batch_ = 0;
};

}  // namespace torpor::lab
