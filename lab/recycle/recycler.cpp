#include "lab/recycle/recycler.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "core/base/error.h"

namespace torpor::lab {

void check(const RecycleOptions& options) {
  if (!(options.tau >= 0)) throw InvalidArgument("[recycle] expected tau of at least 0, got {}", options.tau);
  if (options.period < 1)
    throw InvalidArgument("[recycle] expected a period of at least one gradient step, got {}", options.period);
  if (!(options.fraction >= 0) || options.fraction > 1)
    throw InvalidArgument("[recycle] expected a fraction from 0 to 1, got {}", options.fraction);
  if (options.begin < 0 || options.end < options.begin)
    throw InvalidArgument("[recycle] expected steps from 0 on, the last no earlier than the first, got {} to {}",
                          options.begin, options.end);
  if (options.fraction > 0 && options.end == std::numeric_limits<std::int64_t>::max())
    throw InvalidArgument("[recycle] a fraction falls to 0 until `end`: expected a last step, got none");
  if (options.fraction == 0 && options.selection != RecycleSelection::lowest)
    throw InvalidArgument("[recycle] a selection other than the lowest scores needs a fraction, got tau alone");
  if (!(options.incoming_scale > 0))
    throw InvalidArgument("[recycle] expected a scale of incoming weights above 0, got {}", options.incoming_scale);
  if (options.first_layer < 0)
    throw InvalidArgument("[recycle] expected a first layer of at least 0, got {}", options.first_layer);
}

Recycler::Recycler(std::vector<RecyclableLayer> layers, RecycleOptions options, UnitAdam* optimizer, std::uint64_t seed,
                   std::vector<std::vector<RecyclableLayer>> copies)
    : layers_(std::move(layers)), options_(options), optimizer_(optimizer), copies_(std::move(copies)), random_(seed) {
  check(options_);
  if (options_.paper_compatible) options_.optimizer = OptimizerReset::moments;
  bool any = false;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const RecyclableLayer& layer = layers_[l];
    check_layer(layer);
    last_.push_back(torch::full({layer.neurons()}, std::numeric_limits<std::int64_t>::min() / 2,
                                at::TensorOptions().dtype(at::kLong)));
    pruned_.push_back(torch::zeros({layer.neurons()}, at::TensorOptions().dtype(at::kBool)));
    if (static_cast<int>(l) < options_.first_layer) continue;
    if (!layer.obstacle.empty() && !options_.skip_obstacles)
      throw InvalidArgument("[recycle] layer \"{}\" cannot be recycled without changing what others compute: {}",
                            layer.name, layer.obstacle);
    any = any || layer.obstacle.empty();
  }
  if (!any) throw InvalidArgument("[recycle] the network has no layer that can be recycled");
  for (const auto& copy : copies_) {
    if (copy.size() != layers_.size())
      throw InvalidArgument("[recycle] expected a copy of {} layers, got {}", layers_.size(), copy.size());
    for (std::size_t l = 0; l < copy.size(); ++l)
      if (copy[l].weight.sizes() != layers_[l].weight.sizes() || copy[l].outgoing.size() != layers_[l].outgoing.size())
        throw InvalidArgument("[recycle] layer \"{}\" of a copy has other sizes", layers_[l].name);
  }
}

bool Recycler::due(std::int64_t step) const {
  return step > 0 && step % options_.period == 0 && step >= options_.begin && step < options_.end;
}

bool Recycler::recyclable(std::size_t layer) const {
  return static_cast<int>(layer) >= options_.first_layer && layers_[layer].obstacle.empty();
}

/// Which neurons of a layer go.
at::Tensor Recycler::select(const at::Tensor& scores, std::int64_t step) {
  if (options_.fraction == 0) return scores.le(options_.tau);
  const double part = options_.fraction * std::cos(std::numbers::pi / 2 * static_cast<double>(step) /
                                                   static_cast<double>(std::max<std::int64_t>(1, options_.end)));
  const std::int64_t n = scores.numel();
  const std::int64_t k =
      std::clamp<std::int64_t>(std::llround(static_cast<double>(n) * part), 1, n);  // one at least, as the paper's code
  at::Tensor by = scores;
  if (options_.selection == RecycleSelection::highest) by = -scores;
  if (options_.selection == RecycleSelection::random)
    by = scores.index_select(0, torch::tensor(permutation(n, random_)));
  // All that are no higher than the k-th: equal scores may be more than k, again as the paper's code.
  return by.le(std::get<0>(by.kthvalue(k)));
}

RecycleReport Recycler::measure(std::int64_t step, const std::vector<ProbeValues>& probe) {
  const at::NoGradGuard no_gradient;
  if (probe.size() != layers_.size())
    throw InvalidArgument("[recycle] expected probe values of {} layers, got {}", layers_.size(), probe.size());
  RecycleReport report{.step = step};
  std::vector<at::Tensor> scores;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    RecycledLayer layer{.name = layers_[l].name, .scores = recycle_scores(options_.score, layers_[l], probe[l])};
    layer.recycled = recyclable(l) ? select(layer.scores, step) : torch::zeros_like(layer.scores, at::kBool);
    layer.count = layer.recycled.sum().item<std::int64_t>();
    layer.again = layer.recycled.logical_and(last_[l].ge(step - 2 * options_.period)).sum().item<std::int64_t>();
    report.recycled += layer.count;
    report.again += layer.again;
    scores.push_back(layer.scores);
    report.layers.push_back(std::move(layer));
  }
  report.dormant = dormancy(scores, options_.tau).all;
  return report;
}

at::Tensor Recycler::inputs_read(const OutgoingWeight& to, const at::Tensor& mask) const {
  return options_.paper_compatible ? inputs_of_official(to, mask) : inputs_of(to, mask);
}

/// Weights as the neurons of the mask get them, for all neurons.
at::Tensor Recycler::fresh_incoming(const IncomingWeight& from, const at::Tensor& mask) const {
  at::Tensor fresh = torch::empty_like(from.weight.detach());
  from.initialise(fresh);
  if (options_.incoming == IncomingWeights::rescaled && !mask.all().item<bool>()) {
    const at::Tensor norms = from.weight.detach().flatten(1).norm(2, 1);
    const at::Tensor others = norms.masked_select(mask.logical_not()).mean();
    const at::Tensor own = fresh.flatten(1).norm(2, 1);
    fresh.mul_(along(options_.incoming_scale * others / own, fresh, 0));
  }
  return fresh;
}

/// fresh: one for each of layer.incoming().
void Recycler::renew_incoming(const RecyclableLayer& layer, const at::Tensor& mask,
                              const std::vector<at::Tensor>& fresh) {
  const std::vector<IncomingWeight> incoming = layer.incoming();
  for (std::size_t i = 0; i < incoming.size(); ++i) {
    at::Tensor weight = incoming[i].weight.detach();
    weight.copy_(at::where(along(mask, weight, 0), fresh[i], weight));
    if (incoming[i].bias.defined()) incoming[i].bias.detach().masked_fill_(mask, 0);
  }
  for (const NeuronNorm& norm : layer.norms) {
    if (norm.weight.defined()) norm.weight.detach().masked_fill_(mask, 1);
    if (norm.bias.defined()) norm.bias.detach().masked_fill_(mask, 0);
    if (norm.running_mean.defined()) norm.running_mean.masked_fill_(mask, 0);
    if (norm.running_var.defined()) norm.running_var.masked_fill_(mask, 1);
  }
}

void Recycler::renew_outgoing(const OutgoingWeight& to, const at::Tensor& inputs, const at::Tensor& fresh) const {
  at::Tensor weight = to.weight.detach();
  const at::Tensor mask = along(inputs, weight, 1);
  if (fresh.defined())
    weight.copy_(at::where(mask, fresh, weight));
  else
    weight.masked_fill_(mask, 0);
}

/// What the neurons gave to each output on the average of the probe batch, to its bias.
void Recycler::compensate(const RecyclableLayer& layer, const at::Tensor& mask, const at::Tensor& values) const {
  for (const OutgoingWeight& to : layer.outgoing) {
    if (!to.bias.defined()) continue;
    if (to.pooled)
      throw InvalidArgument(
          "[recycle] layer \"{}\": what its neurons gave cannot be moved to the bias of \"{}\" through a pool",
          layer.name, to.name);
    // Means of the inputs: of each position behind a flatten, of the map in front of a convolution (exact where the
    // convolution does not pad).
    at::Tensor means;
    if (to.per_neuron > 1) {
      const at::Tensor mean = values.mean(0).view({layer.neurons(), to.per_neuron});
      means = to.order == FlattenOrder::channel_major ? mean.reshape({-1}) : mean.t().reshape({-1});
    } else {
      means = values.dim() == 4 ? values.mean({0, 2, 3}) : values.mean(0);
    }
    at::Tensor inputs = torch::zeros({to.weight.size(1)});
    inputs.narrow(0, to.first, means.size(0)).copy_(means);
    inputs.masked_fill_(inputs_of(to, mask).logical_not(), 0);
    const at::Tensor by_input = to.weight.dim() > 2 ? to.weight.detach().flatten(2).sum(2) : to.weight.detach();
    to.bias.detach().add_(by_input.mv(inputs));
  }
}

void Recycler::reset_optimizer(const std::vector<at::Tensor>& masks) {
  if (optimizer_ == nullptr || options_.optimizer == OptimizerReset::none) return;
  // A parameter that is one layer's incoming and another's outgoing weight is reset in both, at once.
  std::map<std::string, UnitAdam::Part> parts;
  const auto join = [](at::Tensor& to, const at::Tensor& mask) { to = to.defined() ? to.logical_or(mask) : mask; };
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (!masks[l].any().item<bool>()) continue;
    const RecyclableLayer& layer = layers_[l];
    for (const IncomingWeight& from : layer.incoming()) {
      join(parts[from.name].rows, masks[l]);
      if (!options_.paper_compatible && from.bias.defined()) join(parts[from.bias_name].rows, masks[l]);
    }
    if (!options_.paper_compatible) {
      for (const NeuronNorm& norm : layer.norms) {
        if (norm.weight.defined()) join(parts[norm.name + ".weight"].rows, masks[l]);
        if (norm.bias.defined()) join(parts[norm.name + ".bias"].rows, masks[l]);
      }
    }
    for (const OutgoingWeight& to : layer.outgoing) join(parts[to.name].columns, inputs_read(to, masks[l]));
  }
  for (auto& [name, part] : parts) {
    part.name = name;
    optimizer_->reset_moments(part);
    if (options_.optimizer == OptimizerReset::moments_and_unit_step) optimizer_->reset_unit_steps(part);
    if (options_.optimizer == OptimizerReset::moments_and_tensor_step) optimizer_->reset_tensor_step(name);
  }
}

RecycleReport Recycler::recycle(std::int64_t step, const std::vector<ProbeValues>& probe) {
  RecycleReport report = measure(step, probe);
  std::vector<at::Tensor> masks, values;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    masks.push_back(report.layers[l].recycled);
    values.push_back(probe[l].values);
  }
  if (options_.prune) {
    const at::NoGradGuard no_gradient;
    for (std::size_t l = 0; l < layers_.size(); ++l) pruned_[l].logical_or_(masks[l]);
    keep_pruned();
  } else {
    renew(step, masks, values);
  }
  return report;
}

void Recycler::keep_pruned() const {
  const at::NoGradGuard no_gradient;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    for (const IncomingWeight& from : layers_[l].incoming()) {
      from.weight.detach().masked_fill_(along(pruned_[l], from.weight, 0), 0);
      if (from.bias.defined()) from.bias.detach().masked_fill_(pruned_[l], 0);
    }
  }
}

NamedTensors Recycler::state() const {
  NamedTensors out;
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    out.emplace_back(layers_[l].name + ".recycled_at", last_[l]);
    out.emplace_back(layers_[l].name + ".pruned", pruned_[l]);
  }
  return out;
}

void Recycler::renew(std::int64_t step, const std::vector<at::Tensor>& masks, const std::vector<at::Tensor>& values) {
  const at::NoGradGuard no_gradient;
  std::vector<std::int64_t> counts;
  for (const at::Tensor& mask : masks) counts.push_back(mask.sum().item<std::int64_t>());
  // Draws of LibTorch's initializers, from this recycler's own seed: other draws of the program stay what they are.
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const at::Tensor kept_state = generator.get_state();
  generator.set_current_seed(random_.below(std::uint64_t{1} << 62));
  if (options_.compensate)
    for (std::size_t l = 0; l < layers_.size(); ++l)
      if (counts[l] > 0) compensate(layers_[l], masks[l], values[l]);
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (counts[l] == 0) continue;
    const RecyclableLayer& layer = layers_[l];
    std::vector<at::Tensor> fresh;
    for (const IncomingWeight& from : layer.incoming()) fresh.push_back(fresh_incoming(from, masks[l]));
    renew_incoming(layer, masks[l], fresh);
    for (const auto& copy : copies_) renew_incoming(copy[l], masks[l], fresh);
    last_[l].masked_fill_(masks[l], step);
  }
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (counts[l] == 0) continue;
    for (std::size_t k = 0; k < layers_[l].outgoing.size(); ++k) {
      const OutgoingWeight& to = layers_[l].outgoing[k];
      at::Tensor fresh;
      if (options_.outgoing == OutgoingWeights::redrawn) {
        if (!to.initialise)
          throw InvalidArgument("[recycle] \"{}\" has no initializer to redraw outgoing weights with", to.name);
        fresh = torch::empty_like(to.weight.detach());
        to.initialise(fresh);
      }
      const at::Tensor inputs = inputs_read(to, masks[l]);
      renew_outgoing(to, inputs, fresh);
      for (const auto& copy : copies_) renew_outgoing(copy[l].outgoing[k], inputs, fresh);
    }
  }
  generator.set_state(kept_state);
  reset_optimizer(masks);
}

void check_function_kept(const at::Tensor& without_before, const at::Tensor& after) {
  const at::NoGradGuard no_gradient;
  const auto difference = (without_before - after).abs().max().item<double>();
  const double scale = std::max(1.0, without_before.abs().max().item<double>());
  if (!(difference <= 1e-4 * scale))
    throw Error(1, fmt::format("recycling changed what the network computes by more than the removed neurons gave: "
                               "outputs differ by {}, the largest is {}. Please report this",
                               difference, scale));
}

}  // namespace torpor::lab
