// Agents: what acts and learns. How steps, replay, logs and recycling go together is the same for all (training.h).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lab/rl/replay.h"
#include "lab/rl/trained_network.h"

namespace torpor::lab {

/// One thread at a time.
class Agent {
 public:
  virtual ~Agent() = default;

  /// observations: [n, observation…]. actions: [n, numbers of an action]. explore: as in training at `step`, else the
  /// best known.
  virtual void act(const at::Tensor& observations, bool explore, std::int64_t step, std::span<float> actions) = 0;

  /// One step of gradients on a batch of the replay. Returns the loss, which may be no number. values: null, or gets
  /// each network's values behind its activation functions on the batch.
  virtual double update(Replay& replay, std::int64_t step, std::vector<std::vector<at::Tensor>>* values) = 0;
  /// The targets take over what the networks have learnt.
  void update_targets();
  /// After others wrote to the networks' weights: recycled, reset, filled from a checkpoint.
  virtual void weights_changed() {}

  /// In the order in which layers are logged.
  const std::vector<std::unique_ptr<TrainedNetwork>>& networks() const { return networks_; }

  /// A batch as a network of networks() reads it.
  virtual at::Tensor inputs_of(std::size_t network, const Transitions& batch) = 0;
  /// A loss of the network's outputs on a batch, for scores that need gradients.
  virtual at::Tensor loss_of(std::size_t network, const Transitions& batch, const at::Tensor& outputs) = 0;
  /// What the agent expects of each, the mean. outputs: of the first network.
  virtual double expected(const at::Tensor& outputs) const = 0;

  /// For checkpoints: the tensors themselves, and the rest.
  virtual NamedTensors tensors() const;
  virtual Json state() const;
  /// After the tensors were filled. Throws Json::exception.
  virtual void set_state(const Json& state);

 protected:
  explicit Agent(const RlOptions& options) : options_(options), random_(options.seed, 3) {}

  RlOptions options_;
  Random random_;
  std::vector<std::unique_ptr<TrainedNetwork>> networks_;
};

/// Deep Q-learning (Mnih et al. 2015): double, dueling, prioritised, with pictures shifted and brightened
/// (DrQ(epsilon), Agarwal et al. 2021) as the options say. Weights are drawn from LibTorch's generator.
std::unique_ptr<Agent> make_dqn(const EnvironmentSpec& environment, const RlOptions& options);
/// Soft actor-critic (Haarnoja et al. 2018) with two critics and an entropy of minus the number of values.
std::unique_ptr<Agent> make_sac(const EnvironmentSpec& environment, const RlOptions& options);
/// By options.agent.
std::unique_ptr<Agent> make_agent(const EnvironmentSpec& environment, const RlOptions& options);

/// The network of make_dqn().
std::shared_ptr<RecyclableNetwork> q_network(const EnvironmentSpec& environment, const RlOptions& options);

/// Pictures [batch, frames, height, width], each shifted by up to 4 pixels, the border repeated, and made brighter or
/// darker by a normal factor of deviation 0.05 within two deviations. (DrQ)
at::Tensor augmented(const at::Tensor& pictures, Random& random);

}  // namespace torpor::lab
