#include "lab/rl/vector_environment.h"

#include <algorithm>

#include "core/base/error.h"

namespace torpor::lab {

VectorEnvironment::VectorEnvironment(std::vector<std::unique_ptr<Environment>> environments, int threads)
    : environments_(std::move(environments)) {
  if (environments_.empty()) throw InvalidArgument("[VectorEnvironment] expected environments, got none");
  for (const auto& environment : environments_)
    if (environment->spec().observation != spec().observation || environment->spec().actions != spec().actions ||
        environment->spec().action_values != spec().action_values)
      throw InvalidArgument("[VectorEnvironment] expected environments of one kind, got {} and {}", spec().name,
                            environment->spec().name);
  const int most = std::min(threads, static_cast<int>(environments_.size()));
  if (most > 1) pool_ = std::make_unique<ThreadPool>(most);
  values_ = static_cast<std::size_t>(spec().values());
  width_ = static_cast<std::size_t>(std::max<std::int64_t>(1, spec().action_values));
  observations_.resize(size() * values_);
  following_.resize(size() * values_);
  results_.resize(size());
}

std::span<float> VectorEnvironment::observation(std::size_t i) {
  return {observations_.data() + i * values_, values_};
}
std::span<const float> VectorEnvironment::following(std::size_t i) const {
  return {following_.data() + i * values_, values_};
}

void VectorEnvironment::reset() {
  for (std::size_t i = 0; i < size(); ++i) environments_[i]->reset(observation(i));
}

void VectorEnvironment::step_one(std::size_t i, std::span<const float> action) {
  const std::span<float> next(following_.data() + i * values_, values_);
  Environment& environment = *environments_[i];
  results_[i] = spec().actions > 0 ? environment.step(static_cast<std::int64_t>(action[0]), next)
                                   : environment.step(action, next);
  if (results_[i].over())
    environment.reset(observation(i));
  else
    std::copy(next.begin(), next.end(), observation(i).begin());
}

void VectorEnvironment::step(std::span<const float> actions) {
  if (actions.size() != size() * width_)
    throw InvalidArgument("[VectorEnvironment] expected {} actions of {} numbers, got {} numbers", size(), width_,
                          actions.size());
  const auto one = [&](long i) {
    step_one(static_cast<std::size_t>(i), actions.subspan(static_cast<std::size_t>(i) * width_, width_));
  };
  if (pool_ == nullptr) {
    for (std::size_t i = 0; i < size(); ++i) one(static_cast<long>(i));
  } else {
    pool_->parallel_for_balanced(static_cast<long>(size()), 1, [&](long begin, long end, int) {
      for (long i = begin; i < end; ++i) one(i);
    });
  }
}

}  // namespace torpor::lab
