// Adam with counts by unit: LibTorch's own until the first reset, and then each weight by its own count.
#include "lab/recycle/unit_adam.h"

#include <torch/torch.h>

#include <cmath>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

at::Tensor parameter(at::IntArrayRef shape) {
  return torch::randn(shape).requires_grad_();
}

void set_gradient(const at::Tensor& weight, const at::Tensor& gradient) {
  weight.mutable_grad() = gradient.clone();
}

TEST(UnitAdam, IsLibTorchsFusedAdamUntilTheFirstReset) {
  torch::manual_seed(1);
  for (const double decay : {0.0, 0.01}) {
    const at::Tensor matrix = parameter({37, 50}), maps = parameter({5, 3, 3, 3}), bias = parameter({37});
    std::vector<at::Tensor> ours = {matrix, maps, bias}, theirs, fused, gradients;
    for (const at::Tensor& p : ours) {
      theirs.push_back(p.detach().clone().requires_grad_());
      fused.push_back(p.detach().clone());
    }
    UnitAdam adam({{"matrix", matrix}, {"maps", maps}, {"bias", bias}}, {.weight_decay = decay});
    std::vector<at::Tensor> exp_avg, exp_avg_sq;
    for (const at::Tensor& p : theirs) {
      exp_avg.push_back(torch::zeros_like(p.detach()));
      exp_avg_sq.push_back(torch::zeros_like(p.detach()));
    }
    torch::optim::Adam plain(theirs, torch::optim::AdamOptions(1e-3).weight_decay(decay));
    double apart = 0, apart_unfused = 0;
    for (int step = 0; step < 60; ++step) {
      gradients.clear();
      for (std::size_t i = 0; i < ours.size(); ++i) {
        const at::Tensor gradient = torch::randn_like(ours[i].detach());
        set_gradient(ours[i], gradient);
        set_gradient(theirs[i], gradient);
        gradients.push_back(gradient);
      }
      adam.step(1e-3);
      plain.step();
      const std::vector<at::Tensor> steps(3, torch::full({}, static_cast<double>(step + 1)));
      at::_fused_adam_(fused, gradients, exp_avg, exp_avg_sq, {}, steps, 1e-3, 0.9, 0.999, decay, 1e-8, false, false);
      for (std::size_t i = 0; i < ours.size(); ++i) {
        apart = std::max(apart, (ours[i] - fused[i]).abs().max().item<double>());
        apart_unfused = std::max(apart_unfused, (ours[i] - theirs[i]).abs().max().item<double>());
      }
    }
    EXPECT_EQ(apart, 0) << "weight decay " << decay;
    EXPECT_LT(apart_unfused, 2e-6) << "torch::optim::Adam, whose sums round elsewhere; weight decay " << decay;
  }
}

/// One weight by the definition, in double.
struct PlainAdam {
  double w, m = 0, v = 0;
  std::int64_t n = 0;
  double decay = 0;  // decoupled

  void step(double g, double rate) {
    ++n;
    w -= rate * decay * w;
    m = 0.9 * m + 0.1 * g;
    v = 0.999 * v + 0.001 * g * g;
    const double k = static_cast<double>(n);
    w -= rate * m / (1 - std::pow(0.9, k)) / (std::sqrt(v / (1 - std::pow(0.999, k))) + 1e-8);
  }
};

class Decay : public ::testing::TestWithParam<double> {};
INSTANTIATE_TEST_SUITE_P(Decoupled, Decay, ::testing::Values(0.0, 0.5));

TEST_P(Decay, EachWeightGoesByItsOwnCount) {
  torch::manual_seed(2);
  constexpr int kRows = 6, kColumns = 5;
  const at::Tensor weight = parameter({kRows, kColumns});
  std::vector<PlainAdam> plain;
  for (int i = 0; i < kRows * kColumns; ++i)
    plain.push_back({.w = static_cast<double>(weight.detach().flatten()[i].item<float>()), .decay = GetParam()});
  UnitAdam adam({{"w", weight}}, {.weight_decay = GetParam(), .decoupled = true});
  for (int step = 0; step < 90; ++step) {
    const at::Tensor gradient = torch::randn({kRows, kColumns});
    set_gradient(weight, gradient);
    adam.step(1e-2);
    for (int i = 0; i < kRows * kColumns; ++i)
      plain[static_cast<std::size_t>(i)].step(static_cast<double>(gradient.flatten()[i].item<float>()), 1e-2);
    const auto reset = [&](const std::vector<int>& rows, const std::vector<int>& columns) {
      UnitAdam::Part part{"w", torch::zeros({kRows}, at::kBool), torch::zeros({kColumns}, at::kBool)};
      for (const int r : rows) part.rows[r] = true;
      for (const int c : columns) part.columns[c] = true;
      adam.reset_moments(part);
      adam.reset_unit_steps(part);
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < kColumns; ++c)
          if (part.rows[r].item<bool>() || part.columns[c].item<bool>()) {
            PlainAdam& p = plain[static_cast<std::size_t>(r * kColumns + c)];
            p.m = p.v = 0;
            p.n = 0;
          }
    };
    if (step == 20) reset({1, 4}, {});
    if (step == 40) reset({4}, {2});
    if (step == 60) reset({}, {0, 2});
    const at::Tensor steps = adam.weight_steps("w").flatten();
    for (int i = 0; i < kRows * kColumns; ++i) {
      const PlainAdam& p = plain[static_cast<std::size_t>(i)];
      ASSERT_NEAR(weight.detach().flatten()[i].item<double>(), p.w, 2e-5) << "step " << step << ", weight " << i;
      ASSERT_EQ(steps[i].item<std::int64_t>(), p.n) << "step " << step << ", weight " << i;
    }
  }
}

TEST(UnitAdam, AWholeTensorsCountMayStartAgainAlone) {
  const at::Tensor a = parameter({3, 3}), b = parameter({3});
  UnitAdam adam({{"a", a}, {"b", b}});
  for (int step = 0; step < 10; ++step) {
    set_gradient(a, torch::ones({3, 3}));
    set_gradient(b, torch::ones({3}));
    adam.step(1e-3);
  }
  const at::Tensor moments = adam.state()[0].second.clone();
  adam.reset_tensor_step("a");
  EXPECT_TRUE(torch::equal(adam.state()[0].second, moments));
  EXPECT_EQ(adam.weight_steps("a").max().item<std::int64_t>(), 0);
  EXPECT_EQ(adam.weight_steps("b").min().item<std::int64_t>(), 10);
  const at::Tensor before = a.detach().clone();
  set_gradient(a, torch::ones({3, 3}));
  set_gradient(b, torch::ones({3}));
  adam.step(1e-3);
  // redo.md 3.3: the steps of live weights shrink to 1 / r(1) = 0.32, here by what both moments hold of ten steps of 1.
  const double m = 1 - std::pow(0.9, 11), v = 1 - std::pow(0.999, 11);
  EXPECT_NEAR((before - a.detach()).mean().item<double>(), 1e-3 * m / 0.1 / std::sqrt(v / 0.001), 1e-6);
}

TEST(UnitAdam, GoesOnFromItsState) {
  torch::manual_seed(3);
  const at::Tensor one = parameter({4, 3}), two = one.detach().clone().requires_grad_();
  UnitAdam first({{"w", one}});
  const UnitAdam::Part part{"w", torch::tensor({true, false, false, true}), {}};
  std::vector<at::Tensor> gradients;
  for (int step = 0; step < 20; ++step) gradients.push_back(torch::randn({4, 3}));
  for (int step = 0; step < 10; ++step) {
    set_gradient(one, gradients[static_cast<std::size_t>(step)]);
    first.step(1e-2);
    if (step == 5) {
      first.reset_moments(part);
      first.reset_unit_steps(part);
    }
  }
  two.detach().copy_(one.detach());
  UnitAdam second({{"w", two}});
  const NamedTensors from = first.state(), to = second.state();
  for (std::size_t i = 0; i < from.size(); ++i) {
    EXPECT_EQ(from[i].first, to[i].first);
    to[i].second.copy_(from[i].second);
  }
  second.set_steps(first.steps());
  for (int step = 10; step < 20; ++step) {
    set_gradient(one, gradients[static_cast<std::size_t>(step)]);
    set_gradient(two, gradients[static_cast<std::size_t>(step)]);
    first.step(1e-2);
    second.step(1e-2);
    ASSERT_TRUE(torch::equal(one, two)) << step;
  }
}

TEST(UnitAdam, RefusesWhatIsNotThere) {
  const at::Tensor a = parameter({3, 3});
  EXPECT_THROW(UnitAdam({}), InvalidArgument);
  EXPECT_THROW(UnitAdam({{"a", torch::zeros({3})}}), InvalidArgument);
  EXPECT_THROW(UnitAdam({{"a", a}, {"a", a}}), InvalidArgument);
  UnitAdam adam({{"a", a}});
  EXPECT_THROW(adam.reset_tensor_step("b"), InvalidArgument);
  EXPECT_THROW(adam.reset_moments({"a", torch::zeros({4}, at::kBool), {}}), InvalidArgument);
  EXPECT_THROW(adam.reset_unit_steps({"a", {}, torch::zeros({3})}), InvalidArgument);
  adam.reset_moments({"a", torch::ones({3}, at::kBool), {}});  // before the first step
}

}  // namespace
}  // namespace torpor::lab
