#include "lab/recycle/recycle_scores.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

constexpr std::array<std::string_view, 6> kNames = {"activation", "mean_subtracted",   "activation_gradient",
                                                    "gradient",   "connected_weights", "contribution"};

at::Tensor batch_mean(const at::Tensor& values) {
  return values.dim() == 2 ? values.mean(0, /*keepdim=*/true) : values.mean({0, 2, 3}, /*keepdim=*/true);
}

/// Sum of |w| over what makes each neuron.
at::Tensor incoming_size(const RecyclableLayer& layer) {
  at::Tensor sum = torch::zeros({layer.neurons()});
  for (const IncomingWeight& from : layer.incoming()) sum += from.weight.detach().abs().flatten(1).sum(1);
  return sum;
}

}  // namespace

std::string_view name_of(RecycleScore score) {
  return kNames.at(static_cast<std::size_t>(score));
}

RecycleScore recycle_score_of(std::string_view name) {
  const auto at = std::find(kNames.begin(), kNames.end(), name);
  if (at == kNames.end())
    throw InvalidArgument("[recycle] expected a score of {}, got \"{}\"", fmt::join(kNames, ", "), name);
  return static_cast<RecycleScore>(at - kNames.begin());
}

std::vector<std::string> recycle_score_names() {
  return {kNames.begin(), kNames.end()};
}

bool needs_gradient(RecycleScore score) {
  return score == RecycleScore::activation_gradient || score == RecycleScore::gradient;
}

at::Tensor recycle_scores(RecycleScore score, const RecyclableLayer& layer, const ProbeValues& probe) {
  const at::NoGradGuard no_gradient;
  const at::Tensor& h = probe.values;
  if (!h.defined() || (h.dim() != 2 && h.dim() != 4) || h.size(0) < 1 || h.size(1) != layer.neurons())
    throw InvalidArgument("[recycle] layer \"{}\": expected values of [batch, {}] or [batch, {}, H, W]", layer.name,
                          layer.neurons(), layer.neurons());
  if (needs_gradient(score) && (!probe.gradient.defined() || probe.gradient.sizes() != h.sizes()))
    throw InvalidArgument("[recycle] layer \"{}\": the score \"{}\" needs the gradient of a loss by the activations",
                          layer.name, name_of(score));
  at::Tensor sizes;
  switch (score) {
    case RecycleScore::activation:
      sizes = by_neuron(h.abs());
      break;
    case RecycleScore::mean_subtracted:
      sizes = by_neuron((h - batch_mean(h)).abs());
      break;
    case RecycleScore::activation_gradient:
      sizes = by_neuron((h * probe.gradient).abs());
      break;
    case RecycleScore::gradient:
      sizes = by_neuron(probe.gradient.abs());
      break;
    case RecycleScore::connected_weights:
      sizes = incoming_size(layer) * outgoing_size(layer);
      break;
    case RecycleScore::contribution:
      sizes = by_neuron((h - batch_mean(h)).abs()) * outgoing_size(layer) / (incoming_size(layer) + 1e-9);
      break;
  }
  return sizes / (sizes.mean() + 1e-9);
}

at::Tensor by_neuron(const at::Tensor& values) {
  return values.dim() == 2 ? values.mean(0) : values.mean({0, 2, 3});
}

at::Tensor outgoing_size(const RecyclableLayer& layer) {
  const std::int64_t neurons = layer.neurons();
  at::Tensor sum = torch::zeros({neurons});
  for (const OutgoingWeight& to : layer.outgoing) {
    const at::Tensor inputs =
        to.weight.detach().abs().transpose(0, 1).flatten(1).sum(1).narrow(0, to.first, neurons * to.per_neuron);
    sum += to.order == FlattenOrder::channel_major ? inputs.view({neurons, to.per_neuron}).sum(1)
                                                   : inputs.view({to.per_neuron, neurons}).sum(0);
  }
  return sum;
}

Dormancy dormancy(const std::vector<at::Tensor>& scores, double tau) {
  Dormancy result;
  std::int64_t dormant = 0, all = 0;
  for (const at::Tensor& layer : scores) {
    const auto here = layer.le(tau).sum().item<std::int64_t>();
    result.layers.push_back(static_cast<double>(here) / static_cast<double>(layer.numel()));
    dormant += here;
    all += layer.numel();
  }
  result.all = all > 0 ? static_cast<double>(dormant) / static_cast<double>(all) : 0;
  return result;
}

double overlap_coefficient(const at::Tensor& x, const at::Tensor& y) {
  const auto both = x.logical_and(y).sum().item<std::int64_t>();
  const std::int64_t smaller = std::min(x.sum().item<std::int64_t>(), y.sum().item<std::int64_t>());
  return smaller > 0 ? static_cast<double>(both) / static_cast<double>(smaller) : 0;
}

std::int64_t effective_rank(const at::Tensor& features, double delta) {
  const at::NoGradGuard no_gradient;
  const at::Tensor values = at::linalg_svdvals(features.to(at::kDouble));
  const at::Tensor sums = values.cumsum(0);
  const double wanted = (1 - delta) * sums[-1].item<double>();
  if (!(wanted > 0)) return 0;
  return sums.lt(wanted).sum().item<std::int64_t>() + 1;
}

}  // namespace torpor::lab
