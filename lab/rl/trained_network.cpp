#include "lab/rl/trained_network.h"

namespace torpor::lab {

void append(NamedTensors& to, const std::string& prefix, const NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) to.emplace_back(prefix + "/" + name, tensor);
}

TrainedNetwork::TrainedNetwork(std::string name, std::shared_ptr<RecyclableNetwork> network,
                               std::shared_ptr<RecyclableNetwork> target, const RlOptions& options, bool recycles)
    : name_(std::move(name)),
      network_(std::move(network)),
      target_(std::move(target)),
      layers_(network_->layers()),
      optimizer_(network_->parameters_by_name(),
                 UnitAdamOptions{.eps = options.adam_eps, .weight_decay = options.weight_decay}),
      dormant_before_(torch::zeros({layers_.back().neurons()}, at::kBool)) {
  if (target_ != nullptr) {
    copy_weights(*network_, *target_);
    for (at::Tensor& parameter : target_->parameters()) parameter.requires_grad_(false);
  }
  if (!recycles || !options.recycle) return;
  std::vector<std::vector<RecyclableLayer>> copies;
  if (options.recycle_target && target_ != nullptr) copies.push_back(target_->layers());
  recycler_ = std::make_unique<Recycler>(layers_, *options.recycle, &optimizer_, options.seed, std::move(copies));
  if (options.continual) continual_ = std::make_unique<ContinualBackprop>(*recycler_, *options.continual);
}

void TrainedNetwork::step(double learning_rate) {
  optimizer_.step(learning_rate);
  optimizer_.zero_grad();
  if (recycler_ != nullptr && recycler_->options().prune) recycler_->keep_pruned();
}

void TrainedNetwork::update_target(double part) {
  if (target_ == nullptr) return;
  if (part == 1) {
    copy_weights(*network_, *target_);
    return;
  }
  const at::NoGradGuard no_gradient;
  const auto from = network_->parameters(), to = target_->parameters();
  for (std::size_t i = 0; i < from.size(); ++i) to[i].detach().lerp_(from[i].detach(), part);
}

TrainedNetwork::Watched TrainedNetwork::watch(const std::vector<at::Tensor>& values) {
  const at::NoGradGuard no_gradient;
  Watched result;
  for (std::size_t l = 0; l < layers_.size(); ++l)
    result.scores.push_back(recycle_scores(RecycleScore::activation, layers_[l], {values[l].detach(), {}}));
  const at::Tensor now = result.scores.back().le(0);
  result.overlap = watched_ ? overlap_coefficient(now, dormant_before_) : 0;
  result.rank = effective_rank(values.back().detach().flatten(1));
  dormant_before_.copy_(now);
  watched_ = true;
  return result;
}

void TrainedNetwork::reset_last_layers() {
  for (const std::string& name : network_->reset_last_layers()) optimizer_.restart(name);
}

NamedTensors TrainedNetwork::tensors() const {
  NamedTensors out;
  const auto all_of = [](const RecyclableNetwork& network) {
    NamedTensors weights = network.parameters_by_name();
    for (const auto& item : network.named_buffers()) weights.emplace_back(item.key(), item.value());
    return weights;
  };
  append(out, name_ + "/weights", all_of(*network_));
  if (target_ != nullptr) append(out, name_ + "/target", all_of(*target_));
  append(out, name_ + "/optimizer", optimizer_.state());
  if (recycler_ != nullptr) append(out, name_ + "/recycler", recycler_->state());
  if (continual_ != nullptr) append(out, name_ + "/continual_backprop", continual_->state());
  out.emplace_back(name_ + "/dormant_before", dormant_before_);
  return out;
}

Json TrainedNetwork::state() const {
  Json json = {{"optimizer_steps", optimizer_.steps()}, {"watched", watched_}};
  if (recycler_ != nullptr) json["recycler_random"] = recycler_->random_state();
  return json;
}

void TrainedNetwork::set_state(const Json& state) {
  optimizer_.set_steps(state.at("optimizer_steps").get<std::int64_t>());
  watched_ = state.at("watched").get<bool>();
  if (recycler_ != nullptr) recycler_->set_random_state(state.at("recycler_random").get<std::string>());
}

}  // namespace torpor::lab
