#include "lab/train/recyclable_transformer.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

std::string name_of(const TransformerImpl& model, const at::Tensor& parameter) {
  const auto& weights = model.weights();
  const auto at = std::find_if(weights.begin(), weights.end(),
                               [&](const auto& weight) { return weight.second.is_same(parameter); });
  if (at == weights.end()) throw InvalidArgument("[recyclable_layers] expected parameters of the network");
  return at->first;
}

void draw(const at::Tensor& weight) {
  weight.normal_(0, 1 / std::sqrt(static_cast<double>(weight.size(1))));
}

}  // namespace

std::vector<RecyclableLayer> recyclable_layers(const TransformerImpl& model) {
  std::vector<RecyclableLayer> layers;
  for (const NeuronLayerTensors& tensors : model.neuron_layers()) {
    RecyclableLayer layer;
    layer.name = tensors.name;
    for (std::size_t i = 0; i < tensors.incoming.size(); ++i) {
      IncomingWeight from{.name = name_of(model, tensors.incoming[i]), .weight = tensors.incoming[i]};
      if (!tensors.bias.empty()) {
        from.bias = tensors.bias[i];
        from.bias_name = name_of(model, from.bias);
      }
      from.initialise = draw;
      if (i == 0) {
        layer.weight_name = from.name;
        layer.bias_name = from.bias_name;
        layer.weight = from.weight;
        layer.bias = from.bias;
        layer.initialise = from.initialise;
      } else {
        layer.gates.push_back(std::move(from));
      }
    }
    layer.outgoing.push_back({.name = name_of(model, tensors.outgoing), .weight = tensors.outgoing});
    if (model.config().model_type == "spark")
      layer.obstacle = "its statistical top-k compares each neuron with the scores of all";
    layers.push_back(std::move(layer));
  }
  return layers;
}

std::vector<ProbeValues> probe(TransformerImpl& model, const at::Tensor& tokens, const at::Tensor& targets,
                               bool with_gradient) {
  const at::AutoGradMode mode(with_gradient);
  std::vector<at::Tensor> values;
  model.set_activation_hook([&](int, const at::Tensor& activations) {
    values.push_back(activations);
    return activations;
  });
  const at::Tensor logits = model.forward(tokens);
  model.set_activation_hook({});
  std::vector<at::Tensor> gradients(values.size());
  if (with_gradient) {
    const at::Tensor loss = at::cross_entropy_loss(logits.flatten(0, 1).to(at::kFloat), targets);
    gradients = torch::autograd::grad({loss}, values);
  }
  const auto rows = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.detach().flatten(0, 1).to(at::kFloat) : tensor;
  };
  std::vector<ProbeValues> result;
  for (std::size_t l = 0; l < values.size(); ++l) result.push_back({rows(values[l]), rows(gradients[l])});
  return result;
}

at::Tensor logits_without(TransformerImpl& model, const at::Tensor& tokens, const std::vector<at::Tensor>& masks) {
  const at::NoGradGuard no_gradient;
  if (!masks.empty())
    model.set_activation_hook([&](int layer, const at::Tensor& activations) {
      return activations.masked_fill(masks.at(static_cast<std::size_t>(layer)), 0);
    });
  at::Tensor logits = model.forward(tokens);
  model.set_activation_hook({});
  return logits;
}

}  // namespace torpor::lab
