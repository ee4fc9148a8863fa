#include "lab/recycle/recyclable_network.h"

namespace torpor::lab {

NamedTensors RecyclableNetwork::parameters_by_name() const {
  NamedTensors result;
  for (const auto& item : named_parameters()) result.emplace_back(item.key(), item.value());
  return result;
}

at::Tensor RecyclableNetwork::noted(const at::Tensor& x, std::size_t layer, std::vector<at::Tensor>* values,
                                    const std::vector<at::Tensor>* without) {
  if (values != nullptr) values->push_back(x);
  return without == nullptr ? x : x.masked_fill(along((*without)[layer], x, 1), 0);
}

std::vector<ProbeValues> probe(RecyclableNetwork& network, const at::Tensor& batch,
                               const std::function<at::Tensor(const at::Tensor& outputs)>& gradient_of) {
  std::vector<at::Tensor> values;
  std::vector<ProbeValues> result;
  if (!gradient_of) {
    const at::NoGradGuard no_gradient;
    network.forward(batch, values);
    for (const at::Tensor& v : values) result.push_back({v, {}});
    return result;
  }
  const at::Tensor loss = gradient_of(network.forward(batch, values));
  const auto gradients = torch::autograd::grad({loss}, values, {}, /*retain_graph=*/false, /*create_graph=*/false,
                                               /*allow_unused=*/true);
  for (std::size_t l = 0; l < values.size(); ++l)
    result.push_back({values[l].detach(), gradients[l].defined() ? gradients[l] : torch::zeros_like(values[l])});
  return result;
}

void copy_weights(const torch::nn::Module& from, torch::nn::Module& to) {
  const at::NoGradGuard no_gradient;
  const auto copy = [](const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) b[i].detach().copy_(a[i].detach());
  };
  copy(from.parameters(), to.parameters());
  copy(from.buffers(), to.buffers());
}

}  // namespace torpor::lab
