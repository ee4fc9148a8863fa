#include <algorithm>
#include <cmath>

#include "lab/recycle/direct_network.h"
#include "lab/recycle/residual_network.h"
#include "lab/recycle/sequential_network.h"
#include "lab/rl/agent.h"

namespace torpor::lab {

std::shared_ptr<RecyclableNetwork> q_network(const EnvironmentSpec& environment, const RlOptions& options) {
  const auto wide = [&](std::int64_t neurons) {
    return std::max<std::int64_t>(1, std::llround(static_cast<double>(neurons) * options.width));
  };
  const bool maps = environment.observation.size() == 3;
  if (options.network == NetworkKind::impala)
    return ResidualNetwork(ResidualSpec{.input = environment.observation,
                                        .channels = {wide(32), wide(64), wide(64)},
                                        .dense = wide(512),
                                        .outputs = environment.actions,
                                        .dueling = options.dueling})
        .ptr();
  NetworkSpec spec{.input = environment.observation, .outputs = environment.actions, .dueling = options.dueling};
  if (options.network == NetworkKind::nature)
    spec.hidden = {ConvSpec{wide(32), 8, 4}, ConvSpec{wide(64), 4, 2}, ConvSpec{wide(64), 3, 1}, DenseSpec{wide(512)}};
  else if (maps)  // MinAtar's
    spec.hidden = {ConvSpec{wide(16), 3}, DenseSpec{wide(128)}};
  else
    spec.hidden = {DenseSpec{wide(128)}, DenseSpec{wide(128)}};
  return SequentialNetwork(spec).ptr();
}

at::Tensor augmented(const at::Tensor& pictures, Random& random) {
  constexpr std::int64_t kPad = 4;
  const at::NoGradGuard no_gradient;
  const at::Tensor padded = at::replication_pad2d(pictures, {kPad, kPad, kPad, kPad});
  at::Tensor out = torch::empty_like(pictures);
  for (std::int64_t i = 0; i < pictures.size(0); ++i) {
    const auto y = static_cast<std::int64_t>(random.below(2 * kPad + 1));
    const auto x = static_cast<std::int64_t>(random.below(2 * kPad + 1));
    const double factor = 1 + 0.05 * std::clamp(random.normal(), -2.0, 2.0);
    out[i].copy_(padded[i].narrow(1, y, pictures.size(2)).narrow(2, x, pictures.size(3))).mul_(factor);
  }
  return out;
}

namespace {

class Dqn final : public Agent {
 public:
  Dqn(const EnvironmentSpec& environment, const RlOptions& options) : Agent(options), actions_(environment.actions) {
    auto online = q_network(environment, options);
    auto target = q_network(environment, options);
    direct_online_ = DirectNetwork::of(online);
    direct_target_ = DirectNetwork::of(target);
    networks_.push_back(
        std::make_unique<TrainedNetwork>("q", std::move(online), std::move(target), options, /*recycles=*/true));
  }

  void act(const at::Tensor& observations, bool explore, std::int64_t step, std::span<float> actions) override {
    const double part = std::min(1.0, static_cast<double>(std::max<std::int64_t>(0, step - options_.warm_up)) /
                                          static_cast<double>(std::max<std::int64_t>(1, options_.epsilon_steps)));
    const double epsilon = options_.epsilon_first + part * (options_.epsilon_last - options_.epsilon_first);
    bool all_random = explore;
    for (float& action : actions) {
      const bool by_chance = explore && random_.uniform() < epsilon;
      action = by_chance ? static_cast<float>(random_.below(static_cast<std::uint64_t>(actions_))) : -1;
      all_random = all_random && by_chance;
    }
    if (all_random) return;
    const c10::InferenceMode inference;
    at::Tensor kept;
    const float* const values = outputs_of(direct_online_.get(), *network(), observations, kept);
    for (std::size_t i = 0; i < actions.size(); ++i)
      if (actions[i] < 0) actions[i] = static_cast<float>(best_of(values + static_cast<std::int64_t>(i) * actions_));
  }

  double update(Replay& replay, std::int64_t step, std::vector<std::vector<at::Tensor>>* values) override {
    Transitions batch = replay.sample(options_.batch, random_);
    if (options_.augment) {
      batch.observations = augmented(batch.observations, random_);
      batch.following = augmented(batch.following, random_);
    }
    const at::Tensor wanted = targets(batch);
    at::Tensor weights;
    if (batch.probabilities.defined()) {
      const double done = static_cast<double>(step) / static_cast<double>(options_.steps);
      const double beta = options_.importance_exponent + (1 - options_.importance_exponent) * std::min(1.0, done);
      weights = (batch.probabilities * static_cast<double>(replay.size())).pow(-beta);
      weights.div_(weights.max());
    }
    if (values != nullptr) values->resize(1);
    std::vector<at::Tensor>* const behind = values == nullptr ? nullptr : &values->front();
    std::vector<float> errors(batch.places.size());
    const double loss = direct_online_ != nullptr ? learn_directly(batch, wanted, weights, errors, behind)
                                                  : learn(batch, wanted, weights, errors, behind);
    networks_[0]->step(options_.learning_rate);
    replay.set_priorities(batch.places, errors);
    return loss;
  }

  void weights_changed() override {
    if (direct_online_ != nullptr) direct_online_->weights_changed();
    if (direct_target_ != nullptr) direct_target_->weights_changed();
  }

  at::Tensor inputs_of(std::size_t, const Transitions& batch) override { return batch.observations; }
  at::Tensor loss_of(std::size_t, const Transitions& batch, const at::Tensor& outputs) override {
    return at::huber_loss(outputs.gather(1, batch.actions.unsqueeze(1)).squeeze(1), targets(batch));
  }
  double expected(const at::Tensor& outputs) const override {
    return std::get<0>(outputs.max(1)).mean().item<double>();
  }

 private:
  TrainedNetwork& network() { return *networks_[0]; }

  static const float* outputs_of(DirectNetwork* direct, RecyclableNetwork& network, const at::Tensor& observations,
                                 at::Tensor& kept) {
    if (direct != nullptr) return direct->forward(observations.size(0), observations.const_data_ptr<float>());
    kept = network.forward(observations).contiguous();
    return kept.const_data_ptr<float>();
  }
  std::int64_t best_of(const float* values) const { return std::max_element(values, values + actions_) - values; }

  /// r + discount Q'(following, best action), the best by the target's values or, double, by the network's own.
  at::Tensor targets(const Transitions& batch) {
    const at::NoGradGuard no_gradient;
    at::Tensor kept_own, kept;
    const std::int64_t n = batch.following.size(0);
    std::vector<std::int64_t> best(static_cast<std::size_t>(n), -1);
    if (options_.double_q) {
      const float* const own = outputs_of(direct_online_.get(), *network(), batch.following, kept_own);
      for (std::int64_t b = 0; b < n; ++b) best[static_cast<std::size_t>(b)] = best_of(own + b * actions_);
    }
    const float* const values = outputs_of(direct_target_.get(), network().target(), batch.following, kept);
    at::Tensor wanted = torch::empty({n});
    float* const to = wanted.mutable_data_ptr<float>();
    const float* const rewards = batch.rewards.const_data_ptr<float>();
    const float* const discounts = batch.discounts.const_data_ptr<float>();
    for (std::int64_t b = 0; b < n; ++b) {
      const float* const row = values + b * actions_;
      const std::int64_t chosen = options_.double_q ? best[static_cast<std::size_t>(b)] : best_of(row);
      to[b] = rewards[b] * static_cast<float>(options_.reward_scale) + discounts[b] * row[chosen];
    }
    return wanted;
  }

  /// Gradients of the Huber loss, by LibTorch. errors: of each where there are weights.
  double learn(const Transitions& batch, const at::Tensor& wanted, const at::Tensor& weights,
               std::vector<float>& errors, std::vector<at::Tensor>* values) {
    const at::Tensor outputs =
        values == nullptr ? network()->forward(batch.observations) : network()->forward(batch.observations, *values);
    const at::Tensor chosen = outputs.gather(1, batch.actions.unsqueeze(1)).squeeze(1);
    at::Tensor loss;
    if (weights.defined()) {
      loss = (at::huber_loss(chosen, wanted, at::Reduction::None) * weights).mean();
      const at::Tensor by_draw = (chosen.detach() - wanted).contiguous();
      std::copy_n(by_draw.const_data_ptr<float>(), errors.size(), errors.begin());
    } else {
      loss = at::huber_loss(chosen, wanted);
    }
    loss.backward();
    return loss.item<double>();
  }

  /// The same without LibTorch.
  double learn_directly(const Transitions& batch, const at::Tensor& wanted, const at::Tensor& weights,
                        std::vector<float>& errors, std::vector<at::Tensor>* values) {
    const std::int64_t n = batch.observations.size(0);
    const float* const outputs = direct_online_->forward(n, batch.observations.const_data_ptr<float>());
    gradient_.assign(static_cast<std::size_t>(n * actions_), 0.0F);
    double loss = 0;
    for (std::int64_t b = 0; b < n; ++b) {
      const std::int64_t at = b * actions_ + batch.actions.const_data_ptr<std::int64_t>()[b];
      const float error = outputs[at] - wanted.const_data_ptr<float>()[b];
      const float size = std::abs(error);
      const float weight = (weights.defined() ? weights.const_data_ptr<float>()[b] : 1.0F) / static_cast<float>(n);
      loss += static_cast<double>(weight) * static_cast<double>(size < 1 ? 0.5F * error * error : size - 0.5F);
      gradient_[static_cast<std::size_t>(at)] = weight * std::clamp(error, -1.0F, 1.0F);
      if (weights.defined()) errors[static_cast<std::size_t>(b)] = error;
    }
    direct_online_->backward(gradient_.data());
    if (values != nullptr) *values = direct_online_->values();
    return loss;
  }

  std::unique_ptr<DirectNetwork> direct_online_, direct_target_;  // null where the network is not one
  std::vector<float> gradient_;
  std::int64_t actions_;
};

}  // namespace

std::unique_ptr<Agent> make_dqn(const EnvironmentSpec& environment, const RlOptions& options) {
  return std::make_unique<Dqn>(environment, options);
}

}  // namespace torpor::lab
