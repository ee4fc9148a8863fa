#include "lab/rl/environment.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "core/base/edit_distance.h"
#include "core/base/error.h"
#include "lab/rl/environments.h"
#include "lab/rl/gym_environment.h"
#include "lab/rl/mujoco_environment.h"

namespace torpor::lab {

std::int64_t EnvironmentSpec::values() const {
  return std::accumulate(observation.begin(), observation.end(), std::int64_t{1}, std::multiplies<>());
}

Environment::Environment(EnvironmentSpec spec, std::uint64_t seed) : spec_(std::move(spec)), random_(seed, 17) {}

double Environment::scripted() {
  const double draw = scripted_.front();
  scripted_.pop_front();
  return draw;
}

double Environment::uniform(double low, double high) {
  return scripted_.empty() ? low + (high - low) * random_.uniform() : scripted();
}

double Environment::normal() {
  return scripted_.empty() ? random_.normal() : scripted();
}

std::int64_t Environment::below(std::int64_t n) {
  return static_cast<std::int64_t>(scripted_.empty() ? static_cast<double>(random_.below(static_cast<std::uint64_t>(n)))
                                                     : scripted());
}

void Environment::set_sticky(double probability) {
  if (!(probability >= 0) || probability >= 1)
    throw InvalidArgument("[{}] expected a probability of sticky actions from 0 to below 1, got {}", spec_.name,
                          probability);
  if (spec_.actions == 0 && probability > 0)
    throw InvalidArgument("[{}] sticky actions are for choices, and its actions are continuous", spec_.name);
  sticky_ = probability;
}

void Environment::reset(std::span<float> observation) {
  steps_ = last_action_ = 0;
  running_ = true;
  start();
  observe(observation);
}

StepResult Environment::choose(std::int64_t) {
  throw InvalidArgument("[{}] expected {} numbers as an action, got a choice", spec_.name, spec_.action_values);
}

StepResult Environment::apply(std::span<const float>) {
  throw InvalidArgument("[{}] expected one of {} actions, got numbers", spec_.name, spec_.actions);
}

template <class Advance>
StepResult Environment::step_with(const Advance& advance, std::span<float> observation) {
  if (!running_) throw InvalidArgument("[{}] the episode is over: expected reset() before the next step", spec_.name);
  StepResult result = advance();
  ++steps_;
  if (!result.terminated && spec_.most_steps > 0 && steps_ >= spec_.most_steps) result.truncated = true;
  if (result.over()) running_ = false;
  observe(observation);
  return result;
}

StepResult Environment::step(std::int64_t action, std::span<float> observation) {
  if (spec_.actions > 0 && (action < 0 || action >= spec_.actions))
    throw InvalidArgument("[{}] expected an action from 0 to {}, got {}", spec_.name, spec_.actions - 1, action);
  if (sticky_ > 0 && chance(sticky_)) action = last_action_;
  last_action_ = action;
  return step_with([&] { return choose(action); }, observation);
}

StepResult Environment::step(std::span<const float> action, std::span<float> observation) {
  if (std::ssize(action) != spec_.action_values)
    throw InvalidArgument("[{}] expected an action of {} numbers, got {}", spec_.name, spec_.action_values,
                          action.size());
  for (const float value : action)
    if (!(value >= -1e30F && value <= 1e30F))
      throw InvalidArgument("[{}] expected an action of finite numbers, got {}", spec_.name, value);
  return step_with([&] { return apply(action); }, observation);
}

void Environment::visit_all(StateVisitor& visitor) {
  if (!can_resume()) throw InvalidArgument("[{}] its state is out of reach: it can only start anew", spec_.name);
  visitor(steps_);
  visitor(running_);
  visit_state(visitor);
  if (sticky_ > 0) visitor(last_action_);
}

namespace {

class StateReader final : public StateVisitor {
 public:
  std::vector<double> values;

 private:
  void visit(double& value) override { values.push_back(value); }
};

class StateSetter final : public StateVisitor {
 public:
  StateSetter(std::span<const double> values, const std::string& name) : values_(values), name_(name) {}
  void check_end() const {
    if (next_ != values_.size())
      throw InvalidArgument("[{}] expected a state of {} numbers, got {}", name_, next_, values_.size());
  }

 private:
  void visit(double& value) override {
    if (next_ >= values_.size())
      throw InvalidArgument("[{}] expected a state of more than {} numbers", name_, values_.size());
    value = values_[next_++];
  }

  std::span<const double> values_;
  const std::string& name_;
  std::size_t next_ = 0;
};

}  // namespace

std::vector<double> Environment::state() const {
  StateReader reader;
  const_cast<Environment*>(this)->visit_all(reader);
  return std::move(reader.values);
}

void Environment::set_state(std::span<const double> state) {
  StateSetter setter(state, spec_.name);
  visit_all(setter);
  setter.check_end();
}

namespace {

struct Named {
  const char* name;
  std::unique_ptr<Environment> (*make)(std::uint64_t seed);
};
constexpr Named kEnvironments[] = {{"catch", make_catch},
                                   {"permuted-catch", make_permuted_catch},
                                   {"cartpole", make_cartpole},
                                   {"mountain-car", make_mountain_car},
                                   {"acrobot", make_acrobot},
                                   {"pendulum", make_pendulum},
                                   {"breakout-mini", make_breakout_mini},
                                   {"asterix-mini", make_asterix_mini},
                                   {"space-invaders-mini", make_space_invaders_mini},
                                   {"freeway-mini", make_freeway_mini},
                                   {"seaquest-mini", make_seaquest_mini}};
constexpr std::string_view kGym = "gym:";

}  // namespace

std::vector<std::string> environment_names() {
  std::vector<std::string> names;
  for (const Named& environment : kEnvironments) names.emplace_back(environment.name);
  for (const std::string_view name : mujoco_environment_names()) names.emplace_back(name);
  return names;
}

std::string environment_help() {
  return fmt::format("{}; of Gymnasium gym:ID (gym:ALE/Breakout-v5)", fmt::join(environment_names(), ", "));
}

std::unique_ptr<Environment> make_environment(std::string_view name, std::uint64_t seed) {
  for (const Named& environment : kEnvironments)
    if (name == environment.name) return environment.make(seed);
  if (auto environment = make_mujoco_environment(name, seed)) return environment;
  if (name.starts_with(kGym)) return make_gym_environment(std::string(name.substr(kGym.size())), seed);
  const std::vector<std::string> names = environment_names();
  const auto nearest = std::min_element(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return edit_distance(a, name) < edit_distance(b, name);
  });
  throw UsageError("expected an environment of {}, got \"{}\". Did you mean \"{}\"?", environment_help(), name,
                   *nearest);
}

}  // namespace torpor::lab
