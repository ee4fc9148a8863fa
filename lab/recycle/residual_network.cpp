#include "lab/recycle/residual_network.h"

#include "core/base/error.h"

namespace torpor::lab {

ResidualNetworkImpl::ResidualNetworkImpl(ResidualSpec spec) : spec_(std::move(spec)) {
  if (spec_.input.size() != 3)
    throw InvalidArgument("[ResidualNetwork] expected an input of [channels, height, width], got {} sizes",
                          spec_.input.size());
  if (spec_.channels.empty() || spec_.dense < 1 || spec_.outputs < 1)
    throw InvalidArgument(
        "[ResidualNetwork] expected at least one stack, one dense neuron and one output, got {}, {}, {}",
        spec_.channels.size(), spec_.dense, spec_.outputs);
  std::int64_t channels = spec_.input[0], height = spec_.input[1], width = spec_.input[2];
  const auto conv = [&](const std::string& name, std::int64_t from, std::int64_t to) {
    return register_module(name, torch::nn::Conv2d(torch::nn::Conv2dOptions(from, to, 3).padding(1)));
  };
  for (const std::int64_t next : spec_.channels) {
    if (next < 1) throw InvalidArgument("[ResidualNetwork] expected at least one channel a stack, got {}", next);
    const std::string name = "stack" + std::to_string(stacks_.size() + 1);
    Stack stack;
    stack.conv = conv(name + "_conv", channels, next);
    for (int b = 1; b <= 2; ++b) {
      const std::string block = fmt::format("{}_block{}", name, b);
      Block made;
      made.first = conv(block + "_conv1", next, next);
      made.second = conv(block + "_conv2", next, next);
      stack.blocks.push_back(made);
    }
    stacks_.push_back(std::move(stack));
    channels = next;
    height = (height - 1) / 2 + 1;
    width = (width - 1) / 2 + 1;
  }
  dense_ = register_module("dense", torch::nn::Linear(channels * height * width, spec_.dense));
  output_ = register_module("output", torch::nn::Linear(spec_.dense, spec_.outputs));
  if (spec_.dueling) value_ = register_module("value", torch::nn::Linear(spec_.dense, 1));
  const at::NoGradGuard no_gradient;
  for (const auto& item : named_parameters()) {
    if (item.value().dim() > 1)
      draw_weights(spec_.init, item.value());
    else
      item.value().detach().zero_();
  }
}

at::Tensor ResidualNetworkImpl::run(const at::Tensor& input, std::vector<at::Tensor>* values,
                                    const std::vector<at::Tensor>* without) {
  if (values != nullptr) values->clear();
  std::size_t layer = 0;
  at::Tensor x = input;
  for (Stack& stack : stacks_) {
    x = at::max_pool2d(stack.conv->forward(x), 3, 2, 1);
    for (Block& block : stack.blocks) {
      // What the stream's neurons give to the block; the sum itself reads them before their activation function.
      const at::Tensor active = noted(at::relu(x), layer++, values, without);
      x = x + block.second->forward(noted(at::relu(block.first->forward(active)), layer++, values, without));
    }
  }
  x = at::relu(x).flatten(1);
  x = noted(at::relu(dense_->forward(x)), layer, values, without);
  const at::Tensor out = output_->forward(x);
  return value_ ? value_->forward(x) + out - out.mean(1, /*keepdim=*/true) : out;
}

std::vector<RecyclableLayer> ResidualNetworkImpl::layers() {
  const NetworkInit init = spec_.init;
  const auto initialise = [init](const at::Tensor& weight) { draw_weights(init, weight); };
  std::vector<RecyclableLayer> result;
  const auto add = [&](const std::string& module, const at::Tensor& weight,
                       const at::Tensor& bias) -> RecyclableLayer& {
    result.push_back({.name = module,
                      .weight_name = module + ".weight",
                      .bias_name = module + ".bias",
                      .weight = weight,
                      .bias = bias,
                      .initialise = initialise,
                      .norms = {},
                      .outgoing = {},
                      .obstacle = {}});
    return result.back();
  };
  const auto read_by = [&](RecyclableLayer& layer, const std::string& module, const at::Tensor& weight,
                           const at::Tensor& bias) {
    layer.outgoing.push_back({.name = module + ".weight",
                              .weight = weight,
                              .per_neuron = 1,
                              .order = FlattenOrder::channel_major,
                              .first = 0,
                              .bias = bias,
                              .pooled = false,
                              .initialise = initialise});
  };
  for (std::size_t s = 0; s < stacks_.size(); ++s) {
    const Stack& stack = stacks_[s];
    const std::string name = "stack" + std::to_string(s + 1);
    for (std::size_t b = 0; b < stack.blocks.size(); ++b) {
      const Block& block = stack.blocks[b];
      const std::string module = fmt::format("{}_block{}_conv", name, b + 1);
      // The stream in front of the block: of the stack's convolution, or of the block before.
      const torch::nn::Conv2d& source = b == 0 ? stack.conv : stack.blocks[b - 1].second;
      add(b == 0 ? name + "_conv" : fmt::format("{}_block{}_conv2", name, b), source->weight, source->bias).obstacle =
          "a residual sum reads its neurons";
      read_by(add(module + "1", block.first->weight, block.first->bias), module + "2", block.second->weight,
              block.second->bias);
    }
  }
  RecyclableLayer& dense = add("dense", dense_->weight, dense_->bias);
  read_by(dense, "output", output_->weight, output_->bias);
  if (value_) read_by(dense, "value", value_->weight, value_->bias);
  return result;
}

std::vector<std::string> ResidualNetworkImpl::reset_last_layers() {
  const at::NoGradGuard no_gradient;
  std::vector<std::string> names;
  const auto draw = [&](const std::string& module, const torch::nn::Linear& linear) {
    draw_weights(spec_.init, linear->weight);
    linear->bias.detach().zero_();
    names.insert(names.end(), {module + ".weight", module + ".bias"});
  };
  draw("dense", dense_);
  draw("output", output_);
  if (value_) draw("value", value_);
  return names;
}

}  // namespace torpor::lab
