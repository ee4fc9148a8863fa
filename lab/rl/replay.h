// What an agent has seen, to learn from again. Transitions carry what follows them, so that none reaches into another
// episode, and the factor of what follows: gamma^n, or 0 where the task was over.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/random.h"

namespace torpor::lab {

struct Transitions {
  at::Tensor observations;  // [batch, values], f32
  at::Tensor actions;       // [batch], int64
  at::Tensor rewards;       // [batch], f32, of n steps
  at::Tensor following;     // [batch, values]
  at::Tensor discounts;     // [batch], f32
};

/// A ring. One thread at a time.
class Replay {
 public:
  /// binary: observations are 0 and 1, and take a byte a value.
  Replay(std::int64_t capacity, std::int64_t values, bool binary);

  void add(std::span<const float> observation, std::int64_t action, double reward, std::span<const float> following,
           double discount);
  std::int64_t size() const { return size_; }
  void clear();

  /// Uniformly, with replacement. Throws InvalidArgument where nothing is stored.
  Transitions sample(std::int64_t batch, Random& random) const;
  /// Observations alone.
  at::Tensor sample_observations(std::int64_t batch, Random& random) const;

 private:
  void write(std::int64_t place, std::span<const float> values);
  void read(std::int64_t place, float* values) const;
  std::int64_t draw(Random& random) const;

  std::int64_t capacity_, values_;
  bool binary_;
  std::int64_t size_ = 0, next_ = 0;
  std::vector<float> numbers_;       // [capacity, 2, values]
  std::vector<std::uint8_t> bytes_;  // the same, of binary ones
  std::vector<std::int64_t> actions_;
  std::vector<float> rewards_, discounts_;
};

/// Makes transitions of n steps out of single ones. One thread at a time.
class NStep {
 public:
  NStep(std::int64_t steps, double gamma) : steps_(steps), gamma_(gamma) {}

  /// A step of the environment. Adds to `replay` what is complete: where an episode ends, all that is left, those of a
  /// truncated one with what would have followed.
  void add(std::span<const float> observation, std::int64_t action, double reward, std::span<const float> following,
           bool terminated, bool truncated, Replay& replay);
  void clear() { waiting_.clear(); }

 private:
  struct Step {
    std::vector<float> observation;
    std::int64_t action;
    double reward;
  };
  void emit(std::span<const float> following, bool terminated, Replay& replay);

  std::int64_t steps_;
  double gamma_;
  std::vector<Step> waiting_;  // oldest first
};

}  // namespace torpor::lab
