// The residual network of IMPALA (Espeholt et al. 2018), as the ReDo paper trains it.
#pragma once

#include "lab/recycle/sequential_network.h"

namespace torpor::lab {

struct ResidualSpec {
  std::vector<std::int64_t> input = {};               // [channels, height, width]
  std::vector<std::int64_t> channels = {32, 64, 64};  // of each stack; IMPALA's own are 16, 32, 32
  std::int64_t dense = 512;
  std::int64_t outputs = 1;
  bool dueling = false;
  NetworkInit init = NetworkInit::xavier_uniform;
};

/// Each stack: a convolution 3x3, a pool 3x3 of stride 2, two blocks x + conv(relu(conv(relu(x)))). Then a dense layer.
/// Neurons on the residual stream are read by a sum: they are watched, and not recycled (redo.md 2.3). The first
/// convolution of each block and the dense layer are.
class ResidualNetworkImpl : public RecyclableNetwork {
 public:
  /// Draws weights from LibTorch's generator. Throws InvalidArgument where sizes do not fit together.
  explicit ResidualNetworkImpl(ResidualSpec spec);

  std::vector<RecyclableLayer> layers() override;
  std::vector<std::string> reset_last_layers() override;

 private:
  at::Tensor run(const at::Tensor& x, std::vector<at::Tensor>* values, const std::vector<at::Tensor>* without) override;

  struct Block {
    torch::nn::Conv2d first{nullptr}, second{nullptr};
  };
  struct Stack {
    torch::nn::Conv2d conv{nullptr};
    std::vector<Block> blocks;
  };
  ResidualSpec spec_;
  std::vector<Stack> stacks_;
  torch::nn::Linear dense_{nullptr}, output_{nullptr}, value_{nullptr};
};
TORCH_MODULE(ResidualNetwork);

}  // namespace torpor::lab
