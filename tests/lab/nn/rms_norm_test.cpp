#include "lab/nn/rms_norm.h"

#include <torch/torch.h>

#include "core/base/error.h"
#include "tests/test_support.h"

namespace torpor::lab {
namespace {

at::Tensor composed(const at::Tensor& x, const at::Tensor& weight, double offset, double eps) {
  return x * at::rsqrt(x.square().mean(-1, true) + eps) * (weight + offset);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).to(at::kDouble).abs().max() / b.to(at::kDouble).abs().max()).item<double>();
}

TEST(RmsNorm, IsTheCompositionForwardAndBackward) {
  torch::manual_seed(2);
  for (const auto& [type, allowed] : {std::pair(at::kDouble, 1e-13), std::pair(at::kFloat, 2e-6)})
    for (const std::int64_t n : {1, 7, 16, 33, 256})
      for (const double offset : {0.0, 1.0}) {
        // Strides as of a part of a wider tensor; 90 rows are shared out to threads.
        const at::Tensor x = torch::randn({2, n, 45}, type).transpose(1, 2).requires_grad_(),
                         weight = torch::randn({n}, type).requires_grad_();
        const at::Tensor x2 = x.detach().clone().requires_grad_(), weight2 = weight.detach().clone().requires_grad_();
        const at::Tensor y = rms_norm(x, weight, offset, 0.01), expected = composed(x2, weight2, offset, 0.01);
        EXPECT_LT(difference(y, expected), allowed) << n;
        const at::Tensor direction = torch::randn(y.sizes(), type);
        (y * direction).sum().backward();
        (expected * direction).sum().backward();
        EXPECT_LT(difference(x.grad(), x2.grad()), 4 * allowed) << n;
        EXPECT_LT(difference(weight.grad(), weight2.grad()), 4 * allowed) << n;
      }
}

TEST(RmsNorm, HalfPrecisionIsWidenedFirst) {
  torch::manual_seed(3);
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor x = torch::randn({20, 24}).to(type).requires_grad_(), weight = torch::rand({24}).requires_grad_();
    const at::Tensor x2 = x.detach().to(at::kFloat).requires_grad_();
    const at::Tensor y = rms_norm(x, weight, 1, 1e-5), expected = rms_norm(x2, weight.detach(), 1, 1e-5);
    EXPECT_EQ(y.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(y, expected));
    y.square().sum().backward();
    expected.square().sum().backward();
    EXPECT_EQ(x.grad().scalar_type(), type);
    EXPECT_TRUE(at::equal(x.grad(), x2.grad().to(type)));
  }
}

TEST(RmsNorm, RefusesWhatItCannotDo) {
  const at::Tensor x = torch::randn({3, 8}), weight = torch::ones({8});
  EXPECT_THROW(rms_norm(x, torch::ones({7}), 0, 1e-5), InvalidArgument);
  EXPECT_THROW(rms_norm(x, weight.to(at::kDouble), 0, 1e-5), InvalidArgument);
  EXPECT_THROW(rms_norm(x.to(at::kDouble), weight, 0, 1e-5), InvalidArgument);
  EXPECT_THROW(rms_norm(x.to(at::kLong), weight, 0, 1e-5), InvalidArgument);
  EXPECT_THROW(rms_norm(torch::empty({0, 8}), weight, 0, 1e-5), InvalidArgument);
  EXPECT_THROW(rms_norm({}, weight, 0, 1e-5), InvalidArgument);
  const at::Tensor needs = x.clone().requires_grad_();
  EXPECT_THROW(torch::autograd::grad({rms_norm(needs, weight, 0, 1e-5).sum()}, {needs}, {}, true, true),
               InvalidArgument);
}

}  // namespace
}  // namespace torpor::lab
