#include "lab/recycle/recyclable_layer.h"

#include <torch/torch.h>

#include "core/base/error.h"

namespace torpor::lab {

std::vector<IncomingWeight> RecyclableLayer::incoming() const {
  std::vector<IncomingWeight> all = {{weight_name, bias_name, weight, bias, initialise}};
  all.insert(all.end(), gates.begin(), gates.end());
  return all;
}

void check_layer(const RecyclableLayer& layer) {
  if (!layer.weight.defined() || layer.weight.dim() < 2)
    throw InvalidArgument("[recycle] layer \"{}\": expected a weight of [neurons, inputs, …]", layer.name);
  const std::int64_t neurons = layer.neurons();
  const auto expect_neurons = [&](const at::Tensor& tensor, const std::string& what) {
    if (tensor.defined() && (tensor.dim() != 1 || tensor.size(0) != neurons))
      throw InvalidArgument("[recycle] layer \"{}\": expected a {} of {} neurons, got {} values", layer.name, what,
                            neurons, tensor.numel());
  };
  expect_neurons(layer.bias, "bias");
  for (const IncomingWeight& gate : layer.gates) {
    if (!gate.weight.defined() || gate.weight.dim() < 2 || gate.weight.size(0) != neurons)
      throw InvalidArgument("[recycle] layer \"{}\": expected a gate \"{}\" of {} neurons", layer.name, gate.name,
                            neurons);
    expect_neurons(gate.bias, fmt::format("bias \"{}\"", gate.bias_name));
  }
  for (const NeuronNorm& norm : layer.norms)
    for (const at::Tensor& tensor : {norm.weight, norm.bias, norm.running_mean, norm.running_var})
      expect_neurons(tensor, fmt::format("norm \"{}\"", norm.name));
  if (!layer.obstacle.empty()) return;
  if (layer.outgoing.empty())
    throw InvalidArgument("[recycle] layer \"{}\": expected weights that read its neurons, got none", layer.name);
  for (const OutgoingWeight& to : layer.outgoing) {
    if (!to.weight.defined() || to.weight.dim() < 2 || to.per_neuron < 1 || to.first < 0 ||
        to.first + neurons * to.per_neuron > to.weight.size(1))
      throw InvalidArgument(
          "[recycle] layer \"{}\": expected \"{}\" to have {} inputs for {} neurons from input {} on, got {}",
          layer.name, to.name, neurons * to.per_neuron, neurons, to.first,
          to.weight.defined() && to.weight.dim() > 1 ? to.weight.size(1) : 0);
  }
}

namespace {

at::Tensor within(const OutgoingWeight& to, const at::Tensor& inputs) {
  at::Tensor all = torch::zeros({to.weight.size(1)}, at::TensorOptions().dtype(at::kBool));
  all.narrow(0, to.first, inputs.size(0)).copy_(inputs);
  return all;
}

}  // namespace

at::Tensor inputs_of(const OutgoingWeight& to, const at::Tensor& mask) {
  if (to.per_neuron == 1) return within(to, mask);
  return within(to, to.order == FlattenOrder::channel_major ? mask.repeat_interleave(to.per_neuron)
                                                            : mask.repeat({to.per_neuron}));
}

at::Tensor inputs_of_official(const OutgoingWeight& to, const at::Tensor& mask) {
  if (to.per_neuron == 1) return within(to, mask);
  return within(to, to.order == FlattenOrder::channel_major ? mask.repeat({to.per_neuron})
                                                            : mask.repeat_interleave(to.per_neuron));
}

at::Tensor along(const at::Tensor& mask, const at::Tensor& like, std::int64_t dim) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(like.dim()), 1);
  shape[static_cast<std::size_t>(dim)] = mask.size(0);
  return mask.view(shape);
}

}  // namespace torpor::lab
