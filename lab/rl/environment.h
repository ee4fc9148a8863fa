// Environments for agents: small games and control tasks from their published rules, and a seam for others. Nothing
// here knows a network.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/random.h"
#include "lab/rl/picture.h"

namespace torpor::lab {

struct EnvironmentSpec {
  std::string name;
  std::vector<std::int64_t> observation = {};  // [values] or [channels, height, width]
  /// Above 0, observations are whole numbers from 0 to 255 times this: 1 for zeros and ones, 1/255 for pixels.
  double byte_scale = 0;
  /// Above 1, the channels are so many frames, the newest last, each a step older than the next one; zeros before the
  /// episode's first.
  std::int64_t frames = 1;
  std::int64_t actions = 0;        // 0: continuous
  std::int64_t action_values = 0;  // of a continuous action, each from -bound to bound
  double action_bound = 0;
  std::int64_t most_steps = 0;  // of an episode, which is then truncated; 0: no limit

  std::int64_t values() const;  // of an observation
};

struct StepResult {
  double reward = 0;
  bool terminated = false;  // the task is over: nothing follows
  bool truncated = false;   // the time is over: something would have followed, and its value counts
  bool new_task = false;    // from here on observations mean something else: what was stored is worthless

  bool over() const { return terminated || truncated; }
};

/// Meets every number of a state, to read it or to set it.
class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  template <class Number>
  void operator()(Number& number) {
    auto value = static_cast<double>(number);
    visit(value);
    number = static_cast<Number>(value);
  }

 private:
  virtual void visit(double& value) = 0;
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

  /// Sticky actions (Machado et al. 2018): with this probability a step repeats the action before. For choices only.
  void set_sticky(double probability);

  /// For people; of nothing where the environment has none.
  virtual Picture picture() const { return {}; }

  /// For tests and resuming: everything that decides what follows, but for random draws. Throws InvalidArgument for
  /// numbers that are not such a state, or where the environment's state is out of reach (can_resume()).
  std::vector<double> state() const;
  void set_state(std::span<const double> state);
  std::string random_state() const { return random_.state(); }
  void set_random_state(const std::string& state) { random_.set_state(state); }
  virtual bool can_resume() const { return true; }

  /// For tests: the next draws, in place of random ones; a number below n for a choice among n.
  void script_draws(std::vector<double> draws) { scripted_.assign(draws.begin(), draws.end()); }

 protected:
  Environment(EnvironmentSpec spec, std::uint64_t seed);
  virtual void start() = 0;
  virtual StepResult choose(std::int64_t action);           // where there are choices
  virtual StepResult apply(std::span<const float> action);  // where actions are continuous
  virtual void observe(std::span<float> observation) const = 0;
  virtual void visit_state(StateVisitor& visitor) = 0;

  double uniform(double low, double high);
  std::int64_t below(std::int64_t n);
  double normal();  // standard
  bool chance(double probability) { return uniform(0, 1) < probability; }

 private:
  template <class Advance>
  StepResult step_with(const Advance& advance, std::span<float> observation);
  double scripted();
  void visit_all(StateVisitor& visitor);

  EnvironmentSpec spec_;
  Random random_;
  std::deque<double> scripted_;
  double sticky_ = 0;
  std::int64_t steps_ = 0, last_action_ = 0;
  bool running_ = false;  // else reset comes next
};

/// Of the environments that are built in, "cartpole", … "breakout-mini".
std::vector<std::string> environment_names();
/// For help: the names, and the forms of others ("gym:ID").
std::string environment_help();

/// Throws UsageError for an unknown name, naming the nearest.
std::unique_ptr<Environment> make_environment(std::string_view name, std::uint64_t seed);

}  // namespace torpor::lab
