// What an agent has seen, to learn from again. Steps are stored once, in the order of each environment; transitions of
// n steps are put together when they are drawn, and none reaches into another episode.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/random.h"
#include "lab/recycle/unit_adam.h"
#include "lab/rl/environment.h"

namespace torpor::lab {

struct ReplayOptions {
  std::int64_t capacity = 100'000;  // steps, of all environments together
  std::int64_t environments = 1;
  std::int64_t n_step = 1;
  double gamma = 0.99;
  double priority_exponent = 0;  // Schaul et al. 2016: alpha; 0 draws uniformly
};

struct Transitions {
  at::Tensor observations;           // [batch, observation…], f32
  at::Tensor actions;                // [batch] int64 of choices, [batch, values] f32 of continuous ones
  at::Tensor rewards;                // [batch], f32, of n steps or of those up to the episode's end
  at::Tensor following;              // [batch, observation…]
  at::Tensor discounts;              // [batch], f32: gamma^n, or 0 where the task was over
  at::Tensor probabilities;          // [batch], f32, of each draw, where priorities are on
  std::vector<std::int64_t> places;  // where each begins: one number a transition while it is stored
};

/// A ring for each environment. An observation takes as many bytes as its spec allows: one a value where values are
/// whole numbers, and only the newest frame of several. One thread at a time.
class Replay {
 public:
  /// Throws InvalidArgument for options out of range.
  Replay(EnvironmentSpec spec, ReplayOptions options);

  /// An episode of an environment begins.
  void begin(std::int64_t environment, std::span<const float> observation);
  /// Its next step. action: the number of a choice, or the values. Throws InvalidArgument: not begun, sizes.
  void add(std::int64_t environment, std::span<const float> action, double reward, std::span<const float> following,
           bool terminated, bool truncated);
  /// Forgets what an environment has given, but where it stands.
  void clear(std::int64_t environment);

  /// Steps that are stored.
  std::int64_t size() const;

  /// Uniformly, or by priority, with replacement. Throws InvalidArgument where no transition is complete.
  Transitions sample(std::int64_t batch, Random& random) const;

  /// |temporal-difference errors| of drawn transitions. New ones begin with the largest so far. No effect without
  /// priorities.
  void set_priorities(std::span<const std::int64_t> places, std::span<const float> errors);

  /// For checkpoints: all of it, the tensors themselves. Sizes are fixed by spec and options.
  NamedTensors state() const { return state_; }
  /// After the tensors of state() were filled.
  void restored();

 private:
  enum End : std::uint8_t { goes_on, terminated, truncated, waits };  // waits: no action yet, or the episode's last

  struct Step {  // of an environment, by the time of its ring
    std::int64_t environment, time;
  };
  std::int64_t slot(Step step) const { return step.environment * slots_ + step.time % slots_; }
  std::int64_t& head(std::int64_t environment) const;  // the time of its newest step; -1: none
  std::int64_t& kept_from(std::int64_t environment) const;
  std::int64_t oldest(std::int64_t environment) const;
  void write(Step step, std::span<const float> observation, std::int64_t age);
  void read(Step step, float* observation) const;
  /// Steps from `step` on that make its transition; 0 where it is not complete.
  std::int64_t length(Step step) const;
  Step draw(Random& random) const;
  Step draw_by_priority(Random& random, float* probability) const;
  std::int64_t any(Random& random, std::int64_t* environment) const;
  void set_leaf(std::int64_t slot, float value);
  void check_environment(std::int64_t environment) const;
  std::vector<std::int64_t> shape(std::int64_t batch) const;

  EnvironmentSpec spec_;
  ReplayOptions options_;
  std::int64_t slots_, frame_, width_;  // a ring's steps, values stored of an observation, numbers of an action
  NamedTensors state_;
  at::Tensor observations_;        // [environments slots, frame], u8 or f32
  std::uint8_t* bytes_ = nullptr;  // either of
  float* numbers_ = nullptr;       // these
  float* actions_ = nullptr;       // [environments slots, width]
  float* rewards_ = nullptr;       // [environments slots]
  std::uint8_t* ends_ = nullptr;   // End
  std::int32_t* ages_ = nullptr;   // steps since the episode's begin
  std::int64_t* heads_ = nullptr;  // [environments, 2]: time of the newest step, time that all before is forgotten
  float* tree_ = nullptr;          // [2 leaves] sums of priorities, leaf i at leaves + i; leaves: a power of two
  std::int64_t leaves_ = 0;
  float* largest_ = nullptr;  // priority so far
};

}  // namespace torpor::lab
