#include <algorithm>
#include <cmath>

#include "lab/recycle/sequential_network.h"
#include "lab/rl/agent.h"

namespace torpor::lab {
namespace {

constexpr double kLeastLogDeviation = -5, kMostLogDeviation = 2;

class Sac final : public Agent {
 public:
  Sac(const EnvironmentSpec& environment, const RlOptions& options)
      : Agent(options), values_(environment.action_values), bound_(environment.action_bound) {
    const std::int64_t seen = environment.values();
    const auto wide = std::max<std::int64_t>(1, std::llround(256 * options.width));
    const auto network = [&](std::int64_t inputs, std::int64_t outputs) {
      return SequentialNetwork(NetworkSpec{.input = {inputs},
                                           .hidden = {DenseSpec{wide}, DenseSpec{wide}},
                                           .outputs = outputs,
                                           .init = NetworkInit::kaiming_uniform})
          .ptr();
    };
    for (const char* name : {"critic1", "critic2"})
      networks_.push_back(std::make_unique<TrainedNetwork>(name, network(seen + values_, 1), network(seen + values_, 1),
                                                           options, options.recycle_critic));
    networks_.push_back(
        std::make_unique<TrainedNetwork>("actor", network(seen, 2 * values_), nullptr, options, options.recycle_actor));
    log_alpha_ = torch::zeros({1}, at::TensorOptions().requires_grad(true));
    alpha_optimizer_ = std::make_unique<UnitAdam>(NamedTensors{{"log_alpha", log_alpha_}});
  }

  void act(const at::Tensor& observations, bool explore, std::int64_t step, std::span<float> actions) override {
    if (explore && step < options_.warm_up) {
      for (float& action : actions) action = static_cast<float>(bound_ * (2 * random_.uniform() - 1));
      return;
    }
    const at::NoGradGuard no_gradient;
    const at::Tensor outputs = (*networks_[2])->forward(observations);
    const at::Tensor chosen =
        (explore ? drawn(outputs).first : bound_ * at::tanh(outputs.narrow(1, 0, values_))).contiguous();
    std::copy_n(chosen.const_data_ptr<float>(), actions.size(), actions.begin());
  }

  double update(Replay& replay, std::int64_t, std::vector<std::vector<at::Tensor>>* values) override {
    const Transitions batch = replay.sample(options_.batch, random_);
    const at::Tensor wanted = targets(batch);
    const at::Tensor inputs = at::cat({batch.observations, batch.actions}, 1);
    if (values != nullptr) values->resize(3);
    const auto forward = [&](std::size_t network, const at::Tensor& x) {
      return values == nullptr ? (*networks_[network])->forward(x)
                               : (*networks_[network])->forward(x, (*values)[network]);
    };
    at::Tensor loss;
    for (std::size_t c = 0; c < 2; ++c) {
      const at::Tensor error = forward(c, inputs).squeeze(1) - wanted;
      const at::Tensor own = (error * error).mean();
      loss = c == 0 ? own : loss + own;
    }
    loss.backward();
    for (std::size_t c = 0; c < 2; ++c) networks_[c]->step(options_.learning_rate);

    const auto [action, log_probability] = drawn(forward(2, batch.observations));
    const at::Tensor judged = at::cat({batch.observations, action}, 1);
    const at::Tensor value = at::minimum((*networks_[0])->forward(judged), (*networks_[1])->forward(judged)).squeeze(1);
    const at::Tensor actor_loss = (log_alpha_.detach().exp() * log_probability - value).mean();
    // By the actor's weights alone: the critics' gradients are not for this.
    const std::vector<at::Tensor> weights = (*networks_[2])->parameters();
    const auto gradients = torch::autograd::grad({actor_loss}, weights);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i].mutable_grad() = gradients[i];
    networks_[2]->step(options_.learning_rate);

    // Towards an entropy of minus the number of values (Haarnoja et al. 2018, "Algorithms and Applications", eq. 18).
    const double surplus = log_probability.detach().mean().item<double>() - static_cast<double>(values_);
    const at::NoGradGuard no_gradient;
    log_alpha_.mutable_grad() = -log_alpha_.exp() * surplus;
    alpha_optimizer_->step(options_.learning_rate);
    return loss.item<double>();
  }

  at::Tensor inputs_of(std::size_t network, const Transitions& batch) override {
    return network == 2 ? batch.observations : at::cat({batch.observations, batch.actions}, 1);
  }
  at::Tensor loss_of(std::size_t network, const Transitions& batch, const at::Tensor& outputs) override {
    if (network < 2) return at::mse_loss(outputs.squeeze(1), targets(batch));
    const auto [action, log_probability] = drawn(outputs);
    const at::Tensor judged = at::cat({batch.observations, action}, 1);
    const at::Tensor value = at::minimum((*networks_[0])->forward(judged), (*networks_[1])->forward(judged)).squeeze(1);
    return (log_alpha_.detach().exp() * log_probability - value).mean();
  }
  double expected(const at::Tensor& outputs) const override { return outputs.mean().item<double>(); }

  NamedTensors tensors() const override {
    NamedTensors out = Agent::tensors();
    out.emplace_back("log_alpha", log_alpha_);
    append(out, "alpha", alpha_optimizer_->state());
    return out;
  }
  Json state() const override {
    Json json = Agent::state();
    json["alpha_steps"] = alpha_optimizer_->steps();
    return json;
  }
  void set_state(const Json& state) override {
    Agent::set_state(state);
    alpha_optimizer_->set_steps(state.at("alpha_steps").get<std::int64_t>());
  }

 private:
  /// Actions [batch, values] within the bound, and the logarithms of their densities [batch].
  std::pair<at::Tensor, at::Tensor> drawn(const at::Tensor& outputs) const {
    const at::Tensor mean = outputs.narrow(1, 0, values_);
    const at::Tensor log_deviation = kLeastLogDeviation + 0.5 * (kMostLogDeviation - kLeastLogDeviation) *
                                                              (at::tanh(outputs.narrow(1, values_, values_)) + 1);
    const at::Tensor noise = torch::randn_like(mean);
    const at::Tensor raw = mean + log_deviation.exp() * noise;
    const at::Tensor squashed = at::tanh(raw);
    // The density of a normal variable behind tanh: log (1 - tanh^2 x) = 2 (log 2 - x - softplus(-2 x)).
    const at::Tensor log_normal = -0.5 * (noise * noise) - log_deviation - 0.5 * std::log(2 * M_PI);
    const at::Tensor log_slope = 2 * (std::log(2.0) - raw - at::softplus(-2 * raw)) + std::log(bound_);
    return {bound_ * squashed, (log_normal - log_slope).sum(1)};
  }

  at::Tensor targets(const Transitions& batch) {
    const at::NoGradGuard no_gradient;
    const auto [action, log_probability] = drawn((*networks_[2])->forward(batch.following));
    const at::Tensor judged = at::cat({batch.following, action}, 1);
    const at::Tensor value =
        at::minimum(networks_[0]->target().forward(judged), networks_[1]->target().forward(judged)).squeeze(1);
    return batch.rewards * options_.reward_scale + batch.discounts * (value - log_alpha_.exp() * log_probability);
  }

  std::int64_t values_;
  double bound_;
  at::Tensor log_alpha_;
  std::unique_ptr<UnitAdam> alpha_optimizer_;
};

}  // namespace

std::unique_ptr<Agent> make_sac(const EnvironmentSpec& environment, const RlOptions& options) {
  return std::make_unique<Sac>(environment, options);
}

}  // namespace torpor::lab
