#include "lab/rl/environment.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <sstream>

#include "core/base/edit_distance.h"
#include "core/base/error.h"
#include "lab/rl/environments.h"

namespace torpor::lab {

struct Environment::Draws {
  std::mt19937_64 engine;
};

std::int64_t EnvironmentSpec::values() const {
  return std::accumulate(observation.begin(), observation.end(), std::int64_t{1}, std::multiplies<>());
}

Environment::Environment(EnvironmentSpec spec, std::uint64_t seed)
    : spec_(std::move(spec)), draws_(std::make_shared<Draws>()) {
  std::seed_seq sequence{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  draws_->engine.seed(sequence);
}

double Environment::uniform(double low, double high) {
  return low + (high - low) * static_cast<double>(draws_->engine() >> 11) * 0x1p-53;
}

std::int64_t Environment::below(std::int64_t n) {
  return static_cast<std::int64_t>(uniform(0, static_cast<double>(n)));
}

void Environment::reset(std::span<float> observation) {
  steps_ = 0;
  running_ = 1;
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
  if (running_ == 0)
    throw InvalidArgument("[{}] the episode is over: expected reset() before the next step", spec_.name);
  StepResult result = advance();
  ++steps_;
  if (!result.terminated && spec_.most_steps > 0 && steps_ >= static_cast<double>(spec_.most_steps))
    result.truncated = true;
  if (result.terminated || result.truncated) running_ = 0;
  observe(observation);
  return result;
}

StepResult Environment::step(std::int64_t action, std::span<float> observation) {
  if (spec_.actions > 0 && (action < 0 || action >= spec_.actions))
    throw InvalidArgument("[{}] expected an action from 0 to {}, got {}", spec_.name, spec_.actions - 1, action);
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

std::vector<double> Environment::state() const {
  std::vector<double> values = {steps_, running_};
  for (const double* number : const_cast<Environment*>(this)->numbers()) values.push_back(*number);
  return values;
}

void Environment::set_state(std::span<const double> state) {
  const std::vector<double*> places = numbers();
  if (state.size() != places.size() + 2)
    throw InvalidArgument("[{}] expected a state of {} numbers, got {}", spec_.name, places.size() + 2, state.size());
  steps_ = state[0];
  running_ = state[1];
  for (std::size_t i = 0; i < places.size(); ++i) *places[i] = state[i + 2];
}

std::string Environment::random_state() const {
  std::ostringstream text;
  text << draws_->engine;
  return text.str();
}

void Environment::set_random_state(const std::string& state) {
  std::istringstream text(state);
  text >> draws_->engine;
  if (!text) throw InvalidArgument("[{}] expected the state of a random generator, got other text", spec_.name);
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
                                   {"breakout-mini", make_breakout_mini}};

}  // namespace

std::vector<std::string> environment_names() {
  std::vector<std::string> names;
  for (const Named& environment : kEnvironments) names.emplace_back(environment.name);
  return names;
}

std::unique_ptr<Environment> make_environment(std::string_view name, std::uint64_t seed) {
  for (const Named& environment : kEnvironments)
    if (name == environment.name) return environment.make(seed);
  const std::vector<std::string> names = environment_names();
  const auto nearest = std::min_element(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return edit_distance(a, name) < edit_distance(b, name);
  });
  throw UsageError("expected an environment of {}, got \"{}\". Did you mean \"{}\"?", fmt::join(names, ", "), name,
                   *nearest);
}

}  // namespace torpor::lab
