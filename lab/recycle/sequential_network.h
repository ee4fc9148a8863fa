// Networks of convolutions and dense layers, one after another, whose neurons can be recycled: they hand out the values
// behind every activation function, and the graph of what makes and what reads each layer.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "lab/recycle/recyclable_layer.h"
#include "lab/recycle/recycle_scores.h"

namespace torpor::lab {

enum class NetworkActivation : std::uint8_t { relu, leaky_relu, tanh };
enum class NetworkInit : std::uint8_t {
  xavier_uniform,   // biases 0: the ReDo paper's DQN networks
  lecun_normal,     // biases 0: Flax's default
  kaiming_uniform,  // LibTorch's default, biases of the same bound
};

struct ConvSpec {
  std::int64_t channels, kernel, stride = 1, padding = 0;
};
struct DenseSpec {
  std::int64_t neurons;
};
struct MaxPoolSpec {
  std::int64_t kernel, stride;
};
enum class NormKind : std::uint8_t { none, batch, layer };

struct NetworkSpec {
  std::vector<std::int64_t> input = {};  // [values] or [channels, height, width]
  std::vector<std::variant<ConvSpec, DenseSpec, MaxPoolSpec>> hidden = {};
  std::int64_t outputs = 1;
  bool dueling = false;  // a value and `outputs` advantages read the last hidden layer
  NetworkActivation activation = NetworkActivation::relu;
  NetworkInit init = NetworkInit::xavier_uniform;
  FlattenOrder flatten = FlattenOrder::channel_major;
  NormKind norm = NormKind::none;  // between each hidden product and its activation function
};

/// The ReDo paper's network for Atari (Mnih et al. 2015): 32@8x8/4, 64@4x4/2, 64@3x3/1, dense 512.
NetworkSpec nature_network(std::int64_t frames, std::int64_t height, std::int64_t width, std::int64_t actions);

class SequentialNetworkImpl : public torch::nn::Module {
 public:
  /// Draws weights from LibTorch's generator. Throws InvalidArgument where sizes do not fit together, naming the layer.
  explicit SequentialNetworkImpl(NetworkSpec spec);

  /// x: [batch, input…] to [batch, outputs].
  at::Tensor forward(const at::Tensor& x) { return run(x, nullptr); }
  /// The same, and what is behind each activation function, one a layer of layers().
  at::Tensor forward(const at::Tensor& x, std::vector<at::Tensor>& values) { return run(x, &values); }

  const NetworkSpec& spec() const { return spec_; }
  /// Hidden layers in order. A layer norm is an obstacle.
  std::vector<RecyclableLayer> layers();
  /// Names as named_parameters() has them.
  std::vector<std::pair<std::string, at::Tensor>> parameters_by_name();
  /// Draws everything again, outputs too.
  void initialise();
  /// Draws hidden layers from number `first` on and the outputs again (redo.md 3.5, V8).
  void reset_layers(std::size_t first);

 private:
  at::Tensor run(const at::Tensor& x, std::vector<at::Tensor>* values);
  at::Tensor activate(const at::Tensor& x) const;

  struct Hidden {
    torch::nn::Conv2d conv{nullptr};
    torch::nn::Linear dense{nullptr};
    torch::nn::BatchNorm2d norm2d{nullptr};
    torch::nn::BatchNorm1d norm1d{nullptr};
    torch::nn::LayerNorm layer_norm{nullptr};
    std::string name;
    std::int64_t positions = 1;  // behind it and its pools: H W
    std::vector<MaxPoolSpec> pools;
    bool flattens = false;  // in front of it
  };
  at::Tensor weight_of(const Hidden& layer) const;
  at::Tensor bias_of(const Hidden& layer) const;

  NetworkSpec spec_;
  std::vector<Hidden> hidden_;
  torch::nn::Linear output_{nullptr}, value_{nullptr};
};
TORCH_MODULE(SequentialNetwork);

/// Fills weight, [out, in, …], as `init` says. Draws from LibTorch's generator.
void draw_weights(NetworkInit init, const at::Tensor& weight);

/// Values of `network` on a batch, for scores. gradient_of: null, or makes a scalar loss of the outputs whose gradients
/// by the activations are wanted. Parameters' gradients stay what they were.
std::vector<ProbeValues> probe(SequentialNetworkImpl& network, const at::Tensor& batch,
                               const std::function<at::Tensor(const at::Tensor& outputs)>& gradient_of = {});

}  // namespace torpor::lab
