// Environments step by step against gymnasium and minatar (tests/golden/lab/make_environments.py), and their contract.
#include "lab/rl/environment.h"

#include <cmath>
#include <set>

#include "core/base/error.h"
#include "core/base/json.h"
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
      const float torque = static_cast<float>(t % 5) - 2;
      return e.step({&torque, 1}, out);
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
