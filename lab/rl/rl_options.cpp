#include "lab/rl/rl_options.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/error.h"

namespace torpor::lab {

const std::vector<std::string>& agent_names() {
  static const std::vector<std::string> names = {"dqn", "drq", "sac"};
  return names;
}

const std::vector<std::string>& network_names() {
  static const std::vector<std::string> names = {"small", "nature", "impala"};
  return names;
}

std::string_view name_of(NetworkKind kind) {
  return network_names()[static_cast<std::size_t>(kind)];
}

NetworkKind network_of(std::string_view name) {
  const auto at = std::find(network_names().begin(), network_names().end(), name);
  if (at == network_names().end())
    throw InvalidArgument("[rl] expected a network of {}, got \"{}\"", fmt::join(network_names(), ", "), name);
  return static_cast<NetworkKind>(at - network_names().begin());
}

void check(const RlOptions& o) {
  const auto at_least = [](const char* what, std::int64_t value, std::int64_t least) {
    if (value < least) throw InvalidArgument("[rl] expected {} of at least {}, got {}", what, least, value);
  };
  at_least("steps", o.steps, 1);
  at_least("a warm-up", o.warm_up, 1);
  at_least("environments", o.environments, 1);
  at_least("a replay", o.replay, 1);
  at_least("a batch", o.batch, 1);
  at_least("steps between updates", o.train_every, 1);
  at_least("updates", o.updates, 1);
  at_least("steps between targets", o.target_every, 1);
  at_least("n steps", o.n_step, 1);
  at_least("a probe", o.probe, 1);
  at_least("updates between logs", o.log_every, 1);
  at_least("updates between layer resets", o.layer_reset_every, 0);
  const auto part = [](const char* what, double value) {
    if (!(value >= 0) || value > 1) throw InvalidArgument("[rl] expected {} from 0 to 1, got {}", what, value);
  };
  part("gamma", o.gamma);
  part("epsilon", o.epsilon_first);
  part("epsilon", o.epsilon_last);
  part("a part of the target", o.target_part);
  part("an importance exponent", o.importance_exponent);
  const auto positive = [](const char* what, double value) {
    if (!(value > 0)) throw InvalidArgument("[rl] expected {} above 0, got {}", what, value);
  };
  positive("a learning rate", o.learning_rate);
  positive("a width", o.width);
  if (!(o.weight_decay >= 0))
    throw InvalidArgument("[rl] expected a weight decay of at least 0, got {}", o.weight_decay);
  if (!(o.priority_exponent >= 0))
    throw InvalidArgument("[rl] expected a priority exponent of at least 0, got {}", o.priority_exponent);
  if (!(o.sticky >= 0) || o.sticky >= 1)
    throw InvalidArgument("[rl] expected sticky actions from 0 to below 1, got {}", o.sticky);
  if (std::find(agent_names().begin(), agent_names().end(), o.agent) == agent_names().end())
    throw InvalidArgument("[rl] expected an agent of {}, got \"{}\"", fmt::join(agent_names(), ", "), o.agent);
  if (o.continual && !o.recycle)
    throw InvalidArgument("[rl] continual backprop needs options of the recycler that replaces for it, got none");
  if (!o.recycle) return;
  check(*o.recycle);
  if (o.check_recycling && (o.recycle->compensate || o.recycle->paper_compatible || o.recycle->prune ||
                            o.recycle->outgoing == OutgoingWeights::redrawn))
    throw InvalidArgument(
        "[rl] what the network computes is kept by recycling with outgoing weights of zero alone: expected no "
        "compensation, pruning or paper_compatible where that is to be checked");
}

void check(const RlOptions& options, const EnvironmentSpec& environment) {
  check(options);
  rl_defaults(options.agent, environment);  // refuses actions of another kind
  const bool pictures = environment.observation.size() == 3;
  if (options.network != NetworkKind::small && !pictures)
    throw InvalidArgument("[rl] the network \"{}\" is for pictures, and {} shows {} numbers", name_of(options.network),
                          environment.name, environment.values());
  if (options.agent == "sac" && pictures)
    throw InvalidArgument("[rl] sac is for observations of numbers, and {} shows pictures", environment.name);
}

Json to_json(const RlOptions& o) {
  Json json = {{"agent", o.agent},
               {"steps", o.steps},
               {"warm_up", o.warm_up},
               {"environments", o.environments},
               {"replay", o.replay},
               {"batch", o.batch},
               {"train_every", o.train_every},
               {"updates", o.updates},
               {"target_every", o.target_every},
               {"target_part", o.target_part},
               {"n_step", o.n_step},
               {"gamma", o.gamma},
               {"learning_rate", o.learning_rate},
               {"adam_eps", o.adam_eps},
               {"weight_decay", o.weight_decay},
               {"epsilon_first", o.epsilon_first},
               {"epsilon_last", o.epsilon_last},
               {"epsilon_steps", o.epsilon_steps},
               {"double_q", o.double_q},
               {"dueling", o.dueling},
               {"priority_exponent", o.priority_exponent},
               {"importance_exponent", o.importance_exponent},
               {"network", name_of(o.network)},
               {"width", o.width},
               {"augment", o.augment},
               {"reward_scale", o.reward_scale},
               {"probe", o.probe},
               {"log_every", o.log_every},
               {"layer_reset_every", o.layer_reset_every},
               {"sticky", o.sticky},
               {"seed", o.seed},
               {"recycle", nullptr},
               {"continual_backprop", nullptr}};
  if (o.recycle)
    json["recycle"] = {{"score", name_of(o.recycle->score)},
                       {"tau", o.recycle->tau},
                       {"period", o.recycle->period},
                       {"optimizer_reset", static_cast<int>(o.recycle->optimizer)},
                       {"compensate", o.recycle->compensate},
                       {"prune", o.recycle->prune},
                       {"paper_compatible", o.recycle->paper_compatible},
                       {"actor", o.recycle_actor},
                       {"critic", o.recycle_critic},
                       {"target", o.recycle_target}};
  if (o.continual)
    json["continual_backprop"] = {{"decay", o.continual->decay},
                                  {"replacement_rate", o.continual->replacement_rate},
                                  {"maturity", o.continual->maturity}};
  return json;
}

namespace {

void defaults_of_dqn(RlOptions& o, const EnvironmentSpec& environment) {
  if (environment.byte_scale > 0 && environment.byte_scale < 1) {  // pictures: Dopamine's DQN, made for fewer frames
    o.network = NetworkKind::nature;
    o.steps = 500'000;
    o.warm_up = 5000;
    o.replay = 200'000;
    o.target_every = 8000;
    o.epsilon_steps = 100'000;
    o.epsilon_last = 0.01;
    o.learning_rate = 6.25e-5;
    o.adam_eps = 1.5e-4;
  } else if (environment.observation.size() == 3) {  // grids, as MinAtar's DQN but for Adam
    o.steps = 250'000;
    o.epsilon_steps = 25'000;
  } else if (environment.name == "cartpole") {
    o.steps = 120'000;
    o.epsilon_steps = 5000;
    o.epsilon_last = 0.01;
    o.learning_rate = 1e-3;
    o.n_step = 3;
    o.target_every = 500;
    o.batch = 64;
    o.double_q = true;
  } else if (environment.name.ends_with("catch")) {
    o.steps = 60'000;
    o.epsilon_steps = 1000;
    o.learning_rate = 1e-3;
    o.adam_eps = 1.5e-4;
    o.train_every = 1;
    o.updates = 2;
    o.target_every = 200;
    o.warm_up = 500;
  } else {
    o.steps = 150'000;
    o.train_every = 2;
    o.learning_rate = 5e-4;
    o.target_every = 500;
    o.double_q = true;
    o.batch = 64;
  }
}

/// redo.md 4.0.
void defaults_of_drq(RlOptions& o, const EnvironmentSpec& environment) {
  o.steps = 100'000;
  o.warm_up = 1600;
  o.replay = 100'000;
  o.train_every = 1;
  o.target_every = 1;
  o.n_step = 10;
  o.learning_rate = 1e-4;
  o.adam_eps = 1.5e-4;
  o.epsilon_last = 0.01;
  o.epsilon_steps = 5000;
  o.double_q = o.dueling = true;
  o.augment = environment.observation.size() == 3 && environment.byte_scale < 1;
  if (o.augment) o.network = NetworkKind::nature;
}

/// Haarnoja et al. 2018, as redo.md 4.0 but for sizes that suit the task.
void defaults_of_sac(RlOptions& o, const EnvironmentSpec& environment) {
  o.batch = 256;
  o.train_every = 1;
  o.target_every = 1;
  o.target_part = 0.005;
  o.learning_rate = 3e-4;
  o.probe = 256;
  if (environment.name == "pendulum") {
    o.steps = 15'000;
    o.warm_up = 1000;
    o.learning_rate = 1e-3;
    o.batch = 128;
    o.width = 0.25;
  } else {
    o.steps = 200'000;
    o.warm_up = 5000;
    o.replay = 200'000;
  }
}

}  // namespace

RlOptions rl_defaults(std::string_view agent, const EnvironmentSpec& environment) {
  RlOptions o;
  o.agent = agent;
  const bool choices = environment.actions > 0;
  if (agent == "sac" ? choices : !choices)
    throw InvalidArgument("[rl] {} has {}, and {} needs {}", environment.name,
                          choices ? "choices as actions" : "continuous actions", agent,
                          choices ? "continuous ones: expected dqn or drq" : "choices: expected sac");
  if (agent == "dqn")
    defaults_of_dqn(o, environment);
  else if (agent == "drq")
    defaults_of_drq(o, environment);
  else if (agent == "sac")
    defaults_of_sac(o, environment);
  else
    throw InvalidArgument("[rl] expected an agent of {}, got \"{}\"", fmt::join(agent_names(), ", "), agent);
  return o;
}

}  // namespace torpor::lab
