#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "lab/rl/environments.h"

namespace torpor::lab {
namespace {

constexpr double kPi = std::numbers::pi;

/// A canvas: background, lines, and two colours of parts.
enum : std::uint8_t { kBackground, kLine, kPart, kOtherPart };
Painter canvas(int width, int height) {
  return Painter(width, height, {{250, 250, 248}, {120, 120, 120}, {42, 93, 168}, {214, 120, 41}});
}

class CartPole final : public Environment {
 public:
  explicit CartPole(std::uint64_t seed)
      : Environment({.name = "cartpole", .observation = {4}, .actions = 2, .most_steps = 500}, seed) {}

  Picture picture() const override {
    Painter painter = canvas(240, 160);
    const double x = 0.5 + x_ / 5, y = 0.3, length = 0.45;
    painter.line(0, y, 1, y, 0.006, kLine);
    painter.box(x - 0.07, y - 0.04, x + 0.07, y + 0.04, kPart);
    painter.line(x, y, x + length * std::sin(angle_) * 2 / 3, y + length * std::cos(angle_), 0.03, kOtherPart);
    return painter.finish();
  }

 private:
  void start() override {
    for (double* const number : {&x_, &speed_, &angle_, &turning_}) *number = uniform(-0.05, 0.05);
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
  void visit_state(StateVisitor& visitor) override {
    for (double* const number : {&x_, &speed_, &angle_, &turning_}) visitor(*number);
  }

  double x_ = 0, speed_ = 0, angle_ = 0, turning_ = 0;
};

class MountainCar final : public Environment {
 public:
  explicit MountainCar(std::uint64_t seed)
      : Environment({.name = "mountain-car", .observation = {2}, .actions = 3, .most_steps = 200}, seed) {}

  Picture picture() const override {
    Painter painter = canvas(240, 160);
    const auto across = [](double x) { return (x + 1.2) / 1.8; };
    const auto height = [](double x) { return 0.1 + 0.35 * (std::sin(3 * x) + 1); };
    for (double x = -1.2; x < 0.6; x += 0.02)
      painter.line(across(x), height(x), across(x + 0.02), height(x + 0.02), 0.012, kLine);
    painter.line(across(0.5), height(0.5), across(0.5), height(0.5) + 0.15, 0.012, kOtherPart);
    painter.disc(across(x_), height(x_) + 0.03, 0.035, kPart);
    return painter.finish();
  }

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
  void visit_state(StateVisitor& visitor) override {
    visitor(x_);
    visitor(speed_);
  }

  double x_ = 0, speed_ = 0;
};

/// Two links of length and mass 1, centres of mass at a half, moments of inertia 1.
class Acrobot final : public Environment {
 public:
  explicit Acrobot(std::uint64_t seed)
      : Environment({.name = "acrobot", .observation = {6}, .actions = 3, .most_steps = 500}, seed) {}

  Picture picture() const override {
    Painter painter = canvas(200, 200);
    const auto place = [](double length) { return 0.5 + length / 4.6; };
    const double x1 = std::sin(s_[0]), y1 = -std::cos(s_[0]);
    const double x2 = x1 + std::sin(s_[0] + s_[1]), y2 = y1 - std::cos(s_[0] + s_[1]);
    painter.line(0, place(1), 1, place(1), 0.008, kLine);
    painter.line(place(0), place(0), place(x1), place(y1), 0.03, kPart);
    painter.line(place(x1), place(y1), place(x2), place(y2), 0.03, kOtherPart);
    return painter.finish();
  }

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
  void visit_state(StateVisitor& visitor) override {
    for (double& number : s_) visitor(number);
  }

  State s_{};
};

class Pendulum final : public Environment {
 public:
  explicit Pendulum(std::uint64_t seed)
      : Environment({.name = "pendulum", .observation = {3}, .action_values = 1, .action_bound = 2, .most_steps = 200},
                    seed) {}

  Picture picture() const override {
    Painter painter = canvas(200, 200);
    painter.line(0.5, 0.5, 0.5 - 0.4 * std::sin(angle_), 0.5 + 0.4 * std::cos(angle_), 0.05, kPart);
    painter.disc(0.5, 0.5, 0.02, kLine);
    return painter.finish();
  }

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
  void visit_state(StateVisitor& visitor) override {
    visitor(angle_);
    visitor(speed_);
  }

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
