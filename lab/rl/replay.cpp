#include "lab/rl/replay.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace torpor::lab {

Replay::Replay(std::int64_t capacity, std::int64_t values, bool binary)
    : capacity_(capacity), values_(values), binary_(binary) {
  if (capacity < 1 || values < 1)
    throw InvalidArgument("[Replay] expected room for at least one transition, got {} of {} values", capacity, values);
  const auto room = static_cast<std::size_t>(capacity * 2 * values);
  if (binary)
    bytes_.resize(room);
  else
    numbers_.resize(room);
  actions_.resize(static_cast<std::size_t>(capacity));
  rewards_.resize(actions_.size());
  discounts_.resize(actions_.size());
}

void Replay::write(std::int64_t place, std::span<const float> values) {
  if (std::ssize(values) != values_)
    throw InvalidArgument("[Replay] expected an observation of {} values, got {}", values_, values.size());
  if (binary_)
    std::transform(values.begin(), values.end(), bytes_.begin() + place * values_,
                   [](float v) { return static_cast<std::uint8_t>(v != 0); });
  else
    std::copy(values.begin(), values.end(), numbers_.begin() + place * values_);
}

void Replay::read(std::int64_t place, float* values) const {
  if (binary_)
    std::transform(bytes_.begin() + place * values_, bytes_.begin() + (place + 1) * values_, values,
                   [](std::uint8_t v) { return static_cast<float>(v); });
  else
    std::copy_n(numbers_.begin() + place * values_, values_, values);
}

void Replay::add(std::span<const float> observation, std::int64_t action, double reward,
                 std::span<const float> following, double discount) {
  write(2 * next_, observation);
  write(2 * next_ + 1, following);
  const auto at = static_cast<std::size_t>(next_);
  actions_[at] = action;
  rewards_[at] = static_cast<float>(reward);
  discounts_[at] = static_cast<float>(discount);
  next_ = (next_ + 1) % capacity_;
  size_ = std::min(size_ + 1, capacity_);
}

void Replay::clear() {
  size_ = next_ = 0;
}

std::int64_t Replay::draw(Random& random) const {
  if (size_ == 0) throw InvalidArgument("[Replay] expected transitions to draw from, there are none");
  return static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(size_)));
}

Transitions Replay::sample(std::int64_t batch, Random& random) const {
  Transitions out{torch::empty({batch, values_}), torch::empty({batch}, at::kLong), torch::empty({batch}),
                  torch::empty({batch, values_}), torch::empty({batch})};
  float* const observations = out.observations.mutable_data_ptr<float>();
  float* const following = out.following.mutable_data_ptr<float>();
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t place = draw(random);
    const auto at = static_cast<std::size_t>(place);
    read(2 * place, observations + b * values_);
    read(2 * place + 1, following + b * values_);
    out.actions.mutable_data_ptr<std::int64_t>()[b] = actions_[at];
    out.rewards.mutable_data_ptr<float>()[b] = rewards_[at];
    out.discounts.mutable_data_ptr<float>()[b] = discounts_[at];
  }
  return out;
}

at::Tensor Replay::sample_observations(std::int64_t batch, Random& random) const {
  at::Tensor out = torch::empty({batch, values_});
  for (std::int64_t b = 0; b < batch; ++b) read(2 * draw(random), out.mutable_data_ptr<float>() + b * values_);
  return out;
}

void NStep::emit(std::span<const float> following, bool terminated, Replay& replay) {
  double reward = 0, factor = 1;
  for (const Step& step : waiting_) {
    reward += factor * step.reward;
    factor *= gamma_;
  }
  replay.add(waiting_.front().observation, waiting_.front().action, reward, following, terminated ? 0 : factor);
  waiting_.erase(waiting_.begin());
}

void NStep::add(std::span<const float> observation, std::int64_t action, double reward,
                std::span<const float> following, bool terminated, bool truncated, Replay& replay) {
  waiting_.push_back({{observation.begin(), observation.end()}, action, reward});
  if (terminated || truncated) {
    while (!waiting_.empty()) emit(following, terminated, replay);
  } else if (std::ssize(waiting_) == steps_) {
    emit(following, false, replay);
  }
}

}  // namespace torpor::lab
