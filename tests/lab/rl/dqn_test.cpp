// The agent's parts against plain arithmetic, and the agent on tasks that it must learn.
#include "lab/rl/dqn.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <cmath>

#include "core/base/error.h"
#include "lab/rl/replay.h"
#include "lab/rl/rl_report.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// All transitions of a replay, by the first value of their observation.
struct Seen {
  double reward, following, discount;
};
std::map<int, Seen> all_of(const Replay& replay) {
  Random random(1);
  const Transitions batch = replay.sample(2000, random);
  std::map<int, Seen> seen;
  for (std::int64_t i = 0; i < 2000; ++i)
    seen[static_cast<int>(batch.observations[i][0].item<float>())] = {
        batch.rewards[i].item<double>(), batch.following[i][0].item<double>(), batch.discounts[i].item<double>()};
  return seen;
}

TEST(NStep, NeverReachesIntoAnotherEpisodeAndTellsTheTwoEndsApart) {
  for (const bool terminated : {true, false}) {
    Replay replay(100, 1, false);
    NStep steps(3, 0.5);
    const auto value = [](float v) { return std::vector<float>{v}; };
    for (int t = 0; t < 5; ++t) {
      const bool last = t == 4;
      steps.add(value(static_cast<float>(t)), 0, 1 << t, value(static_cast<float>(t + 1)), last && terminated,
                last && !terminated, replay);
    }
    steps.add(value(100), 0, 1000, value(101), true, false, replay);  // the next episode
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
  }
}

TEST(Replay, KeepsTheNewestAndRoundsNothing) {
  for (const bool binary : {true, false}) {
    Replay replay(4, 3, binary);
    Random random(1);
    EXPECT_THROW(replay.sample(1, random), InvalidArgument);
    for (int i = 0; i < 6; ++i) {
      const std::vector<float> a = {binary ? 1.0F : static_cast<float>(i) + 0.25F, 0, 1}, b = {0, 1, 0};
      replay.add(a, i, i * 1.5, b, 0.9);
    }
    EXPECT_EQ(replay.size(), 4);
    const Transitions batch = replay.sample(200, random);
    EXPECT_EQ(batch.actions.min().item<std::int64_t>(), 2);
    EXPECT_EQ(batch.actions.max().item<std::int64_t>(), 5);
    for (std::int64_t i = 0; i < 200; ++i) {
      const auto action = batch.actions[i].item<std::int64_t>();
      EXPECT_EQ(batch.rewards[i].item<double>(), static_cast<double>(action) * 1.5);
      EXPECT_EQ(batch.observations[i][0].item<double>(), binary ? 1 : static_cast<double>(action) + 0.25);
      EXPECT_EQ(batch.following[i][1].item<double>(), 1);
    }
    const std::vector<float> wrong = {1, 2};
    EXPECT_THROW(replay.add(wrong, 0, 0, wrong, 1), InvalidArgument);
    replay.clear();
    EXPECT_EQ(replay.size(), 0);
  }
}

/// One step a length of time: reward 1 each, for ever, but that time is over after `most`; or the task is.
class Endless final : public Environment {
 public:
  Endless(std::int64_t most, bool terminates)
      : Environment({.name = "endless", .observation = {1}, .actions = 2, .most_steps = most}, 1),
        most_(most),
        terminates_(terminates) {}

 private:
  void start() override { n_ = 0; }
  StepResult choose(std::int64_t) override {
    n_ += 1;
    return {.reward = 1, .terminated = terminates_ && n_ >= static_cast<double>(most_)};
  }
  void observe(std::span<float> observation) const override { observation[0] = 1; }
  std::vector<double*> numbers() override { return {&n_}; }
  std::int64_t most_;
  bool terminates_;
  double n_ = 0;
};

/// Networks this small are slower on several threads.
class OneThread : public ::testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
const ::testing::Environment* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

TEST(Dqn, ATruncatedEpisodeGoesOnInItsValues) {
  // Every state looks alike. Truncated after each step: the value is 1 / (1 - gamma) = 2; terminated: 1.
  for (const bool terminates : {true, false}) {
    Endless environment(1, terminates);
    DqnOptions options{
        .steps = 3000, .warm_up = 50, .target_every = 20, .gamma = 0.5, .learning_rate = 3e-3, .log_every = 100};
    options.train_every = 1;
    const DqnRun run = train_dqn(environment, options);
    EXPECT_NEAR(run.log.back().value, terminates ? 1 : 2, 0.02);
    EXPECT_EQ(run.episodes.size(), 3000U);
  }
}

TEST(Dqn, LearnsToCatch) {
  const auto environment = make_environment("catch", 1);
  DqnOptions options = dqn_defaults(environment->spec());
  options.steps = 9000;
  const DqnRun run = train_dqn(*environment, options);
  EXPECT_GT(run.last_return(100), 0.7);  // one step in 20 is random
  EXPECT_LT(run.episodes[50].reward + run.episodes[51].reward, 3);
  EXPECT_EQ(run.layer_names, (std::vector<std::string>{"dense1", "dense2"}));
  EXPECT_EQ(run.updates, 2 * (9000 - 500 + 1));
}

TEST(Dqn, TheSameSeedGivesTheSameRunWithRecycling) {
  std::vector<Json> runs;
  for (int i = 0; i < 2; ++i) {
    const auto environment = make_environment("breakout-mini", 4);
    DqnOptions options = dqn_defaults(environment->spec());
    options.steps = 1500;
    options.warm_up = 100;
    options.n_step = 3;
    options.double_q = options.dueling = true;
    options.log_every = 100;
    options.recycle =
        RecycleOptions{.score = i < 2 ? RecycleScore::gradient : RecycleScore::activation, .tau = 0.2, .period = 50};
    DqnRun run = train_dqn(*environment, options);
    EXPECT_FALSE(run.log.empty());
    std::int64_t recycled = 0;
    for (const DormancyLog& log : run.log) {
      recycled += log.recycled;
      EXPECT_EQ(log.layers.size(), 2U);
      EXPECT_GE(log.rank, 1);
    }
    EXPECT_GT(recycled, 0);
    run.seconds = 0;
    runs.push_back(to_json(run));
  }
  EXPECT_EQ(runs[0], runs[1]);
}

TEST(Dqn, RefusesWhatItCannotDo) {
  const auto pendulum = make_environment("pendulum", 1);
  EXPECT_THAT([&] { train_dqn(*pendulum, {}); }, ThrowsMessage<InvalidArgument>(HasSubstr("continuous")));
  const auto environment = make_environment("catch", 1);
  for (const DqnOptions& options :
       {DqnOptions{.steps = 0}, DqnOptions{.train_every = 0}, DqnOptions{.gamma = 1.5}, DqnOptions{.learning_rate = 0},
        DqnOptions{.epsilon_last = 2}, DqnOptions{.recycle = RecycleOptions{.tau = -1}},
        DqnOptions{.recycle = RecycleOptions{.period = 0}}})
    EXPECT_THROW(train_dqn(*environment, options), InvalidArgument);
  DqnOptions diverging{.steps = 3000, .warm_up = 50, .learning_rate = 1e30};
  EXPECT_THAT([&] { train_dqn(*environment, diverging); }, ThrowsMessage<BadInput>(HasSubstr("finite loss")));
}

TEST(InterquartileMean, IsThatOfTheMiddleHalf) {
  EXPECT_DOUBLE_EQ(interquartile_mean({5}), 5);
  EXPECT_DOUBLE_EQ(interquartile_mean({1, 2, 3, 100}), 2.5);
  EXPECT_NEAR(interquartile_mean({1, 2, 3, 4, 100}), (0.75 * 2 + 3 + 0.75 * 4) / 2.5, 1e-12);  // scipy trims whole ones
  const Interval interval = interquartile_mean_interval({1, 2, 3, 4, 5, 6, 7, 8}, 1);
  EXPECT_DOUBLE_EQ(interval.value, 4.5);
  EXPECT_GT(interval.low, 1);
  EXPECT_LT(interval.low, 4);
  EXPECT_GT(interval.high, 5);
  EXPECT_LT(interval.high, 8);
  EXPECT_THROW(interquartile_mean({}), InvalidArgument);
}

TEST(RlReport, ShowsWhatHappened) {
  const auto environment = make_environment("catch", 1);
  DqnOptions options = dqn_defaults(environment->spec());
  options.steps = 1200;
  options.log_every = 100;
  options.recycle = RecycleOptions{.tau = 0.1, .period = 100};
  RlResult result{.environment = "catch<b>",
                  .agent = "DQN",
                  .options = options,
                  .runs = {train_dqn(*environment, options)},
                  .seeds = {1},
                  .command = "torpor rl --env catch"};
  const std::string page = render_page(page_of(result));
  for (const char* words :
       {"catch&lt;b&gt;", "Dormant neurons by layer", "Effective rank", "neurons recycled", "of those again"})
    EXPECT_THAT(page, HasSubstr(words));
}

}  // namespace
}  // namespace torpor::lab
