#include <algorithm>
#include <array>
#include <numeric>

#include "lab/rl/environments.h"

namespace torpor::lab {
namespace {

constexpr int kSide = 10;

class Catch final : public Environment {
 public:
  Catch(std::uint64_t seed, bool permuted)
      : Environment({.name = permuted ? "permuted-catch" : "catch",
                     .observation = {2 * kSide * kSide},
                     .binary = true,
                     .actions = 3},
                    seed),
        permuted_(permuted) {
    std::iota(order_.begin(), order_.end(), 0.0);
  }

 private:
  static constexpr double kStepsOfAnOrder = 4000;

  void start() override {
    ball_x_ = static_cast<double>(below(kSide));
    ball_y_ = 0;
    paddle_ = 5;
  }
  StepResult choose(std::int64_t action) override {
    StepResult result;
    if (permuted_ && ++in_order_ >= kStepsOfAnOrder) {
      in_order_ = 0;
      result.new_task = true;
      for (std::size_t i = order_.size(); i > 1; --i)
        std::swap(order_[i - 1], order_[static_cast<std::size_t>(below(static_cast<std::int64_t>(i)))]);
    }
    paddle_ = std::clamp(paddle_ + static_cast<double>(action - 1), 0.0, kSide - 1.0);
    ball_y_ += 1;
    if (ball_y_ < kSide - 1) return result;
    result.reward = ball_x_ == paddle_ ? 1 : -1;
    result.terminated = true;
    return result;
  }
  void observe(std::span<float> observation) const override {
    std::fill(observation.begin(), observation.end(), 0.0F);
    const auto at = [&](double cell) -> float& {
      return observation[static_cast<std::size_t>(order_[static_cast<std::size_t>(cell)])];
    };
    at(ball_y_ * kSide + ball_x_) = 1;
    at(kSide * kSide + (kSide - 1) * kSide + paddle_) = 1;
  }
  std::vector<double*> numbers() override {
    std::vector<double*> all = {&ball_x_, &ball_y_, &paddle_, &in_order_};
    for (double& place : order_) all.push_back(&place);
    return all;
  }

  bool permuted_;
  double ball_x_ = 0, ball_y_ = 0, paddle_ = 0, in_order_ = 0;
  std::array<double, 2 * kSide * kSide> order_{};  // which value of the observation each cell is
};

class BreakoutMini final : public Environment {
 public:
  explicit BreakoutMini(std::uint64_t seed)
      : Environment({.name = "breakout-mini", .observation = {4, kSide, kSide}, .binary = true, .actions = 3}, seed) {}

 private:
  static constexpr int kFirstRow = 1, kRows = 3;  // of bricks

  double& brick(double y, double x) { return bricks_[static_cast<std::size_t>((y - kFirstRow) * kSide + x)]; }
  bool has_brick(double y, double x) { return y >= kFirstRow && y < kFirstRow + kRows && brick(y, x) != 0; }

  void start() override {
    const bool left = below(2) == 0;
    x_ = left ? 0 : kSide - 1;
    dx_ = left ? 1 : -1;
    y_ = 3;
    dy_ = 1;
    paddle_ = 4;
    bricks_.fill(1);
    hit_ = 0;
    last_x_ = x_;
    last_y_ = y_;
  }
  StepResult choose(std::int64_t action) override {
    StepResult result;
    if (action == 1) paddle_ = std::max(0.0, paddle_ - 1);
    if (action == 2) paddle_ = std::min(kSide - 1.0, paddle_ + 1);
    last_x_ = x_;
    last_y_ = y_;
    double x = x_ + dx_, y = y_ + dy_;
    if (x < 0 || x >= kSide) {  // a side wall
      x = std::clamp(x, 0.0, kSide - 1.0);
      dx_ = -dx_;
    }
    bool hits = false;
    if (y < 0) {  // the ceiling
      y = 0;
      dy_ = -dy_;
    } else if (has_brick(y, x)) {
      // A brick met right after another one lets the ball through.
      hits = true;
      if (hit_ == 0) {
        result.reward = 1;
        hit_ = 1;
        brick(y, x) = 0;
        y = last_y_;
        dy_ = -dy_;
      }
    } else if (y == kSide - 1) {  // the paddle's row
      if (std::all_of(bricks_.begin(), bricks_.end(), [](double b) { return b == 0; })) bricks_.fill(1);
      if (x_ == paddle_) {
        dy_ = -dy_;
        y = last_y_;
      } else if (x == paddle_) {  // met at its edge: back the way it came
        dx_ = -dx_;
        dy_ = -dy_;
        y = last_y_;
      } else {
        result.terminated = true;
      }
    }
    if (!hits) hit_ = 0;
    x_ = x;
    y_ = y;
    return result;
  }
  void observe(std::span<float> observation) const override {
    std::fill(observation.begin(), observation.end(), 0.0F);
    const auto set = [&](int channel, double y, double x) {
      observation[static_cast<std::size_t>(channel * kSide * kSide + y * kSide + x)] = 1;
    };
    set(0, kSide - 1, paddle_);
    set(1, y_, x_);
    set(2, last_y_, last_x_);
    for (std::int64_t row = 0; row < kRows; ++row)
      for (std::int64_t x = 0; x < kSide; ++x)
        if (bricks_[static_cast<std::size_t>(row * kSide + x)] != 0)
          set(3, static_cast<double>(kFirstRow + row), static_cast<double>(x));
  }
  std::vector<double*> numbers() override {
    std::vector<double*> all = {&x_, &y_, &dx_, &dy_, &last_x_, &last_y_, &paddle_, &hit_};
    for (double& b : bricks_) all.push_back(&b);
    return all;
  }

  double x_ = 0, y_ = 0, dx_ = 0, dy_ = 0, last_x_ = 0, last_y_ = 0, paddle_ = 0;
  double hit_ = 0;  // whether the last step hit a brick
  std::array<double, static_cast<std::size_t>(kRows* kSide)> bricks_{};
};

}  // namespace

std::unique_ptr<Environment> make_catch(std::uint64_t seed) {
  return std::make_unique<Catch>(seed, false);
}
std::unique_ptr<Environment> make_permuted_catch(std::uint64_t seed) {
  return std::make_unique<Catch>(seed, true);
}
std::unique_ptr<Environment> make_breakout_mini(std::uint64_t seed) {
  return std::make_unique<BreakoutMini>(seed);
}

}  // namespace torpor::lab
