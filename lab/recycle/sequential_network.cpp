#include "lab/recycle/sequential_network.h"

#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace torpor::lab {

void draw_weights(NetworkInit init, const at::Tensor& weight) {
  const at::NoGradGuard no_gradient;
  const std::int64_t receptive = weight.dim() > 2 ? weight[0][0].numel() : 1;
  const auto fan_in = static_cast<double>(weight.size(1) * receptive);
  const auto fan_out = static_cast<double>(weight.size(0) * receptive);
  at::Tensor values = weight.detach();
  switch (init) {
    case NetworkInit::xavier_uniform: {
      const double bound = std::sqrt(6.0 / (fan_in + fan_out));
      values.uniform_(-bound, bound);
      return;
    }
    case NetworkInit::lecun_normal: {
      // Flax: normal of variance 1 / fan_in, cut at two deviations and widened again.
      constexpr double kCutDeviation = 0.87962566103423978;
      // By the inverse of the distribution function, between its values at -2 and 2.
      const double inside = std::erf(std::numbers::sqrt2);
      values.uniform_(-inside, inside).erfinv_().mul_(std::numbers::sqrt2 / kCutDeviation / std::sqrt(fan_in));
      return;
    }
    case NetworkInit::kaiming_uniform: {
      const double bound = 1 / std::sqrt(fan_in);  // gain of a leaky ReLU of slope sqrt 5
      values.uniform_(-bound, bound);
      return;
    }
  }
}

NetworkSpec nature_network(std::int64_t frames, std::int64_t height, std::int64_t width, std::int64_t actions) {
  return {.input = {frames, height, width},
          .hidden = {ConvSpec{32, 8, 4}, ConvSpec{64, 4, 2}, ConvSpec{64, 3, 1}, DenseSpec{512}},
          .outputs = actions};
}

SequentialNetworkImpl::SequentialNetworkImpl(NetworkSpec spec) : spec_(std::move(spec)) {
  const auto refuse = [](const std::string& layer, const std::string& why) {
    throw InvalidArgument("[SequentialNetwork] layer \"{}\": {}", layer, why);
  };
  if (spec_.input.size() != 1 && spec_.input.size() != 3)
    throw InvalidArgument(
        "[SequentialNetwork] expected an input of [values] or [channels, height, width], got {} sizes",
        spec_.input.size());
  if (spec_.outputs < 1)
    throw InvalidArgument("[SequentialNetwork] expected at least one output, got {}", spec_.outputs);
  std::vector<std::int64_t> shape = spec_.input;
  const auto count = [&] {
    std::int64_t n = 1;
    for (const std::int64_t size : shape) n *= size;
    return n;
  };
  int convs = 0, denses = 0;
  for (const auto& what : spec_.hidden) {
    if (const MaxPoolSpec* const pool = std::get_if<MaxPoolSpec>(&what)) {
      if (hidden_.empty() || shape.size() != 3) refuse("pool", "expected a convolution in front of it");
      for (std::size_t d = 1; d < 3; ++d) shape[d] = (shape[d] - pool->kernel) / pool->stride + 1;
      if (count() < 1) refuse("pool", "nothing is left of its input");
      hidden_.back().pools.push_back(*pool);
      hidden_.back().positions = shape[1] * shape[2];
      continue;
    }
    Hidden layer;
    std::int64_t neurons = 0;
    if (const ConvSpec* const conv = std::get_if<ConvSpec>(&what)) {
      layer.name = "conv" + std::to_string(++convs);
      if (shape.size() != 3) refuse(layer.name, "expected an input of [channels, height, width]");
      neurons = conv->channels;
      layer.conv =
          register_module(layer.name, torch::nn::Conv2d(torch::nn::Conv2dOptions(shape[0], conv->channels, conv->kernel)
                                                            .stride(conv->stride)
                                                            .padding(conv->padding)));
      shape[0] = conv->channels;
      for (std::size_t d = 1; d < 3; ++d) {
        const std::int64_t inside = shape[d] + 2 * conv->padding - conv->kernel;
        if (inside < 0) refuse(layer.name, fmt::format("a kernel of {} does not fit into {}", conv->kernel, shape[d]));
        shape[d] = inside / conv->stride + 1;
      }
      layer.positions = shape[1] * shape[2];
    } else {
      neurons = std::get<DenseSpec>(what).neurons;
      layer.name = "dense" + std::to_string(++denses);
      layer.flattens = shape.size() == 3;
      layer.dense = register_module(layer.name, torch::nn::Linear(count(), neurons));
      shape = {neurons};
    }
    if (neurons < 1) refuse(layer.name, "expected at least one neuron");
    const std::string norm = layer.name + "_norm";
    if (spec_.norm == NormKind::batch) {
      if (layer.conv)
        layer.norm2d = register_module(norm, torch::nn::BatchNorm2d(neurons));
      else
        layer.norm1d = register_module(norm, torch::nn::BatchNorm1d(neurons));
    } else if (spec_.norm == NormKind::layer) {
      layer.layer_norm = register_module(norm, torch::nn::LayerNorm(torch::nn::LayerNormOptions(shape)));
    }
    hidden_.push_back(std::move(layer));
  }
  output_ = register_module("output", torch::nn::Linear(count(), spec_.outputs));
  if (spec_.dueling) value_ = register_module("value", torch::nn::Linear(count(), 1));
  initialise();
}

at::Tensor SequentialNetworkImpl::weight_of(const Hidden& layer) const {
  return layer.conv ? layer.conv->weight : layer.dense->weight;
}
at::Tensor SequentialNetworkImpl::bias_of(const Hidden& layer) const {
  return layer.conv ? layer.conv->bias : layer.dense->bias;
}

void SequentialNetworkImpl::initialise() {
  reset_layers(0);
}

void SequentialNetworkImpl::reset_layers(std::size_t first) {
  const at::NoGradGuard no_gradient;
  const auto draw = [&](const at::Tensor& weight, const at::Tensor& bias) {
    draw_weights(spec_.init, weight);
    if (spec_.init == NetworkInit::kaiming_uniform) {
      const double bound = 1 / std::sqrt(static_cast<double>(weight[0].numel()));
      bias.detach().uniform_(-bound, bound);
    } else {
      bias.detach().zero_();
    }
  };
  for (std::size_t l = first; l < hidden_.size(); ++l) draw(weight_of(hidden_[l]), bias_of(hidden_[l]));
  draw(output_->weight, output_->bias);
  if (value_) draw(value_->weight, value_->bias);
}

at::Tensor SequentialNetworkImpl::activate(const at::Tensor& x) const {
  switch (spec_.activation) {
    case NetworkActivation::relu:
      return at::relu(x);
    case NetworkActivation::leaky_relu:
      return at::leaky_relu(x, 0.01);
    case NetworkActivation::tanh:
      return at::tanh(x);
  }
  return x;
}

at::Tensor SequentialNetworkImpl::run(const at::Tensor& input, std::vector<at::Tensor>* values,
                                      const std::vector<at::Tensor>* without) {
  if (values != nullptr) values->clear();
  at::Tensor x = input;
  const auto flatten = [&](const at::Tensor& maps) {
    return spec_.flatten == FlattenOrder::channel_major ? maps.flatten(1) : maps.permute({0, 2, 3, 1}).flatten(1);
  };
  for (std::size_t l = 0; l < hidden_.size(); ++l) {
    Hidden& layer = hidden_[l];
    if (layer.flattens) x = flatten(x);
    x = layer.conv ? layer.conv->forward(x) : layer.dense->forward(x);
    if (layer.norm2d) x = layer.norm2d->forward(x);
    if (layer.norm1d) x = layer.norm1d->forward(x);
    if (layer.layer_norm) x = layer.layer_norm->forward(x);
    x = noted(activate(x), l, values, without);
    for (const MaxPoolSpec& pool : layer.pools) x = at::max_pool2d(x, pool.kernel, pool.stride);
  }
  if (x.dim() == 4) x = flatten(x);
  const at::Tensor out = output_->forward(x);
  return value_ ? value_->forward(x) + out - out.mean(1, /*keepdim=*/true) : out;
}

std::vector<RecyclableLayer> SequentialNetworkImpl::layers() {
  std::vector<RecyclableLayer> result;
  const NetworkInit init = spec_.init;
  const auto initialise_one = [init](const at::Tensor& weight) { draw_weights(init, weight); };
  for (std::size_t l = 0; l < hidden_.size(); ++l) {
    const Hidden& layer = hidden_[l];
    RecyclableLayer out{.name = layer.name,
                        .weight_name = layer.name + ".weight",
                        .bias_name = layer.name + ".bias",
                        .weight = weight_of(layer),
                        .bias = bias_of(layer),
                        .initialise = initialise_one,
                        .norms = {},
                        .outgoing = {},
                        .obstacle = {}};
    const auto batch_norm = [&](const auto& norm) {
      if (norm)
        out.norms.push_back({layer.name + "_norm", norm->weight, norm->bias, norm->running_mean, norm->running_var});
    };
    batch_norm(layer.norm2d);
    batch_norm(layer.norm1d);
    if (layer.layer_norm)
      out.obstacle = "a layer norm stands between its weights and its activation function, and mixes its neurons";
    const auto read_by = [&](const std::string& name, const at::Tensor& weight, const at::Tensor& bias, bool flat) {
      out.outgoing.push_back({.name = name + ".weight",
                              .weight = weight,
                              .per_neuron = flat ? layer.positions : 1,
                              .order = spec_.flatten,
                              .first = 0,
                              .bias = bias,
                              .pooled = !layer.pools.empty(),
                              .initialise = initialise_one});
    };
    const bool maps = static_cast<bool>(layer.conv);
    if (l + 1 < hidden_.size()) {
      const Hidden& next = hidden_[l + 1];
      read_by(next.name, weight_of(next), bias_of(next), maps && next.flattens);
    } else {
      read_by("output", output_->weight, output_->bias, maps);
      if (value_) read_by("value", value_->weight, value_->bias, maps);
    }
    result.push_back(std::move(out));
  }
  return result;
}

std::vector<std::string> SequentialNetworkImpl::reset_last_layers() {
  reset_layers(hidden_.size() - 1);
  std::vector<std::string> names = {hidden_.back().name + ".weight", hidden_.back().name + ".bias", "output.weight",
                                    "output.bias"};
  if (value_) names.insert(names.end(), {"value.weight", "value.bias"});
  return names;
}

}  // namespace torpor::lab
