// What decides a training run of an agent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "lab/recycle/continual_backprop.h"
#include "lab/recycle/recycler.h"
#include "lab/rl/environment.h"

namespace torpor::lab {

enum class NetworkKind : std::uint8_t { small, nature, impala };

struct RlOptions {
  std::string agent = "dqn";     // or "drq", "sac"
  std::int64_t steps = 200'000;  // of all environments together
  std::int64_t warm_up = 1000;   // steps before the first update
  std::int64_t environments = 1;
  std::int64_t replay = 100'000, batch = 32;
  std::int64_t train_every = 4;      // steps
  std::int64_t updates = 1;          // each time: replay ratio updates / train_every
  std::int64_t target_every = 1000;  // steps; 1: each update (of SAC always, in part)
  double target_part = 1;            // of the network that the target takes over each time
  std::int64_t n_step = 1;
  double gamma = 0.99, learning_rate = 2.5e-4, adam_eps = 1e-8, weight_decay = 0;
  double epsilon_first = 1, epsilon_last = 0.05;
  std::int64_t epsilon_steps = 20'000;  // from the first to the last
  bool double_q = false, dueling = false;
  double priority_exponent = 0;      // above 0: prioritised replay (Schaul et al. 2016), usually 0.6
  double importance_exponent = 0.4;  // of its weights at first; 1 at the end
  NetworkKind network = NetworkKind::small;
  double width = 1;               // times the network's usual neurons (V11)
  bool augment = false;           // DrQ: shifted and brightened pictures
  double reward_scale = 1;        // of what the agent learns from
  std::int64_t probe = 64;        // observations that scores are measured on
  std::int64_t log_every = 2000;  // updates
  std::optional<RecycleOptions> recycle = {};
  std::optional<ContinualBackpropOptions> continual = {};  // in place of the recycler's own times
  bool recycle_actor = true, recycle_critic = true;        // of SAC
  bool recycle_target = false;                             // the target gets the same new weights (V16)
  bool check_recycling = false;                            // see check_function_kept
  std::int64_t layer_reset_every = 0;  // updates; > 0: last hidden layer and outputs are drawn anew (redo.md 3.5, V8)
  double sticky = 0;                   // actions of the environment
  std::uint64_t seed = 1;
};

/// Throws InvalidArgument saying what is out of range or does not go together.
void check(const RlOptions& options);
/// The same, and whether agent and network are for what the environment shows and takes.
void check(const RlOptions& options, const EnvironmentSpec& environment);
Json to_json(const RlOptions& options);

/// "dqn", "drq", "sac".
const std::vector<std::string>& agent_names();
std::string_view name_of(NetworkKind kind);
const std::vector<std::string>& network_names();
NetworkKind network_of(std::string_view name);

/// Sensible for an agent in an environment: sizes, learning rate, length. Throws InvalidArgument: an agent that is not
/// known, or whose actions are not of the environment's kind.
RlOptions rl_defaults(std::string_view agent, const EnvironmentSpec& environment);

}  // namespace torpor::lab
