// Gymnasium's environments in a process of their own: what goes over, and what happens when the process does not
// behave.
#include "lab/rl/gym_environment.h"

#include <torch/torch.h>

#include <cstdlib>

#include "core/base/error.h"
#include "core/base/process.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class Gym : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.python = TORPOR_TEST_PYTHON;
    options_.patience = std::chrono::seconds(60);
    ::setenv("PYTHONPATH", TORPOR_RL_TESTS, 1);
    if (run_process({TORPOR_TEST_PYTHON, "-c", "import gymnasium, numpy, ale_py"}).exit_code != 0)
      GTEST_SKIP() << "SKIPPED: " << TORPOR_TEST_PYTHON << " has no gymnasium and ale-py (scripts/setup test)";
  }
  std::unique_ptr<Environment> make(const std::string& id, std::uint64_t seed = 1) const {
    return make_gym_environment(id, seed, options_);
  }
  std::unique_ptr<Environment> faulty(const std::string& name) const {
    return make("faulty_environments:" + name + "-v0");
  }

  GymOptions options_;
};

TEST_F(Gym, NumbersActionsAndEndsGoOver) {
  const auto environment = faulty("Counts");
  EXPECT_EQ(environment->spec().actions, 3);
  EXPECT_EQ(environment->spec().observation, (std::vector<std::int64_t>{2}));
  std::vector<float> observation(2);
  for (int episode = 0; episode < 2; ++episode) {
    environment->reset(observation);
    EXPECT_EQ(observation[0], 0);
    for (int t = 1; t <= 5; ++t) {
      const StepResult result = environment->step(t % 3, observation);
      EXPECT_EQ(result.reward, 0.5);
      EXPECT_EQ(result.terminated, t == 5);
      EXPECT_EQ(observation, (std::vector<float>{static_cast<float>(t), static_cast<float>(5 + t % 3)}));
    }
  }
  EXPECT_FALSE(environment->can_resume());
  EXPECT_THROW(environment->state(), InvalidArgument);
}

TEST_F(Gym, SeedsDecide) {
  std::vector<float> a(2), b(2), c(2);
  make("faulty_environments:Counts-v0", 3)->reset(a);
  make("faulty_environments:Counts-v0", 3)->reset(b);
  make("faulty_environments:Counts-v0", 4)->reset(c);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

TEST_F(Gym, ContinuousActionsAreScaledToTheirBounds) {
  const auto environment = faulty("Moves");
  EXPECT_EQ(environment->spec().action_values, 2);
  EXPECT_EQ(environment->spec().action_bound, 1);
  std::vector<float> observation(2);
  environment->reset(observation);
  environment->step(std::vector<float>{-1, 0.5F}, observation);
  EXPECT_EQ(observation, (std::vector<float>{0, 2}));
  environment->step(std::vector<float>{7, -1}, observation);  // cut off
  EXPECT_EQ(observation, (std::vector<float>{10, -4}));
}

TEST_F(Gym, PicturesBecomeChannels) {
  const auto environment = faulty("Shows");
  EXPECT_EQ(environment->spec().observation, (std::vector<std::int64_t>{2, 3, 4}));
  EXPECT_EQ(environment->spec().byte_scale, 1.0 / 255);
  std::vector<float> observation(24);
  environment->reset(observation);
  EXPECT_FLOAT_EQ(observation[0] * 255, 0);
  EXPECT_FLOAT_EQ(observation[1] * 255, 2);
  EXPECT_FLOAT_EQ(observation[12] * 255, 1);  // the second channel's first
  EXPECT_FLOAT_EQ(observation[23] * 255, 23);
}

TEST_F(Gym, CartPoleIsOurs) {
  const auto theirs = make("CartPole-v1"), ours = make_environment("cartpole", 1);
  std::vector<float> x(4), y(4);
  theirs->reset(x);
  ours->reset(y);
  std::vector<double> state = {0, 1, x[0], x[1], x[2], x[3]};
  ours->set_state(state);
  for (int t = 0;; ++t) {
    const StepResult a = theirs->step(t % 2, x), b = ours->step(t % 2, y);
    ASSERT_EQ(a.terminated, b.terminated) << t;
    for (std::size_t i = 0; i < 4; ++i) ASSERT_NEAR(x[i], y[i], 1e-4) << t;
    if (a.over()) break;
  }
}

TEST_F(Gym, AtariIsPreparedAsDopamineDoes) {
  options_.sticky = 0;
  const auto environment = make("ALE/Breakout-v5");
  EXPECT_EQ(environment->spec().observation, (std::vector<std::int64_t>{4, 84, 84}));
  EXPECT_EQ(environment->spec().actions, 4);
  EXPECT_EQ(environment->spec().frames, 4);
  std::vector<float> before(4 * 84 * 84), after(before.size());
  environment->reset(before);
  for (std::size_t i = 0; i < 3 * 84 * 84; ++i) ASSERT_EQ(before[i], 0);  // nothing came before the first
  for (int t = 0; t < 30; ++t) {
    environment->step(t == 0 ? 1 : 2, after);
    ASSERT_TRUE(std::equal(before.begin() + 84 * 84, before.end(), after.begin())) << t;
    before = after;
  }
  for (const float pixel : after) {
    ASSERT_GE(pixel, 0);
    ASSERT_LE(pixel, 1);
    ASSERT_NEAR(pixel * 255, std::round(pixel * 255), 1e-3);
  }
  EXPECT_GT(*std::max_element(after.begin(), after.end()), 0.4);
  EXPECT_FALSE(environment->picture().empty());
}

TEST_F(Gym, AProcessThatDoesNotBehaveStopsTheRun) {
  std::vector<float> observation(2);
  const auto step = [&](const std::string& name) {
    const auto environment = faulty(name);
    environment->reset(observation);
    environment->step(0, observation);
  };
  EXPECT_THAT([&] { step("Dies"); }, ThrowsMessage<Error>(HasSubstr("is gone; its last words: out of luck")));
  EXPECT_THAT([&] { step("Raises"); }, ThrowsMessage<Error>(HasSubstr("RuntimeError: no such thing")));
  EXPECT_THAT([&] { step("Nan"); }, ThrowsMessage<Error>(HasSubstr("finite numbers, found nan")));
  EXPECT_THAT([&] { step("NanReward"); }, ThrowsMessage<Error>(HasSubstr("finite reward, found nan")));
  EXPECT_THAT([&] { faulty("Odd"); }, ThrowsMessage<Error>(HasSubstr("MultiBinary")));
  EXPECT_THAT([&] { make("Nothing-v3"); }, ThrowsMessage<Error>(HasSubstr("pip install")));
  options_.patience = std::chrono::seconds(5);
  EXPECT_THAT([&] { step("Hangs"); }, ThrowsMessage<Error>(HasSubstr("did not answer within 5 s")));
  options_.python = "/no/such/python";
  EXPECT_THAT([&] { faulty("Counts"); }, ThrowsMessage<Error>(HasSubstr("TORPOR_PYTHON")));
}

TEST(ResizeByArea, IsTheMeanUnderEachPixel) {
  const std::vector<std::uint8_t> from = {0, 10, 20, 30, 40, 50, 60, 70, 80};
  std::vector<float> to(4);
  resize_by_area(from.data(), 3, 3, to.data(), 2, 2);  // pixels of 1.5
  EXPECT_NEAR(to[0], (0 + 0.5 * 10 + 0.5 * 30 + 0.25 * 40) / 2.25, 1e-4);
  EXPECT_NEAR(to[3], (0.25 * 40 + 0.5 * 50 + 0.5 * 70 + 80) / 2.25, 1e-4);
  std::vector<std::uint8_t> flat(210 * 160, 77);
  std::vector<float> small(84 * 84);
  resize_by_area(flat.data(), 210, 160, small.data(), 84, 84);
  for (const float v : small) ASSERT_NEAR(v, 77, 1e-3);
}

}  // namespace
}  // namespace torpor::lab
