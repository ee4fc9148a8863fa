#include "lab/recycle/continual_backprop.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"

namespace torpor::lab {

ContinualBackprop::ContinualBackprop(Recycler& recycler, ContinualBackpropOptions options)
    : recycler_(recycler), options_(options) {
  if (!(options.decay >= 0) || !(options.decay < 1))
    throw InvalidArgument("[continual backprop] expected a decay from 0 to below 1, got {}", options.decay);
  if (!(options.replacement_rate >= 0) || options.replacement_rate > 1)
    throw InvalidArgument("[continual backprop] expected a replacement rate from 0 to 1, got {}",
                          options.replacement_rate);
  if (options.maturity < 0)
    throw InvalidArgument("[continual backprop] expected a maturity of at least 0 steps, got {}", options.maturity);
  for (const RecyclableLayer& layer : recycler.layers())
    layers_.push_back({.utility = torch::zeros({layer.neurons()}),
                       .mean_value = torch::zeros({layer.neurons()}),
                       .age = torch::zeros({layer.neurons()}, at::kLong),
                       .owed = torch::zeros({1}, at::kDouble)});
}

std::int64_t ContinualBackprop::step(std::int64_t step, const std::vector<at::Tensor>& values) {
  const at::NoGradGuard no_gradient;
  if (values.size() != layers_.size())
    throw InvalidArgument("[continual backprop] expected values of {} layers, got {}", layers_.size(), values.size());
  std::int64_t replaced = 0;
  std::vector<at::Tensor> masks, means;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    Layer& state = layers_[l];
    const RecyclableLayer& layer = recycler_.layers()[l];
    const at::Tensor h = values[l].detach();
    const double rest = 1 - options_.decay;
    state.mean_value.mul_(options_.decay).add_(by_neuron(h), rest);
    at::Tensor mask = torch::zeros({layer.neurons()}, at::kBool);
    state.age.add_(1);
    if (layer.obstacle.empty()) {
      state.utility.mul_(options_.decay).add_(by_neuron(h.abs()) * outgoing_size(layer), rest);
      const at::Tensor mature = state.age.gt(options_.maturity);
      const auto eligible = mature.sum().item<std::int64_t>();
      double& owed = *state.owed.mutable_data_ptr<double>();
      owed += options_.replacement_rate * static_cast<double>(eligible);
      const auto count = std::min(eligible, static_cast<std::int64_t>(owed));
      if (count > 0) {
        owed -= static_cast<double>(count);
        // Running means begin at 0: young ones are too small by 1 - decay^age.
        const at::Tensor utility = (state.utility / (1 - at::pow(options_.decay, state.age.to(at::kFloat))))
                                       .masked_fill(mature.logical_not(), std::numeric_limits<float>::infinity());
        mask.index_fill_(0, std::get<1>(utility.topk(count, 0, /*largest=*/false)), true);
        replaced += count;
      }
    }
    masks.push_back(mask);
    const at::Tensor one = h.narrow(0, 0, 1);
    const at::Tensor mean = state.mean_value / (1 - at::pow(options_.decay, state.age.to(at::kFloat)));
    means.push_back(along(mean, one, 1).expand_as(one).contiguous());  // the same at all positions of a map
  }
  if (replaced == 0) return 0;
  recycler_.renew(step, masks, means);
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    layers_[l].utility.masked_fill_(masks[l], 0);
    layers_[l].age.masked_fill_(masks[l], 0);
    layers_[l].mean_value.masked_fill_(masks[l], 0);
  }
  return replaced;
}

NamedTensors ContinualBackprop::state() const {
  NamedTensors out;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const std::string& name = recycler_.layers()[l].name;
    out.emplace_back(name + ".utility", layers_[l].utility);
    out.emplace_back(name + ".mean_value", layers_[l].mean_value);
    out.emplace_back(name + ".age", layers_[l].age);
    out.emplace_back(name + ".owed", layers_[l].owed);
  }
  return out;
}

}  // namespace torpor::lab
