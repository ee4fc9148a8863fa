// Agents on tasks that they must learn, and what training promises: ends, seeds, checkpoints.
#include "lab/rl/training.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <cmath>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "lab/rl/rl_report.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

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
  void visit_state(StateVisitor& visitor) override { visitor(n_); }
  std::int64_t most_;
  bool terminates_;
  double n_ = 0;
};

/// Networks this small are slower on several threads.
class OneThread : public ::testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
const ::testing::Environment* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

RlRun train(const std::string& name, const RlOptions& options) {
  const auto environments = make_environments(name, options, 1);
  RlTraining training(*environments, options);
  return training.run();
}

RlOptions defaults(const std::string& agent, const std::string& name) {
  return rl_defaults(agent, make_environment(name, 1)->spec());
}

TEST(Training, ATruncatedEpisodeGoesOnInItsValues) {
  // Every state looks alike. Truncated after each step: the value is 1 / (1 - gamma) = 2; terminated: 1.
  for (const bool terminates : {true, false}) {
    std::vector<std::unique_ptr<Environment>> one;
    one.push_back(std::make_unique<Endless>(1, terminates));
    VectorEnvironment environments(std::move(one), 1);
    RlOptions options{.steps = 3000, .warm_up = 50, .target_every = 20, .gamma = 0.5, .learning_rate = 3e-3};
    options.log_every = 100;
    options.train_every = 1;
    RlTraining training(environments, options);
    const RlRun& run = training.run();
    EXPECT_NEAR(run.log.back().value, terminates ? 1 : 2, 0.02);
    EXPECT_EQ(run.episodes.size(), 3000U);
  }
}

TEST(Training, DqnLearnsToCatch) {
  RlOptions options = defaults("dqn", "catch");
  options.steps = 12'000;
  const RlRun run = train("catch", options);
  EXPECT_GT(run.last_return(100), 0.4);  // by chance: -0.8; one step in 20 is random
  EXPECT_LT(run.episodes[50].reward + run.episodes[51].reward, 3);
  EXPECT_EQ(run.layer_names, (std::vector<std::string>{"dense1", "dense2"}));
  EXPECT_EQ(run.updates, 2 * (12'000 - 500 + 1));
}

TEST(Training, DqnLearnsToCatchByPriorityInSeveralEnvironments) {
  RlOptions options = defaults("dqn", "catch");
  options.steps = 8000;
  options.environments = 4;
  options.priority_exponent = 0.6;
  options.n_step = 3;
  options.double_q = options.dueling = true;
  const RlRun run = train("catch", options);
  EXPECT_GT(run.last_return(100), 0.2);
  EXPECT_NEAR(static_cast<double>(run.updates), 2 * (8000 - 500 + 1), 8);
}

TEST(Training, DrqLearnsToCatch) {
  RlOptions options = defaults("drq", "catch");
  options.steps = 8000;
  options.learning_rate = 5e-4;
  EXPECT_GT(train("catch", options).last_return(100), 0.4);
}

TEST(Training, SacLearnsToSwingThePendulumUp) {
  RlOptions options = defaults("sac", "pendulum");
  options.steps = 5000;
  const RlRun run = train("pendulum", options);
  EXPECT_GT(run.last_return(5), -800);  // falls about: -1200
  EXPECT_LT(run.episodes[2].reward, -700);
  EXPECT_EQ(run.layer_names.size(), 6U);
  EXPECT_EQ(run.layer_names.back(), "actor.dense2");
}

/// Everything at once that has a state.
RlOptions busy(const std::string& agent, const std::string& name) {
  RlOptions options = defaults(agent, name);
  options.steps = 1500;
  options.warm_up = 100;
  options.environments = 3;
  options.batch = 16;
  options.log_every = 100;
  options.seed = 4;
  options.recycle = RecycleOptions{.tau = 0.2, .period = 50};
  return options;
}

struct Case {
  const char* name;
  const char* environment;
  RlOptions options;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  {
    RlOptions options = busy("dqn", "breakout-mini");
    options.n_step = 3;
    options.double_q = options.dueling = true;
    options.priority_exponent = 0.6;
    options.recycle->score = RecycleScore::gradient;
    options.sticky = 0.1;
    all.push_back({"Dqn", "breakout-mini", options});
  }
  {
    RlOptions options = busy("dqn", "asterix-mini");
    options.continual = ContinualBackpropOptions{.replacement_rate = 1e-3, .maturity = 50};
    options.recycle->compensate = true;
    options.layer_reset_every = 170;
    all.push_back({"ContinualBackprop", "asterix-mini", options});
  }
  {
    RlOptions options = busy("sac", "pendulum");
    options.steps = 900;
    options.check_recycling = true;
    all.push_back({"Sac", "pendulum", options});
  }
  {
    RlOptions options = busy("dqn", "permuted-catch");
    options.recycle->prune = true;
    options.recycle->tau = 0.05;
    options.warm_up = 50;
    all.push_back({"Pruning", "permuted-catch", options});
  }
  return all;
}

class Checkpoints : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, Checkpoints, ::testing::ValuesIn(cases()),
                         [](const auto& c) { return std::string(c.param.name); });

void forget_times(RlRun& run) {
  run.seconds = run.logging_seconds = run.recycling_seconds = 0;
}

TEST_P(Checkpoints, ARunThatStoppedGoesOnAsIfItHadNot) {
  const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "checkpoint.safetensors";
  const Case& c = GetParam();
  RlRun whole = train(c.environment, c.options);
  std::int64_t recycled = 0;
  for (const DormancyLog& log : whole.log) recycled += log.recycled;
  EXPECT_GT(recycled, 0);
  EXPECT_GE(whole.log.size(), 2U);
  {
    const auto environments = make_environments(c.environment, c.options, 1);
    RlTraining training(*environments, c.options);
    training.checkpoint_to(path, 0);
    // Stops in the middle, as a person would.
    struct Stop {};
    EXPECT_THROW(training.run([&](std::int64_t step, const RlRun&) {
      if (step > c.options.steps / 2) throw Stop();
    }),
                 Stop);
  }
  torch::manual_seed(99);  // another program's draws
  const auto environments = make_environments(c.environment, c.options, 1);
  RlTraining training(*environments, c.options);
  training.resume(path);
  EXPECT_FALSE(training.result().log.empty());
  EXPECT_LT(training.result().updates, whole.updates);
  RlRun rest = training.run();
  forget_times(whole);
  forget_times(rest);
  EXPECT_EQ(to_json(whole), to_json(rest));
  EXPECT_EQ(to_json(rl_run_of(to_json(rest))), to_json(rest));
}

TEST(Training, RefusesACheckpointOfAnotherRun) {
  const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "checkpoint.safetensors";
  RlOptions options = busy("dqn", "catch");
  options.steps = 300;
  const auto environments = make_environments("catch", options, 1);
  {
    RlTraining training(*environments, options);
    training.checkpoint_to(path, 1e9);
    training.run();
  }
  const auto resume = [&](const char* name, const RlOptions& other) {
    const auto others = make_environments(name, other, 1);
    RlTraining training(*others, other);
    training.resume(path);
  };
  RlOptions other = options;
  other.dueling = true;
  EXPECT_THAT([&] { resume("catch", other); }, ThrowsMessage<BadInput>(HasSubstr("dueling false, and true")));
  EXPECT_THAT([&] { resume("permuted-catch", options); }, ThrowsMessage<BadInput>(HasSubstr("environment catch")));
  RlOptions longer = options;
  longer.steps = 400;
  EXPECT_THAT([&] { resume("catch", longer); }, ThrowsMessage<BadInput>(HasSubstr("replay")));  // shorter than either
  const std::string bytes = read_file(path);
  write_file_atomically(path, bytes.substr(0, bytes.size() / 2));
  EXPECT_THROW(resume("catch", options), BadInput);
  write_file_atomically(path, "nothing");
  EXPECT_THROW(resume("catch", options), BadInput);
}

TEST(Training, RefusesWhatItCannotDo) {
  EXPECT_THAT([] { defaults("dqn", "pendulum"); }, ThrowsMessage<InvalidArgument>(HasSubstr("expected sac")));
  EXPECT_THAT([] { defaults("sac", "catch"); }, ThrowsMessage<InvalidArgument>(HasSubstr("expected dqn")));
  RlOptions compensated{.recycle = RecycleOptions{.compensate = true}};
  compensated.check_recycling = true;
  for (const RlOptions& options :
       {RlOptions{.steps = 0}, RlOptions{.train_every = 0}, RlOptions{.gamma = 1.5}, RlOptions{.learning_rate = 0},
        RlOptions{.epsilon_last = 2}, RlOptions{.recycle = RecycleOptions{.tau = -1}}, RlOptions{.agent = "ppo"},
        RlOptions{.recycle = RecycleOptions{.period = 0}}, RlOptions{.continual = ContinualBackpropOptions{}},
        RlOptions{.width = 0}, RlOptions{.sticky = 1}, compensated})
    EXPECT_THROW(train("catch", options), InvalidArgument);
  RlOptions nature;
  nature.network = NetworkKind::nature;
  EXPECT_THROW(train("catch", nature), InvalidArgument);
  RlOptions diverging{.steps = 3000, .warm_up = 50, .learning_rate = 1e30};
  EXPECT_THAT([&] { train("catch", diverging); }, ThrowsMessage<BadInput>(HasSubstr("finite loss")));
}

TEST(Training, PlaysAnEpisodeForAFilm) {
  RlOptions options = busy("dqn", "breakout-mini");
  options.steps = 200;
  const auto environments = make_environments("breakout-mini", options, 1);
  RlTraining training(*environments, options);
  training.run();
  const auto environment = make_environment("breakout-mini", 7);
  const Played played = play_episode(training.agent(), *environment, 50);
  EXPECT_GE(played.length, 3);
  EXPECT_LE(played.length, 50);
  EXPECT_EQ(played.pictures.size(), static_cast<std::size_t>(played.length) + 1);
}

TEST(Augmented, ShiftsByUpToFourAndRepeatsTheBorder) {
  Random random(1);
  at::Tensor pictures = torch::zeros({200, 1, 12, 12});
  pictures.index_put_({torch::indexing::Slice(), 0, 6, 6}, 1.0);
  std::set<std::pair<std::int64_t, std::int64_t>> places;
  for (const at::Tensor& picture : augmented(pictures, random).unbind(0)) {
    EXPECT_EQ((picture != 0).sum().item<std::int64_t>(), 1);
    const auto at = picture.flatten().argmax().item<std::int64_t>();
    places.insert({at / 12 - 6, at % 12 - 6});
    EXPECT_NEAR(picture.max().item<double>(), 1, 0.1001);
  }
  for (const auto& [y, x] : places) EXPECT_LE(std::max(std::abs(y), std::abs(x)), 4);
  EXPECT_GT(places.size(), 60U);  // of 81
  const at::Tensor flat = augmented(torch::ones({5, 2, 6, 6}), random);
  EXPECT_GT(flat.min().item<double>(), 0.89);
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
  RlOptions options = defaults("dqn", "catch");
  options.steps = 1200;
  options.log_every = 100;
  options.recycle = RecycleOptions{.tau = 0.1, .period = 100};
  const RlResult result{.environment = "catch<b>",
                        .options = to_json(options),
                        .runs = {train("catch", options)},
                        .command = "torpor rl --env catch"};
  const std::string page = render_page(page_of(result));
  for (const char* words :
       {"catch&lt;b&gt;", "Dormant neurons by layer", "Effective rank", "neurons recycled", "of those again"})
    EXPECT_THAT(page, HasSubstr(words));
}

TEST(RlReport, ShowsSeedsTogether) {
  const auto run = [](std::uint64_t seed, double dormant, std::vector<std::int64_t> steps) {
    RlRun out{.seed = seed, .layer_names = {"dense"}, .seconds = 1};
    for (const std::int64_t step : steps) out.episodes.push_back({step, dormant * static_cast<double>(step), 5});
    for (const std::int64_t update : {100, 200})
      out.log.push_back({.step = update, .update = update, .dormant = dormant, .layers = {dormant}});
    return out;
  };
  RlResult result{.environment = "catch",
                  .options = to_json(defaults("dqn", "catch")),
                  .runs = {run(1, 0.2, {10, 30, 50}), run(2, 0.4, {20, 40})},
                  .command = "torpor rl --env catch"};
  const auto chart = [&](const std::string& title) {
    const ReportPage page = page_of(result);
    for (const Section& section : page.sections)
      for (const Block& block : section.blocks)
        if (const auto* found = std::get_if<Chart>(&block); found != nullptr && found->title == title)
          return std::get<LineChart>(found->kind);
    throw std::runtime_error("no chart " + title);
  };
  const LineChart dormant = chart("Dormant neurons");
  ASSERT_EQ(dormant.series.size(), 3U);
  EXPECT_EQ(dormant.series[0].name, "interquartile mean");
  EXPECT_FALSE(dormant.series[0].style.quiet);
  EXPECT_TRUE(dormant.series[1].style.quiet);
  for (const Point& point : dormant.series[0].points) {
    EXPECT_NEAR(point.y, 0.3, 1e-12);
    EXPECT_GE(point.low, 0.2 - 1e-12);
    EXPECT_LE(point.high, 0.4 + 1e-12);
  }
  // Returns lie at other steps in each seed: between its points, from the last first one to the first last one.
  const LineSeries returns = chart("Return").series[0];
  EXPECT_EQ(returns.points.front().x, 20);
  EXPECT_EQ(returns.points.back().x, 40);
  EXPECT_NEAR(returns.points.front().y, ((2.0 + (2 + 6) / 2.0) / 2 + 8) / 2, 1e-9);
  result.runs.pop_back();
  EXPECT_EQ(chart("Dormant neurons").series.size(), 1U);
  EXPECT_FALSE(chart("Dormant neurons").series[0].style.quiet);
}

}  // namespace
}  // namespace torpor::lab
