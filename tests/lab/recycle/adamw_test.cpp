// UnitAdam as AdamW against LibTorch's own optimizer, a gradient clipped by hand, and the decay of matrices alone.
#include "lab/recycle/unit_adam.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace torpor::lab {
namespace {

TEST(AdamW, AgreesWithTorchsOptimizerStepByStep) {
  torch::manual_seed(3);
  const at::Tensor start = torch::randn({5, 7}), offset = torch::randn({7});
  const at::Tensor ours = start.clone().requires_grad_(), our_vector = offset.clone().requires_grad_();
  const at::Tensor theirs = start.clone().requires_grad_(), their_vector = offset.clone().requires_grad_();
  UnitAdam optimizer({{"matrix", ours}, {"vector", our_vector}},
                     {.beta1 = 0.8, .beta2 = 0.9, .eps = 1e-6, .weight_decay = 0.3, .decoupled = true});
  auto options = torch::optim::AdamWOptions(0.01).betas({0.8, 0.9}).eps(1e-6);
  torch::optim::AdamW matrix({theirs}, options.weight_decay(0.3));
  torch::optim::AdamW vector({their_vector}, options.weight_decay(0));  // no decay of vectors
  for (int step = 0; step < 5; ++step) {
    const double rate = 0.01 * (step + 1);
    const auto loss = [&](const at::Tensor& a, const at::Tensor& b) { return (a.mv(b).square() + a.sum()).sum(); };
    optimizer.zero_grad();
    matrix.zero_grad();
    vector.zero_grad();
    loss(ours, our_vector).backward();
    loss(theirs, their_vector).backward();
    static_cast<torch::optim::AdamWOptions&>(matrix.param_groups()[0].options()).lr(rate);
    static_cast<torch::optim::AdamWOptions&>(vector.param_groups()[0].options()).lr(rate);
    optimizer.step(rate);
    matrix.step();
    vector.step();
    EXPECT_TRUE(at::allclose(ours, theirs, 1e-5, 1e-6)) << "step " << step;
    EXPECT_TRUE(at::allclose(our_vector, their_vector, 1e-5, 1e-6)) << "step " << step;
  }
  EXPECT_EQ(optimizer.steps(), 5);
}

TEST(AdamW, ClipsTheJointNormAndReturnsTheNormBefore) {
  const at::Tensor a = torch::zeros({2, 2}).requires_grad_(), b = torch::zeros({3}).requires_grad_();
  UnitAdam optimizer({{"a", a}, {"b", b}});
  (3 * a[0][0] + 4 * b[1]).backward();
  EXPECT_NEAR(optimizer.clip_gradients(10), 5, 1e-6);
  EXPECT_NEAR(a.grad()[0][0].item<double>(), 3, 1e-6) << "a norm below the limit is left alone";
  EXPECT_NEAR(optimizer.clip_gradients(1), 5, 1e-6);
  EXPECT_NEAR(a.grad()[0][0].item<double>(), 0.6, 1e-6);
  EXPECT_NEAR(b.grad()[1].item<double>(), 0.8, 1e-6);
  EXPECT_NEAR(optimizer.clip_gradients(0), 1, 1e-6) << "0: no limit";
}

TEST(AdamW, LeavesParametersWithoutAGradientAlone) {
  const at::Tensor a = torch::ones({2, 2}).requires_grad_(), b = torch::ones({2, 2}).requires_grad_();
  UnitAdam optimizer({{"a", a}, {"b", b}});
  a.sum().backward();
  optimizer.step(0.1);
  EXPECT_TRUE(at::equal(b, torch::ones({2, 2})));
  EXPECT_FALSE(at::equal(a, torch::ones({2, 2})));
}

TEST(AdamW, RefusesNothingAndWhatCannotBeTrained) {
  EXPECT_THROW(UnitAdam({}), InvalidArgument);
  EXPECT_THROW(UnitAdam({{"fixed", torch::zeros({2})}}), InvalidArgument);
}

}  // namespace
}  // namespace torpor::lab
