#include "lab/recycle/direct_network.h"

#include <algorithm>

#include "core/base/error.h"
#include "lab/recycle/direct_kernels.h"

namespace torpor::lab {

bool DirectNetwork::supports(const NetworkSpec& spec) {
  if (spec.activation != NetworkActivation::relu || spec.norm != NormKind::none ||
      spec.flatten != FlattenOrder::channel_major || spec.hidden.empty())
    return false;
  for (std::size_t l = 0; l < spec.hidden.size(); ++l) {
    if (std::holds_alternative<MaxPoolSpec>(spec.hidden[l])) return false;
    const ConvSpec* const conv = std::get_if<ConvSpec>(&spec.hidden[l]);
    if (conv != nullptr && (l > 0 || conv->padding != 0)) return false;
  }
  return true;
}

DirectNetwork::Layer DirectNetwork::layer_of(const std::string& name, std::vector<std::int64_t> shape) const {
  Layer layer;
  for (const auto& [parameter, tensor] : network_->parameters_by_name()) {
    if (parameter == name + ".weight") layer.weight = tensor;
    if (parameter == name + ".bias") layer.bias = tensor;
  }
  layer.weight_gradient = torch::zeros_like(layer.weight.detach());
  layer.bias_gradient = torch::zeros_like(layer.bias.detach());
  layer.out = 1;
  for (const std::int64_t size : shape) layer.out *= size;
  layer.shape = std::move(shape);
  return layer;
}

std::unique_ptr<DirectNetwork> DirectNetwork::of(const std::shared_ptr<RecyclableNetwork>& network) {
  auto sequential = std::dynamic_pointer_cast<SequentialNetworkImpl>(network);
  if (sequential == nullptr || !supports(sequential->spec())) return nullptr;
  return std::make_unique<DirectNetwork>(std::move(sequential));
}

DirectNetwork::DirectNetwork(std::shared_ptr<SequentialNetworkImpl> network) : network_(std::move(network)) {
  const NetworkSpec& spec = network_->spec();
  if (!supports(spec))
    throw InvalidArgument(
        "[DirectNetwork] expected ReLU layers without norms and pools, at most the first of them a "
        "convolution, without padding");
  std::vector<std::int64_t> shape = spec.input;
  const auto count = [&] {
    std::int64_t n = 1;
    for (const std::int64_t size : shape) n *= size;
    return n;
  };
  int denses = 0;
  for (const auto& what : spec.hidden) {
    const std::int64_t in = count();
    if (const ConvSpec* const conv = std::get_if<ConvSpec>(&what)) {
      const auto across = [&](std::int64_t size) { return (size - conv->kernel) / conv->stride + 1; };
      shape = {conv->channels, across(shape[1]), across(shape[2])};
      hidden_.push_back(layer_of("conv1", shape));
      hidden_.back().conv = std::make_shared<const detail::ConvSizes>(spec.input[0], spec.input[1], spec.input[2],
                                                                      conv->channels, conv->kernel, conv->stride);
    } else {
      shape = {std::get<DenseSpec>(what).neurons};
      hidden_.push_back(layer_of("dense" + std::to_string(++denses), shape));
    }
    hidden_.back().in = in;
  }
  heads_.push_back(layer_of("output", {spec.outputs}));
  if (spec.dueling) heads_.push_back(layer_of("value", {1}));
  for (Layer& head : heads_) head.in = count();
}

namespace {

void resize(std::vector<float>& values, std::int64_t rows, std::int64_t columns) {
  values.resize(static_cast<std::size_t>(rows * columns));
}

}  // namespace

void DirectNetwork::weights_changed() {
  for (std::vector<Layer>* const layers : {&hidden_, &heads_})
    for (Layer& layer : *layers) {
      layer.fresh = false;
      layer.uses = 0;
    }
}

void DirectNetwork::dense(Layer& layer, const float* x, bool relu) {
  // Measured (bench_rl): turning the weights about costs as much as some thirty products with each, and passing over
  // what is inactive pays where at most a seventh is active, since rows are then read here and there.
  constexpr double kTurning = 30, kMostActive = 0.15;
  const float* const w = layer.weight.const_data_ptr<float>();
  const float* const bias = layer.bias.const_data_ptr<float>();
  const double inputs = static_cast<double>(batch_ * layer.in);
  const bool quiet = static_cast<double>(detail::count_active(batch_ * layer.in, x)) <= kMostActive * inputs;
  ++layer.uses;
  if (quiet && !layer.fresh && static_cast<double>(batch_ * layer.uses) > kTurning) {
    layer.columns.resize(static_cast<std::size_t>(layer.in * layer.out));
    detail::transpose(layer.out, layer.in, w, layer.columns.data());
    layer.fresh = true;
  }
  if (quiet && layer.fresh)
    detail::dense_forward_active(batch_, layer.in, layer.out, x, layer.columns.data(), bias, relu, layer.values.data());
  else
    detail::dense_forward(batch_, layer.in, layer.out, x, w, bias, relu, layer.values.data());
}

const float* DirectNetwork::forward(std::int64_t batch, const float* observations) {
  batch_ = batch;
  observations_ = observations;
  const float* x = observations;
  for (Layer& layer : hidden_) {
    resize(layer.values, batch, layer.out);
    if (layer.conv != nullptr)
      detail::conv_forward(batch, *layer.conv, x, layer.weight.const_data_ptr<float>(),
                           layer.bias.const_data_ptr<float>(), layer.values.data());
    else
      dense(layer, x, /*relu=*/true);
    x = layer.values.data();
  }
  for (Layer& head : heads_) {
    resize(head.values, batch, head.out);
    dense(head, x, /*relu=*/false);
  }
  if (heads_.size() == 1) return heads_[0].values.data();
  const std::int64_t n = heads_[0].out;
  resize(outputs_, batch, n);
  for (std::int64_t b = 0; b < batch; ++b) {
    const float* const advantages = heads_[0].values.data() + b * n;
    float mean = 0;
    for (std::int64_t o = 0; o < n; ++o) mean += advantages[o] / static_cast<float>(n);
    for (std::int64_t o = 0; o < n; ++o)
      outputs_[static_cast<std::size_t>(b * n + o)] =
          heads_[1].values[static_cast<std::size_t>(b)] + advantages[o] - mean;
  }
  return outputs_.data();
}

void DirectNetwork::set_gradients(Layer& layer) {
  layer.weight.mutable_grad() = layer.weight_gradient;
  layer.bias.mutable_grad() = layer.bias_gradient;
}

void DirectNetwork::backward(const float* gradient) {
  const std::int64_t n = heads_[0].out;
  const float* const features = hidden_.back().values.data();
  Layer& last = hidden_.back();
  resize(last.gradient, batch_, last.out);
  const auto head_backward = [&](Layer& head, const float* dy, float* dx) {
    detail::dense_backward(batch_, head.in, head.out, features, head.weight.const_data_ptr<float>(), dy,
                           head.weight_gradient.mutable_data_ptr<float>(), head.bias_gradient.mutable_data_ptr<float>(),
                           dx);
    set_gradients(head);
  };
  if (heads_.size() == 1) {
    head_backward(heads_[0], gradient, last.gradient.data());
  } else {
    resize(head_gradient_, batch_, n + 1);
    float* const of_value = head_gradient_.data() + batch_ * n;
    for (std::int64_t b = 0; b < batch_; ++b) {
      float sum = 0;
      for (std::int64_t o = 0; o < n; ++o) sum += gradient[b * n + o];
      for (std::int64_t o = 0; o < n; ++o)
        head_gradient_[static_cast<std::size_t>(b * n + o)] = gradient[b * n + o] - sum / static_cast<float>(n);
      of_value[b] = sum;
    }
    head_backward(heads_[0], head_gradient_.data(), last.gradient.data());
    resize(sum_, batch_, last.out);
    head_backward(heads_[1], of_value, sum_.data());
    std::transform(sum_.begin(), sum_.end(), last.gradient.begin(), last.gradient.begin(), std::plus<>());
  }
  for (std::size_t l = hidden_.size(); l-- > 0;) {
    Layer& layer = hidden_[l];
    detail::mask_inactive(static_cast<std::int64_t>(layer.values.size()), layer.values.data(), layer.gradient.data());
    const float* const x = l > 0 ? hidden_[l - 1].values.data() : observations_;
    float* const dw = layer.weight_gradient.mutable_data_ptr<float>();
    float* const db = layer.bias_gradient.mutable_data_ptr<float>();
    if (layer.conv != nullptr) {
      detail::conv_backward(batch_, *layer.conv, x, layer.gradient.data(), dw, db);
    } else {
      float* dx = nullptr;
      if (l > 0) {
        resize(hidden_[l - 1].gradient, batch_, layer.in);
        dx = hidden_[l - 1].gradient.data();
      }
      detail::dense_backward(batch_, layer.in, layer.out, x, layer.weight.const_data_ptr<float>(),
                             layer.gradient.data(), dw, db, dx);
    }
    set_gradients(layer);
  }
  weights_changed();
}

std::vector<at::Tensor> DirectNetwork::values() const {
  std::vector<at::Tensor> out;
  for (const Layer& layer : hidden_) {
    std::vector<std::int64_t> shape = layer.shape;
    shape.insert(shape.begin(), batch_);
    out.push_back(at::from_blob(const_cast<float*>(layer.values.data()), shape, at::kFloat));
  }
  return out;
}

}  // namespace torpor::lab
