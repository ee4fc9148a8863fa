#include "lab/rl/replay.h"

#include <torch/torch.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/error.h"

namespace torpor::lab {

Replay::Replay(EnvironmentSpec spec, ReplayOptions options) : spec_(std::move(spec)), options_(options) {
  const ReplayOptions& o = options_;
  if (o.capacity < 1 || o.environments < 1 || o.n_step < 1)
    throw InvalidArgument(
        "[Replay] expected room for at least one step of one environment and n of at least 1, got {}, "
        "{}, {}",
        o.capacity, o.environments, o.n_step);
  if (!(o.gamma >= 0) || o.gamma > 1) throw InvalidArgument("[Replay] expected gamma from 0 to 1, got {}", o.gamma);
  if (!(o.priority_exponent >= 0))
    throw InvalidArgument("[Replay] expected a priority exponent of at least 0, got {}", o.priority_exponent);
  const std::int64_t frames = std::max<std::int64_t>(1, spec_.frames);
  if (frames > 1 && (spec_.observation.size() != 3 || spec_.observation[0] % frames != 0))
    throw InvalidArgument("[Replay] {} frames do not fit into observations of {}: expected whole channels", frames,
                          spec_.name);
  // A transition needs its own step, n that follow, and the frames before it.
  slots_ = std::max((o.capacity + o.environments - 1) / o.environments, o.n_step) + frames;
  frame_ = spec_.values() / frames;
  width_ = std::max<std::int64_t>(1, spec_.action_values);
  const std::int64_t all = o.environments * slots_;
  const auto keep = [&](const char* name, const std::vector<std::int64_t>& sizes, at::ScalarType type) {
    state_.emplace_back(name, torch::zeros(sizes, type));
    return state_.back().second;
  };
  observations_ = keep("observations", {all, frame_}, spec_.byte_scale > 0 ? at::kByte : at::kFloat);
  if (spec_.byte_scale > 0)
    bytes_ = observations_.mutable_data_ptr<std::uint8_t>();
  else
    numbers_ = observations_.mutable_data_ptr<float>();
  actions_ = keep("actions", {all, width_}, at::kFloat).mutable_data_ptr<float>();
  rewards_ = keep("rewards", {all}, at::kFloat).mutable_data_ptr<float>();
  ends_ = keep("ends", {all}, at::kByte).mutable_data_ptr<std::uint8_t>();
  ages_ = keep("ages", {all}, at::kInt).mutable_data_ptr<std::int32_t>();
  heads_ = keep("heads", {o.environments, 2}, at::kLong).mutable_data_ptr<std::int64_t>();
  for (std::int64_t e = 0; e < o.environments; ++e) head(e) = -1;
  if (o.priority_exponent > 0) {
    leaves_ = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(all)));
    tree_ = keep("priorities", {2 * leaves_}, at::kFloat).mutable_data_ptr<float>();
    largest_ = keep("largest_priority", {1}, at::kFloat).mutable_data_ptr<float>();
    *largest_ = 1;
  }
}

std::int64_t& Replay::head(std::int64_t environment) const {
  return heads_[2 * environment];
}
std::int64_t& Replay::kept_from(std::int64_t environment) const {
  return heads_[2 * environment + 1];
}

/// The oldest step whose frames are all there.
std::int64_t Replay::oldest(std::int64_t environment) const {
  const std::int64_t first = head(environment) + 1 - slots_;
  return std::max(kept_from(environment), first <= 0 ? 0 : first + std::max<std::int64_t>(1, spec_.frames) - 1);
}

void Replay::check_environment(std::int64_t environment) const {
  if (environment < 0 || environment >= options_.environments)
    throw InvalidArgument("[Replay] expected an environment from 0 to {}, got {}", options_.environments - 1,
                          environment);
}

void Replay::write(Step step, std::span<const float> observation, std::int64_t age) {
  if (std::ssize(observation) != spec_.values())
    throw InvalidArgument("[Replay] expected an observation of {} values, got {}", spec_.values(), observation.size());
  const float* const newest = observation.data() + spec_.values() - frame_;
  const std::int64_t at = slot(step);
  if (bytes_ != nullptr) {
    const auto scale = static_cast<float>(1 / spec_.byte_scale);
    std::transform(newest, newest + frame_, bytes_ + at * frame_,
                   [scale](float v) { return static_cast<std::uint8_t>(std::lround(v * scale)); });
  } else {
    std::copy_n(newest, frame_, numbers_ + at * frame_);
  }
  ages_[at] = static_cast<std::int32_t>(age);
  ends_[at] = waits;
  head(step.environment) = step.time;
  if (tree_ != nullptr) {
    set_leaf(at, 0);
    // What has just lost its frames cannot be drawn any more.
    const std::int64_t lost = oldest(step.environment) - 1;
    if (lost >= 0) set_leaf(slot({step.environment, lost}), 0);
  }
}

void Replay::read(Step step, float* observation) const {
  const std::int64_t frames = std::max<std::int64_t>(1, spec_.frames);
  const std::int64_t known = std::min<std::int64_t>(frames, ages_[slot(step)] + 1);
  std::fill_n(observation, (frames - known) * frame_, 0.0F);
  for (std::int64_t f = frames - known; f < frames; ++f) {
    const std::int64_t at = slot({step.environment, step.time - (frames - 1 - f)});
    float* const out = observation + f * frame_;
    if (bytes_ != nullptr) {
      const auto scale = static_cast<float>(spec_.byte_scale);
      std::transform(bytes_ + at * frame_, bytes_ + (at + 1) * frame_, out,
                     [scale](std::uint8_t v) { return static_cast<float>(v) * scale; });
    } else {
      std::copy_n(numbers_ + at * frame_, frame_, out);
    }
  }
}

void Replay::begin(std::int64_t environment, std::span<const float> observation) {
  check_environment(environment);
  write({environment, head(environment) + 1}, observation, 0);
}

void Replay::add(std::int64_t environment, std::span<const float> action, double reward,
                 std::span<const float> following, bool is_terminated, bool is_truncated) {
  check_environment(environment);
  const Step now{environment, head(environment)};
  if (now.time < 0 || ends_[slot(now)] != waits)
    throw InvalidArgument("[Replay] expected begin() before the first step of environment {}", environment);
  if (std::ssize(action) != width_)
    throw InvalidArgument("[Replay] expected an action of {} numbers, got {}", width_, action.size());
  const std::int64_t at = slot(now);
  const std::int64_t age = ages_[at];
  write({environment, now.time + 1}, following, age + 1);
  std::copy(action.begin(), action.end(), actions_ + at * width_);
  rewards_[at] = static_cast<float>(reward);
  ends_[at] = is_terminated ? terminated : is_truncated ? truncated : goes_on;
  if (tree_ == nullptr) return;
  // Transitions that this step completes.
  const std::int64_t first = std::max({oldest(environment), now.time - options_.n_step + 1, now.time - age});
  for (std::int64_t t = first; t <= now.time; ++t)
    if (is_terminated || is_truncated || t == now.time - options_.n_step + 1)
      set_leaf(slot({environment, t}), *largest_);
}

void Replay::clear(std::int64_t environment) {
  check_environment(environment);
  const std::int64_t from = oldest(environment);
  kept_from(environment) = std::max<std::int64_t>(0, head(environment));
  if (head(environment) >= 0) ages_[slot({environment, head(environment)})] = 0;  // older frames are forgotten
  if (tree_ != nullptr)
    for (std::int64_t t = from; t <= head(environment); ++t) set_leaf(slot({environment, t}), 0);
}

std::int64_t Replay::size() const {
  std::int64_t all = 0;
  for (std::int64_t e = 0; e < options_.environments; ++e) all += std::max<std::int64_t>(0, head(e) - oldest(e));
  return all;
}

std::int64_t Replay::length(Step step) const {
  for (std::int64_t k = 0; k < options_.n_step; ++k) {
    if (step.time + k >= head(step.environment)) return 0;
    switch (static_cast<End>(ends_[slot({step.environment, step.time + k})])) {
      case goes_on:
        break;
      case terminated:
      case truncated:
        return k + 1;
      case waits:
        return 0;
    }
  }
  return options_.n_step;
}

std::int64_t Replay::any(Random& random, std::int64_t* environment) const {
  // Rings fill evenly, but for those that were cleared.
  for (;;) {
    *environment = options_.environments == 1
                       ? 0
                       : static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(options_.environments)));
    const std::int64_t from = oldest(*environment), steps = head(*environment) - from;
    if (steps > 0) return from + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(steps)));
  }
}

Replay::Step Replay::draw(Random& random) const {
  if (size() > 0)
    for (int attempt = 0; attempt < 10'000; ++attempt) {
      Step step{};
      step.time = any(random, &step.environment);
      if (length(step) > 0) return step;
    }
  throw InvalidArgument("[Replay] expected transitions to draw from, there are none");
}

Replay::Step Replay::draw_by_priority(Random& random, float* probability) const {
  const float sum = tree_[1];
  if (!(sum > 0)) throw InvalidArgument("[Replay] expected transitions to draw from, there are none");
  auto target = static_cast<float>(random.uniform() * static_cast<double>(sum));
  std::int64_t node = 1;
  while (node < leaves_) {
    node *= 2;
    // Rounding may lead past the last: stay where something is.
    if (tree_[node + 1] > 0 && (target >= tree_[node] || tree_[node] == 0)) {
      target -= tree_[node];
      ++node;
    }
  }
  *probability = tree_[node] / sum;
  const std::int64_t at = node - leaves_, environment = at / slots_, place = at % slots_;
  const std::int64_t newest = head(environment);
  return {environment, newest - (newest % slots_ - place + slots_) % slots_};
}

void Replay::set_leaf(std::int64_t at, float value) {
  std::int64_t node = leaves_ + at;
  if (tree_[node] == value) return;
  tree_[node] = value;
  while (node > 1) {
    node /= 2;
    tree_[node] = tree_[2 * node] + tree_[2 * node + 1];
  }
}

void Replay::set_priorities(std::span<const std::int64_t> places, std::span<const float> errors) {
  if (tree_ == nullptr) return;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (tree_[leaves_ + places[i]] == 0) continue;  // written over since
    const auto priority =
        static_cast<float>(std::pow(std::abs(static_cast<double>(errors[i])) + 1e-6, options_.priority_exponent));
    *largest_ = std::max(*largest_, priority);
    set_leaf(places[i], priority);
  }
}

void Replay::restored() {
  if (heads_[0] >= 0 && (ends_[slot({0, head(0)})] > waits))
    throw BadInput("the checkpoint's replay is not one: expected how steps end from 0 to {}, found {}", int{waits},
                   int{ends_[slot({0, head(0)})]});
}

std::vector<std::int64_t> Replay::shape(std::int64_t batch) const {
  std::vector<std::int64_t> sizes = spec_.observation;
  sizes.insert(sizes.begin(), batch);
  return sizes;
}

Transitions Replay::sample(std::int64_t batch, Random& random) const {
  const bool choices = spec_.action_values == 0;
  Transitions out{torch::empty(shape(batch)),
                  choices ? torch::empty({batch}, at::kLong) : torch::empty({batch, width_}),
                  torch::empty({batch}),
                  torch::empty(shape(batch)),
                  torch::empty({batch}),
                  {},
                  {}};
  if (tree_ != nullptr) out.probabilities = torch::empty({batch});
  float* const observations = out.observations.mutable_data_ptr<float>();
  float* const following = out.following.mutable_data_ptr<float>();
  float* const rewards = out.rewards.mutable_data_ptr<float>();
  float* const discounts = out.discounts.mutable_data_ptr<float>();
  const std::int64_t values = spec_.values();
  for (std::int64_t b = 0; b < batch; ++b) {
    const Step step =
        tree_ != nullptr ? draw_by_priority(random, out.probabilities.mutable_data_ptr<float>() + b) : draw(random);
    const std::int64_t at = slot(step), steps = length(step);
    double reward = 0, factor = 1;
    for (std::int64_t k = 0; k < steps; ++k) {
      reward += factor * static_cast<double>(rewards_[slot({step.environment, step.time + k})]);
      factor *= options_.gamma;
    }
    const Step last{step.environment, step.time + steps - 1};
    read(step, observations + b * values);
    read({step.environment, last.time + 1}, following + b * values);
    if (choices)
      out.actions.mutable_data_ptr<std::int64_t>()[b] = static_cast<std::int64_t>(actions_[at]);
    else
      std::copy_n(actions_ + at * width_, width_, out.actions.mutable_data_ptr<float>() + b * width_);
    rewards[b] = static_cast<float>(reward);
    discounts[b] = ends_[slot(last)] == terminated ? 0 : static_cast<float>(factor);
    out.places.push_back(at);
  }
  return out;
}

}  // namespace torpor::lab
