#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "lab/rl/environments.h"

namespace torpor::lab {
namespace {

constexpr double kPi = std::numbers::pi;

class CartPole final : public Environment {
 public:
  explicit CartPole(std::uint64_t seed)
      : Environment({.name = "cartpole", .observation = {4}, .actions = 2, .most_steps = 500}, seed) {}

 private:
  void start() override {
    for (double* const number : numbers()) *number = uniform(-0.05, 0.05);
  }
  StepResult choose(std::int64_t action) override {
    constexpr double kGravity = 9.8, kPoleMass = 0.1, kMass = 1 + kPoleMass, kHalfLength = 0.5, kForce = 10,
                     kTime = 0.02;
    const double force = action == 1 ? kForce : -kForce;
    const double cosine = std::cos(angle_), sine = std::sin(angle_);
    const double push = (force + kPoleMass * kHalfLength * turning_ * turning_ * sine) / kMass;
    const double turn =
        (kGravity * sine - cosine * push) / (kHalfLength * (4.0 / 3.0 - kPoleMass * cosine * cosine / kMass));
    const double pull = push - kPoleMass * kHalfLength * turn * cosine / kMass;
    x_ += kTime * speed_;
    speed_ += kTime * pull;
    angle_ += kTime * turning_;
    turning_ += kTime * turn;
    constexpr double kMostAngle = 12 * 2 * kPi / 360;
    return {.reward = 1, .terminated = std::abs(x_) > 2.4 || std::abs(angle_) > kMostAngle};
  }
  void observe(std::span<float> observation) const override {
    const double values[] = {x_, speed_, angle_, turning_};
    std::transform(values, values + 4, observation.begin(), [](double v) { return static_cast<float>(v); });
  }
  std::vector<double*> numbers() override { return {&x_, &speed_, &angle_, &turning_}; }

  double x_ = 0, speed_ = 0, angle_ = 0, turning_ = 0;
};

class MountainCar final : public Environment {
 public:
  explicit MountainCar(std::uint64_t seed)
      : Environment({.name = "mountain-car", .observation = {2}, .actions = 3, .most_steps = 200}, seed) {}

 private:
  void start() override {
    x_ = uniform(-0.6, -0.4);
    speed_ = 0;
  }
  StepResult choose(std::int64_t action) override {
    speed_ = std::clamp(speed_ + static_cast<double>(action - 1) * 0.001 - 0.0025 * std::cos(3 * x_), -0.07, 0.07);
    x_ = std::clamp(x_ + speed_, -1.2, 0.6);
    if (x_ == -1.2 && speed_ < 0) speed_ = 0;
    return {.reward = -1, .terminated = x_ >= 0.5};
  }
  void observe(std::span<float> observation) const override {
    observation[0] = static_cast<float>(x_);
    observation[1] = static_cast<float>(speed_);
  }
  std::vector<double*> numbers() override { return {&x_, &speed_}; }

  double x_ = 0, speed_ = 0;
};

/// Two links of length and mass 1, centres of mass at a half, moments of inertia 1.
class Acrobot final : public Environment {
 public:
  explicit Acrobot(std::uint64_t seed)
      : Environment({.name = "acrobot", .observation = {6}, .actions = 3, .most_steps = 500}, seed) {}

 private:
  using State = std::array<double, 4>;  // both angles, both speeds

  static State slope(const State& s, double torque) {
    constexpr double kGravity = 9.8, kCentre = 0.5;
    const double cosine = std::cos(s[1]), sine = std::sin(s[1]);
    const double d1 = kCentre * kCentre + 1 + kCentre * kCentre + 2 * kCentre * cosine + 2;
    const double d2 = kCentre * kCentre + kCentre * cosine + 1;
    const double phi2 = kCentre * kGravity * std::cos(s[0] + s[1] - kPi / 2);
    const double phi1 = -kCentre * s[3] * s[3] * sine - 2 * kCentre * s[3] * s[2] * sine +
                        (kCentre + 1) * kGravity * std::cos(s[0] - kPi / 2) + phi2;
    const double second =
        (torque + d2 / d1 * phi1 - kCentre * s[2] * s[2] * sine - phi2) / (kCentre * kCentre + 1 - d2 * d2 / d1);
    return {s[2], s[3], -(d2 * second + phi1) / d1, second};
  }
  static double wrapped(double angle) {
    while (angle > kPi) angle -= 2 * kPi;
    while (angle < -kPi) angle += 2 * kPi;
    return angle;
  }

  void start() override {
    for (double& number : s_) number = uniform(-0.1, 0.1);
  }
  StepResult choose(std::int64_t action) override {
    constexpr double kTime = 0.2;  // one step of Runge and Kutta
    const auto torque = static_cast<double>(action - 1);
    const auto ahead = [&](const State& k, double time) {
      State s = s_;
      for (std::size_t i = 0; i < 4; ++i) s[i] += time * k[i];
      return s;
    };
    const State k1 = slope(s_, torque), k2 = slope(ahead(k1, kTime / 2), torque),
                k3 = slope(ahead(k2, kTime / 2), torque), k4 = slope(ahead(k3, kTime), torque);
    for (std::size_t i = 0; i < 4; ++i) s_[i] += kTime / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
    s_ = {wrapped(s_[0]), wrapped(s_[1]), std::clamp(s_[2], -4 * kPi, 4 * kPi), std::clamp(s_[3], -9 * kPi, 9 * kPi)};
    const bool high = -std::cos(s_[0]) - std::cos(s_[1] + s_[0]) > 1;
    return {.reward = high ? 0.0 : -1.0, .terminated = high};
  }
  void observe(std::span<float> observation) const override {
    const double values[] = {std::cos(s_[0]), std::sin(s_[0]), std::cos(s_[1]), std::sin(s_[1]), s_[2], s_[3]};
    std::transform(values, values + 6, observation.begin(), [](double v) { return static_cast<float>(v); });
  }
  std::vector<double*> numbers() override { return {&s_[0], &s_[1], &s_[2], &s_[3]}; }

  State s_{};
};

class Pendulum final : public Environment {
 public:
  explicit Pendulum(std::uint64_t seed)
      : Environment({.name = "pendulum", .observation = {3}, .action_values = 1, .action_bound = 2, .most_steps = 200},
                    seed) {}

 private:
  void start() override {
    angle_ = uniform(-kPi, kPi);
    speed_ = uniform(-1, 1);
  }
  StepResult apply(std::span<const float> action) override {
    const auto torque = static_cast<double>(std::clamp(action[0], -2.0F, 2.0F));
    const double turned = angle_ + kPi;
    const double from_upright = turned - 2 * kPi * std::floor(turned / (2 * kPi)) - kPi;
    const double cost = from_upright * from_upright + 0.1 * speed_ * speed_ + 0.001 * torque * torque;
    speed_ = std::clamp(speed_ + (15 * std::sin(angle_) + 3 * torque) * 0.05, -8.0, 8.0);
    angle_ += speed_ * 0.05;
    return {.reward = -cost};
  }
  void observe(std::span<float> observation) const override {
    observation[0] = static_cast<float>(std::cos(angle_));
    observation[1] = static_cast<float>(std::sin(angle_));
    observation[2] = static_cast<float>(speed_);
  }
  std::vector<double*> numbers() override { return {&angle_, &speed_}; }

  double angle_ = 0, speed_ = 0;
};

}  // namespace

std::unique_ptr<Environment> make_cartpole(std::uint64_t seed) {
  return std::make_unique<CartPole>(seed);
}
std::unique_ptr<Environment> make_mountain_car(std::uint64_t seed) {
  return std::make_unique<MountainCar>(seed);
}
std::unique_ptr<Environment> make_acrobot(std::uint64_t seed) {
  return std::make_unique<Acrobot>(seed);
}
std::unique_ptr<Environment> make_pendulum(std::uint64_t seed) {
  return std::make_unique<Pendulum>(seed);
}

}  // namespace torpor::lab
