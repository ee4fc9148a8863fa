// Several environments side by side, each on its own way, on threads where that pays.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/base/thread_pool.h"
#include "lab/rl/environment.h"

namespace torpor::lab {

/// An environment whose episode is over starts the next one in the same step. One thread at a time.
class VectorEnvironment {
 public:
  /// threads: at most one an environment. Throws InvalidArgument for none or different ones.
  VectorEnvironment(std::vector<std::unique_ptr<Environment>> environments, int threads);

  const EnvironmentSpec& spec() const { return environments_.front()->spec(); }
  std::size_t size() const { return environments_.size(); }
  Environment& at(std::size_t i) { return *environments_[i]; }

  void reset();
  /// actions: [size(), numbers of an action]; of choices their numbers. Throws as Environment::step.
  void step(std::span<const float> actions);

  /// What to act on: [size(), values]; of an environment whose episode ended the next one's first.
  std::span<float> observations() { return observations_; }
  /// What the step led to: [size(), values].
  std::span<const float> following(std::size_t i) const;
  std::span<float> observation(std::size_t i);
  const StepResult& result(std::size_t i) const { return results_[i]; }

 private:
  void step_one(std::size_t i, std::span<const float> action);

  std::vector<std::unique_ptr<Environment>> environments_;
  std::unique_ptr<ThreadPool> pool_;
  std::size_t values_, width_;
  std::vector<float> observations_, following_;
  std::vector<StepResult> results_;
};

}  // namespace torpor::lab
