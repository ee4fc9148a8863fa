// Environments step by step against gymnasium and minatar (tests/golden/lab/make_environments.py), and their contract.
#include "lab/rl/environment.h"

#include <cmath>
#include <numeric>
#include <set>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "lab/rl/vector_environment.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const Json& goldens() {
  static const Json json = read_json(testing::golden("lab/environments.json"));
  return json;
}

class Classic : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Classic, ::testing::Values("cartpole", "mountain-car", "acrobot", "pendulum"),
                         [](const auto& environment) {
                           std::string name = environment.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(Classic, DoesWhatGymnasiumDoes) {
  for (const Json& trace : goldens().at(GetParam())) {
    const auto environment = make_environment(GetParam(), 1);
    std::vector<float> observation(static_cast<std::size_t>(environment->spec().values()));
    environment->reset(observation);
    std::vector<double> state = {0, 1};
    for (const Json& value : trace["start"]) state.push_back(value.get<double>());
    environment->set_state(state);
    const std::size_t steps = trace["actions"].size();
    for (std::size_t t = 0; t < steps; ++t) {
      StepResult result;
      if (environment->spec().actions > 0) {
        result = environment->step(trace["actions"][t].get<std::int64_t>(), observation);
      } else {
        const auto torque = trace["actions"][t].get<float>();
        result = environment->step({&torque, 1}, observation);
      }
      ASSERT_NEAR(result.reward, trace["rewards"][t].get<double>(), 1e-4) << t;
      ASSERT_EQ(result.terminated ? "terminated" : result.truncated ? "truncated" : "", trace["ends"][t]) << t;
      const auto wanted = trace["observations"].find(std::to_string(t));
      if (wanted == trace["observations"].end()) continue;
      for (std::size_t i = 0; i < observation.size(); ++i)
        ASSERT_NEAR(static_cast<double>(observation[i]), (*wanted)[i].get<double>(), 1e-4)
            << "step " << t << ", value " << i;
    }
  }
}

std::vector<std::int64_t> cells_of(const std::vector<float>& observation) {
  std::vector<std::int64_t> cells;
  for (std::size_t i = 0; i < observation.size(); ++i)
    if (observation[i] != 0) cells.push_back(static_cast<std::int64_t>(i));
  return cells;
}

TEST(BreakoutMini, DoesWhatMinAtarDoes) {
  std::int64_t bricks = 0;
  for (const Json& trace : goldens().at("breakout-mini")) {
    const auto environment = make_environment("breakout-mini", 1);
    std::vector<float> observation(400);
    // The ball starts on the side that is drawn: until it is the golden one's.
    do environment->reset(observation);
    while ((environment->state()[2] == 0) != (trace["ball_left"] == 1));
    ASSERT_EQ(cells_of(observation), trace["cells"]["0"].get<std::vector<std::int64_t>>());
    for (std::size_t t = 0; t < trace["actions"].size(); ++t) {
      const StepResult result = environment->step(trace["actions"][t].get<std::int64_t>(), observation);
      ASSERT_EQ(result.reward, trace["rewards"][t].get<double>()) << t;
      ASSERT_EQ(result.terminated, trace["ends"][t] == 1) << t;
      bricks += result.reward > 0 ? 1 : 0;
      const auto wanted = trace["cells"].find(std::to_string(t + 1));
      if (wanted != trace["cells"].end()) {
        ASSERT_EQ(cells_of(observation), wanted->get<std::vector<std::int64_t>>()) << t;
      }
    }
  }
  EXPECT_GT(bricks, 30);
}

class MinAtar : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, MinAtar,
                         ::testing::Values("asterix-mini", "space-invaders-mini", "freeway-mini", "seaquest-mini"),
                         [](const auto& environment) {
                           std::string name = environment.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(MinAtar, DoesWhatMinAtarDoesUnderTheSameDraws) {
  double rewards = 0;
  for (const Json& trace : goldens().at(GetParam())) {
    const auto environment = make_environment(GetParam(), 1);
    std::vector<float> observation(static_cast<std::size_t>(environment->spec().values()));
    environment->script_draws(trace["draws"].get<std::vector<double>>());
    environment->reset(observation);
    ASSERT_EQ(cells_of(observation), trace["cells"]["0"].get<std::vector<std::int64_t>>());
    for (std::size_t t = 0; t < trace["actions"].size(); ++t) {
      const StepResult result = environment->step(trace["actions"][t].get<std::int64_t>(), observation);
      ASSERT_EQ(result.reward, trace["rewards"][t].get<double>()) << t;
      ASSERT_EQ(result.over(), trace["ends"][t] == 1) << t;
      EXPECT_EQ(result.truncated, result.over() && environment->spec().most_steps > 0);
      rewards += result.reward;
      const auto wanted = trace["cells"].find(std::to_string(t + 1));
      if (wanted != trace["cells"].end()) {
        ASSERT_EQ(cells_of(observation), wanted->get<std::vector<std::int64_t>>()) << t;
      }
    }
  }
  EXPECT_GT(rewards, 50);
}

class MuJoCo : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, MuJoCo,
                         ::testing::Values("HalfCheetah-v4", "HalfCheetah-v5", "Hopper-v4", "Hopper-v5", "Walker2d-v4",
                                           "Walker2d-v5", "Ant-v4", "Ant-v5"),
                         [](const auto& environment) {
                           std::string name = environment.param;
                           std::erase(name, '-');
                           return name;
                         });

// tests/golden/lab/make_mujoco.py: the same library under Gymnasium, which says what counts.
TEST_P(MuJoCo, DoesWhatGymnasiumDoesUnderTheSameDraws) {
  static const Json goldens = read_json(testing::golden("lab/mujoco.json"));
  for (const Json& trace : goldens.at(GetParam())) {
    const auto environment = make_environment(GetParam(), 1);
    std::vector<float> observation(static_cast<std::size_t>(environment->spec().values()));
    environment->script_draws(trace["draws"].get<std::vector<double>>());
    environment->reset(observation);
    const auto expect_observation = [&](std::size_t t) {
      const auto wanted = trace["observations"].find(std::to_string(t));
      if (wanted == trace["observations"].end()) return;
      ASSERT_EQ(wanted->size(), observation.size());
      for (std::size_t i = 0; i < observation.size(); ++i) {
        const double value = (*wanted)[i].get<double>();
        ASSERT_NEAR(static_cast<double>(observation[i]), value, 1e-6 * (1 + std::abs(value)))
            << "step " << t << ", value " << i;
      }
    };
    expect_observation(0);
    for (std::size_t t = 0; t < trace["actions"].size(); ++t) {
      const StepResult result = environment->step(trace["actions"][t].get<std::vector<float>>(), observation);
      ASSERT_NEAR(result.reward, trace["rewards"][t].get<double>(), 1e-5) << t;
      ASSERT_EQ(result.terminated, trace["ends"][t] == 1) << t;
      expect_observation(t + 1);
    }
  }
}

TEST(MuJoCoTasks, AreTruncatedAfterAThousandSteps) {
  const auto environment = make_environment("HalfCheetah-v5", 1);
  std::vector<float> observation(17);
  environment->reset(observation);
  const std::vector<float> rest(6);
  for (int t = 1; t < 1000; ++t) ASSERT_FALSE(environment->step(rest, observation).over()) << t;
  const StepResult last = environment->step(rest, observation);
  EXPECT_TRUE(last.truncated);
  EXPECT_FALSE(last.terminated);
}

TEST(SpaceInvadersMini, ANewWaveIsFasterAndStartsAtTheTop) {
  const auto environment = make_environment("space-invaders-mini", 3);
  std::vector<float> observation(600);
  environment->reset(observation);
  std::vector<double> state = environment->state();
  // The numbers: x, direction, steps between moves, until a move, until a shot, until reloaded; then three boards.
  for (std::size_t i = 8; i < 8 + 100; ++i) state[i] = 0;
  state[8 + 55] = 1;        // one alien, in the middle
  state[8 + 100 + 65] = 1;  // and a shot below it
  environment->set_state(state);
  EXPECT_EQ(environment->step(0, observation).reward, 1);
  const std::vector<double> after = environment->state();
  EXPECT_EQ(after[4], 11);
  EXPECT_EQ(std::accumulate(after.begin() + 8, after.begin() + 108, 0.0), 24);
  EXPECT_EQ(after[8 + 2], 1);
  EXPECT_EQ(after[8 + 1], 0);
}

TEST(Environment, StickyActionsRepeatTheOneBefore) {
  const auto environment = make_environment("catch", 2);
  std::vector<float> observation(200);
  environment->set_sticky(0.25);
  int steps = 0, repeated = 0;
  for (int episode = 0; episode < 2000; ++episode) {
    environment->reset(observation);
    for (int t = 0; t < 8; ++t) {
      const double before = environment->state()[4];
      environment->step(t % 2 == 0 ? 0 : 2, observation);  // left, right, left, …
      const double moved = environment->state()[4] - before;
      if (t == 0 || before < 1 || before > 8) continue;  // an episode's first has none before it
      ++steps;
      repeated += moved != (t % 2 == 0 ? -1 : 1) ? 1 : 0;
    }
  }
  // A repetition shows where the action before was the one asked for: q = p (1 - q), and p at first.
  EXPECT_NEAR(static_cast<double>(repeated) / steps, 0.25 / 1.25, 0.015);
  EXPECT_THROW(environment->set_sticky(1), InvalidArgument);
  EXPECT_THROW(make_environment("pendulum", 1)->set_sticky(0.1), InvalidArgument);
}

TEST(VectorEnvironment, GoesAsEachAloneOnAnyNumberOfThreads) {
  for (const int threads : {1, 2, 4}) {
    std::vector<std::unique_ptr<Environment>> all, alone;
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      all.push_back(make_environment("asterix-mini", seed));
      alone.push_back(make_environment("asterix-mini", seed));
    }
    VectorEnvironment together(std::move(all), threads);
    together.reset();
    std::vector<std::vector<float>> observations(5, std::vector<float>(400));
    for (std::size_t i = 0; i < 5; ++i) alone[i]->reset(observations[i]);
    int ends = 0;
    for (int t = 0; t < 400; ++t) {
      std::vector<float> actions;
      for (int i = 0; i < 5; ++i) actions.push_back(static_cast<float>((t * 3 + i) % 5));
      together.step(actions);
      for (std::size_t i = 0; i < 5; ++i) {
        const StepResult result = alone[i]->step(static_cast<std::int64_t>(actions[i]), observations[i]);
        ASSERT_EQ(together.result(i).reward, result.reward);
        ASSERT_EQ(together.result(i).over(), result.over());
        ASSERT_TRUE(std::equal(observations[i].begin(), observations[i].end(), together.following(i).begin()));
        if (result.over()) alone[i]->reset(observations[i]);
        ASSERT_TRUE(std::equal(observations[i].begin(), observations[i].end(), together.observation(i).begin()));
        ends += result.over() ? 1 : 0;
      }
    }
    EXPECT_GT(ends, 5);
    EXPECT_THROW(together.step(std::vector<float>(4)), InvalidArgument);
  }
  EXPECT_THROW(VectorEnvironment({}, 1), InvalidArgument);
}

TEST(Picture, ShowsCellsAndBecomesAFilm) {
  const testing::TemporaryFolder folder;
  for (const std::string& name : environment_names()) {
    const auto environment = make_environment(name, 1);
    std::vector<float> observation(static_cast<std::size_t>(environment->spec().values()));
    environment->reset(observation);
    const Picture picture = environment->picture();
    ASSERT_EQ(picture.pixels.size(),
              static_cast<std::size_t>(picture.width) * static_cast<std::size_t>(picture.height));
    std::set<std::uint8_t> colours(picture.pixels.begin(), picture.pixels.end());
    EXPECT_GE(colours.size(), 2U) << name;
    EXPECT_LT(*colours.rbegin(), picture.colours.size()) << name;
    const Picture film[] = {picture, picture};
    write_gif(folder.path() / "film.gif", film, 60);
    const std::string bytes = read_file(folder.path() / "film.gif");
    EXPECT_TRUE(bytes.starts_with("GIF89a"));
    EXPECT_EQ(bytes.back(), ';');
    EXPECT_THAT(bytes, HasSubstr("NETSCAPE2.0"));
    EXPECT_EQ(static_cast<unsigned char>(bytes[6]) + 256 * static_cast<unsigned char>(bytes[7]), picture.width);
  }
  EXPECT_THROW(write_gif(folder.path() / "none.gif", {}, 60), InvalidArgument);
}

TEST(BreakoutMini, BricksComeBackWhenAllAreGone) {
  const auto environment = make_environment("breakout-mini", 3);
  std::vector<float> observation(400);
  environment->reset(observation);
  std::vector<double> state = environment->state();
  // Ball in row 8 falling to the right onto the paddle, one brick left far away.
  state[2] = 4, state[3] = 8, state[4] = 1, state[5] = 1, state[8] = 5;
  for (std::size_t i = 10; i < state.size(); ++i) state[i] = 0;
  environment->set_state(state);
  environment->step(0, observation);
  EXPECT_EQ(cells_of(observation).size(), 3U + 30U - 0U);
}

TEST(Catch, RewardsAreForTheColumnAlone) {
  for (const char* name : {"catch", "permuted-catch"}) {
    const auto environment = make_environment(name, 5);
    std::vector<float> observation(200);
    std::set<double> seen;
    int tasks = 0, caught = 0, episodes = 0;
    for (int episode = 0; episode < 1000; ++episode) {
      environment->reset(observation);
      ++episodes;
      for (int t = 1;; ++t) {
        EXPECT_EQ(cells_of(observation).size(), 2U);
        const std::vector<double> state = environment->state();  // …, ball x, ball y, paddle
        const std::int64_t action = state[2] < state[4] ? 0 : state[2] > state[4] ? 2 : 1;
        const StepResult result = environment->step(action, observation);
        tasks += result.new_task ? 1 : 0;
        if (!result.terminated) {
          EXPECT_EQ(result.reward, 0);
          continue;
        }
        EXPECT_EQ(t, 9);
        seen.insert(state[2]);
        caught += result.reward > 0 ? 1 : 0;
        break;
      }
    }
    EXPECT_EQ(caught, episodes);  // no column is out of reach
    EXPECT_EQ(seen.size(), 10U);
    EXPECT_EQ(tasks, std::string(name) == "catch" ? 0 : 2);  // 9000 steps
  }
}

TEST(Environment, TheSameSeedAndStateGoTheSameWay) {
  for (const std::string& name : environment_names()) {
    const auto a = make_environment(name, 9), b = make_environment(name, 9), c = make_environment(name, 1);
    const auto values = static_cast<std::size_t>(a->spec().values());
    std::vector<float> x(values), y(values), z(values);
    const auto step = [](Environment& e, int t, std::vector<float>& out) {
      if (e.spec().actions > 0) return e.step(t % e.spec().actions, out);
      const std::vector<float> action(static_cast<std::size_t>(e.spec().action_values),
                                      (static_cast<float>(t % 5) - 2) / 2);
      return e.step(action, out);
    };
    a->reset(x);
    b->reset(y);
    for (int t = 0; t < 300; ++t) {
      ASSERT_EQ(x, y) << name;
      const StepResult r = step(*a, t, x), s = step(*b, t, y);
      ASSERT_EQ(r.reward, s.reward);
      if (t == 150) {
        c->reset(z);
        c->set_state(a->state());
        c->set_random_state(a->random_state());
      }
      if (t > 150) {
        const StepResult q = step(*c, t, z);
        ASSERT_EQ(q.reward, r.reward) << name;
        ASSERT_EQ(z, x) << name;
      }
      if (!r.terminated && !r.truncated) continue;
      a->reset(x);
      b->reset(y);
      if (t >= 150) c->reset(z);
    }
  }
}

TEST(Environment, RefusesWhatIsOutOfRange) {
  EXPECT_THAT([] { make_environment("brekout-mini", 1); },
              ThrowsMessage<UsageError>(HasSubstr("Did you mean \"breakout-mini\"?")));
  const auto environment = make_environment("cartpole", 1);
  std::vector<float> observation(4);
  EXPECT_THROW(environment->step(0, observation), InvalidArgument);  // before reset
  environment->reset(observation);
  EXPECT_THROW(environment->step(2, observation), InvalidArgument);
  EXPECT_THROW(environment->step(-1, observation), InvalidArgument);
  const float torque = 1;
  EXPECT_THROW(environment->step({&torque, 1}, observation), InvalidArgument);
  const double state[] = {0, 1};
  EXPECT_THROW(environment->set_state(state), InvalidArgument);
  EXPECT_THROW(environment->set_random_state("x"), InvalidArgument);
  const auto pendulum = make_environment("pendulum", 1);
  std::vector<float> three(3);
  pendulum->reset(three);
  EXPECT_THROW(pendulum->step(0, three), InvalidArgument);
  const float nan = NAN;
  EXPECT_THROW(pendulum->step({&nan, 1}, three), InvalidArgument);
}

}  // namespace
}  // namespace torpor::lab
