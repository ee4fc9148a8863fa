// What is drawn from a replay against what was put in, by hand.
#include "lab/rl/replay.h"

#include <torch/torch.h>

#include <cmath>
#include <map>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

EnvironmentSpec numbers(std::int64_t values) {
  return {.name = "numbers", .observation = {values}, .actions = 2};
}

std::vector<float> value(float v) {
  return {v};
}
const std::vector<float> kAction = {1};

struct Seen {
  double reward, following, discount;
};
/// All transitions that can be drawn, by the first value of their observation.
std::map<int, Seen> all_of(const Replay& replay) {
  Random random(1);
  const Transitions batch = replay.sample(4000, random);
  std::map<int, Seen> seen;
  for (std::int64_t i = 0; i < 4000; ++i)
    seen[static_cast<int>(batch.observations[i][0].item<float>())] = {
        batch.rewards[i].item<double>(), batch.following[i][0].item<double>(), batch.discounts[i].item<double>()};
  return seen;
}

TEST(Replay, NeverReachesIntoAnotherEpisodeAndTellsTheTwoEndsApart) {
  for (const double priority : {0.0, 0.6}) {
    for (const bool terminated : {true, false}) {
      Replay replay(numbers(1), {.capacity = 100, .n_step = 3, .gamma = 0.5, .priority_exponent = priority});
      replay.begin(0, value(0));
      for (int t = 0; t < 5; ++t) {
        const bool last = t == 4;
        replay.add(0, kAction, 1 << t, value(static_cast<float>(t + 1)), last && terminated, last && !terminated);
      }
      replay.begin(0, value(100));
      replay.add(0, kAction, 1000, value(101), true, false);
      replay.begin(0, value(200));  // under way: not complete
      replay.add(0, kAction, 1, value(201), false, false);
      const std::map<int, Seen> seen = all_of(replay);
      ASSERT_EQ(seen.size(), 6U);
      EXPECT_EQ(seen.at(0).reward, 1 + 0.5 * 2 + 0.25 * 4);
      EXPECT_EQ(seen.at(0).following, 3);
      EXPECT_EQ(seen.at(0).discount, 0.125);
      EXPECT_EQ(seen.at(3).reward, 8 + 0.5 * 16);
      EXPECT_EQ(seen.at(3).following, 5);
      EXPECT_EQ(seen.at(3).discount, terminated ? 0 : 0.25);  // two steps were left
      EXPECT_EQ(seen.at(4).reward, 16);
      EXPECT_EQ(seen.at(4).discount, terminated ? 0 : 0.5);
      EXPECT_EQ(seen.at(100).reward, 1000);
      EXPECT_EQ(seen.at(100).discount, 0);
    }
  }
}

TEST(Replay, KeepsTheNewestAndRoundsNothing) {
  for (const double scale : {1.0, 0.0, 1.0 / 255}) {
    EnvironmentSpec spec = numbers(3);
    spec.byte_scale = scale;
    Replay replay(spec, {.capacity = 4});
    Random random(1);
    EXPECT_THROW(replay.sample(1, random), InvalidArgument);
    EXPECT_THROW(replay.add(0, kAction, 0, std::vector<float>(3), false, false), InvalidArgument);  // not begun
    const auto observation = [&](int i) {
      const double whole = scale == 0 ? i + 0.25 : static_cast<double>(i * 40) * scale;
      return std::vector<float>{static_cast<float>(whole), 0, 1};
    };
    replay.begin(0, observation(0));
    for (int i = 0; i < 6; ++i)
      replay.add(0, std::vector<float>{static_cast<float>(i)}, i * 1.5, observation(i + 1), false, false);
    EXPECT_EQ(replay.size(), 4);
    const Transitions batch = replay.sample(300, random);
    EXPECT_EQ(batch.actions.min().item<std::int64_t>(), 2);
    EXPECT_EQ(batch.actions.max().item<std::int64_t>(), 5);
    for (std::int64_t i = 0; i < 300; ++i) {
      const auto action = batch.actions[i].item<std::int64_t>();
      EXPECT_EQ(batch.rewards[i].item<double>(), static_cast<double>(action) * 1.5);
      EXPECT_FLOAT_EQ(batch.observations[i][0].item<float>(), observation(static_cast<int>(action))[0]);
      EXPECT_FLOAT_EQ(batch.following[i][0].item<float>(), observation(static_cast<int>(action) + 1)[0]);
    }
    EXPECT_THROW(replay.add(0, kAction, 0, std::vector<float>(2), false, false), InvalidArgument);
    replay.clear(0);
    EXPECT_EQ(replay.size(), 0);
    EXPECT_THROW(replay.sample(1, random), InvalidArgument);
  }
}

TEST(Replay, FramesComeBackAsTheyWereAndStopAtTheEpisode) {
  // Four frames of two values; what an environment shows, and what is drawn.
  EnvironmentSpec spec{.name = "frames", .observation = {4, 1, 2}, .byte_scale = 1, .frames = 4, .actions = 2};
  Replay replay(spec, {.capacity = 30, .environments = 2, .n_step = 2, .gamma = 1});
  std::map<float, std::vector<float>> shown;  // by the newest frame's first value
  float clock = 0;
  std::vector<std::vector<float>> windows(2, std::vector<float>(8));
  const auto look = [&](std::size_t e, bool first) {
    std::vector<float>& window = windows[e];
    if (first) std::fill(window.begin(), window.end(), 0.0F);
    std::copy(window.begin() + 2, window.end(), window.begin());
    clock += 1;
    window[6] = clock;
    window[7] = static_cast<float>(e);
    shown[clock] = window;
    return window;
  };
  for (std::int64_t e = 0; e < 2; ++e) replay.begin(e, look(static_cast<std::size_t>(e), true));
  Random random(3);
  for (int t = 0; t < 110; ++t)
    for (std::int64_t e = 0; e < 2; ++e) {
      const bool over = (t + e) % 7 == 6;
      replay.add(e, kAction, 0, look(static_cast<std::size_t>(e), false), over, false);
      if (over) replay.begin(e, look(static_cast<std::size_t>(e), true));
      if (t < 5) continue;
      const Transitions batch = replay.sample(20, random);
      for (std::int64_t i = 0; i < 20; ++i) {
        for (const at::Tensor& x : {batch.observations[i].flatten(), batch.following[i].flatten()}) {
          const std::vector<float> got(x.const_data_ptr<float>(), x.const_data_ptr<float>() + 8);
          ASSERT_EQ(got, shown.at(got[6]));
        }
        ASSERT_EQ(batch.observations[i].flatten()[7].item<float>(), batch.following[i].flatten()[7].item<float>());
      }
    }
}

TEST(Replay, DrawsByPriorityAndTellsTheProbabilities) {
  Replay replay(numbers(1), {.capacity = 8, .priority_exponent = 0.5});
  replay.begin(0, value(0));
  for (int t = 0; t < 6; ++t) replay.add(0, kAction, t, value(static_cast<float>(t + 1)), false, false);
  Random random(1);
  const auto shares = [&](std::map<int, double>& told) {
    std::map<int, double> counts;
    const Transitions batch = replay.sample(20'000, random);
    for (std::int64_t i = 0; i < 20'000; ++i) {
      const int which = static_cast<int>(batch.rewards[i].item<float>());
      counts[which] += 1 / 20'000.0;
      told[which] = batch.probabilities[i].item<double>();
    }
    return counts;
  };
  std::map<int, double> told;
  for (const auto& [which, share] : shares(told)) EXPECT_NEAR(share, 1.0 / 6, 0.02) << which;  // new ones are equal
  const Transitions batch = replay.sample(200, random);
  std::vector<float> errors;
  for (std::int64_t i = 0; i < 200; ++i) errors.push_back(std::pow(batch.rewards[i].item<float>() + 1, 2.0F));
  replay.set_priorities(batch.places, errors);  // priorities 1, 2, … 6
  for (const auto& [which, share] : shares(told)) {
    EXPECT_NEAR(share, (which + 1) / 21.0, 0.02) << which;
    EXPECT_NEAR(told[which], (which + 1) / 21.0, 1e-3) << which;
  }
  for (int t = 6; t < 9; ++t) replay.add(0, kAction, t, value(static_cast<float>(t + 1)), false, false);
  const std::map<int, double> after = shares(told);
  EXPECT_FALSE(after.contains(0));              // written over
  EXPECT_NEAR(after.at(8), after.at(5), 0.02);  // a new one has the largest priority so far
}

TEST(Replay, KeepsContinuousActions) {
  Replay replay({.name = "torques", .observation = {1}, .action_values = 2, .action_bound = 1}, {.capacity = 4});
  replay.begin(0, value(0));
  replay.add(0, std::vector<float>{0.25F, -0.5F}, 1, value(1), false, false);
  Random random(1);
  const Transitions batch = replay.sample(3, random);
  EXPECT_EQ(batch.actions.sizes(), (std::vector<std::int64_t>{3, 2}));
  EXPECT_EQ(batch.actions[2][1].item<float>(), -0.5F);
  EXPECT_THROW(replay.add(0, kAction, 1, value(1), false, false), InvalidArgument);
  EXPECT_THROW(replay.begin(1, value(1)), InvalidArgument);
  for (const ReplayOptions& options :
       {ReplayOptions{.capacity = 0}, ReplayOptions{.environments = 0}, ReplayOptions{.n_step = 0},
        ReplayOptions{.gamma = 2}, ReplayOptions{.priority_exponent = -1}})
    EXPECT_THROW(Replay(numbers(1), options), InvalidArgument);
}

}  // namespace
}  // namespace torpor::lab
