// Environments for agents: small games and classic control tasks from their published rules, and a seam for others.
// Nothing here knows a network.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace torpor::lab {

struct EnvironmentSpec {
  std::string name;
  std::vector<std::int64_t> observation;  // [values] or [channels, height, width]
  bool binary = false;                    // observations are 0 and 1
  std::int64_t actions = 0;               // 0: continuous
  std::int64_t action_values = 0;         // of a continuous action, each from -bound to bound
  double action_bound = 0;
  std::int64_t most_steps = 0;  // of an episode, which is then truncated; 0: no limit

  std::int64_t values() const;  // of an observation
};

struct StepResult {
  double reward = 0;
  bool terminated = false;  // the task is over: nothing follows
  bool truncated = false;   // the time is over: something would have followed, and its value counts
  bool new_task = false;    // from here on observations mean something else: what was stored is worthless
};

/// One episode after another. One thread at a time.
class Environment {
 public:
  virtual ~Environment() = default;
  const EnvironmentSpec& spec() const { return spec_; }

  /// Starts an episode. observation: [spec().values()].
  void reset(std::span<float> observation);
  /// Throws InvalidArgument: an action out of range, an episode that is over or has not begun.
  StepResult step(std::int64_t action, std::span<float> observation);
  StepResult step(std::span<const float> action, std::span<float> observation);

  /// For tests and resuming: everything that decides what follows, but for random draws. Throws InvalidArgument for
  /// another number of values.
  std::vector<double> state() const;
  void set_state(std::span<const double> state);
  std::string random_state() const;
  void set_random_state(const std::string& state);

 protected:
  Environment(EnvironmentSpec spec, std::uint64_t seed);
  virtual void start() = 0;
  virtual StepResult choose(std::int64_t action);           // where there are choices
  virtual StepResult apply(std::span<const float> action);  // where actions are continuous
  virtual void observe(std::span<float> observation) const = 0;
  virtual std::vector<double*> numbers() = 0;  // the state

  double uniform(double low, double high);
  std::int64_t below(std::int64_t n);

 private:
  template <class Advance>
  StepResult step_with(const Advance& advance, std::span<float> observation);

  EnvironmentSpec spec_;
  struct Draws;
  std::shared_ptr<Draws> draws_;
  double steps_ = 0;
  double running_ = 0;  // 0: reset comes next
};

/// "catch", "permuted-catch", "cartpole", "mountain-car", "acrobot", "pendulum", "breakout-mini".
std::vector<std::string> environment_names();

/// Throws UsageError for an unknown name, naming the nearest.
std::unique_ptr<Environment> make_environment(std::string_view name, std::uint64_t seed);

}  // namespace torpor::lab
