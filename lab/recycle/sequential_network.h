// Networks of convolutions and dense layers, one after another.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "lab/recycle/recyclable_network.h"

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

class SequentialNetworkImpl : public RecyclableNetwork {
 public:
  /// Draws weights from LibTorch's generator. Throws InvalidArgument where sizes do not fit together, naming the layer.
  explicit SequentialNetworkImpl(NetworkSpec spec);

  const NetworkSpec& spec() const { return spec_; }
  /// A layer norm is an obstacle.
  std::vector<RecyclableLayer> layers() override;
  std::vector<std::string> reset_last_layers() override;
  /// Draws everything again, outputs too.
  void initialise();
  /// Draws hidden layers from number `first` on and the outputs again.
  void reset_layers(std::size_t first);

 private:
  at::Tensor run(const at::Tensor& x, std::vector<at::Tensor>* values, const std::vector<at::Tensor>* without) override;
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

}  // namespace torpor::lab
